"""Video in and out: random access to frames of files and folders, and a writer that keeps size, rate and sound.

Frames are uint8 RGB arrays of shape (height, width, 3), or (n, height, width, 3) for several. They are decoded
when they are asked for; only a small cache (`CACHE_BYTES`) stays in memory.
"""

from __future__ import annotations

import bisect
import os
import re
import warnings
from collections import OrderedDict
from fractions import Fraction

import av
import av.logging
import numpy as np

__all__ = ["ArraySource", "VideoError", "VideoSource", "VideoWriter", "open_video"]

CACHE_BYTES = 64 * 2**20  # about 60 frames of 720 x 480: an engine steps back by that much and no more
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
BACKENDS = ("auto", "decord", "pyav", "images")


class VideoError(ValueError):
    """A video cannot be read or written; the message is one sentence made for the user."""


def open_video(path, backend="auto", fps=None):
    """Open a video file or a folder of images as a `VideoSource`.

    backend: "auto", "decord", "pyav" or "images". "auto" takes decord where it is installed and certain to give
    the same frames as PyAV, and PyAV everywhere else. fps: frames a second of a folder of images (default 25);
    for a file it must stay None, its own rate counts.
    Raises VideoError, one sentence, for whatever cannot be opened.
    """
    if backend not in BACKENDS:
        raise VideoError(f"Unknown video backend {backend!r}; use one of {', '.join(BACKENDS)}.")
    path = os.fspath(path)
    if not os.path.exists(path):
        raise VideoError(f"There is no video at {path!r}.")
    if os.path.isdir(path):
        if backend not in ("auto", "images"):
            raise VideoError(f"{path!r} is a folder, which the {backend} backend cannot read.")
        return ImageFolderSource(path, fps=25 if fps is None else fps)
    if backend == "images":
        raise VideoError(f"{path!r} is not a folder of images.")
    if fps is not None:
        raise VideoError(
            f"A frame rate ({fps}) can be set for a folder of images only, and {path!r} is a file."
        )
    return PyAVSource(path)


class VideoSource:
    """Random access to decoded frames.

    `len(source)` is the number of frames, `source[i]` a uint8 (h, w, 3) RGB frame, `source[i:j]` a uint8
    (n, h, w, 3) array; both belong to the caller. `fps` is a Fraction: the average rate where the frames are not
    evenly spaced (every frame is kept, so writing at that rate keeps the duration). `size` is (height, width)
    after rotation. `warnings` lists what was wrong with the file, in sentences. `colour` is what `VideoWriter`
    takes to write the same kind of colours. A source is a context manager, and not safe to share by threads.
    """

    path = None
    backend = ""
    fps = Fraction(25)
    size = (0, 0)
    has_audio = False
    colour = None
    variable_rate = False
    _length = 0
    _cache_bytes = CACHE_BYTES

    def __init__(self):
        self.warnings = []
        self._cache = OrderedDict()

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

    def close(self):
        """Let go of the file and the cached frames; may be called twice."""
        self._cache.clear()

    @property
    def _capacity(self):
        return max(8, self._cache_bytes // max(1, self.height * self.width * 3))

    def _frame(self, i):
        frame = self._cache.get(i)
        if frame is None:
            frame = self._decode(i)
            self._keep(i, frame)
        else:
            self._cache.move_to_end(i)
        return frame

    def _keep(self, i, frame):
        self._cache[i] = frame
        self._cache.move_to_end(i)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)

    def _decode(self, i):
        raise NotImplementedError

    def _warn(self, sentence):
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            warnings.warn(sentence, stacklevel=2)


class ArraySource(VideoSource):
    """A source over frames in memory: uint8 (n, h, w, 3) RGB, which is not copied."""

    backend = "array"

    def __init__(self, frames, fps=25):
        super().__init__()
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VideoError(f"Frames must be uint8 (n, h, w, 3), not {frames.dtype} {frames.shape}.")
        self._frames, self._length = frames, len(frames)
        self.size, self.fps = frames.shape[1:3], _rate(fps)

    def _frame(self, i):
        return self._frames[i]


