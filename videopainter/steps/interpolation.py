"""Frames between inpainted ones: what an engine inpainted at a few frames a second, carried to every frame by flow.

Between two inpainted frames their content moves as the optical flow from one to the other says, in proportion to
time (as in Super SloMo, arXiv 1712.00080, equation 4, which takes motion to be even). A camera in a hand does not
move evenly, so the motion that the real picture around the hole shows is measured in each frame, and what it
differs by goes on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from videopainter.masks import MaskTrack, bounding_box
from videopainter.ops.motion import is_cut
from videopainter.video import VideoSource

SURROUNDINGS = 48  # pixels around the hole in which motion is measured, in a picture of 480 lines
SMALLEST = 32  # pixels; DIS reads out of bounds on narrower pictures
MOTION_TOLERANCE = 1.0  # pixels by which what moves with the camera may differ from it


def with_last(numbers: Sequence[int], length: int) -> list[int]:
    """`numbers` of a video's frames, and its last one: every other frame then has a inpainted one on either side."""
    return [*numbers, *([length - 1] if numbers[-1] != length - 1 else [])]


def carry(
    source: VideoSource,
    holes: MaskTrack,
    numbers: Sequence[int],
    inpainted: Iterable[np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield every frame of `source` inpainted, uint8 (height, width, 3); only what is in its hole has a meaning.

    Args:
        holes: one for each frame of the source.
        numbers: the inpainted frames, rising, from the first one to the last one.
        inpainted: the pictures of those, in order; each is asked for when its turn has come.
    """
    reach = max(8, round(SURROUNDINGS * source.height / 480))
    before = None
    for picture, number in zip(inpainted, numbers):
        now = (number, picture, _filled(source[number], picture, holes[number]))
        if before is not None:
            yield from _between(source, holes, before, now, reach)
        yield picture
        before = now


def _between(source, holes, before, now, reach: int) -> Iterator[np.ndarray]:
    """The frames between two inpainted ones, of each of which (number, inpainted, finished) is given."""
    (start, _, first), (end, _, last) = before, now
    times = source.times
    pair = None
    for i in range(start + 1, end):
        frame, hole = source[i], holes[i]
        if hole.any():
            if pair is None:
                box = _surroundings(_any(holes, start, end + 1), reach)
                known = ~(holes[start] | holes[end])[box]
                pair = _Pair(first[box], last[box], known)
            time = float((times[i] - times[start]) / (times[end] - times[start]))
            frame[box] = pair.at(time, frame[box], hole[box])
        yield frame


def _filled(frame: np.ndarray, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`frame` with `picture` in its hole, up to the rim: pixels that fade into what is to go would be carried on."""
    return np.where(hole[..., None], picture, frame)


def _any(holes: MaskTrack, start: int, stop: int) -> np.ndarray:
    out = holes[start]
    for i in range(start + 1, stop):
        out |= holes[i]
    return out


def _surroundings(hole: np.ndarray, reach: int) -> tuple[slice, slice]:
    """The box of a hole and its surroundings, not too small for optical flow where the picture is not."""
    box = bounding_box(hole, reach)
    out = []
    for part, size in zip(box, hole.shape):
        start, stop = part.start, min(part.stop, size)
        missing = max(0, SMALLEST - (stop - start))
        start = max(0, start - missing)
        out.append(slice(start, min(size, max(stop, start + SMALLEST))))
    return tuple(out)


class _Pair:
    """Two finished frames, what of them is real (`known`), and the motion between them."""

    def __init__(self, first: np.ndarray, last: np.ndarray, known: np.ndarray):
        self.first, self.last = first, last
        self._grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, last)]
        height, width = first.shape[:2]
        self._estimator = None
        if min(height, width) >= SMALLEST:
            self._estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
        self._there, self._back = self._flow(*self._grey), self._flow(*self._grey[::-1])
        aligned = self._aligned(self._grey[1], self._there)
        self._cut = is_cut(*self._grey, known, aligned, lambda: (self._there, self._back))
        if self._cut:
            self._there, self._back = np.zeros_like(self._here), np.zeros_like(self._here)

    def at(self, time: float, frame: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """The frame at 0 < `time` < 1 between the two, uint8 (h, w, 3), with its hole inpainted."""
        to_first = time * (time * self._back - (1 - time) * self._there)
        to_last = (1 - time) * ((1 - time) * self._there - time * self._back)
        guess = _mix(_pull(self.first, self._here + to_first), _pull(self.last, self._here + to_last), time)
        pulled, cuts = [], []
        for picture, other, flow in zip((self.first, self.last), self._grey, (to_first, to_last)):
            filled = np.where(hole[..., None], picture if self._cut else guess, frame)
            grey = cv2.cvtColor(filled, cv2.COLOR_RGB2GRAY)
            measured = self._flow(grey, other)
            flow = flow + self._shake(measured - flow, ~hole)
            pulled.append(_pull(picture, self._here + flow))
            cuts.append(self._cut and is_cut(grey, other, ~hole, self._aligned(other, measured)))
        if cuts[0] != cuts[1]:  # nothing is carried over a hard cut
            time = 1.0 if cuts[0] else 0.0
        return np.where(hole[..., None], _mix(*pulled, time), frame)

    def _aligned(self, grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
        places = self._here + flow
        return cv2.remap(grey, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _flow(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """float32 (h, w, 2) with here(x) = there(x + flow)."""
        if self._estimator is None:
            return np.zeros_like(self._here)
        return self._estimator.calc(here, there, None)

    def _shake(self, rest: np.ndarray, known: np.ndarray) -> np.ndarray:
        """What `rest`, the motion beyond the expected, is as a shift, turn and zoom of the known pixels."""
        known = known[::4, ::4]
        points, moves = self._here[::4, ::4][known], rest[::4, ::4][known]
        if len(points) < 16:
            return np.zeros_like(rest)
        found, inliers = cv2.estimateAffinePartial2D(
            points, points + moves, ransacReprojThreshold=MOTION_TOLERANCE, maxIters=500
        )
        if found is None or inliers.mean() < 0.3:
            return np.broadcast_to(np.median(moves, axis=0), rest.shape).astype(np.float32)
        return (self._here @ found[:, :2].T + found[:, 2] - self._here).astype(np.float32)


def _pull(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _mix(first: np.ndarray, last: np.ndarray, time: float) -> np.ndarray:
    return cv2.addWeighted(first, 1 - time, last, time, 0)
