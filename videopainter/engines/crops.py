"""The part of a video that an engine works on: the surroundings of all holes."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.ops.pictures import dilate, resize, resize_mask


def union_box(masks) -> tuple[slice, slice] | None:
    """(rows, columns) that hold every hole of a `MaskTrack`; None if there is none."""
    union = np.zeros(masks.size, bool)
    for i in range(len(masks)):
        union |= masks[i : i + 1][0]
    return bounding_box(union)


def size_of(box: tuple[slice, slice]) -> tuple[int, int]:
    """(height, width)."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def wider(span: slice, margin: int, limit: int, least: float) -> slice:
    """A span of pixels with a margin, at least so long where there is room, inside 0..limit."""
    margin = max(margin, int(np.ceil((least - (span.stop - span.start)) / 2)))
    return slice(max(0, span.start - margin), min(limit, span.stop + margin))


class SourceClip:
    """The region of a source and its masks that the networks see, at the size they work at."""

    def __init__(self, source, masks, box: tuple[slice, slice], size: tuple[int, int], mask_dilation: int):
        self.source, self.masks, self.box, self.size = source, masks, box, size
        self.mask_dilation = mask_dilation

    def __len__(self) -> int:
        return len(self.source)

    def frame(self, i: int) -> np.ndarray:
        # Copied, so that the whole frame does not stay in memory with its region.
        return resize(np.ascontiguousarray(self.source[i : i + 1][0][self.box]), self.size)

    def hole(self, i: int) -> np.ndarray:
        mask = np.asarray(self.masks[i : i + 1][0], bool)[self.box]
        return dilate(resize_mask(mask, self.size), self.mask_dilation)


def put_back(source, masks, box: tuple[slice, slice], painted: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the source's frames with what was painted of the region in the holes, uint8 ``(height, width, 3)``.

    ``painted``: the region of every frame, uint8 ``(h, w, 3)``, of any size.
    """
    for i, region in enumerate(painted):
        frame = source[i : i + 1][0]
        inside = np.asarray(masks[i : i + 1][0], bool)[box]
        if inside.any():
            frame[box][inside] = resized_back(region, inside.shape)[inside]
        yield frame


def untouched(source) -> Iterator[np.ndarray]:
    """The source's frames as they are."""
    return (source[i : i + 1][0] for i in range(len(source)))


def resized_back(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``(h, w, 3)`` at ``size`` = (height, width), bilinearly."""
    return region if region.shape[:2] == size else cv2.resize(region, size[::-1])
