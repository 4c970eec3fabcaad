"""Dissolves: frames in which one shot gives way to another, each a mixture of the two."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.resize import resize

_SHORTEST, _LONGEST = 4, 32  # frames from the last one before it to the first one after it
_SIZE = (15, 27)  # cells in which pictures are compared; motion within a dissolve stays small beside them
_FINE = 1.5  # sigma, in the pixels given, of what is finer than the fine detail
_FLAT = 0.8  # grey levels of fine detail that either shot has at least
# Of detail that changes from one shot to the other each has its share only, so that its strength dips; at the middle
# of a dissolve of equal shots to 0.71. The strength that is left may be so many times what the shares tell.
_DIPS, _LEFT = 0.88, 1.12
_UNEVEN = 0.2  # how far shares may be from even steps
_MISFIT = 0.75  # of the difference to the nearer end, what mixing leaves unexplained about the middle
_WAIT = 3  # frames in which no better one is found


@dataclass(frozen=True)
class Dissolve:
    """``before``: number of the last frame of the one shot; ``after``: of the first one of the other.

    shares: how much of the other shot is in each frame between, 0..1.
    """

    before: int
    after: int
    shares: tuple[float, ...]

    def share(self, t: int) -> float:
        """Of the shot after it in frame ``t``, which lies between."""
        return self.shares[t - self.before - 1]


@dataclass
class _Look:
    """What is kept of a frame: everything at `_SIZE`."""

    colour: np.ndarray  # float32 (h, w, 3)
    detail: np.ndarray  # float32 (h, w), mean square of the fine detail
    known: np.ndarray  # bool (h, w)
    strength: float  # root mean square of the fine detail


class DissolveSearch:
    """Looks for dissolves in frames that come one after the other.

    A dissolve is told by three things together: frames lie evenly on the line from its first picture to its last, as
    those of a fade or of a slow motion may; but the two are not one picture, so that fine detail of both is weak where
    they meet. Motion, fades and flashes do not weaken it that way.
    """

    def __init__(self):
        self._looks: deque[_Look] = deque(maxlen=_LONGEST + 1)
        self._best: tuple[float, Dissolve] | None = None

    def look(self, i: int, picture: np.ndarray, hole: np.ndarray, last: bool = False) -> Dissolve | None:
        """The dissolve that ended a few frames before frame ``i``, if one did.

        Args:
            picture: uint8 ``(h, w, 3)``, a small one. hole: bool ``(h, w)``. last: nothing comes after it.
        """
        self._looks.append(_look(picture, hole))
        looks = list(self._looks)
        for length in range(_SHORTEST, len(looks)):
            cost, shares = _judged(looks[-1 - length :])
            if shares is not None and (self._best is None or cost < self._best[0]):
                self._best = cost, Dissolve(i - length, i, shares)
        if self._best is None or not last and i < self._best[1].after + _WAIT:
            return None
        found, self._best = self._best[1], None
        while len(self._looks) > i - found.after + 1:
            self._looks.popleft()
        return found


def _look(picture: np.ndarray, hole: np.ndarray) -> _Look:
    size = tuple(min(side, most) for side, most in zip(hole.shape, _SIZE))
    values = picture.astype(np.float32)
    fine = values - cv2.GaussianBlur(values, (0, 0), _FINE)
    wide = cv2.dilate(hole.view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    known = resize(wide, size, "area") == 0
    detail = resize(average(fine * fine), size, "area")
    strength = float(np.sqrt(detail[known].mean())) if known.any() else 0.0
    return _Look(resize(values, size, "area"), detail, known, strength)


def _judged(looks: list[_Look]) -> tuple[float, tuple[float, ...] | None]:
    """How ill so many frames pass for a dissolve from the first to the last, and its shares; None if they do not."""
    no = np.inf, None
    first, last, middle = looks[0], looks[-1], looks[len(looks) // 2]
    if min(first.strength, last.strength) < _FLAT:
        return no
    if middle.strength > (_DIPS + 0.04) * _even(first.strength, last.strength, 0.5):
        return no  # most frames, told at a glance
    shares, weak, left, apart = [], [], [], 0.0
    for k, one in enumerate(looks[1:-1], 1):
        known = first.known & last.known & one.known
        if np.count_nonzero(known) < 0.3 * known.size:
            return no
        start, end, here = (look.colour[known] for look in (first, last, one))
        way = end - start
        share = float(((here - start) * way).sum() / max(float((way * way).sum()), 1e-6))
        apart = max(apart, abs(share - k / (len(looks) - 1)))
        if apart > _UNEVEN:
            return no
        shares.append(share)
        if 0.25 < share < 0.75:
            a, b, c = (float(np.sqrt(look.detail[known].mean())) for look in (first, last, one))
            weak.append(c / max(_even(a, b, k / (len(looks) - 1)), 1e-6))
            left.append(c / np.hypot((1 - share) * a, share * b))
            misfit = np.abs(here - start - share * way).mean()
            if misfit > _MISFIT * min(np.abs(here - start).mean(), np.abs(here - end).mean()):
                return no
    if not weak or min(weak) > _DIPS or max(left) > _LEFT:
        return no
    return apart + abs(float(np.mean(left)) - 1), tuple(float(np.clip(s, 0, 1)) for s in shares)


def _even(first: float, last: float, share: float) -> float:
    """The strength of detail that a fade has between two others, be it by so much a frame or by such a share of it."""
    return min((1 - share) * first + share * last, first ** (1 - share) * last**share)
