"""A video that a caller has in memory, in whatever form, as a `VideoSource`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from videopainter.utils.pixels import is_image, plain
from videopainter.video import ArraySource, VideoError, VideoSource

CHANNELS = (3, 4)  # RGB, and RGB with alpha, which is left aside


def given_video(video: Any) -> VideoSource:
    """A source over frames in memory; what is a source already, or reads like one, as it is.

    Takes an array or a tensor (n, height, width, 3) or (n, 3, height, width), with a leading axis of length 1 or
    without; and lists of images of Pillow, arrays or tensors of one frame each. Integers are 0 to 255, fractions 0 to
    1. Frames are made into uint8 one by one, as they are asked for. Raises VideoError for anything else.
    """
    video = plain(video)
    if isinstance(video, np.ndarray):
        while video.ndim > 4 and video.shape[0] == 1:
            video = video[0]
        if video.ndim != 4 or not (video.shape[3] in CHANNELS or video.shape[1] in CHANNELS):
            raise VideoError(f"Frames must have the shape (n, height, width, 3), not {video.shape}.")
        if video.dtype == np.uint8 and video.shape[3] == 3:
            return ArraySource(video)
        return FramesSource(video)
    if isinstance(video, list | tuple):
        # diffusers gives a list of videos, of one, where a list of frames is meant.
        if len(video) == 1 and (isinstance(video[0], list | tuple) or getattr(video[0], "ndim", 0) == 4):
            return given_video(video[0])
        return FramesSource(video)
    if not hasattr(video, "warnings") or not hasattr(video, "size"):
        raise VideoError(
            f"A video is a path, a VideoSource, frames or a list of frames, not {type(video).__name__}."
        )
    return video


class FramesSource(VideoSource):
    """Frames of any kind, a list or an array of them; each is made uint8 RGB when it is asked for.

    Raises VideoError if one is no picture, has another size than the first, or values that are neither.
    """

    backend = "memory"

    def __init__(self, frames: Sequence[Any]):
        super().__init__()
        if len(frames) == 0:
            raise VideoError("The video has 0 frames.")
        self._frames, self._length = frames, len(frames)
        self._scale = 255.0
        kept = [(i, np.asarray(plain(frame))) for i, frame in enumerate(frames) if not is_image(frame)]
        fractions = [(i, array) for i, array in kept if array.dtype.kind == "f"]
        if fractions:
            low = min(float(array.min(initial=0)) for _, array in fractions)
            high = max(float(array.max(initial=0)) for _, array in fractions)
            if not (low >= 0 and high <= 255):
                raise VideoError(
                    f"Frames of fractions must lie between 0 and 1, but theirs are {low:g} to {high:g}."
                )
            if high > 1:  # once integers
                self._scale = 1.0
        self.size = tuple(self._frame(0).shape[:2])

    def _frame(self, i: int) -> np.ndarray:
        frame = self._frames[i]
        if is_image(frame):
            array = np.asarray(frame.convert("RGB"))
        else:
            array = self._pixels(i, np.asarray(plain(frame)))
        if i and array.shape[:2] != self.size:
            (h, w), (h0, w0) = array.shape[:2], self.size
            raise VideoError(f"Frame {i} is {w} x {h}, but the first is {w0} x {h0}.")
        return array

    def _pixels(self, i: int, array: np.ndarray) -> np.ndarray:
        while array.ndim > 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
            array = np.moveaxis(array, 0, 2)
        if array.ndim != 3 or array.shape[2] not in CHANNELS:
            raise VideoError(f"Frame {i} must have the shape (height, width, 3), not {array.shape}.")
        array = array[..., :3]
        if array.dtype.kind == "f":
            return np.rint(array.astype(np.float32) * self._scale).astype(np.uint8)
        if array.dtype == np.uint16:
            return (array >> 8).astype(np.uint8)
        if array.dtype.kind not in "ui" or array.min(initial=0) < 0 or array.max(initial=0) > 255:
            raise VideoError(f"Frame {i} must have integers from 0 to 255 or fractions from 0 to 1.")
        return np.ascontiguousarray(array, np.uint8)
