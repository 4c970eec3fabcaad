"""Pictures of frames for the page: any video that the library reads, by frame number, in memory that is bounded."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks import dilate
from videopainter.video import VideoSource, open_video
from videopainter.web.memory import trim

ENCODED_BYTES = 32 * 2**20  # pictures that are kept, as they were sent
FRAME_BYTES = 64 * 2**20  # frames that each open video keeps; what was shown is kept as it was sent
THREADS = 2  # of a decoder; each holds frames
MOST_SOURCES = 3  # videos that are open at once: one, and two results beside each other
LARGE = 1280 * 720  # pixels of a frame, from which on reading is slow
MOST_SMALL = 8  # frames that were made smaller and are kept: as many as a segmenter reads together
LARGEST_CLICKED = 1920 * 1088  # pixels up to which clicks are answered in frames as they are
SMALL_CLICKED = (
    1280 * 720
)  # and in which those of larger frames are; a click network's own picture is smaller yet
QUALITY = 88  # of JPEG and WebP


class Frames:
    """Encoded frames of any number of videos. Threads may share it.

    Args:
        sources: videos that are open at once.
        frame_bytes: of frames that each of them keeps. encoded_bytes: of pictures that are kept as they were sent.
        threads: of each decoder.
        rest: seconds after which a video that is not looked at is closed, as its decoder holds much; None: never.
    """

    def __init__(
        self,
        sources: int = MOST_SOURCES,
        frame_bytes: int = FRAME_BYTES,
        encoded_bytes: int = ENCODED_BYTES,
        rest: float | None = None,
        threads: int = THREADS,
    ):
        self._rest, self._threads = rest, threads
        self._timers: dict[Path, threading.Timer] = {}
        self._most, self._frame_bytes, self._most_bytes = sources, frame_bytes, encoded_bytes
        self._sources: OrderedDict[Path, tuple[VideoSource, threading.Lock]] = OrderedDict()
        self._encoded: OrderedDict[tuple, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def facts(self, path: Path) -> dict:
        """What the page must know of a video. Raises VideoError."""
        with self._held(path) as source:
            return {
                "frames": len(source),
                "width": source.width,
                "height": source.height,
                "fps": float(source.fps),
                "times": [float(time) for time in source.times] if source.variable_rate else None,
                "warnings": list(source.warnings),
                "sound": bool(source.has_audio),
            }

    def picture(
        self, path: Path, number: int, width: int | None = None, kind: str = "jpeg", near: bool = False
    ) -> bytes:
        """Frame `number` as "jpeg", "webp" or "png", at most `width` pixels wide. Raises IndexError past the end.

        near: of a large video the key frame before it will do, which is read many times as fast.
        """
        key = (path, number, width, kind)
        with self._lock:
            if key in self._encoded:
                self._encoded.move_to_end(key)
                return self._encoded[key]
        data = encode(self.frame(path, number, near, width), kind)
        with self._lock:
            if key not in self._encoded:
                self._encoded[key] = data
                self._bytes += len(data)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._encoded.popitem(last=False)[1])
        return data

    def frame(self, path: Path, number: int, near: bool = False, width: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3), not to be changed, at most `width` wide. Raises IndexError past the end."""
        with self._held(path) as source:
            if not 0 <= number < len(source):
                raise IndexError(f"There is no frame {number}; there are {len(source)}.")
            if near and source.width * source.height > LARGE:
                number = source.key_frame_before(number)
            if width is None or width >= source.width:
                return source[number]
            return source.reduced(number, narrower(source.size, width))

    def forget(self, path: Path) -> None:
        """Close a video, and forget its pictures."""
        with self._lock:
            for key in [key for key in self._encoded if key[0] == path]:
                self._bytes -= len(self._encoded.pop(key))
        self._let_go(path)

    def _let_go(self, path: Path) -> None:
        with self._lock:
            entry, timer = self._sources.pop(path, None), self._timers.pop(path, None)
        if timer is not None:
            timer.cancel()
        if entry is not None:
            with entry[1]:
                entry[0].close()

    def close(self) -> None:
        for path in list(self._sources):
            self.forget(path)

    @contextmanager
    def _held(self, path: Path) -> Iterator[VideoSource]:
        """The open video, for this thread alone."""
        while True:
            source, lock = self._source(path)
            with lock:
                with self._lock:
                    if self._sources.get(path) != (source, lock):
                        continue  # it was closed while this thread waited
                yield source
                break
        if self._rest is not None:
            timer = threading.Timer(self._rest, self._let_go, (path,))
            timer.daemon = True
            with self._lock:
                if (before := self._timers.pop(path, None)) is not None:
                    before.cancel()
                self._timers[path] = timer
            timer.start()

    def _source(self, path: Path) -> tuple[VideoSource, threading.Lock]:
        with self._lock:
            if path in self._sources:
                self._sources.move_to_end(path)
                return self._sources[path]
        entry = opened(path, self._frame_bytes, self._threads), threading.Lock()
        spare = []
        with self._lock:
            if path in self._sources:  # another thread was quicker
                spare.append(entry)
                entry = self._sources[path]
            else:
                self._sources[path] = entry
                while len(self._sources) > self._most:
                    spare.append(self._sources.popitem(last=False)[1])
        for source, lock in spare:
            with lock:
                source.close()
        return entry


