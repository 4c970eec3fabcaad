"""Where a hidden place lies, told by the frames before and after it that show it: they bracket it in time."""

from __future__ import annotations

import cv2
import numpy as np

_NEAR = 5.0  # frames at which one counts half
_SHARE = 0.8  # of what the bracket says is taken at most
_DEPTH = 4.0  # working pixels into the hole at which half of it is: at the edge the motion was measured
_SMOOTH = 9  # working pixels, side of the box over which it is averaged


def misplaced(frames: np.ndarray, flows: np.ndarray, seen: np.ndarray, hole: np.ndarray) -> np.ndarray | None:
    """By how much flows to other frames, which agree with each other, are off together.

    Beside the camera a place moves evenly for a while: along a line through its places in the frames before and after,
    which is at no motion at all in this frame. What the line has there instead is what all flows are off by. Taken
    back by as much as the places are on lines.

    Args:
        frames: float32 (k,), how many frames later each was taken.
        flows: float32 (k, h, w, 2). seen: bool (k, h, w), whether the frame shows the place. hole: bool (h, w).

    Returns float32 (h, w, 2), 0 outside the hole; None where nothing is bracketed.
    """
    if frames.min(initial=0) >= 0 or frames.max(initial=0) <= 0:
        return None
    weights = seen / (1 + np.abs(frames) / np.float32(_NEAR))[:, None, None]
    before, after = (weights[side].sum(axis=0) for side in (frames < 0, frames > 0))
    use = hole & (before > 0) & (after > 0)
    sums = [np.einsum("k,khw->hw", frames**power, weights) for power in range(3)]
    flat, slant = (np.einsum("k,khw,khwc->hwc", frames**power, weights, flows) for power in (0, 1))
    determinant = np.maximum(sums[0] * sums[2] - sums[1] ** 2, 1e-6)[..., None]
    use &= determinant[..., 0] > 1
    count = np.count_nonzero(use)
    if count < 16:
        return None
    start = (sums[2][..., None] * flat - sums[1][..., None] * slant) / determinant
    slope = (sums[0][..., None] * slant - sums[1][..., None] * flat) / determinant
    off_line = flows - start - frames[:, None, None, None] * slope
    spread = np.einsum("khw,khwc->hwc", weights, off_line**2) / np.maximum(sums[0], 1e-6)[..., None]
    doubt = spread * sums[2][..., None] / determinant
    share = _SHARE * max(0.0, 1 - float(doubt[use].sum()) / max(float((start[use] ** 2).sum()), 1e-9))
    if share == 0:
        return None
    mass = cv2.blur(use.astype(np.float32), (_SMOOTH, _SMOOTH))
    mean = cv2.blur(start * use[..., None], (_SMOOTH, _SMOOTH)) / np.maximum(mass, 1e-3)[..., None]
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    deep = depth / (depth + np.float32(_DEPTH)) * use
    return (np.float32(share) * deep[..., None] * mean).astype(np.float32)
