"""The best guess without texture: the harmonic fill, with lines continued across thin strokes."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.harmonic import harmonic_fill

_DRAWN = 0.45  # share of the continued isophotes in the thinnest strokes
_THIN = 7.0  # pixels from the edge to the middle of a stroke


def smooth_fill(frame: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The best guess without texture, float32 ``(h, w, 3)``: harmonic, with isophotes continued in strokes.

    Navier-Stokes inpainting (Bertalmio et al. 2001) draws lines on across thin strokes, where the harmonic fill
    blurs them; the errors of the two differ, so their mean is better than either. In wide holes it streaks.

    Args:
        frame: uint8 ``(h, w, 3)``. hole: bool ``(h, w)``.
    """
    smooth = harmonic_fill(frame.astype(np.float32), hole)
    if not hole.any() or hole.all():
        return smooth
    drawn = cv2.inpaint(frame, hole.view(np.uint8), 3, cv2.INPAINT_NS)
    share = _DRAWN * thinness(hole)
    return smooth + np.where(hole, share, 0)[..., None] * (drawn - smooth)


def thinness(hole: np.ndarray) -> np.ndarray:
    """Towards 1 in thin strokes, towards 0 in wide holes up to their rims; float32 ``(h, w)``."""
    if hole.all():
        return np.zeros(hole.shape, np.float32)
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    return np.exp(-((cv2.dilate(depth, np.ones((15, 15), np.uint8)) / _THIN) ** 2))
