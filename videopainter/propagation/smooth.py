"""The best guess without texture: the harmonic fill, with lines continued across thin strokes."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.ops.harmonic import harmonic_fill, thinness

_SHOWS = 0.04  # share of a continued line in the result that is worth drawing it
_AROUND = np.ones((9, 9), np.uint8)  # px in which lines begin before they show
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
    share = np.where(hole, _DRAWN * thinness(hole), 0)
    shows = (share if weight is None else share * weight) >= _SHOWS
    if not shows.any():
        return smooth
    # Drawing costs in proportion to what is drawn, so where nothing shows the smooth guess stands for it.
    drawn = cv2.dilate(shows.view(np.uint8), _AROUND) & hole.view(np.uint8)
    box = bounding_box(drawn, _AROUND.shape[0])
    begun = np.where(
        (hole[box] & (drawn[box] == 0))[..., None], np.clip(np.rint(smooth[box]), 0, 255), frame[box]
    )
    lines = cv2.inpaint(begun.astype(np.uint8), drawn[box], 3, cv2.INPAINT_NS)
    smooth[box] += np.where(drawn[box] > 0, share[box], 0)[..., None] * (lines - smooth[box])
    return smooth
