"""When frames are shown: stamps made into times, times into an average rate and into a writer's clock."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction

FINEST = 1_000_000  # ticks a second that a writer's clock has at most
COMMON = 90_000  # ticks a second where the source's own clock is finer than that


class EvenTimes(Sequence):
    """Times of `count` frames at an even rate, in seconds, without a list of them."""

    def __init__(self, count: int, fps: Fraction):
        self._count, self._fps = count, Fraction(fps)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [i / self._fps for i in range(*key.indices(self._count))]
        i = range(self._count)[key]
        return i / self._fps


def rises(stamps: Sequence[int | None]) -> bool:
    """Whether every stamp is there and above the one before it."""
    there = [stamp for stamp in stamps if stamp is not None]
    return len(there) == len(stamps) and all(a < b for a, b in zip(there, there[1:]))


def is_even(stamps: Sequence[int | Fraction], rate: Fraction, tick: Fraction) -> bool:
    """Whether frames come at `rate`, within the roundings of a clock of `tick` seconds, in which the stamps count.

    Close to the end up to three may be missing: a cut loses some of the pictures between the last ones.
    """
    rate, tick = Fraction(rate), Fraction(tick)
    slack = max(tick, Fraction(1, 900))  # Matroska rounds to milliseconds
    # In a clip of few frames nearly all would be close to the end.
    end = len(stamps) - min(16, len(stamps) // 4)
    # Seconds as multiples of one unit, so that the stamps of a film of hours are compared as whole numbers.
    second = tick.denominator * rate.numerator * slack.denominator
    stamp, frame, most = (int(part * second) for part in (tick, 1 / rate, slack))
    for i, at in enumerate(stamps):
        late = (at - stamps[0]) * stamp - i * frame
        if late < -most or late > most + (3 * frame if i >= end else 0):
            return False
    return True


def shown_before(times: Sequence[Fraction], seconds: Fraction) -> int:
    """How many frames are shown before `seconds`."""
    return bisect_left(times, seconds)


def shown_at(times: Sequence[Fraction], seconds: Fraction) -> int:
    """The number of the frame that is on the screen at `seconds`; the first one before it begins."""
    return max(0, bisect_right(times, seconds) - 1)


def clock_of(times: Sequence[Fraction]) -> Fraction:
    """The time base, in seconds, in which all `times` are whole numbers, or the nearest one that is usual."""
    ticks = 1
    for time in times:
        ticks = math.lcm(ticks, Fraction(time).denominator)
        if ticks > FINEST:
            return Fraction(1, COMMON)
    return Fraction(1, max(ticks, 1000))
