"""Frames and masks as arrays: resized, and prepared as the published scripts of this family do."""

import cv2
import numpy as np
from PIL import Image


def resize(frame: np.ndarray, size: tuple[int, int], resample=Image.Resampling.BICUBIC) -> np.ndarray:
    """uint8 ``(h, w, 3)`` or ``(h, w)`` to ``size`` = (height, width), with Pillow's filters."""
    if frame.shape[:2] == tuple(size):
        return frame
    return np.array(Image.fromarray(frame).resize((size[1], size[0]), resample))


def resize_smooth(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``(h, w)`` or ``(h, w, 3)`` to ``size`` = (height, width): the mean of what is under a pixel, cubic where
    it grows."""
    if picture.shape[:2] == tuple(size):
        return picture
    shrinks = size[0] < picture.shape[0]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool ``(h, w)`` to ``size`` = (height, width), nearest."""
    return resize(mask.astype(np.uint8), size, Image.Resampling.NEAREST) > 0


def dilate(mask: np.ndarray, rounds: int) -> np.ndarray:
    """bool ``(h, w)``, grown ``rounds`` times by the four neighbours of every pixel."""
    if rounds < 0:
        raise ValueError(f"mask_dilation must be 0 or more, not {rounds}.")
    if rounds == 0:
        return mask
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=rounds) > 0
