"""The part of the picture that a network gets to see, where it works at one size and the video has another.

A region is a rectangle of constant size, of the network's proportions, that holds the hole in every frame. It
stands still where that can be, and moves smoothly otherwise. Where no such rectangle fits into the picture it
reaches beyond, and the picture is mirrored there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from videopainter.masks import MaskTrack, bounding_box
from videopainter.ops.resize import resize
from videopainter.video import VideoSource

FILTER = "area-or-cubic"  # how it is brought to the network's size, and back
CONTEXT = 2.0  # sides of a region, in sides of its hole: a network fills what it sees around
MARGIN = 1 / 10  # of a region's side that is kept free between the hole and the region's edge
STAND_STILL = 1.5  # sides of a region that stands still, at most, in sides of the one that would have to move
SMOOTH_SECONDS = 1.0  # time over which a moving region's place is averaged, where the hole leaves it the room


@dataclass(frozen=True)
class RegionPath:
    """Where the region lies in each frame: rows `tops[i]` to `tops[i] + height`, columns likewise.

    size: (height, width) in pixels of the video. tops, lefts: one int a frame; negative where it reaches beyond.
    """

    size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def moves(self) -> bool:
        """Whether it is in different places in different frames."""
        return len(set(self.tops)) > 1 or len(set(self.lefts)) > 1

    def cut(self, picture: np.ndarray, i: int, size: tuple[int, int]) -> np.ndarray:
        """The region of frame `i`, uint8 (h, w, 3) or bool (h, w), made `size` = (height, width) large.

        A pixel of a bool result is True if anything under it is.
        """
        height, width = self.size
        top, left = self.tops[i], self.lefts[i]
        inside = picture[max(top, 0) : top + height, max(left, 0) : left + width]
        above, before = max(-top, 0), max(-left, 0)
        below = height - above - inside.shape[0]
        behind = width - before - inside.shape[1]
        plane = inside.view(np.uint8) * 255 if inside.dtype == bool else np.ascontiguousarray(inside)
        if above or below or before or behind:
            plane = cv2.copyMakeBorder(plane, above, below, before, behind, cv2.BORDER_REFLECT)
        out = resize(plane, size, FILTER)
        return out > 0 if picture.dtype == bool else out

    def place(self, inpainted: np.ndarray, i: int, frame_size: tuple[int, int]) -> np.ndarray:
        """A frame, uint8 (*frame_size, 3), with `inpainted` in the place of the region, and black elsewhere."""
        height, width = self.size
        top, left = self.tops[i], self.lefts[i]
        out = np.zeros((*frame_size, 3), np.uint8)
        target = out[max(top, 0) : top + height, max(left, 0) : left + width]
        y, x = max(-top, 0), max(-left, 0)
        target[...] = resize(inpainted, self.size, FILTER)[y : y + target.shape[0], x : x + target.shape[1]]
        return out


def plan_region(
    holes: Iterable[np.ndarray], frame_size: tuple[int, int], network_size: tuple[int, int], fps: float = 25
) -> RegionPath:
    """The region for a clip.

    It has `network_size`, so that no pixel is made up by enlarging, and more where the hole needs more (see
    `CONTEXT`) and the picture has it. A hole that fits into no rectangle of these proportions inside the picture
    gets a larger one.

    Args:
        holes: bool (height, width), one a frame.
        frame_size, network_size: (height, width).
        fps: frames a second, which set how quickly a region may turn.
    """
    boxes = [_corners(hole) for hole in holes]
    found = np.array([box for box in boxes if box is not None], float).reshape(-1, 4)
    ratio = network_size[1] / network_size[0]
    most = min(frame_size[0], frame_size[1] / ratio)  # the height of the largest one inside the picture
    cover = max(frame_size[0], frame_size[1] / ratio)  # of one that holds the whole picture

    def height_for(boxes: np.ndarray) -> float:
        tall, wide = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
        bare = max(tall, wide / ratio)
        if bare > most:
            return min(bare / (1 - 2 * MARGIN), cover)
        return min(max(network_size[0], CONTEXT * bare), most)

    height = min(network_size[0], most)
    if len(found):
        height = height_for(found)
        path = np.concatenate([found[:, :2].min(axis=0), found[:, 2:].max(axis=0)])[None]
        still = height_for(path)
        if still <= min(STAND_STILL * height, max(most, height)):
            height = still
    size = (ceil(height - 1e-6), ceil(height * ratio - 1e-6))
    reach = round(SMOOTH_SECONDS * float(fps) / 2)
    places = []
    for axis in (0, 1):
        spans = [None if box is None else (box[axis], box[axis + 2]) for box in boxes]
        places.append(_path(spans, size[axis], frame_size[axis], reach))
    return RegionPath(size, *places)


class RegionSource(VideoSource):
    """The frames of another source as a network sees them: the region, made `size` = (height, width) large."""

    def __init__(self, source: VideoSource, region: RegionPath, size: tuple[int, int]):
        super().__init__()
        self.source, self.region, self.size = source, region, tuple(size)
        self.fps = source.fps
        self._length = len(source)

    def _frame(self, i: int) -> np.ndarray:
        return self.region.cut(self.source._frame(i), i, self.size)


def region_masks(holes: Iterable[np.ndarray], region: RegionPath, size: tuple[int, int]) -> MaskTrack:
    """The holes, one bool (height, width) a frame, as a network sees them: the region, made `size` large."""
    return MaskTrack.build(region.cut(hole, i, size) for i, hole in enumerate(holes))


def place_back(
    inpainted: Iterable[np.ndarray], region: RegionPath, frame_size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """`RegionPath.place` of every frame in order."""
    for i, frame in enumerate(inpainted):
        yield region.place(frame, i, frame_size)


def _corners(hole: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right), the last two exclusive; None if the mask is empty."""
    box = bounding_box(hole)
    return None if box is None else (box[0].start, box[1].start, box[0].stop, box[1].stop)


