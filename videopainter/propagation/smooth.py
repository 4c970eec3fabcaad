"""The best guess without texture: the harmonic fill, with lines continued across thin strokes."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.harmonic import harmonic_fill, thinness

_DRAWN = 0.45  # share of the continued isophotes in the thinnest strokes


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