def opened(path: Path, frame_bytes: int | None = None, threads: int | None = None) -> VideoSource:
    """The video, without a word: what is wrong with it is among its facts. The rest: see `limit_memory`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_video(path)
    if frame_bytes is not None:
        source.limit_memory(frame_bytes, threads)
    trim()
    return source


class Clicked:
    """The frames of a video as a segmenter asks for them, through the decoder that also shows them.

    `len`, `size`, `height`, `width`, `fps`, `[i]` and `[i:j]`; frames larger than `LARGEST_CLICKED` are made
    smaller, and the last of those are kept.
    """

    def __init__(self, frames: Frames, path: Path, facts: dict):
        self._frames, self._path, self._count = frames, path, facts["frames"]
        pixels = facts["width"] * facts["height"]
        shrink = (SMALL_CLICKED / pixels) ** 0.5 if pixels > LARGEST_CLICKED else 1.0
        self.size = narrower((facts["height"], facts["width"]), max(1, round(facts["width"] * shrink)))
        (self.height, self.width), self.fps = self.size, facts["fps"]
        self._small: OrderedDict[int, np.ndarray] | None = OrderedDict() if shrink < 1 else None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key):
        if isinstance(key, slice):
            numbers = range(*key.indices(len(self)))
            return np.stack([self[i] for i in numbers]) if numbers else np.empty((0, *self.size, 3), np.uint8)
        i = range(self._count)[key]
        if self._small is None:
            return self._frames.frame(self._path, i)
        if i not in self._small:
            self._small[i] = self._frames.frame(self._path, i, width=self.width)
            while len(self._small) > MOST_SMALL:
                self._small.popitem(last=False)
        return self._small[i]


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool (h, w) as bool of `size`, its outline smooth."""
    if mask.shape == size:
        return mask
    grey = mask.view(np.uint8) * 255
    how = cv2.INTER_LINEAR if size[0] > mask.shape[0] else cv2.INTER_AREA
    return cv2.resize(grey, size[::-1], interpolation=how) > 127


def narrower(size: tuple[int, int], width: int) -> tuple[int, int]:
    """(height, width) of a picture of `size` that is made `width` pixels wide."""
    return max(1, round(size[0] * width / size[1])), width


def encode(picture: np.ndarray, kind: str) -> bytes:
    """uint8 (h, w, 3) RGB or (h, w, 4) RGBA as "jpeg", "webp" or "png"."""
    swapped = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, QUALITY],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    }[kind]
    return cv2.imencode(f".{kind}", swapped, options)[1].tobytes()


def overlay(
    masks: dict[int, np.ndarray], colours: dict[int, str], size: tuple[int, int], margin: float = 0
) -> np.ndarray:
    """uint8 (height, width, 4) of `size`: every mask half transparent in its colour, "#rrggbb", and outlined.

    masks: bool (h, w) by object, of any size. margin: pixels of `size` that dilation adds around a mask, shown fainter.
    """
    out = np.zeros((*size, 4), np.uint8)
    line = max(1, round(min(size) / 400))
    for number, mask in masks.items():
        red, green, blue = (int(colours[number][i : i + 2], 16) for i in (1, 3, 5))
        if mask.shape != size:
            mask = cv2.resize(mask.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if margin > 0:
            out[dilate(mask, margin) & (out[..., 3] == 0)] = (red, green, blue, 70)
        out[mask] = (red, green, blue, 130)
        outline, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, outline, -1, (255, 255, 255, 255), line)
    return out