def _path(spans: list[tuple[int, int] | None], side: int, frame: int, reach: int) -> tuple[int, ...]:
    """Where the region begins in each frame, along one axis.

    Every frame allows an interval of places. One place for all of them is taken where there is one. Otherwise
    the intervals are narrowed to those of `reach` frames around, the place follows them as lazily as it can, and
    is then averaged over `reach` frames: a mean of places which all are allowed in a frame is allowed there.
    """
    allowed = np.array([_allowed(span, side, frame) for span in spans], float)
    low, high = allowed[:, 0], allowed[:, 1]
    for width in range(reach, -1, -1):
        lowest = _around(low, width, np.maximum)
        highest = _around(high, width, np.minimum)
        if (lowest <= highest).all():
            break
    rest = (lowest.max() + highest.min()) / 2
    place = np.clip(rest, lowest, highest)
    padded = np.pad(place, width, mode="edge")
    smooth = np.convolve(padded, np.full(2 * width + 1, 1 / (2 * width + 1)), mode="valid")
    return tuple(int(x) for x in np.clip(np.rint(smooth), np.ceil(low), np.floor(high)))


def _allowed(span: tuple[int, int] | None, side: int, frame: int) -> tuple[int, int]:
    """The first and the last place of a region that holds a span of the hole: inside the picture if it fits.

    The hole keeps its margin from the region's edge, except where that is the picture's edge, or the region is
    too small for it.
    """
    first, last = (0, frame - side) if side <= frame else ((frame - side) // 2,) * 2
    if span is None:
        return first, last
    begin, end = span
    margin = min(int(side * MARGIN), (side - (end - begin)) // 2)
    low, high = end + margin - side, begin - margin
    if side > frame:  # beyond the picture on both sides, which the hole is not
        return first, last
    low, high = max(min(low, last), first), min(max(high, first), last)
    return low, high


def _around(values: np.ndarray, reach: int, function) -> np.ndarray:
    """The maximum or minimum of the values at most `reach` away."""
    padded = np.pad(values, reach, mode="edge")
    return function.reduce(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
