"""What the network is told of the past: its previous output, moved to where things are now.

NumPy and OpenCV only, so that an exported network runs without PyTorch. Colours are float32 from 0 to 255 here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.dstt.config import MAPS
from videopainter.ops.channels import average, largest
from videopainter.ops.harmonic import expected_error, extend_smoothly, harmonic_fill
from videopainter.ops.motion import Motion, corner_motion, project
from videopainter.ops.resize import resize

_FILTER = "area-or-linear"
OLDEST = 64  # frames; what was seen longer ago counts as this old
_RIM = 2  # pixels; a hole's edge is often mixed with what it hides
_STILL = 0.1  # pixels at a corner; less is the estimate's noise, and resampling for it would only blur
_OUTLIER = 1.0  # pixels beside the camera's motion: a thing that moves by itself, not the scene's depth
_FASTEST = 20.0  # pixels beside the camera's motion: more, and the flow is lost
# A thing's motion is taken where it leaves less than this of the squared misfit, and so many squared grey levels less.
_BETTER, _CLEARLY = 0.5, 16.0
_MISFIT = 12.0  # grey levels after alignment; more, and the flow has not found the place
_EXPOSURE = 40.0  # grey levels; more is another thing, not another exposure
_HELD_AGAINST = 0.5  # of the past's squared error: less than all, since it is sharp
# So much of what a resampled pixel stands on was seen: then it counts as seen, or its rim would be lost bit by bit.
_REMEMBERED = 0.2
_WORST = 3000.0  # squared grey levels; beyond, it is another thing, however different
# Where leaves move or a sensor is noisy, the mean of the last times is nearer to what is there now than the last time.
# It is taken where it has so many frames behind it and leaves clearly less of the misfit (in squared grey levels).
_MEAN_OF, _OFTEN, _STEADIER, _BY = 8, 3, 0.7, 4.0
_SMALLEST = 32  # pixels; optical flow reads out of bounds on smaller pictures


@dataclass
class PreparedFrame:
    """A frame as the network sees it.

    ``frame``: float32 ``(h, w, 3)``, its hole filled smoothly. ``grey``: uint8 ``(h, w)`` of that. ``hole``: bool.
    """

    frame: np.ndarray
    grey: np.ndarray
    hole: np.ndarray


def preprocess(frame: np.ndarray, hole: np.ndarray, size: tuple[int, int] | None = None) -> PreparedFrame:
    """Prepare a frame, uint8 ``(h, w, 3)`` with ``hole`` bool ``(h, w)``; what stands in the hole is not used.

    ``size``: (height, width) to resize to. A pixel is hole there if any of what it covers is.
    """
    values = frame.astype(np.float32)
    if size is not None and tuple(size) != hole.shape:
        hole = resize(hole.astype(np.float32), size, _FILTER) > 1e-4
        values = resize(values, size, _FILTER)
    filled = harmonic_fill(values, hole)
    grey = cv2.cvtColor(np.clip(np.rint(filled), 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    return PreparedFrame(filled, grey, hole)


class MotionEstimator:
    """Where the pixels of a frame were in the frame before it; one a stream, for the scratch memory of the flow."""

    def __init__(self):
        self._motion = Motion(precise=True)

    def __call__(self, now: PreparedFrame, before: PreparedFrame) -> np.ndarray | None:
        """Field float32 ``(h, w, 2)`` with ``now(x) = before(x + field)``, also in the hole; None across a cut.

        It is the camera's homography plus, smoothed and continued into the hole, what depth and lens add to it;
        and near things that move by themselves their own motion, where that explains the hole's surroundings better.
        A camera that stands still before a scene that does gives exact zeros.
        """
        h, w = now.hole.shape
        still = np.zeros((h, w, 2), np.float32)
        if min(h, w) < _SMALLEST:
            return still
        unknown = cv2.dilate((now.hole | before.hole).view(np.uint8), np.ones((2 * _RIM + 1,) * 2, np.uint8))
        known = unknown == 0
        camera = self._motion.camera(now.grey, before.grey, known)
        if camera is None:
            return None
        if corner_motion(camera, w, h) < _STILL:
            return self._things(
                now.grey, before.grey, known, *self._flow(now.grey, before.grey, known), still
            )
        grid = _grid(h, w)
        moved = project(camera, grid.astype(np.float64)).astype(np.float32) - grid
        near = warp(before.grey, moved, cv2.INTER_LINEAR)
        flow, sound = self._flow(now.grey, near, known)
        scene = _smooth(flow, sound & (np.hypot(*_split(flow)) < _OUTLIER), 8)
        return moved + self._things(now.grey, near, known, flow, sound, scene)

    def _flow(self, now: np.ndarray, near: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Optical flow between grey pictures, and where it has found the place."""
        flow = self._motion.fine(now, near)
        return flow, known & (cv2.absdiff(warp(near, flow, cv2.INTER_LINEAR), now) < _MISFIT)

    def _things(self, now, near, known, flow, sound, scene) -> np.ndarray:
        """``scene``, and the motion of things where it fits the known surroundings of a place clearly better."""
        things = _smooth(flow, sound & (np.hypot(*_split(flow)) < _FASTEST), 4)
        if np.abs(things - scene).max() < _STILL:
            return scene
        misfits = []
        for field in (scene, things):
            difference = now.astype(np.float32) - warp(near, field, cv2.INTER_LINEAR)
            misfits.append(_continued(np.minimum(difference**2, _WORST), known))
        better = (misfits[1] < _BETTER * misfits[0] - _CLEARLY).astype(np.float32)
        return scene + cv2.blur(better, (9, 9))[..., None] * (things - scene) if better.any() else scene


