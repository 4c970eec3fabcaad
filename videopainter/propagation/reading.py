"""One frame on its way into memory: what depends on nothing but its pixels can be worked out ahead of its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from videopainter.ops.grain import noise_level
from videopainter.ops.motion import Motion
from videopainter.propagation.pool import Pool, waited

if TYPE_CHECKING:
    from videopainter.propagation.frames import FrameStore

LOSSLESS_PIXELS = 1 << 20  # of frames that are kept exactly; 3 bytes a pixel are too many for larger ones
_AHEAD = 3  # frames a thread that are worked on ahead of their turn


class Reading:
    """Frame ``i`` of a video, and what was worked out of it, each once.

    Args:
        source, masks: as the spine defines them.
        plain: keep the frame as it is, not compressed.

    original: uint8 (h, w, 3), as the source gave it. colour: the same, as it is kept: of a large frame nearly so, or
    what is fetched from it would depend on whether it is still in a cache. data: it in memory. hole: bool (h, w).
    """

    def __init__(self, source, masks, i: int, plain: bool):
        self.original = np.array(source[i : i + 1][0], order="C")
        self.hole = np.asarray(masks[i : i + 1][0], bool)
        self._plain = plain
        self._level: float | None = None
        self._is_noise: bool | None = None
        self._grey: tuple[float, tuple[np.ndarray, np.ndarray]] | None = None
        self._camera: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None

    @cached_property
    def data(self) -> np.ndarray | bytes:
        return self.original if self._plain else compressed(self.original)

    @cached_property
    def colour(self) -> np.ndarray:
        exact = self._plain or self.hole.size <= LOSSLESS_PIXELS
        return self.original if exact else decompressed(self.data)

    def level(self) -> float:
        """`noise_level` of the frame."""
        if self._level is None:
            self._level = noise_level(self.colour, self.hole)
        return self._level

    def is_noise(self, find: Callable[[], bool]) -> bool:
        """What ``find()`` finds out: whether that is noise and not texture, told by the frame before."""
        if self._is_noise is None:
            self._is_noise = find()
        return self._is_noise

    def grey(self, noise: float, make: Callable) -> tuple[np.ndarray, np.ndarray]:
        """What ``make(colour, hole, noise)`` makes of it: grey and hole in working pixels."""
        if self._grey is None or self._grey[0] != noise:
            self._grey = noise, make(self.colour, self.hole, noise)
        return self._grey[1]

    def camera(self, before: np.ndarray, grey: np.ndarray, find: Callable) -> np.ndarray | None:
        """What ``find()`` finds between two greys, ``before`` and this frame's."""
        if self._camera is None or self._camera[0] is not before or self._camera[1] is not grey:
            self._camera = before, grey, find()
        return self._camera[2]


class Coming:
    """A `Reading` that a pool works on; its futures are set as soon as what they are named for is known.

    number: frames since its shot began.
    """

    def __init__(self, reading: Reading, number: int):
        self.reading, self.number = reading, number
        self.noise: Future[float] = Future()  # what the video's is from this frame on
        self.grey: Future[tuple[np.ndarray, np.ndarray] | None] = Future()  # None: it shows nothing
        self.done: Future[None] = Future()

    def failed(self, error: BaseException) -> None:
        """Nobody waits for what will not come."""
        for one in (self.noise, self.grey):
            if not one.done():
                one.set_exception(error)


class Ahead:
    """The next frames of a `FrameStore`, worked on by a pool before their turn as if they were of its last one's shot.

    Where they turn out not to be, what was found out is not asked for, and found out anew.
    """

    def __init__(self, store: FrameStore):
        self._store = store
        self._coming: deque[Coming] = deque()

    def begin(self, pool: Pool, read: int, stop: int) -> None:
        """Give all threads something to do; ``read``: the frame whose turn it is, ``stop``: beyond the last."""
        for i in range(read + len(self._coming), min(stop, read + _AHEAD * pool.threads)):
            before, one = self._coming[-1] if self._coming else self._store.taken(), self._store.coming(i)
            one.done = pool.submit(partial(self._worked_out, before), one)
            self._coming.append(one)

    def _worked_out(self, before: Coming | None, one: Coming, motion: Motion) -> None:
        try:
            self._store.work_out(before, one, motion)
        except BaseException as error:
            one.failed(error)
            raise

    def next(self, beat: Callable[[], None]) -> Coming | None:
        """The frame whose turn it is, if it was begun."""
        if not self._coming:
            return None
        coming = self._coming.popleft()
        waited(coming.done, beat)
        return coming


def compressed(colour: np.ndarray) -> bytes:
    """The frame as bytes, exactly up to `LOSSLESS_PIXELS`."""
    h, w = colour.shape[:2]
    if h * w <= LOSSLESS_PIXELS:
        # These settings take half the time of the usual ones, and a seventh more memory.
        how = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
        how += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_COMPRESSION, 1]
        ok, data = cv2.imencode(".png", colour, how)
    else:
        # At quality 98 the error stays under what the codec left.
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        ok, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 98, *sampling])
    if not ok:
        raise RuntimeError(f"a frame of {w} x {h} could not be compressed")
    return data.tobytes()


def decompressed(data: bytes) -> np.ndarray:
    """uint8 ``(h, w, 3)``."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
