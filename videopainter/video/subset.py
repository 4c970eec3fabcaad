"""The part of a video that is worked on: fewer seconds, fewer frames a second."""

import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from videopainter.video import VideoError, VideoSource, open_video


class Excerpt(VideoSource):
    """Some frames of another source, by their numbers in it, at a frame rate of their own."""

    def __init__(self, source: VideoSource, indices: Sequence[int], fps: Fraction):
        super().__init__()
        self.source, self.indices, self.fps = source, indices, fps
        self.path, self.backend, self.size = source.path, source.backend, source.size
        self.has_audio, self.colour, self.warnings = source.has_audio, source.colour, source.warnings
        self._length = len(indices)

    def _frame(self, i: int) -> np.ndarray:
        return self.source._frame(self.indices[i])

    def close(self) -> None:
        self.source.close()


def first_seconds(source: VideoSource, max_seconds: float | None) -> VideoSource:
    """The frames that are shown before `max_seconds` (None: all). Raises VideoError if it is not > 0."""
    if max_seconds is None:
        return source
    if not 0 < max_seconds < float("inf"):
        raise VideoError(f"The number of seconds to work on must be above 0, not {max_seconds}.")
    count = -(-Fraction(max_seconds).limit_denominator(1000) * source.fps // 1)  # rounded up
    return source if count >= len(source) else Excerpt(source, range(max(int(count), 1)), source.fps)


def at_rate(source: VideoSource, target_fps: float | None) -> VideoSource:
    """Every so many frames, so that there are `target_fps` a second; never more than there are.

    None: all of them. Raises VideoError if it is not > 0.
    """
    if target_fps is None:
        return source
    if not 0 < target_fps < float("inf"):
        raise VideoError(f"The number of frames a second must be above 0, not {target_fps}.")
    fps = max(Fraction(target_fps).limit_denominator(1001), Fraction(1, 1001))
    if fps >= source.fps:
        return source
    count = -(-len(source) * fps // source.fps)
    return Excerpt(source, [int(k * source.fps / fps) for k in range(int(count))], fps)


def original_numbers(source: VideoSource) -> Sequence[int]:
    """The frame numbers of `source` in the video that it was cut from."""
    if not isinstance(source, Excerpt):
        return range(len(source))
    numbers = original_numbers(source.source)
    return [numbers[i] for i in source.indices]


def second_reader(source: VideoSource) -> VideoSource:
    """The same frames through a decoder of its own, for whoever reads at another place at the same time.

    Two readers of one decoder would send it back to a key frame at every turn.
    """
    if isinstance(source, Excerpt):
        return Excerpt(second_reader(source.source), source.indices, source.fps)
    if source.path is None or source.backend == "images":
        return source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with the file has been said when it was first opened
        reader = open_video(source.path, source.backend)
    reader._cache_bytes = 0  # it only ever reads on
    return reader
