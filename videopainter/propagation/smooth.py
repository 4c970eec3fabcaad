"""The best guess without texture: the harmonic fill, with lines continued across thin strokes."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.harmonic import harmonic_fill, thinness

_SHOWS = 0.04  # share of a continued line in the result that is worth drawing it
_DRAWN = 0.45  # share of the continued isophotes in the thinnest strokes


def smooth_fill(frame: np.ndarray, hole: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The best guess without texture, float32 ``(h, w, 3)``: harmonic, with isophotes continued in strokes.

    Navier-Stokes inpainting (Bertalmio et al. 2001) draws lines on across thin strokes, where the harmonic fill
    blurs them; the errors of the two differ, so their mean is better than either. In wide holes it streaks.

    Args:
        frame: uint8 ``(h, w, 3)``. hole: bool ``(h, w)``.
        weight: float32 ``(h, w)``, 0..1, of this in the result; None: all. Where no line shows, none is drawn.
    """
    smooth = harmonic_fill(frame.astype(np.float32), hole)
    if not hole.any() or hole.all():
        return smooth
    share = _DRAWN * thinness(hole)
    if weight is not None and (share * weight)[hole].max() < _SHOWS:
        return smooth
    drawn = cv2.inpaint(frame, hole.view(np.uint8), 3, cv2.INPAINT_NS)
    return smooth + np.where(hole, share, 0)[..., None] * (drawn - smooth)