def _grid(h: int, w: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), -1)


def _smooth(flow: np.ndarray, use: np.ndarray, cell: int) -> np.ndarray:
    """The part of ``flow`` that varies over more than a few cells where ``use``, continued elsewhere."""
    smooth = extend_smoothly(flow, use, cell=cell, sweeps=4, blur=5)
    return np.zeros_like(flow) if smooth is None else smooth


def _split(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(field[..., 0]), np.ascontiguousarray(field[..., 1])


def warp(values: np.ndarray, field: np.ndarray, interpolation: int = cv2.INTER_LANCZOS4) -> np.ndarray:
    """``values(x + field)``, float32 or uint8 ``(h, w[, c])``; without motion the values themselves, not resampled."""
    if not field.any():
        return values
    h, w = field.shape[:2]
    x, y = _split(field)
    x += np.arange(w, dtype=np.float32)
    y += np.arange(h, dtype=np.float32)[:, None]
    return cv2.remap(values, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)


@dataclass
class AlignedHistory:
    """The previous output at the present frame's places.

    ``output``: float32 ``(H, W, 3)`` at the stream's size. At the network's size: ``previous`` float32
    ``(h, w, 3)``, the same; ``valid``, ``seen`` float32 ``(h, w)``, 0 or 1: whether there is anything, and
    whether it was really seen rather than invented; ``age``: frames since then, float32 ``(h, w)``; ``mean`` float32
    ``(h, w, 3)``: of the last few times that it was seen, and ``count``: of how many.
    """

    output: np.ndarray
    previous: np.ndarray
    valid: np.ndarray
    seen: np.ndarray
    age: np.ndarray
    mean: np.ndarray
    count: np.ndarray


class History:
    """What one stream carries from frame to frame beside the tokens: the last output, what was seen of it, when."""

    def __init__(self):
        self._output: np.ndarray | None = None
        self._seen = self._age = self._mean = self._count = None

    def aligned(self, field: np.ndarray | None, size: tuple[int, int]) -> AlignedHistory | None:
        """The past where things are now; None if there is none.

        ``field``: of `MotionEstimator`; ``size``: (height, width) of the stream's frames.
        """
        if self._output is None or field is None:
            return None
        h, w = field.shape[:2]
        wide = field
        if field.any() and size != (h, w):
            wide = resize(field, size, _FILTER) * np.float32([size[1] / w, size[0] / h])
        if field.any():
            x, y = field[..., 0] + np.arange(w), field[..., 1] + np.arange(h)[:, None]
            valid = ((x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5)).astype(np.float32)
            output = np.clip(warp(self._output, wide), 0, 255)
        else:
            valid, output = np.ones((h, w), np.float32), self._output
        seen = (warp(self._seen, field, cv2.INTER_LINEAR) > _REMEMBERED) * valid
        age = warp(self._age, field, cv2.INTER_LINEAR)
        mean, count = (
            np.clip(warp(self._mean, field), 0, 255),
            warp(self._count, field, cv2.INTER_LINEAR) * valid,
        )
        return AlignedHistory(output, resize(output, (h, w), _FILTER), valid, seen, age, mean, count)

    def update(
        self, output: np.ndarray, share: np.ndarray, past: AlignedHistory | None, hole: np.ndarray
    ) -> None:
        """Remember this frame.

        Args:
            output: float32 ``(H, W, 3)``. share: float32 ``(h, w)``, how much of it is the past's.
            past: what `aligned` gave. hole: bool ``(h, w)``.
        """
        self._output = output
        self._seen, self._age = (~hole).astype(np.float32), np.zeros(hole.shape, np.float32)
        self._mean, self._count = resize(output, hole.shape, _FILTER), self._seen
        if past is not None:
            # Where the network preferred its own idea, nothing seen is left.
            kept = hole & (share > 0.5)
            self._seen[kept] = past.seen[kept]
            self._age[hole] = np.minimum(past.age[hole] + 1, OLDEST)
            self._count = np.where(hole, past.count * self._seen, np.minimum(past.count + 1, _MEAN_OF))
            weight = np.where(hole, self._count < 1, 1 / np.maximum(self._count, 1))[..., None]
            self._mean = past.mean + weight.astype(np.float32) * (self._mean - past.mean)
        else:
            self._age[hole] = OLDEST


def maps(now: PreparedFrame, past: AlignedHistory | None) -> tuple[np.ndarray, np.ndarray]:
    """What the network is told: ``previous`` float32 ``(h, w, 3)`` and maps float32 ``(h, w, 7)``.

    ``previous`` is the previous output, or in its place the mean of what was seen where that fits better around the
    hole. The maps: valid; seen; age / 64; worth, how much of the past to take where it was seen, judged by how well it
    fits around the hole; and the membrane in colours / 127.5: the difference between the present and the past
    around the hole, continued into it (Perez et al. 2003), which carries changes of light.
    """
    h, w = now.hole.shape
    if past is None:
        return np.zeros((h, w, 3), np.float32), np.zeros((h, w, MAPS), np.float32)
    previous = past.previous
    comparable = ~now.hole & (past.seen > 0)
    membrane, misfit = _fit(now, previous, comparable)
    often = past.count >= _OFTEN
    if (often & now.hole).any():
        mean_membrane, mean_misfit = _fit(now, past.mean, comparable & often)
        better = (often & (mean_misfit < _STEADIER * misfit - _BY)).astype(np.float32)
        if better.any():
            part = (cv2.blur(better, (9, 9)) * often)[..., None]
            previous = previous + part * (past.mean - previous)
            membrane = membrane + part * (mean_membrane - membrane)
            misfit = misfit + part[..., 0] * (mean_misfit - misfit)
    doubt = expected_error(now.frame, now.hole)
    worth = doubt / (doubt + _HELD_AGAINST * np.maximum(misfit, 0) + 1e-6)
    told = np.stack([past.valid, past.seen, past.age / OLDEST, worth], -1)
    return previous, np.concatenate([told, membrane / 127.5], -1).astype(np.float32)


def _fit(now: PreparedFrame, past: np.ndarray, comparable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The membrane in grey levels ``(h, w, 3)``, and the squared misfit ``(h, w)`` that is left with it."""
    difference = now.frame - past
    membrane = _continued(difference, comparable & (largest(np.abs(difference)) < _EXPOSURE))
    return membrane, _continued(np.minimum(average((difference - membrane) ** 2), _WORST), comparable)


def completed(
    now: PreparedFrame, past: AlignedHistory | None, previous: np.ndarray, told: np.ndarray
) -> np.ndarray:
    """The frame, float32 ``(h, w, 3)``, its hole filled from what is known and from what was seen of it before.

    What was never seen is continued smoothly from both, not from the known rim alone: beside something that walks
    it is often a narrow strip. Where the past next to it is not worth much, neither is what follows from it.

    ``previous``, ``told``: of `maps`.
    """
    if past is None:
        return now.frame
    unseen = now.hole & (past.seen == 0)
    if not unseen.any() or (unseen == now.hole).all():
        return now.frame
    share = (past.seen * told[..., 3])[..., None]
    guess = now.frame + share * (previous + 127.5 * told[..., 4:] - now.frame)
    trust = np.where(now.hole[..., None], share, 1)
    known = np.concatenate([np.where(now.hole[..., None], guess, now.frame), trust], -1)
    filled = harmonic_fill(known, unseen)
    return np.where(unseen[..., None], now.frame + filled[..., 3:] * (filled[..., :3] - now.frame), now.frame)


def _continued(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """The smooth part of float32 ``(h, w[, c])`` where ``use``, harmonic elsewhere; zeros if there is hardly any."""
    smooth = extend_smoothly(values, use)
    return np.zeros_like(values) if smooth is None else smooth
