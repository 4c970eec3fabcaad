"""One frame on its way into memory: what depends on nothing but its pixels can be worked out ahead of its turn."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from videopainter.ops.grain import noise_level

LOSSLESS_PIXELS = 1 << 20  # of frames that are kept exactly; 3 bytes a pixel are too many for larger ones


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
        self.data = self.original if plain else compressed(self.original)
        exact = plain or self.original.shape[0] * self.original.shape[1] <= LOSSLESS_PIXELS
        self.colour = self.original if exact else decompressed(self.data)
        self.hole = np.asarray(masks[i : i + 1][0], bool)
        self._level: float | None = None
        self._grey: tuple[float, tuple[np.ndarray, np.ndarray]] | None = None
        self._camera: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None

    def level(self) -> float:
        """`noise_level` of the frame."""
        if self._level is None:
            self._level = noise_level(self.colour, self.hole)
        return self._level

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
