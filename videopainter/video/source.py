"""What every video source has in common, and the sources that need no codec: arrays and folders of images."""

from __future__ import annotations

import os
import re
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from fractions import Fraction

import numpy as np

CACHE_FRAMES = 64  # an engine steps back by about that much and no more
CACHE_BYTES = 64 * 2**20  # and by fewer frames where they are larger than 720 x 480
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class VideoError(ValueError):
    """A video cannot be read or written; the message is one sentence made for the user."""


class VideoSource(ABC):
    """Random access to decoded frames; a source of its own kind defines `_frame`.

    `len(source)` is the number of frames, `source[i]` a uint8 (h, w, 3) RGB frame, `source[i:j]` a uint8
    (n, h, w, 3) array; both belong to the caller. `fps` is a Fraction; where the frames are not evenly
    spaced (`variable_rate`) every frame is kept and `fps` is the average, so writing keeps the duration.
    `size` is (height, width) after rotation. `warnings` lists, in sentences, what was wrong with the file.
    `colour` is "bt601", "bt709", "untagged" or None, for `VideoWriter(colour=...)`; untagged video is read
    as BT.601. A source is a context manager, and not to be shared between threads.
    """

    path = None
    backend = ""
    fps = Fraction(25)
    size = (0, 0)
    has_audio = False
    colour = None
    variable_rate = False
    _length = 0

    def __init__(self):
        self.warnings = []

    @property
    def height(self):
        return self.size[0]

    @property
    def width(self):
        return self.size[1]

    @property
    def duration(self):
        """Seconds, a Fraction: frames divided by rate."""
        return len(self) / self.fps

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

    def __init__(self):
        super().__init__()
        self._cache = OrderedDict()

    def close(self):
        super().close()
        self._cache.clear()

    @property
    def _capacity(self):
        return min(CACHE_FRAMES, max(8, self._cache_bytes // max(1, self.height * self.width * 3)))

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
    """A source over frames in memory: uint8 (n, h, w, 3) RGB, which is not copied."""

    backend = "array"

    def __init__(self, frames, fps=25):
        super().__init__()
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VideoError(f"Frames must be uint8 (n, h, w, 3), not {frames.dtype} {frames.shape}.")
        self._frames, self._length = frames, len(frames)
        self.size, self.fps = frames.shape[1:3], exact_rate(fps)

    def _frame(self, i):
        return self._frames[i]


class ImageFolderSource(CachedSource):
    """A folder of images of one size, in natural order of their names (2.png before 10.png)."""

    backend = "images"

    def __init__(self, path, fps=25):
        super().__init__()
        names = [n for n in os.listdir(path) if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")]
        if not names:
            raise VideoError(f"There are no images in the folder {path!r}.")
        names.sort(key=lambda n: [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", n)])
        self.path, self._names, self._length = path, names, len(names)
        self.fps = exact_rate(fps)
        self.size = self._read(0).shape[:2]

    def _read(self, i):
        from PIL import Image, ImageOps

        name = os.path.join(self.path, self._names[i])
        try:
            with Image.open(name) as image:
                if image.mode.startswith("I"):  # 16 bit grey: PIL would clip it at 255
                    grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                    return np.repeat(grey[..., None], 3, axis=2)
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise VideoError(f"The image {name!r} cannot be read.") from None

    def _decode(self, i):
        frame = self._read(i)
        if frame.shape[:2] != self.size:
            (h, w), (h0, w0) = frame.shape[:2], self.size
            raise VideoError(f"{self._names[i]!r} is {w}x{h}, but the images before it are {w0}x{h0}.")
        return frame


def exact_rate(fps):
    try:
        rate = Fraction(fps).limit_denominator(1_000_000)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise VideoError(f"The frame rate must be above 0 and at most 1000, not {fps!r}.")
    return rate
