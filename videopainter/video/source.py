"""What every video source has in common, and the one that needs no file: arrays."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np

from videopainter.video.colour import Colour
from videopainter.video.times import EvenTimes

CACHE_FRAMES = 64  # an engine steps back by about that much and no more
CACHE_BYTES = 64 * 2**20  # and by fewer frames where they are larger than 720 x 480
FEWEST_BYTES = 256 * 2**20  # eight frames are kept at least, and fewer only where they take more than this


class VideoError(ValueError):
    """A video cannot be read or written; the message is one sentence made for the user."""


class VideoSource(ABC):
    """Random access to decoded frames; a source of its own kind defines `_frame`.

    `len(source)` is the number of frames, `source[i]` a uint8 (h, w, 3) RGB frame, `source[i:j]` a uint8
    (n, h, w, 3) array; both belong to the caller. `times` are the seconds, as Fractions, after the first frame at
    which each is shown. `fps` is a Fraction: the rate, or, where frames are not evenly spaced (`variable_rate`),
    the average of all of `duration`. `start`: seconds on the file's clock at which the first frame is shown.
    `size` is (height, width) after rotation; `aspect` the width of a pixel divided by its height. `colour` is a
    `Colour`, or None for frames that came without one. HDR frames are toned down to the 8 bits of `source[i]`;
    `stored(i)` gives them as they are. `companions`: the file whose sound, subtitles and chapters belong to the
    frames, or None. `warnings` lists, in sentences, what was wrong with the file and what
    cannot be kept of it. A source is a context manager, and not to be shared between threads.
    """

    path: str | None = None
    backend = ""
    fps = Fraction(25)
    size: tuple[int, int] = (0, 0)
    aspect = Fraction(1)
    start = Fraction(0)
    has_audio = False
    companions: str | None = None
    colour: Colour | None = None
    pixel_format: str | None = None  # libav's name of what `stored` gives
    variable_rate = False
    _length = 0
    _times: Sequence[Fraction] | None = None

    def __init__(self):
        self.warnings: list[str] = []

    @property
    def height(self):
        return self.size[0]

    @property
    def width(self):
        return self.size[1]

    @property
    def times(self):
        """Seconds after the first frame at which each is shown: a sequence of rising Fractions."""
        return EvenTimes(len(self), self.fps) if self._times is None else self._times

    @property
    def duration(self):
        """Seconds, a Fraction: frames divided by rate."""
        return len(self) / self.fps

    def key_frame_before(self, i):
        """The number of the last frame up to `i` that is read without others; `i` where any is."""
        return i

    def reduced(self, i, size):
        """Frame `i` made smaller, uint8 (*size, 3) RGB, not to be changed; of a large video quicker than `[i]`."""
        return cv2.resize(self._frame(i), size[::-1], interpolation=cv2.INTER_AREA)

    def stored(self, i):
        """Frame `i` as its file stores it, a `StoredFrame`, or None where there is nothing beyond `source[i]`."""
        return None

    def __len__(self):
        return self._length

    def __getitem__(self, key):
        if isinstance(key, slice):
            numbers = range(*key.indices(len(self)))
            frames = np.empty((len(numbers), *self.size, 3), np.uint8)
            for k, i in enumerate(numbers):
                frames[k] = self._frame(i)
            return frames
        i = int(key)
        if not -len(self) <= i < len(self):
            raise IndexError(f"frame {i} of a video of {len(self)} frames")
        return self._frame(i % len(self)).copy()

    def __iter__(self):
        for i in range(len(self)):
            yield self[i]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):  # noqa: B027 (not every source holds something)
        """Let go of the file and the cached frames; may be called twice."""

    def _describe_like(self, source):
        """Take over what does not change when fewer frames of `source` are shown."""
        for name in (
            "path",
            "backend",
            "size",
            "has_audio",
            "companions",
            "colour",
            "aspect",
            "pixel_format",
        ):
            setattr(self, name, getattr(source, name, getattr(VideoSource, name)))
        self.warnings, self.start = source.warnings, getattr(source, "start", Fraction(0))

    def limit_memory(self, frame_bytes: int, threads: int | None = None) -> None:  # noqa: B027
        """Keep no more decoded frames than fit in `frame_bytes`, but always two; `threads`: of a decoder, at most.

        Each thread holds frames of its own. Not every source keeps frames, and then nothing happens.
        """

    @abstractmethod
    def _frame(self, i):
        """Frame `i`, 0 <= i < len(self), as uint8 (h, w, 3) RGB; not to be changed by whoever gets it."""

    def _warn(self, sentence):
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            warnings.warn(sentence, stacklevel=2)


class CachedSource(VideoSource):
    """A source whose frames cost something to make: the last ones are kept. A kind of its own defines `_decode`."""

    _cache_bytes = CACHE_BYTES
    _fewest_bytes = FEWEST_BYTES

    def __init__(self):
        super().__init__()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()

    def close(self):
        super().close()
        self._cache.clear()

    def limit_memory(self, frame_bytes, threads=None):
        self._cache_bytes = self._fewest_bytes = frame_bytes

    @property
    def _capacity(self):
        frame = max(1, self.height * self.width * 3)
        fewest = max(2, min(8, self._fewest_bytes // frame))
        return min(CACHE_FRAMES, max(fewest, self._cache_bytes // frame))

    def _frame(self, i):
        frame = self._cache.get(i)
        if frame is None:
            frame = self._keep(i, self._decode(i))
        else:
            self._cache.move_to_end(i)
        return frame

    def _keep(self, i, frame):
        """Copy a frame into the cache, into the memory of the oldest; a decoder's buffer must not live on."""
        store = self._cache.pop(i, None)
        while len(self._cache) >= self._capacity:
            _, store = self._cache.popitem(last=False)
        if store is None or store.shape != frame.shape:
            store = np.empty(frame.shape, np.uint8)
        store[...] = frame
        self._cache[i] = store
        return store

    @abstractmethod
    def _decode(self, i):
        """Frame `i` made anew, as `_frame` gives it."""


class ArraySource(VideoSource):
    """A source over frames in memory: uint8 (n, h, w, 3) RGB, which is not copied.

    times: seconds at which each is shown, where that is not every 1 / `fps`.
    """

    backend = "array"

    def __init__(self, frames, fps=25, times=None):
        super().__init__()
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VideoError(f"Frames must be uint8 (n, h, w, 3), not {frames.dtype} {frames.shape}.")
        self._frames, self._length = frames, len(frames)
        self.size, self.fps = frames.shape[1:3], exact_rate(fps)
        if times is not None:
            times = [Fraction(time) for time in times]
            if len(times) != len(frames) or any(a >= b for a, b in zip(times, times[1:])):
                raise VideoError("There must be one time for every frame, each above the one before it.")
            self._times, self.variable_rate = [time - times[0] for time in times], True

    def _frame(self, i):
        return self._frames[i]


def exact_rate(fps):
    """`fps` as a Fraction. Raises VideoError unless it is above 0 and at most 1000."""
    try:
        rate = Fraction(fps).limit_denominator(1_000_000)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise VideoError(f"The frame rate must be above 0 and at most 1000, not {fps!r}.")
    return rate
