"""Things that move past a hole: what is seen of one beside it tells where other frames show what it hides."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.ops.motion import Motion
from videopainter.propagation.hole_view import HoleView, grown

OUTLIER = 2.5  # working pixels beside the background's motion, from which on it is another thing or an error
GUARD = 7  # working pixels; DIS patches reach this far over the edge of a hole
_LEAST = 120  # working pixels of a thing that have to be seen
_MISFIT = 4.0  # grey levels that the background's motion leaves there: plain ground tells nothing
_FITS = 0.5  # of that is left at most by the thing's own motion
_OFF_PATH = 1.5  # working pixels
_ON_PATH = 0.5  # of what is seen of it is on one path
_SURE = 0.9  # from which on nothing better is looked for
_ZOOM = 1.25  # times larger or smaller that it may seem
_AHEAD = 3.0  # times the frames over which a path was measured, where it is still looked for along it
_REACHES = 2.5  # times the side of what is seen of it, as a square, that a thing may reach into the hole
_LIKELY = 0.8  # times that side, where it is believed to be though nothing else is known of the place
_MOST_POINTS = 1500
_ALL = (slice(None), slice(None))
_STILL = np.array([[1, 0, 0], [0, 1, 0]], np.float64)


@dataclass(frozen=True)
class Mover:
    """A thing in one reference.

    flow: float32 (h, w, 2), its motion to there, through the hole as well. near: float32 (h, w), 1 where the thing
    is seen and close to it, 0 farther off than it may reach. beside: float32 (h, w), 1 so close to where it is seen
    that it is believed to be there though nothing else is known, else 0. path: float64 (2, 3), the similarity behind
    the flow. sure: share of what moves by itself that is on the path. seen: how many working pixels are.
    """

    flow: np.ndarray
    near: np.ndarray
    beside: np.ndarray
    path: np.ndarray
    sure: float
    seen: int


class Movers:
    """What moves by itself beside the hole of a view; references are asked one by one, the nearest ones first.

    A thing is taken to move along one path, evenly: where it was found in one reference tells where to look for it in
    those further off, in which flow alone would not find it.
    """

    def __init__(self, view: HoleView, motion: Motion):
        self._motion, self._t = motion, view.t
        self._here, self._hole = view.grey
        self._beside = ~grown(self._hole, 2 * GUARD + 1)
        self._paths: list[tuple[int, np.ndarray]] = []  # frames, and similarity (2, 3) over so many
        y, x = np.mgrid[: self._here.shape[0], : self._here.shape[1]].astype(np.float32)
        self._x, self._y = x, y

    def find(
        self, i: int, there: np.ndarray, blind: np.ndarray, measured: np.ndarray, background: np.ndarray
    ) -> Mover | None:
        """What moves by itself, in reference ``i``; None where nothing fits clearly better than the background.

        Args:
            there, blind: uint8 ``(h, w)``, as `HoleView.grey_of` gives them.
            measured: float32 ``(h, w, 2)``, flow from the view to ``there``. background: the same, the background's.
        """
        found = self._told(there, blind, measured, background)
        if self._paths and (found is None or found.sure < _SURE):
            again = self._along_path(i - self._t, there, blind, background)
            if again is not None and (found is None or again.seen > found.seen):
                found = again
        if found is not None:
            self._paths.append((i - self._t, found.path))
        return found

    def _along_path(self, frames: int, there, blind, background) -> Mover | None:
        """What is found where the path so far tells."""
        over, path = min(self._paths, key=lambda p: abs(p[0] - frames))
        times = frames / over
        if abs(times) > _AHEAD:
            return None
        guess = self._shift(_STILL + times * (path - _STILL))
        places = self._places(guess, _ALL)
        hidden = self._hidden(blind, places) | self._hole
        near = np.where(hidden, self._here, self._looked_up(there, places))
        return self._told(there, blind, guess + self._motion.rest(self._here, near), background)

    def _told(self, there, blind, measured, background) -> Mover | None:
        """What moves by itself along one path, as one flow tells it; None if there is nothing."""
        apart = self._beside & (cv2.max(*cv2.split(cv2.absdiff(measured, background))) >= OUTLIER)
        if np.count_nonzero(apart) < _LEAST:
            return None
        box = bounding_box(apart, GUARD)
        apart, here, flow = apart[box], self._here[box], measured[box]
        places = self._places(flow, box)
        apart &= ~grown(self._hidden(blind, places), 2 * GUARD + 1)
        if np.count_nonzero(apart) < _LEAST:
            return None
        left, before = (
            cv2.blur(cv2.absdiff(here, self._looked_up(there, one)).astype(np.float32), (5, 5))
            for one in (places, self._places(background[box], box))
        )
        seen = apart & (left < _FITS * before) & (before > _MISFIT)
        count = np.count_nonzero(seen)
        if count < _LEAST:
            return None
        y, x = (places[:: max(1, count // _MOST_POINTS)] for places in np.nonzero(seen))
        points = np.stack([x + box[1].start, y + box[0].start], axis=-1).astype(np.float32)
        path, fits = cv2.estimateAffinePartial2D(
            points,
            points + flow[y, x],
            method=cv2.RANSAC,
            ransacReprojThreshold=_OFF_PATH,
            maxIters=500,
        )
        if path is None or fits.mean() < _ON_PATH:
            return None
        if not 1 / _ZOOM < np.hypot(path[0, 0], path[1, 0]) < _ZOOM:
            return None
        along = self._shift(path)
        seen &= cv2.max(*cv2.split(cv2.absdiff(flow, along[box]))) < 2 * _OFF_PATH
        count = np.count_nonzero(seen)
        elsewhere = np.ones(self._here.shape, np.uint8)
        elsewhere[box][seen] = 0
        away = cv2.distanceTransform(elsewhere, cv2.DIST_L2, 3)
        side = np.sqrt(count + 1)
        near, beside = np.clip(2 - away / (_REACHES * side), 0, 1), (away < _LIKELY * side).astype(np.float32)
        return Mover(along, near, beside, path, float(fits.mean()), count)

    def _places(self, flow: np.ndarray, box: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Where the ``flow`` of the pixels in ``box`` leads, x and y."""
        x, y = cv2.split(flow)
        x += self._x[box]
        y += self._y[box]
        return x, y

    def _looked_up(self, grey: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return cv2.remap(grey, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _hidden(self, blind: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        flags = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": 1}
        return cv2.remap(blind, *places, cv2.INTER_NEAREST, **flags) > 0

    def _shift(self, path: np.ndarray) -> np.ndarray:
        """A similarity (2, 3) as flow, float32 ``(h, w, 2)``."""
        x, y = self._x[:1], self._y[:, :1]
        return cv2.merge([a * x + b * y + c for a, b, c in (path - _STILL).astype(np.float32)])
