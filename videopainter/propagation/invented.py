"""Pixels that no frame shows: completed once, then carried along with the camera so that they do not flicker."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.propagation.complete import smooth_fill
from videopainter.propagation.propagate import Region, frame_maps
from videopainter.propagation.synthesis import synthesize
from videopainter.propagation.window import Window

# Below this many new pixels, or this share of what is missing, the old texture is left as it is: synthesis
# is the costliest step and every new anchor resamples the texture once.
_FRESH_PIXELS = 64
_FRESH_SHARE = 0.1
# Half-strength texture keeps most of the look, and where the guess is wrong costs a quarter of the error.
_STRENGTH = 0.55


class Invented:
    """Texture synthesised in one frame of a shot (the anchor), as a difference to the smooth completion."""

    def __init__(self, window: Window):
        self.window = window
        self._anchor: int | None = None
        self._camera = np.eye(3)
        self._at: int | None = None
        self._detail: np.ndarray | None = None
        self._there: np.ndarray | None = None

    def complete(self, t: int, region: Region, filled: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """Fill ``unseen`` (bool ``(h, w)``) of a region that is known otherwise (float32 ``(h, w, 3)``)."""
        frame = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
        smooth = np.where(unseen[..., None], smooth_fill(frame, unseen), filled)
        if unseen.all():
            return smooth
        self._follow(t)
        detail, there = self._carried(t, region)
        fresh = unseen & ~there
        if fresh.sum() > max(_FRESH_PIXELS, _FRESH_SHARE * unseen.sum()):
            new = _STRENGTH * (synthesize(frame, unseen, smooth, ~unseen) - smooth)
            detail = np.where(there[..., None], detail, new)
            self._keep(t, region, detail, there, fresh)
            there = there | fresh
        detail[~(unseen & there)] = 0
        return smooth + detail

    def _follow(self, t: int) -> None:
        """Extend the camera from frame ``t`` back to the anchor; forget everything at a cut."""
        if self._anchor is None or self._at is None:
            return
        if self._at != t:
            step = self.window.camera(t, self._at) if self._at in self.window else None
            if step is None:
                self._anchor = None
                return
            self._camera = self._camera @ step
            self._at = t

    def _carried(self, t: int, region: Region) -> tuple[np.ndarray, np.ndarray]:
        h, w = (s.stop - s.start for s in region.full)
        if self._anchor is None:
            return np.zeros((h, w, 3), np.float32), np.zeros((h, w), bool)
        if np.allclose(self._camera, np.eye(3)):
            return self._detail[region.full].astype(np.float32), self._there[region.full].copy()
        mx, my = frame_maps(self.window, region, self._camera)
        return self._warp(mx, my)

    def _warp(self, mx, my):
        detail = cv2.remap(self._detail, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        there = cv2.remap(self._there.view(np.uint8), mx, my, cv2.INTER_NEAREST, borderValue=0)
        return detail, there.view(bool)

    def _keep(self, t, region, detail, there, fresh):
        """Make ``t`` the anchor, with the texture made so far and what is new."""
        window = self.window
        if self._anchor is None:
            self._detail = np.zeros((window.height, window.width, 3), np.float32)
            self._there = np.zeros((window.height, window.width), bool)
        elif not np.allclose(self._camera, np.eye(3)):
            whole = Region(
                (slice(0, window.work[0]), slice(0, window.work[1])),
                (slice(0, window.height), slice(0, window.width)),
            )
            self._detail, self._there = self._warp(*frame_maps(window, whole, self._camera))
        self._anchor = self._at = t
        self._camera = np.eye(3)
        self._detail[region.full][fresh] = detail[fresh]
        self._there[region.full][fresh] = True
