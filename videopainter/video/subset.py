"""The part of a video that is worked on: fewer seconds, fewer frames a second."""

import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from videopainter.video.source import VideoError, VideoSource
from videopainter.video.times import shown_at, shown_before


class SubsetSource(VideoSource):
    """Some frames of another source, by their numbers in it.

    Each is shown when it is shown in `source`, unless `fps` is given: then they follow each other at that rate.
    """

    def __init__(self, source: VideoSource, indices: Sequence[int], fps: Fraction | None = None):
        super().__init__()
        self.source, self.indices, self.given_rate = source, indices, fps
        self._describe_like(source)
        self._length = len(indices)
        self.fps = source.fps if fps is None else fps
        if self._length:
            self.start = source.start + source.times[indices[0]]
        if fps is None and source.variable_rate and self._length:
            times = source.times
            self.variable_rate, self._times = True, [times[i] - times[indices[0]] for i in indices]
            after = indices[-1] + 1
            end = times[after] if after < len(source) else source.duration
            self.fps = self._length / (end - times[indices[0]])

    def _frame(self, i: int) -> np.ndarray:
        return self.source._frame(self.indices[i])

    def stored(self, i: int):
        return self.source.stored(self.indices[i])

    def close(self) -> None:
        self.source.close()


def first_seconds(source: VideoSource, max_seconds: float | None) -> VideoSource:
    """The frames that are shown before `max_seconds` (None: all). Raises VideoError if it is not > 0."""
    if max_seconds is None:
        return source
    if not 0 < max_seconds < float("inf"):
        raise VideoError(f"The number of seconds to work on must be above 0, not {max_seconds}.")
    count = shown_before(source.times, Fraction(max_seconds).limit_denominator(1000))
    return source if count >= len(source) else SubsetSource(source, range(max(count, 1)))


def at_rate(source: VideoSource, target_fps: float | None) -> VideoSource:
    """The frames that are on the screen at every 1 / `target_fps` seconds; never more than there are.

    None: all of them. Where the source's frames are not evenly spaced, those chosen keep their times.
    Raises VideoError if it is not > 0.
    """
    if target_fps is None:
        return source
    if not 0 < target_fps < float("inf"):
        raise VideoError(f"The number of frames a second must be above 0, not {target_fps}.")
    fps = max(Fraction(target_fps).limit_denominator(1001), Fraction(1, 1001))
    if source.variable_rate:
        count = -(-source.duration * fps // 1)
        numbers = sorted({shown_at(source.times, k / fps) for k in range(int(count))})
        return source if len(numbers) == len(source) else SubsetSource(source, numbers)
    if fps >= source.fps:
        return source
    count = -(-len(source) * fps // source.fps)
    return SubsetSource(source, [int(k * source.fps / fps) for k in range(int(count))], fps)


def whole_source(source: VideoSource) -> VideoSource:
    """What `source` was cut from in the end; itself if it is whole."""
    while isinstance(source, SubsetSource):
        source = source.source
    return source


def original_numbers(source: VideoSource) -> Sequence[int]:
    """The frame numbers of `source` in the video that it was cut from."""
    if not isinstance(source, SubsetSource):
        return range(len(source))
    numbers = original_numbers(source.source)
    return [numbers[i] for i in source.indices]


def second_reader(source: VideoSource) -> VideoSource:
    """The same frames through a decoder of its own, for whoever reads at another place at the same time.

    Two readers of one decoder would send it back to a key frame at every turn.
    """
    from videopainter.video import open_video

    if isinstance(source, SubsetSource):
        return SubsetSource(second_reader(source.source), source.indices, source.given_rate)
    if source.path is None or source.backend == "images":
        return source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with the file has been said when it was first opened
        reader = open_video(source.path, source.backend)
    reader._cache_bytes = 0  # it only ever reads on
    return reader
