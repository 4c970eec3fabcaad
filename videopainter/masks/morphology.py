"""What is done to the shape of one mask."""

import cv2
import numpy as np


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Bool (height, width) grown by a disc of `radius` pixels; exact, and its cost does not grow with it."""
    out = np.zeros_like(mask, dtype=bool)
    box = bounding_box(mask, int(np.ceil(radius)))
    if box is not None:
        outside = (~mask[box]).astype(np.uint8)
        out[box] = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius + 1e-3
    return out


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice] | None:
    """(rows, columns) that hold all of a bool mask (height, width) and `margin` more; None if it is empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8) if mask.dtype == bool else mask)
    if width == 0:
        return None
    return slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)


def touching(a: np.ndarray, b: np.ndarray, gap: float = 1.5) -> bool:
    """Whether two bool masks (height, width) overlap or come within `gap` pixels of each other."""
    return bool((dilate(a, gap) & b).any())
