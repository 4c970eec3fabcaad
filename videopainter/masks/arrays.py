"""Masks that a program holds: arrays, tensors, images, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.masks.base import MaskFormat
from videopainter.masks.picture import Picture, picture_of, picture_of_image
from videopainter.masks.track import MaskError, MaskTrack
from videopainter.utils.pixels import is_image, plain

CHANNELS = (1, 3, 4)  # how many a mask may have: grey, RGB, RGBA
PLANES = (1, 3)  # the same before the height, where four are rather frames


def layout_of(
    shape: tuple[int, ...], count: int | None = None
) -> tuple[int | None, tuple[int, ...], tuple[int, int]]:
    """(number of masks, None for one that serves all frames; shape of each; its height and width).

    Shapes: (height, width), (n, height, width), either with 1, 3 or 4 channels last, or 1 or 3 before
    the height, and with any axes of length 1 in front. Raises ValueError, the end of a sentence, for another one.

    count: the number of frames, where it is known; it tells channels from masks.
    """
    whole = shape
    while (
        len(shape) > 3
        and shape[0] == 1
        and not (len(shape) == 4 and shape[1] in PLANES and shape[1] != count)
    ):
        shape = shape[1:]
    if len(shape) == 2:
        return None, shape, shape
    if len(shape) == 3:
        if shape[2] in CHANNELS:
            return None, shape, shape[:2]
        return shape[0], shape[1:], shape[1:]
    if len(shape) == 4 and shape[3] in CHANNELS:
        return shape[0], shape[1:], shape[1:3]
    if len(shape) == 4 and shape[1] in PLANES:
        return shape[0], shape[1:], shape[2:]
    raise ValueError(f"needs the shape (frames, height, width), not {whole}")


def channels_last(mask: np.ndarray) -> np.ndarray:
    """(height, width) or (height, width, channels) of one mask with channels last, first or none."""
    if mask.ndim == 3 and mask.shape[2] not in CHANNELS:
        return np.moveaxis(mask, 0, 2)
    return mask


class GivenMasks(MaskFormat):
    """Masks in memory, as if they were a file: a `MaskTrack`, an array or a tensor, an image, or a list.

    count: the number of frames that they are for. Raises MaskError for what is none of these.
    """

    name, what = "memory", "a MaskTrack"

    def __init__(self, masks: Any, count: int | None = None):
        self.path = Path("masks")
        self.track = masks if isinstance(masks, MaskTrack) else None
        self.has_labels = self.track is None
        if self.track is not None:
            self.count, self.size = len(self.track), self.track.size
            return
        masks = plain(masks)
        if is_image(masks):
            self._items, self.count = [masks], None
        elif isinstance(masks, np.ndarray):
            try:
                self.count, single, _ = layout_of(masks.shape, count)
            except ValueError as error:
                raise MaskError(f"The array of masks {error}.") from None
            self._items = list(masks.reshape(self.count or 1, *single)) if masks.size else []
        elif isinstance(masks, list | tuple) or (hasattr(masks, "__len__") and hasattr(masks, "__getitem__")):
            self._items = [masks[i] for i in range(len(masks))]
            self.count = len(self._items)
        else:
            raise MaskError(f"Masks are a path, an array, a list or a MaskTrack, not {type(masks).__name__}.")
        if not self._items:
            raise MaskError("There are 0 masks; at least one is needed.")
        self.size = self._picture(self._items[0]).size

    def pictures(self) -> Iterator[Picture]:
        if self.track is not None:
            return (Picture(mask) for mask in self.track)
        return (self._picture(item) for item in self._items)

    def frames(self) -> Iterator[np.ndarray]:
        return super().frames() if self.track is None else iter(self.track)

    @staticmethod
    def _picture(item: Any) -> Picture:
        if is_image(item):
            return picture_of_image(item)
        mask = np.asarray(plain(item))
        while mask.ndim > 3 and mask.shape[0] == 1:
            mask = mask[0]
        if mask.dtype.kind not in "buif":
            raise MaskError(f"Masks need to be bool or numbers, not {mask.dtype}.")
        if mask.ndim != 2 and not (mask.ndim == 3 and (mask.shape[2] in CHANNELS or mask.shape[0] in PLANES)):
            raise MaskError(f"A mask needs the shape (height, width), not {mask.shape}.")
        return picture_of(channels_last(mask))
