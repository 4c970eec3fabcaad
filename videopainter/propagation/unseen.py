"""Pixels that no frame shows: filled once, then carried along with the camera so that they do not flicker."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import HoleView, remap
from videopainter.propagation.smooth import smooth_fill
from videopainter.propagation.synthesis import synthesize

# Below this many new pixels, or this share of what is missing, the old texture is left as it is: synthesis
# is the costliest step and every new anchor resamples the texture once.
_FRESH_PIXELS = 64
_FRESH_SHARE = 0.1
# Half-strength texture keeps most of the look, and where the guess is wrong costs a quarter of the error.
_STRENGTH = 0.55


class UnseenTexture:
    """Texture synthesised in one frame of a shot (the anchor), as a difference to the smooth fill."""

    def __init__(self) -> None:
        self._anchor: int | None = None
        self._camera = np.eye(3)  # from frame `_at` to the anchor
        self._at: int | None = None
        self._detail: np.ndarray | None = None  # float32 (height, width, 3), at the anchor
        self._there: np.ndarray | None = None  # bool (height, width): where it has been made

    def fill(self, view: HoleView, filled: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """Fill ``unseen`` (bool ``(h, w)``) of a view that is known otherwise (float32 ``(h, w, 3)``)."""
        frame = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
        smooth = np.where(unseen[..., None], smooth_fill(frame, unseen), filled)
        if unseen.all():
            return smooth
        self._follow(view.store, view.t)
        detail, there = self._carried(view)
        fresh = unseen & ~there
        if fresh.sum() > max(_FRESH_PIXELS, _FRESH_SHARE * unseen.sum()):
            new = _STRENGTH * (synthesize(frame, unseen, smooth) - smooth)
            detail = np.where(there[..., None], detail, new)
            self._keep(view, detail, fresh)
            there = there | fresh
        detail[~(unseen & there)] = 0
        return smooth + detail

    def _follow(self, store: FrameStore, t: int) -> None:
        """Extend the camera from frame ``t`` back to the anchor; forget everything at a cut."""
        if self._anchor is None or self._at is None or self._at == t:
            return
        step = store.camera(t, self._at) if self._at in store else None
        if step is None:
            self._anchor = None
            return
        self._camera = self._camera @ step
        self._at = t

    def _carried(self, view: HoleView) -> tuple[np.ndarray, np.ndarray]:
        """The texture made so far at the view's place, and where there is any."""
        if self._anchor is None:
            return np.zeros(view.size + (3,), np.float32), np.zeros(view.size, bool)
        if np.allclose(self._camera, np.eye(3)):
            return self._detail[view.pixels].copy(), self._there[view.pixels].copy()
        return self._warped(view)

    def _warped(self, view: HoleView) -> tuple[np.ndarray, np.ndarray]:
        x, y = view.source_places(self._camera)
        detail = remap(self._detail, x, y, cv2.INTER_LINEAR)
        there = remap(self._there.view(np.uint8), x, y, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
        return detail, there.view(bool)

    def _keep(self, view: HoleView, detail: np.ndarray, fresh: np.ndarray) -> None:
        """Make the view's frame the anchor, with the texture made so far and what is new."""
        store = view.store
        if self._anchor is None:
            self._detail = np.zeros((store.height, store.width, 3), np.float32)
            self._there = np.zeros((store.height, store.width), bool)
        elif not np.allclose(self._camera, np.eye(3)):
            self._detail, self._there = self._warped(HoleView.whole(store, view.t))
        self._anchor = self._at = view.t
        self._camera = np.eye(3)
        self._detail[view.pixels][fresh] = detail[fresh]
        self._there[view.pixels][fresh] = True
