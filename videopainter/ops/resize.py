"""Pictures at another size: the one place where pixels are resampled to a grid of another size."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Filter = Literal[
    "nearest",
    "linear",
    "cubic",
    "area",
    "area-or-linear",
    "area-or-cubic",
    "pillow-nearest",
    "pillow-bilinear",
    "pillow-bicubic",
    "pillow-lanczos",
]

_OPENCV = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def resize(picture: np.ndarray, size: tuple[int, int], how: Filter) -> np.ndarray:
    """A picture at another size; the picture itself, not a copy, where it has that size already.

    Args:
        picture: ``(height, width)`` or ``(height, width, channels)``, uint8 or float32.
        size: (height, width).
        how: which pixels a new one is made of.

            - "nearest", "linear", "cubic": OpenCV's, which look at one, 2 x 2 and 4 x 4 pixels however much the
              picture shrinks. For enlarging, and "linear" for smooth fields.
            - "area": the mean of what a new pixel covers. For shrinking.
            - "area-or-linear": "area" where neither side grows, else "linear".
            - "area-or-cubic": "area" where the picture becomes lower, else "cubic".
            - "pillow-nearest", "pillow-bilinear", "pillow-bicubic", "pillow-lanczos": Pillow's, which are widened as
              the picture shrinks (antialiased), for uint8 with one or three channels. Published networks of this
              family were trained and measured with them, and the two libraries round differently.

    Returns the dtype and the channels of ``picture``.
    """
    height, width = size
    if picture.shape[:2] == (height, width):
        return picture
    if how.startswith("pillow-"):
        from PIL import Image

        filter_ = Image.Resampling[how.removeprefix("pillow-").upper()]
        return np.array(Image.fromarray(picture).resize((width, height), filter_))
    if how == "area-or-linear":
        how = "area" if height <= picture.shape[0] and width <= picture.shape[1] else "linear"
    elif how == "area-or-cubic":
        how = "area" if height < picture.shape[0] else "cubic"
    out = cv2.resize(picture, (width, height), interpolation=_OPENCV[how])
    return out[..., None] if out.ndim < picture.ndim else out  # OpenCV drops a single channel


def resize_mask(
    mask: np.ndarray, size: tuple[int, int], how: Literal["nearest", "half"] = "nearest"
) -> np.ndarray:
    """bool ``(h, w)`` to ``size`` = (height, width).

    ``how``: "nearest" takes the nearest pixel as Pillow finds it; with "half" a new pixel is True if more than half
    of what it covers is.
    """
    if mask.shape == tuple(size):
        return mask
    if how == "nearest":
        return resize(mask.astype(np.uint8), size, "pillow-nearest") > 0
    return resize(mask.view(np.uint8), size, "area") > 0
