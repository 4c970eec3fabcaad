"""Where a live stream's frames come from: a camera, a pipe, a video; read by a thread of their own."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from videopainter.video import VideoError, VideoSource

MOST_CAMERAS = 9999
_DEPTH = 2  # frames read ahead: one being decoded while one is painted


@dataclass
class Capture:
    """Frames in order, from where they come.

    ``frames``: uint8 ``(h, w, 3)`` RGB each, ``(h, w, 4)`` from a pipe with masks; `VideoError` where they break off.
    ``size``: (height, width). ``source``: the video, if it is one. ``close`` lets go of the device or file.
    """

    frames: Iterator[np.ndarray]
    size: tuple[int, int]
    fps: Fraction
    source: VideoSource | None = None
    close: Callable[[], None] = lambda: None


def camera(index: int, size: tuple[int, int] | None = None, fps: float | None = None) -> Capture:
    """The camera of that number, asked for ``size`` (height, width) and ``fps``; it may choose others.

    Raises VideoError if it gives no picture.
    """
    import cv2

    if index > MOST_CAMERAS:
        raise VideoError(f"Cameras are numbered from 0 to {MOST_CAMERAS}.")
    cv2.utils.logging.setLogLevel(0)  # that a camera is not there is said below
    device = cv2.VideoCapture(index)
    if size is not None:
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        device.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
    if fps is not None:
        device.set(cv2.CAP_PROP_FPS, fps)
    there, first = device.read()
    if not there:
        device.release()
        raise VideoError(f"Camera {index} gives no picture.")

    def frames() -> Iterator[np.ndarray]:
        there, frame = True, first
        while there:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            there, frame = device.read()
        raise VideoError(f"Camera {index} gives no more pictures.")

    rate = fps or device.get(cv2.CAP_PROP_FPS) or 30
    return Capture(frames(), first.shape[:2], Fraction(rate).limit_denominator(1001), close=device.release)


def pipe(handle: int, size: tuple[int, int], fps: float = 25, channels: int = 3) -> Capture:
    """Raw frames from a file descriptor: rgb24, or rgba with 4 ``channels``, row by row, nothing between frames.

    Its iterator raises VideoError if the pipe ends within a frame.
    """
    shape = (*size, channels)
    count = size[0] * size[1] * channels

    def frames() -> Iterator[np.ndarray]:
        number = 0
        while (data := _read(handle, count)) is not None:
            if len(data) < count:
                raise VideoError(
                    f"The pipe ended within frame {number}: {len(data)} of the {count} bytes of "
                    f"{size[1]} x {size[0]} pixels with {channels} channels."
                )
            yield np.frombuffer(data, np.uint8).reshape(shape)
            number += 1

    return Capture(frames(), size, Fraction(fps).limit_denominator(1001))


def _read(handle: int, count: int) -> bytearray | None:
    """``count`` bytes, fewer if the pipe ends, None if it has ended already."""
    data = bytearray(count)
    view, there = memoryview(data), 0
    while there < count:
        # Unbuffered: a thread that sits in a buffered read would block the interpreter's end.
        got = os.readv(handle, [view[there:]])
        if got == 0:
            return data[:there] if there else None
        there += got
    return data


def video(source: VideoSource) -> Capture:
    """All frames of a video."""
    return Capture(iter(source), source.size, Fraction(source.fps), source, source.close)


def paced(
    frames: Iterator[np.ndarray],
    fps: Fraction,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[np.ndarray]:
    """``frames`` at the times at which a camera would give them."""
    start = clock()
    for number, frame in enumerate(frames):
        wait = start + float(number / fps) - clock()
        if wait > 0:
            sleep(wait)
        yield frame


class CaptureThread:
    """Frames read by a thread: all of them, or with ``newest`` only the newest when one is asked for.

    Without ``newest`` the thread waits where nobody takes its frames; with it, it never does.
    """

    def __init__(self, frames: Iterator[np.ndarray], newest: bool = False):
        self._frames, self._newest = frames, newest
        self._queue: deque[tuple[int, float, np.ndarray]] = deque()
        self._changed = threading.Condition()
        self._ended, self._closed, self._error = False, False, None
        # A daemon: a camera or pipe that gives nothing more must not keep the process alive.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for number, frame in enumerate(self._frames):
                if not self._put((number, time.monotonic(), frame)):
                    return
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: tuple[int, float, np.ndarray]) -> bool:
        with self._changed:
            if self._newest:
                self._queue.clear()
            self._changed.wait_for(lambda: len(self._queue) < _DEPTH or self._closed)
            self._queue.append(item)
            self._changed.notify_all()
            return not self._closed

    def get(self, timeout: float) -> tuple[int, float, np.ndarray] | None:
        """(number, seconds on `time.monotonic` when it came, frame); None if none comes within ``timeout`` seconds.

        Raises EOFError at the end, or what the frames' iterator raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended, timeout)
            if self._queue:
                item = self._queue.popleft()
                self._changed.notify_all()
                return item
            if not self._ended:
                return None
        raise self._error or EOFError

    def close(self, timeout: float = 1.0) -> bool:
        """Take no more; whether the thread is through within ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()
