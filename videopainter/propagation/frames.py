"""The frames around the one being filled: compressed, with their holes and the camera between them."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from videopainter.masks import pack, unpack
from videopainter.ops.dissolve import Dissolve, DissolveSearch
from videopainter.ops.grain import denoised, newly_drawn
from videopainter.ops.harmonic import harmonic_fill
from videopainter.ops.light import Light, match_lights
from videopainter.ops.motion import Motion, corner_motion, detail_stands, partly
from videopainter.ops.resize import resize, resize_mask
from videopainter.propagation.camera import camera_between, coarse_along
from videopainter.propagation.pool import Once, Pool
from videopainter.propagation.reading import Ahead, Coming, Reading, decompressed

# Flow works at about this many pixels: finer gains nothing that DIS can resolve, and costs in proportion.
WORKING_AREA = 432 * 240
# Compressed frames are kept up to this size for a 720 x 480 video; larger frames get proportionally more.
BUDGET_BYTES = 64 << 20
_MOST_AT_ONCE = 8  # frames that are worked on or wait for it
_ORIGINALS = 8  # large frames that are kept as they are besides
_CACHE_BYTES = 20 << 20  # the same for frames and greys as arrays
# A camera counts as fixed when it stays within so many working pixels over the whole baseline, in frames. Judged
# between neighbours alone a slow pan (0.2 px a frame) would pass for a fixed camera.
_FIXED_PIXELS = 0.6
_FIXED_BASELINE = 10
_NOISE_EVERY = 4  # frames between two looks at the noise, which does not change within a shot
_FLOW_NOISE = 2.0  # grey levels of noise that flow bears
_COVERED = 0.98  # a frame with more of it hidden is no reference


@dataclass
class _Stored:
    """One frame in memory."""

    colour: bytes | np.ndarray  # compressed, or as it is
    hole: bytes
    shot: int  # number of the shot it belongs to
    covered: float  # share of the frame that is hole
    coarse_hole: np.ndarray  # bool, every fourth working pixel
    noise: float  # grey levels; 0 where there is none to speak of
    coarse: np.ndarray  # uint8 (h, w, 3), means of 4 x 4 working pixels; light is compared on them
    camera_to_next: np.ndarray | None = None  # homography in working pixels; None at a cut and at the end

    @property
    def bytes(self) -> int:
        colour = self.colour
        return (colour.nbytes if isinstance(colour, np.ndarray) else len(colour)) + len(self.hole)


class FrameStore:
    """The frames ``t - radius .. t + radius`` of one video, as far as memory allows.

    A frame has its own pixels and *working pixels*: those of the grey picture, of about `WORKING_AREA`, in which
    motion is measured.

    Args:
        source, masks: as the spine defines them: ``len``, ``size`` and slices.
        radius: frames kept on either side.
    """

    def __init__(self, source, masks, radius: int):
        self.source, self.masks, self.radius = source, masks, radius
        self.height, self.width = source.size
        self.scale = min(1.0, (WORKING_AREA / (self.height * self.width)) ** 0.5)
        self.working_size = (
            max(8, round(self.height * self.scale)),
            max(8, round(self.width * self.scale)),
        )
        area = max(1.0, self.height * self.width / (720 * 480))
        self.budget = int(BUDGET_BYTES * area)
        self.cached = max(4, int(_CACHE_BYTES * area / (self.height * self.width * 3)))
        # Small frames are kept as they are where all that are looked at fit in; it saves a twentieth of the time.
        self._plain = (2 * radius + _MOST_AT_ONCE) * self.height * self.width * 3 < self.budget
        self._stored: dict[int, _Stored] = {}
        self._colours: OrderedDict[int, np.ndarray] = OrderedDict()
        self._originals: OrderedDict[int, np.ndarray] = OrderedDict()
        self._greys: OrderedDict[tuple[int, float], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._grown_holes: OrderedDict[int, np.ndarray] = OrderedDict()
        self._motion = Motion()
        self._lock = threading.Lock()  # of the caches: several frames are worked on at once
        self._read = 0  # frames taken from the source so far
        self._shot = 0
        self._shot_start = 0
        self._noise = 0.0  # of the frames read last
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # grey and hole of the last frame read
        self._before: Reading | None = None  # the last frame read
        self._ahead = Ahead(self)
        # Where the baseline begins on which the camera is judged next: number, grey and hole of a frame.
        self._baseline: tuple[int, np.ndarray, np.ndarray] | None = None
        self._seen = 0  # number of the last frame read of which something is known
        self._velocity = np.eye(3)  # of the camera, a frame, at that frame
        self._since = np.eye(3)  # camera from there to the last frame read
        self._fixed: dict[int, bool] = {}
        self._background: dict[int, bool] = {}
        self._lights: dict[tuple[int, int], Light | None] = {}
        self._search = DissolveSearch()
        self._dissolves: dict[int, Dissolve] = {}  # that of each frame that is a mixture of two shots
        self._makings: dict[int, tuple[FrameStore, Once]] = {}  # of dissolves, by the frame before them

    def __contains__(self, i: int) -> bool:
        """Whether frame ``i`` is at hand."""
        return i in self._stored

    @property
    def bytes(self) -> int:
        """Size of all compressed frames."""
        return sum(frame.bytes for frame in self._stored.values())

    # -- reading -----------------------------------------------------------------------------------------

    def advance(
        self,
        first: int,
        last: int | None = None,
        beat: Callable[[], None] = lambda: None,
        pool: Pool | None = None,
    ) -> None:
        """Make frames ``first`` to ``last`` (None: that one) the centre.

        What lies too far behind is forgotten, what lies ahead is read as far as the budget goes. ``beat`` is called
        between two frames. A ``pool`` works on frames ahead of their turn; what becomes of them is the same.
        """
        last = first if last is None else last
        for i in [i for i in self._stored if i < first - self.radius]:
            self._forget(i)
        stop = min(len(self.source), last + self.radius + 1)
        while self._read < stop:
            if self.bytes > self.budget and self._read > last:
                oldest = min(self._stored)
                # Past and future share the budget half and half.
                if first - oldest <= self._read - last or oldest >= first:
                    break
                self._forget(oldest)
                continue
            beat()
            if pool is not None:
                self._ahead.begin(pool, self._read, stop)
            coming = self._ahead.next(beat) or self.coming(self._read)
            self._take(self._read, coming.reading)
            self._look_for_dissolve(self._read)
            self._read += 1

    def at_hand(self, block: range) -> FrameStore:
        """The frames as they are now, for a ``block``, while the next ones are read; pictures are shared."""
        now = copy.copy(self)
        now._stored = {i: copy.copy(frame) for i, frame in self._stored.items()}
        now._fixed, now._background = dict(self._fixed), dict(self._background)
        now._lights, now._dissolves, now._makings = {}, dict(self._dissolves), {}
        # What is made once for a dissolve is made from the frames at its first block, whichever thread asks first.
        for found in filter(None, map(now.dissolve, block)):
            self._makings.setdefault(found.before, (copy.copy(now), Once()))
        now._makings = dict(self._makings)
        return now

    def taken(self) -> Coming | None:
        """The last frame read, as one that comes."""
        if self._before is None:
            return None
        taken = Coming(self._before, self._read - 1 - self._shot_start)
        taken.noise.set_result(self._noise)
        taken.grey.set_result(self._last if self._seen == self._read - 1 else None)
        return taken

    def coming(self, i: int) -> Coming:
        """Frame ``i``, as if no shot began before it."""
        return Coming(Reading(self.source, self.masks, i, self._plain), i - self._shot_start)

    def work_out(self, before: Coming | None, one: Coming, motion: Motion) -> None:
        """Find out what will be wanted of a frame when its turn comes, in order or in threads that begin so."""
        reading, last = one.reading, None if before is None else before.reading
        _ = reading.data, reading.colour
        if self._tells_noise(one.number, reading):
            reading.level()
        noise = 0.0 if before is None else before.noise.result()
        noise = self._noise_after(one.number, last, reading, noise, motion)
        one.noise.set_result(noise)
        grey = reading.grey(noise, self._to_working)
        shows = grey[1].mean() < _COVERED
        one.grey.set_result(grey if shows else None)
        there = None if before is None else before.grey.result()
        if there is not None and shows:
            reading.camera(there[0], grey[0], partial(camera_between, motion, *there, *grey))

    def _to_working(self, colour: np.ndarray, hole: np.ndarray, noise: float):
        return self.to_grey(colour, hole, self.working_size, noise)

    def _forget(self, i: int) -> None:
        self._greys.pop((i, self._stored.pop(i).noise), None)
        by_frame = (self._fixed, self._background, self._dissolves, self._makings)
        for remembered in (self._colours, self._grown_holes, *by_frame):
            remembered.pop(i, None)

    def _take(self, i: int, reading: Reading) -> None:
        """Frame ``i`` is the next one: find the camera's motion since the frame before it."""
        colour, hole = reading.colour, reading.hole
        if reading.original is not colour:
            self._originals[i] = reading.original
            if len(self._originals) > _ORIGINALS:
                self._originals.popitem(last=False)
        number = i - self._shot_start
        self._noise = self._noise_after(number, self._before, reading, self._noise, self._motion)
        if number == 1 and i - 1 in self._stored:
            self._stored[i - 1].noise = self._noise
        self._before = reading
        grey, small_hole = reading.grey(self._noise, self._to_working)
        camera = None
        unseen = small_hole.mean() >= _COVERED
        if self._last is not None and not unseen:
            before, hole_before = self._last
            find = partial(camera_between, self._motion, before, hole_before, grey, small_hole)
            if i - self._seen == 1:
                camera = reading.camera(before, grey, find)
            elif corner_motion(self._velocity, *self.working_size[::-1]) < _FIXED_PIXELS:
                camera = find()
            else:  # where it would be, had it moved on as before
                camera = find(np.linalg.matrix_power(self._velocity, i - self._seen))
            self._spread(camera, i)
            if camera is None:  # a cut
                self._shot += 1
                self._shot_start, self._noise = i, 0.0
                grey, small_hole = reading.grey(self._noise, self._to_working)
                self._judge_camera(self._seen, before, hole_before)
                self._baseline = None
        grown = cv2.dilate(small_hole.view(np.uint8), np.ones((3, 3), np.uint8))
        self._stored[i] = _Stored(
            reading.data,
            pack(hole),
            self._shot,
            float(small_hole.mean()),
            grown[::4, ::4].view(bool),
            self._noise,
            resize(colour, grown[::4, ::4].shape, "area"),
        )
        if not self._plain:
            self._remember(self._colours, i, colour)
        self._remember(self._greys, (i, self._noise), (grey, small_hole))
        if unseen:
            # Until a frame is seen again the camera stands where it stood.
            self._stored[i].camera_to_next = np.eye(3)
            if i - 1 in self._stored:
                self._stored[i - 1].camera_to_next = np.eye(3)
            self._fixed[i] = self._fixed.get(i - 1, True)
            return
        self._last, self._seen = (grey, small_hole), i
        if self._baseline is None:
            self._baseline, self._since = (i, grey, small_hole), np.eye(3)
            self._fixed[i] = True
        elif i - self._baseline[0] >= _FIXED_BASELINE or i == len(self.source) - 1:
            self._judge_camera(i, grey, small_hole)
            self._baseline, self._since = (i, grey, small_hole), np.eye(3)
        else:
            # Until the baseline is long enough the motion between neighbours has to do.
            self._since = camera @ self._since
            near = corner_motion(self._since, *self.working_size[::-1]) < _FIXED_PIXELS
            self._fixed[i] = self._fixed.get(i - 1, True) and near

    def _tells_noise(self, number: int, reading: Reading) -> bool:
        """Whether the noise is measured in this frame of a shot: in two in a row out of `_NOISE_EVERY`."""
        return number > 0 and number % _NOISE_EVERY <= 1 and reading.hole.mean() <= _COVERED

    def _look_for_dissolve(self, i: int) -> None:
        """Part the shots before and after a dissolve that has just been read, and the frames between from both."""
        taken = self._stored[i]
        found = self._search.look(i, taken.coarse, taken.coarse_hole, i == len(self.source) - 1)
        if found is None:
            return
        for j in range(found.before + 1, i + 1):
            if j in self._stored:
                self._stored[j].shot += 1 if j < found.after else 2
        for j in (found.before, found.after - 1):
            if j in self._stored:
                self._stored[j].camera_to_next = None
        self._shot += 2
        self._dissolves.update(dict.fromkeys(range(found.before + 1, found.after), found))
        # Whether the camera stood still was judged on mixtures as well.
        for last in (j for j in (found.before, self._seen) if j in self):
            shot, near = self._stored[last].shot, range(last - _FIXED_BASELINE, last + 1)
            start = min(j for j in near if j in self and self._stored[j].shot == shot)
            self._baseline = start, *self.grey(start)
            self._judge_camera(last, *self.grey(last))
            since = self.camera(start, last)
            self._since = np.eye(3) if since is None else since

    def _noise_after(
        self, number: int, before: Reading | None, reading: Reading, noise: float, motion: Motion
    ) -> float:
        """The noise of a shot from its frame of this ``number`` on: it may change with every other one only.

        The first frame of a shot is told from its texture by the second, so it has the noise of that one.
        """
        if before is None or not self._tells_noise(number, reading):
            return noise
        level = reading.level()
        if level and not reading.is_noise(lambda: self._is_noise(before, reading, motion)):
            level = 0.0
        return max(noise, level) if number > 1 and number % _NOISE_EVERY == 1 else level

    def _is_noise(self, before: Reading, reading: Reading, motion: Motion) -> bool:
        (there, hidden_there), (here, hidden) = (
            self.shrunk(one.colour, one.hole, self.working_size, 0) for one in (before, reading)
        )
        return newly_drawn(motion, here, there, ~(hidden | hidden_there))

    def _spread(self, camera: np.ndarray | None, i: int) -> None:
        """Share the ``camera`` from the frame seen last to frame ``i`` among the frames between, or the cut."""
        steps = i - self._seen
        if camera is None:
            for j in range(self._seen + (steps + 1) // 2, i):
                if j in self._stored:
                    self._stored[j].shot = self._shot + 1
                    self._fixed[j] = True
            half = self._seen + (steps + 1) // 2 - 1
            if half in self._stored:
                self._stored[half].camera_to_next = None
            return
        poses = [partly(camera, k / steps, self.working_size) for k in range(steps)] + [camera]
        for k in range(steps):
            if self._seen + k in self._stored:
                step = camera if steps == 1 else poses[k + 1] @ np.linalg.inv(poses[k])
                self._stored[self._seen + k].camera_to_next = step
        self._velocity = partly(camera, 1 / steps, self.working_size)

    def _judge_camera(self, i: int, grey: np.ndarray, hole: np.ndarray) -> None:
        """Compare frame ``i`` with the start of the baseline, over which slow drift adds up and shows."""
        start, grey_there, hole_there = self._baseline
        if i == start:
            return
        camera = camera_between(self._motion, grey_there, hole_there, grey, hole)
        still = camera is not None and corner_motion(camera, *self.working_size[::-1]) < _FIXED_PIXELS
        known = ~(hole_there | hole)
        background = still or camera is not None and detail_stands(grey_there, grey, camera, known)
        for j in range(start, i + 1):
            if j in self._stored:
                self._fixed[j], self._background[j] = still, background

    def _remember(self, cache: OrderedDict, i, value) -> None:
        with self._lock:
            cache[i] = value
            cache.move_to_end(i)
            while len(cache) > self.cached:
                cache.popitem(last=False)

    # -- pictures ----------------------------------------------------------------------------------------

    def colour(self, i: int) -> np.ndarray:
        """uint8 ``(height, width, 3)``, exactly as the source gave it up to a megapixel, else nearly so."""
        if self._plain:
            return self._stored[i].colour
        found = self._colours.get(i)
        if found is None:
            found = decompressed(self._stored[i].colour)
        self._remember(self._colours, i, found)
        return found

    def original(self, i: int) -> np.ndarray:
        """`colour`; exactly the source's also of a large frame that was among those read last."""
        return self._originals[i] if i in self._originals else self.colour(i)

    def hole(self, i: int) -> np.ndarray:
        """bool ``(height, width)`` at the source's size."""
        return unpack(self._stored[i].hole, (self.height, self.width))

    def grown_hole(self, i: int) -> np.ndarray:
        """uint8 ``(height, width)``: 255 in the hole and one pixel around it, else 0."""
        found = self._grown_holes.get(i)
        if found is None:
            found = cv2.dilate(self.hole(i).view(np.uint8) * 255, np.ones((3, 3), np.uint8))
        self._remember(self._grown_holes, i, found)
        return found

    def coarse_hole(self, i: int) -> np.ndarray:
        """bool, the hole at every fourth working pixel, grown by one of them."""
        return self._stored[i].coarse_hole

    def grey(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """``(grey, hole)`` in working pixels: uint8 with the hole filled smoothly, and bool."""
        key = i, self.noise(i)  # that of the first frame of a shot changes
        found = self._greys.get(key)
        if found is None:
            found = self.to_grey(self.colour(i), self.hole(i), self.working_size, self.noise(i))
        self._remember(self._greys, key, found)
        return found

    def noise(self, i: int) -> float:
        """Standard deviation in grey levels of the noise in frame ``i``; 0 where there is none to speak of."""
        return self._stored[i].noise

    def to_grey(
        self, colour: np.ndarray, hole: np.ndarray, size: tuple[int, int], noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same for any picture with so much ``noise`` and ``size`` (height, width) in working pixels."""
        grey, hole = self.shrunk(colour, hole, size, noise)
        if hole.any() and not hole.all():
            grey = np.rint(harmonic_fill(grey.astype(np.float32), hole, sweeps=2)).astype(np.uint8)
        return grey, hole

    def shrunk(
        self, colour: np.ndarray, hole: np.ndarray, size: tuple[int, int], noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(grey, hole)`` at ``size`` (height, width) in working pixels, with what stands in the hole.

        Where there is noise the grey is smoothed, so that flow follows the scene and not the grain.
        """
        grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
        if self.scale != 1:
            grey, hole = resize(grey, size, "area"), resize_mask(hole, size, "half")
        left = noise * self.scale  # averaging has taken out the rest
        if left >= _FLOW_NOISE:
            grey = denoised(grey, hole, 0.6 + 0.06 * min(left, 15.0))
        return grey, hole

    def sides(self, t: int) -> tuple[int | None, int | None] | None:
        """The frames before and after ``t`` that show something, if ``t`` is wholly hidden; else None.

        None in the place of one that is not at hand, or lies beyond a cut.
        """
        if self.shows(t):
            return None
        shot = self._stored[t].shot
        seen = [i for i, f in self._near(t) if f.shot == shot and f.covered < _COVERED]
        return max((i for i in seen if i < t), default=None), min((i for i in seen if i > t), default=None)

    def dissolve(self, t: int) -> Dissolve | None:
        """That of frame ``t``, if it is a mixture of two shots whose ends are at hand."""
        found = self._dissolves.get(t)
        return found if found and found.before in self._stored and found.after in self._stored else None

    def once(self, dissolve: Dissolve, key, make: Callable[[FrameStore], Any]):
        """What ``make(frames at hand)`` made for a dissolve and a ``key``; it is made when it is first asked for."""
        store, once = self._makings[dissolve.before]
        return once.get(key, lambda: make(store))

    def shows(self, i: int) -> bool:
        """Whether frame ``i`` is not wholly hidden."""
        return self._stored[i].covered < _COVERED

    def _near(self, t: int) -> list[tuple[int, _Stored]]:
        return [(i, frame) for i, frame in self._stored.items() if abs(i - t) <= self.radius]

    # -- what is known of the camera ---------------------------------------------------------------------

    def neighbours(self, t: int) -> list[int]:
        """Other frames of ``t``'s shot that are at hand, near ones first."""
        shot = self._stored[t].shot
        others = [i for i, f in self._near(t) if f.shot == shot and i != t and f.covered < _COVERED]
        return sorted(others, key=lambda i: (abs(i - t), i < t))

    def is_fixed(self, i: int) -> bool:
        """Whether the camera stands still around frame ``i``."""
        return self._fixed.get(i, False)

    def background_stands(self, i: int) -> bool:
        """Whether what has detail stands still around frame ``i``, even if most of what is seen moves."""
        return self._background.get(i, self.is_fixed(i))

    def camera(self, here: int, there: int) -> np.ndarray | None:
        """Homography ``(3, 3)`` from frame ``here`` to frame ``there`` in working pixels; None over a cut."""
        if self._stored[here].shot != self._stored[there].shot:
            return None
        low, high = min(here, there), max(here, there)
        if all(map(self._fixed.get, range(low, high))):
            return np.eye(3)
        total = np.eye(3)
        for i in range(low, high):
            step = self._stored[i].camera_to_next if i in self._stored else None
            if step is None:
                return None
            total = step @ total
        total /= total[2, 2]
        return total if here <= there else np.linalg.inv(total)

    def light(self, here: int, there: int) -> Light | None:
        """By how much frame ``here`` is brighter than frame ``there``; None where the light is the same."""
        self.measure_lights(here, [there])
        return self._lights[here, there]

    def measure_lights(self, here: int, theres: list[int]) -> None:
        """Find out `light` of frame ``here`` against several at once, which takes less time."""
        theres = [i for i in theres if (here, i) not in self._lights]
        cameras = [self.camera(here, i) for i in theres]
        self._lights.update(((here, i), None) for i, camera in zip(theres, cameras) if camera is None)
        seen = [(i, camera) for i, camera in zip(theres, cameras) if camera is not None]
        own = self._stored[here]
        there = [(self._stored[i], camera) for i, camera in seen]
        pairs = [coarse_along(camera, f.coarse, f.coarse_hole, own.coarse_hole) for f, camera in there]
        found = match_lights(own.coarse, *zip(*pairs)) if pairs else []
        self._lights.update(((here, i), light) for (i, _), light in zip(seen, found))
