"""The frames around the one being filled: compressed, with their holes and the camera between them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.masks import pack, unpack
from videopainter.ops.harmonic import harmonic_fill
from videopainter.ops.motion import Motion, corner_motion

# Flow works at about this many pixels: finer gains nothing that DIS can resolve, and costs in proportion.
WORKING_AREA = 432 * 240
# A camera counts as fixed when it stays within this many working pixels over the whole baseline. Judged
# between neighbours alone a slow pan (0.2 px a frame) would pass for a fixed camera.
_FIXED_PIXELS = 0.6
_FIXED_BASELINE = 10
# Compressed frames kept, for a 720 x 480 video; larger frames get proportionally more.
_BUDGET_BYTES = 56 << 20
_CACHE_BYTES = 20 << 20


@dataclass
class _Frame:
    packed: bytes
    hole: bytes
    bytes: int
    shot: int
    to_next: np.ndarray | None = None  # camera to the following frame, working pixels
    lit: float = 0.0  # mean of the known grey pixels
    covered: float = 0.0  # share of the frame that is hole
    coarse: np.ndarray | None = None  # hole at a quarter of the working size


class Window:
    """Sliding store of frames ``t - radius .. t + radius`` of one video, as far as memory allows.

    Args:
        source, masks: anything with ``len`` and slices, as the spine defines them.
        radius: frames kept on either side.
    """

    def __init__(self, source, masks, radius: int = 60):
        self.source, self.masks, self.radius = source, masks, radius
        self.height, self.width = source.size
        self.scale = min(1.0, (WORKING_AREA / (self.height * self.width)) ** 0.5)
        self.work = (max(8, round(self.height * self.scale)), max(8, round(self.width * self.scale)))
        self._frames: dict[int, _Frame] = {}
        self._colour: OrderedDict[int, np.ndarray] = OrderedDict()
        self._grey: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._motion = Motion()
        self._loaded = 0
        self._shot = 0
        self._bytes = 0
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._anchor: tuple[int, np.ndarray, np.ndarray] | None = None
        self._since = np.eye(3)  # camera from the anchor to the last frame read
        self.fixed: dict[int, bool] = {}
        area = max(1.0, self.height * self.width / (720 * 480))
        self._budget = int(_BUDGET_BYTES * area)
        self.cached = max(4, int(_CACHE_BYTES * area / (self.height * self.width * 3)))

    # -- loading ---------------------------------------------------------------------------------------

    def advance(self, t: int) -> None:
        """Make ``t`` the centre: forget what lies too far behind, read ahead as far as the budget goes."""
        for i in [i for i in self._frames if i < t - self.radius and i != t]:
            self._drop(i)
        while self._loaded < len(self.source) and self._loaded <= t + self.radius:
            if self._bytes > self._budget and self._loaded > t:
                behind = min(self._frames)
                # Past and future share the budget half and half.
                if t - behind <= self._loaded - t:
                    break
                self._drop(behind)
                continue
            self._load(self._loaded)
            self._loaded += 1

    def _drop(self, i: int) -> None:
        self._bytes -= self._frames.pop(i).bytes
        self._colour.pop(i, None)
        self._grey.pop(i, None)
        self.fixed.pop(i, None)

    def _load(self, i: int) -> None:
        colour = np.ascontiguousarray(self.source[i : i + 1][0])
        hole = np.asarray(self.masks[i : i + 1][0], bool)
        grey, small = self.to_grey(colour, hole, self.work)
        known = ~small
        frame = _Frame(_pack(colour), pack(hole), 0, self._shot)
        frame.bytes = len(frame.packed) + len(frame.hole)
        frame.lit = float(grey[known].mean()) if known.any() else -1.0
        frame.covered = float(small.mean())
        frame.coarse = cv2.dilate(small.view(np.uint8), np.ones((3, 3), np.uint8))[::4, ::4].view(bool)
        cut = False
        if self._last is not None:
            before, before_hole = self._last
            camera = self._motion.camera(before, grey, known & ~before_hole)
            if i - 1 in self._frames:
                self._frames[i - 1].to_next = camera
            cut = camera is None
        if cut:
            self._shot += 1
            self._judge_camera(i - 1, *self._last)
            self._anchor = None
        frame.shot = self._shot
        self._frames[i] = frame
        self._bytes += frame.bytes
        self._last = (grey, small)
        self._remember(self._colour, i, colour)
        self._remember(self._grey, i, (grey, small))
        if self._anchor is None:
            self._anchor, self._since = (i, grey, small), np.eye(3)
            self.fixed[i] = True
        elif i - self._anchor[0] == _FIXED_BASELINE or i == len(self.source) - 1:
            self._judge_camera(i, grey, small)
            self._anchor, self._since = (i, grey, small), np.eye(3)
        else:
            # Until the baseline is reached the neighbours' own motion has to do.
            self._since = camera @ self._since
            near = corner_motion(self._since, *self.work[::-1]) < _FIXED_PIXELS
            self.fixed[i] = self.fixed.get(i - 1, True) and near

    def _judge_camera(self, i: int, grey: np.ndarray, small: np.ndarray) -> None:
        """Compare frame ``i`` with the anchor some way back, so that slow drift adds up and shows."""
        start, there, hole = self._anchor
        if i == start:
            return
        camera = self._motion.camera(there, grey, ~(hole | small))
        still = camera is not None and corner_motion(camera, *self.work[::-1]) < _FIXED_PIXELS
        for j in range(start, i + 1):
            if j in self._frames:
                self.fixed[j] = still

    # -- access ----------------------------------------------------------------------------------------

    def _remember(self, cache: OrderedDict, i: int, value) -> None:
        cache[i] = value
        cache.move_to_end(i)
        while len(cache) > self.cached:
            cache.popitem(last=False)

    def __contains__(self, i: int) -> bool:
        return i in self._frames

    def shot(self, i: int) -> int:
        return self._frames[i].shot

    def lit(self, i: int) -> float:
        return self._frames[i].lit

    def neighbours(self, t: int) -> list[int]:
        """Other frames of ``t``'s shot that are at hand, near ones first."""
        shot = self._frames[t].shot
        others = [i for i, f in self._frames.items() if f.shot == shot and i != t and f.covered < 0.98]
        return sorted(others, key=lambda i: (abs(i - t), i < t))

    def colour(self, i: int) -> np.ndarray:
        """uint8 ``(height, width, 3)``, exactly as the source gave it (frames up to about 1 MP)."""
        found = self._colour.get(i)
        if found is None:
            found = _unpack(self._frames[i].packed, (self.height, self.width))
        self._remember(self._colour, i, found)
        return found

    def small_hole(self, i: int) -> np.ndarray:
        """bool, the hole at every fourth working pixel."""
        return self._frames[i].coarse

    def hole(self, i: int) -> np.ndarray:
        """bool ``(height, width)`` at the source's size."""
        return unpack(self._frames[i].hole, (self.height, self.width))

    def grey(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """``(grey, hole)`` at the working size: uint8 with the hole filled smoothly, and bool."""
        found = self._grey.get(i)
        if found is None:
            found = self.to_grey(self.colour(i), self.hole(i), self.work)
        self._remember(self._grey, i, found)
        return found

    def to_grey(self, colour: np.ndarray, hole: np.ndarray, size: tuple[int, int]):
        """``(grey, hole)`` at a working ``size`` (height, width): what `grey` gives for whole frames."""
        h, w = size
        grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
        if self.scale < 1:
            grey = cv2.resize(grey, (w, h), interpolation=cv2.INTER_AREA)
            hole = cv2.resize(hole.view(np.uint8), (w, h), interpolation=cv2.INTER_AREA) > 0
        if hole.any() and not hole.all():
            grey = np.rint(harmonic_fill(grey.astype(np.float32), hole, sweeps=2)).astype(np.uint8)
        return grey, hole

    def camera(self, here: int, there: int) -> np.ndarray | None:
        """Chained homography from frame ``here`` to frame ``there`` in working pixels; None over a cut."""
        low, high = min(here, there), max(here, there)
        if all(self.fixed.get(i, False) for i in range(low, high)):
            return np.eye(3)
        total = self._chain(low, high)
        if total is None or here <= there:
            return total
        return np.linalg.inv(total)

    def _chain(self, low: int, high: int) -> np.ndarray | None:
        total = np.eye(3)
        for i in range(low, high):
            step = self._frames[i].to_next if i in self._frames else None
            if step is None:
                return None
            total = step @ total
        return total / total[2, 2]


def _pack(colour: np.ndarray) -> bytes:
    h, w = colour.shape[:2]
    if h * w <= 1 << 20:
        ok, data = cv2.imencode(".png", colour, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        # Lossless costs 3 bytes a pixel here; at quality 98 the error stays under what the codec left.
        ok, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 98])
    if not ok:
        raise RuntimeError(f"a frame of {w} x {h} could not be compressed")
    return data.tobytes()


def _unpack(data: bytes, size: tuple[int, int]) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == size
    return image
