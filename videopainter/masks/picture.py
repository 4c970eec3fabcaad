"""One mask as it was kept, before anybody has decided what its values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Picture:
    """What one mask file, page or frame holds.

    values: (height, width), grey levels, labels or indices of `palette`, of any type; or (height, width, 3), colours.
    alpha: (height, width), how opaque each pixel is, where that is kept. palette: uint8 (up to 256, 3), RGB.
    lossy: the values have been through a codec that changes them.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    lossy: bool = False

    def __post_init__(self):
        if self.values.dtype.kind == "f":
            self.values = np.nan_to_num(self.values, nan=0.0, posinf=1.0, neginf=0.0)

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape[:2]

    def levels(self) -> np.ndarray:
        """(height, width): brightness; of colours the brightest channel, of indices what they look like."""
        values = self.values
        if self.palette is not None:
            values = self.palette[np.minimum(values, len(self.palette) - 1)]
        return values.max(axis=2) if values.ndim == 3 else values

    def labels(self) -> np.ndarray:
        """(height, width): the numbers that stand there: index, grey level, or a colour's brightest channel."""
        values = self.values.max(axis=2) if self.values.ndim == 3 else self.values
        return np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values


def picture_of(array: np.ndarray, lossy: bool = False) -> Picture:
    """From (height, width) with 1, 2, 3 or 4 channels last or none: grey, grey and alpha, RGB, RGBA."""
    if array.ndim == 2:
        return Picture(array, lossy=lossy)
    channels = array.shape[2]
    alpha = array[..., -1] if channels in (2, 4) else None
    return Picture(array[..., 0] if channels < 3 else array[..., :3], alpha, lossy=lossy)


def picture_of_image(image: Any, lossy: bool = False) -> Picture:
    """From the image, or the present page, of Pillow. Raises OSError or ValueError if it is damaged."""
    if image.getexif().get(0x0112, 1) != 1:  # the camera was held upright, and its picture is turned likewise
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode == "P":
        colours = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        return Picture(np.asarray(image), _tran(image), colours, lossy)
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        return Picture(_grey(image), _tran(image), lossy=lossy)
    if mode == "LAB":  # its first channel is the brightness
        return Picture(np.asarray(image.getchannel(0)), lossy=lossy)
    if mode in ("LA", "La"):
        return picture_of(np.asarray(image.convert("LA")), lossy)
    has_alpha = mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
    return picture_of(np.asarray(image.convert("RGBA" if has_alpha else "RGB")), lossy)


def _grey(image: Any) -> np.ndarray:
    values = np.asarray(image)
    # Pillow turns a TIFF whose 0 is white, but not where it has 16 bits.
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0:
        values = 65535 - values
    return values


def _tran(image: Any) -> np.ndarray | None:
    """Alpha of an image that says which of its colours is transparent."""
    if "transparency" not in image.info or image.mode.startswith(("I", "F")):
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))