class ImageFolderSource(VideoSource):
    """A folder of images of one size, in natural order of their names (2.png before 10.png)."""

    backend = "images"

    def __init__(self, path, fps=25):
        super().__init__()
        names = [n for n in os.listdir(path) if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")]
        if not names:
            raise VideoError(f"There are no images in the folder {path!r}.")
        names.sort(key=lambda n: [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", n)])
        self.path, self._names, self._length = path, names, len(names)
        self.fps = _rate(fps)
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


def _rate(fps):
    try:
        rate = Fraction(fps).limit_denominator(1_000_000)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise VideoError(f"The frame rate must be above 0 and at most 1000, not {fps!r}.")
    return rate


class PyAVSource(VideoSource):
    """A video file through PyAV.

    Opening it walks over the packets without decoding them, which gives the time stamp of every frame. A frame is
    reached by seeking to the key frame at or before it and decoding onwards.
    """

    backend = "pyav"

    def __init__(self, path):
        super().__init__()
        self.path = path
        self._container, self._stream = _open_container(path)
        self._decoder, self._position = None, -1
        try:
            self._build_index()
        except BaseException:
            self.close()
            raise

    def close(self):
        super().close()
        self._decoder = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _build_index(self):
        stream = self._stream
        stamps, keys = [], []
        try:
            for packet in self._container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    continue
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except av.FFmpegError:
            pass  # cut off: what came before counts
        if not stamps:
            raise VideoError(f"{self.path!r} holds no video frames.")
        self._pts = sorted(stamps)
        self._number = {p: i for i, p in enumerate(self._pts)}
        self._keys = sorted(keys)
        self._length = len(self._pts)
        self.has_audio = bool(self._container.streams.audio)
        self._container.seek(self._pts[0], stream=stream)
        first = next(self._container.decode(stream))
        self.size = _to_rgb(first).shape[:2]
        self.fps = _rate(stream.average_rate or stream.guessed_rate or 25)
        self._restart(0)

    def _restart(self, i):
        """Put the decoder at the last key frame that is not after frame i."""
        k = bisect.bisect_right(self._keys, self._pts[i]) - 1
        stamp = self._keys[k] if k >= 0 else self._pts[0]
        self._container.seek(stamp, stream=self._stream, backward=True)
        self._decoder = self._container.decode(self._stream)
        self._position = -1

    def _decode(self, i):
        k = bisect.bisect_right(self._keys, self._pts[i]) - 1
        key = self._number[self._keys[k]] if k >= 0 else 0
        if not (key <= self._position < i) and not (self._position < i and self._position + 1 == i):
            self._restart(i)
        for frame in self._decoder:
            number = self._number.get(frame.pts)
            if number is None:
                continue
            self._position = number
            if number == i:
                return _to_rgb(frame)
        raise VideoError(f"Frame {i} of {self.path!r} cannot be decoded.")


def _open_container(path):
    try:
        container = av.open(path)
    except (av.FFmpegError, OSError, ValueError):
        raise VideoError(f"{path!r} is not a video that can be read.") from None
    if not container.streams.video:
        container.close()
        raise VideoError(f"{path!r} has no video in it.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return container, stream


def _to_rgb(frame):
    rgb = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


class VideoWriter:
    """Write H.264 in mp4 (first version: no sound yet)."""

    def __init__(self, path, fps, size, audio_from=None, duration=None, crf=18):
        self.path = os.fspath(path)
        self.fps, self.size = _rate(fps), tuple(size)
        self._temporary = os.path.join(
            os.path.dirname(self.path), f".{os.path.basename(self.path)}.{os.getpid()}.mp4"
        )
        self._container = av.open(self._temporary, "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(crf)})
        h, w = self.size
        self._stream.width, self._stream.height, self._stream.pix_fmt = w + w % 2, h + h % 2, "yuv420p"
        self._count = 0

    def write(self, frames):
        frames = np.asarray(frames)
        for rgb in frames if frames.ndim == 4 else frames[None]:
            h, w = self.size
            rgb = np.pad(rgb, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = self._count, 1 / self.fps
            self._count += 1
            self._container.mux(self._stream.encode(frame))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            if os.path.exists(self._temporary):
                os.remove(self._temporary)
