"""Frames and masks as arrays, prepared as the published scripts of this family do."""

import cv2
import numpy as np
from PIL import Image

from videopainter.ops.resize import resize as _resize
from videopainter.ops.resize import resize_mask

__all__ = ["dilate", "resize", "resize_mask"]


def resize(frame: np.ndarray, size: tuple[int, int], resample=Image.Resampling.BICUBIC) -> np.ndarray:
    """uint8 ``(h, w, 3)`` or ``(h, w)`` to ``size`` = (height, width), with one of Pillow's filters."""
    return _resize(frame, size, f"pillow-{Image.Resampling(resample).name.lower()}")


def dilate(mask: np.ndarray, rounds: int) -> np.ndarray:
    """bool ``(h, w)``, grown ``rounds`` times by the four neighbours of every pixel."""
    if rounds < 0:
        raise ValueError(f"mask_dilation must be 0 or more, not {rounds}.")
    if rounds == 0:
        return mask
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=rounds) > 0
