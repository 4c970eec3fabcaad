"""What is left for the engine that generates: where the base is not sure, steady over time and worth the cost."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.masks import MaskTrack
from videopainter.masks.morphology import dilate

CONTEXT = 10  # frames before and after those that are generated, which the engine sees, too
_VOTES = 2  # frames on either side that decide on what is fetched with little confidence
_GROWN = 4.0  # px in a picture of 480 lines; so far into what was seen the two results fade into each other


def second_holes(holes: MaskTrack, never: MaskTrack, doubtful: MaskTrack, least_pixels: float) -> MaskTrack:
    """The part of `holes` that is generated.

    What was never seen belongs to it, and what is doubtful in most of the frames around, so that it does not flicker;
    patches of at least so many pixels, or half as many beside one in the next frame. They are grown a little, but never
    beyond the hole.

    Args:
        never: no other frame shows it. doubtful: fetched with little confidence, or never seen.
        least_pixels: in a picture of 480 lines.
    """
    scale = holes.height / 480
    least, radius = least_pixels * scale * scale, max(2.0, _GROWN * scale)
    raw = MaskTrack.build(_steady(holes, never, doubtful, i) for i in range(len(holes)))
    large = MaskTrack.build(_patches(mask, least) for mask in raw)
    return MaskTrack.build(_whole(holes, raw, large, i, least, radius) for i in range(len(holes)))


def _steady(holes: MaskTrack, never: MaskTrack, doubtful: MaskTrack, i: int) -> np.ndarray:
    hole = holes[i]
    if not hole.any():
        return hole
    out = never[i]
    if 0 < i < len(holes) - 1:
        out |= never[i - 1] & never[i + 1] & hole
    near = range(max(0, i - _VOTES), min(len(holes), i + _VOTES + 1))
    votes = np.zeros(hole.shape, np.uint8)
    for j in near:
        votes += doubtful[j]
    return out | (doubtful[i] & (2 * votes > len(near)))


def _whole(holes, raw, large, i: int, least: float, radius: float) -> np.ndarray:
    mask = raw[i]
    if not mask.any():
        return mask
    beside = np.zeros_like(mask)
    for j in (i - 1, i, i + 1):
        if 0 <= j < len(raw):
            beside |= large[j]
    # Closed first: a lace of patches would be all seam.
    kept = _patches(mask, least / 2, beside)
    side = 2 * round(radius) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(kept.view(np.uint8), cv2.MORPH_CLOSE, kernel).view(bool)
    return dilate(closed, radius) & holes[i]


def _patches(mask: np.ndarray, least: float, beside: np.ndarray | None = None) -> np.ndarray:
    """The connected parts of bool `mask` with at least so many pixels, of which some lie in `beside` if it is given."""
    if not mask.any():
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    if beside is not None:
        keep &= np.bincount(labels[beside], minlength=count) > 0
    return keep[labels]


def spans(masks: MaskTrack, context: int = CONTEXT) -> list[range]:
    """The frames that the engine gets to see: those with a mask and so many around them, joined where they meet."""
    out: list[range] = []
    for i, mask in enumerate(masks):
        if mask.any():
            start, stop = max(0, i - context), min(len(masks), i + context + 1)
            if out and start <= out[-1].stop:
                start = out.pop().start
            out.append(range(start, stop))
    return out
