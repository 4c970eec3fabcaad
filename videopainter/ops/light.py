"""Light: by how much one picture is brighter than another of the same place, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import largest, median

_LEAST_PIXELS = 64
_MOST_PIXELS = 1500  # evenly chosen among those there are: more tell nothing new
_CLIPPED = (2, 253)  # values beyond these say nothing of how bright a place is
_MOST = 6.0  # times brighter; beyond it hardly anything is left of the darker picture
_FLAT = 1.5  # grey levels of spread; what is flatter has no contrast to compare
_CONTRAST = (
    20.0  # grey levels between the dark and the bright tenth, from which on a gain can be told from them
)
_ROUNDS = 5  # of reweighting
_SEEN = 1.5  # grey levels by which the light has to change somewhere within the picture's range
_HOPELESS = 1.0  # a first fit that leaves more than this share of the misfit is not worth a second one
_ENOUGH = 0.3  # of the misfit may be left by a gain alone, which holds in shadows, too
_PLAIN = 0.2  # of the brightness in the middle: quartiles that are no farther apart are of one surface
_BETTER = 0.6  # and by which factor the misfit has to shrink, so that motion does not pass for light


@dataclass(frozen=True)
class Light:
    """``here = gain * there + offset``: each float32 ``(c,)``, in grey levels."""

    gain: np.ndarray
    offset: np.ndarray

    @property
    def grey(self) -> Light:
        """The same for the luma of three channels, R, G, B."""
        share = np.array([0.299, 0.587, 0.114], np.float32)
        return Light(share @ self.gain[:, None], share @ self.offset[:, None])

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """``there`` in the light of ``here``: uint8 ``(h, w)`` or ``(h, w, c)`` to the same."""
        table = np.arange(256, dtype=np.float32)[:, None] * self.gain + self.offset
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        flat = picture.ndim == 2
        return cv2.LUT(picture, table[:, 0] if flat else np.ascontiguousarray(table[None]))

    def lost(self, picture: np.ndarray) -> np.ndarray | None:
        """Where ``there``, uint8 ``(h, w, c)``, is too bright to tell what ``here`` is; None if it is the darker."""
        return largest(picture) > _CLIPPED[1] if self.gain.mean() < 1 else None


def match_light(here: np.ndarray, there: np.ndarray, known: np.ndarray) -> Light | None:
    """The light of ``here`` against that of ``there``, or None where the two differ by no more than they may anyway.

    Robust: what moves between the two is outvoted. The gain is the ratio of the spreads, not a regression, which
    noise and misplaced detail would draw towards zero in both directions.

    Args:
        here, there: uint8 ``(h, w)`` or ``(h, w, c)`` of the same place; small ones do, so that noise and
            misplaced detail average out.
        known: bool ``(h, w)``, True where both are real.
    """
    if known.sum() < _LEAST_PIXELS:
        return None
    places = np.flatnonzero(known)[:: max(1, np.count_nonzero(known) // _MOST_PIXELS)]
    a, b = (picture.reshape(known.size, -1)[places].T.astype(np.float32) for picture in (here, there))
    low, high = _CLIPPED
    difference = a - b
    before = median(np.abs(difference).ravel())
    if before < 1 and np.abs(median(difference)).max() < 1:
        return None  # most pairs of frames, told at a glance
    use = (a >= low) & (a <= high) & (b >= low) & (b <= high)
    gain, offset, contrast = _first_fit(a, b, use)
    if _misfit(a, b, gain, offset) > _HOPELESS * before:
        return None
    if contrast.any():
        gain[contrast], offset[contrast] = _refit(
            a[contrast], b[contrast], use[contrast], gain[contrast], offset[contrast]
        )
    even = _even(a, b, use) if contrast.all() else None  # a flat picture tells no gain
    if even is not None and _misfit(a, b, even, np.zeros_like(even)) < _ENOUGH * before:
        gain, offset = even, np.zeros_like(even)
    ends = _quantiles(b, np.ones(b.shape, bool))[:, ::2]
    change = np.abs(ends * gain[:, None] + offset[:, None] - ends).max()
    if change < _SEEN or _misfit(a, b, gain, offset) > _BETTER * before:
        return None
    return Light(gain, offset)


def is_brighter(here: np.ndarray, there: np.ndarray, known: np.ndarray) -> bool:
    """Whether two pictures, uint8 ``(h, w)``, are not as bright as each other where ``known``, wherever things are."""
    if known.sum() < _LEAST_PIXELS:
        return False
    (low, _, high), (other_low, _, other_high) = (
        _quantiles(p[known][None], np.ones((1, known.sum()), bool))[0] for p in (here, there)
    )
    return min(high, other_high) < _CLIPPED[1] and abs((high + low) - (other_high + other_low)) >= 2 * _SEEN


def _even(a: np.ndarray, b: np.ndarray, use: np.ndarray) -> np.ndarray | None:
    """The gain of each channel if there is no offset, float32 ``(c,)``; None where too little is bright enough, or
    most of it is not of about one brightness, so that its contrast tells gain and offset apart.

    Before a wall with a soft shadow a gain and an offset take the shadow for contrast that has grown, and make what is
    lit elsewhere as dark.
    """
    use = use & (np.minimum(a, b) >= _CONTRAST)
    if use.sum(axis=1).min() < _LEAST_PIXELS:
        return None
    for y, row in zip(b, use):
        low, middle, high = np.percentile(y[row], (25, 50, 75))
        if high - low > _PLAIN * middle:
            return None
    return np.float32([np.median(x[row] / y[row]) for x, y, row in zip(a, b, use)])


def _misfit(a: np.ndarray, b: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> float:
    """What is left of the difference, in the middle."""
    return median(np.abs(a - np.clip(b * gain[:, None] + offset[:, None], 0, 255)).ravel())


def _first_fit(a: np.ndarray, b: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain and offset from ``b`` to ``a`` of each channel, float32 ``(c,)``, and where there is a contrast to tell
    a gain, bool ``(c,)``; all three are ``(c, n)``."""
    qa, qb = _quantiles(a, use), _quantiles(b, use)
    told = use.sum(axis=1) >= _LEAST_PIXELS
    # A wall's noise says nothing of the gain, and a wrong one would blow up whatever is not as bright as the wall.
    contrast = told & (np.minimum(qa[:, 2] - qa[:, 0], qb[:, 2] - qb[:, 0]) >= _CONTRAST)
    gain = np.where(contrast, _ratio(qa[:, 2] - qa[:, 0], qb[:, 2] - qb[:, 0]), 1)
    offset = np.where(told, qa[:, 1] - gain * qb[:, 1], median(a - b))
    return gain.astype(np.float32), offset.astype(np.float32), contrast


def _refit(a, b, use, gain, offset) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset fitted anew, by means and spreads in which what does not fit counts little."""
    middle, rows = np.rint(0.5 * (use.sum(axis=1) - 1)).astype(int), np.arange(len(use))
    fitted, moved = gain[:, None], offset[:, None]
    for _ in range(_ROUNDS):
        misfit = a - (fitted * b + moved)
        away = np.where(use, np.abs(misfit), np.float32(np.inf))
        scale = 2 * np.sort(away, axis=1)[rows, middle][:, None] + 1
        weight = use / (1 + (misfit / scale) ** 2) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        ma, mb = ((weight * x).sum(axis=1, keepdims=True) for x in (a, b))
        va, vb = ((weight * (x - m) ** 2).sum(axis=1, keepdims=True) for x, m in ((a, ma), (b, mb)))
        fitted = _ratio(np.sqrt(va), np.sqrt(vb))
        moved = ma - fitted * mb
    return fitted[:, 0], moved[:, 0]


def _quantiles(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """The tenth, the middle and the ninetieth per cent of each row's values in use, float32 ``(c, 3)``; 0 of none."""
    ranked = np.sort(np.where(use, values, np.float32(np.inf)), axis=1)
    places = np.array([0.1, 0.5, 0.9]) * np.maximum(use.sum(axis=1) - 1, 0)[:, None]
    found = np.take_along_axis(ranked, np.rint(places).astype(int), axis=1)
    return np.where(np.isfinite(found), found, np.float32(0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b`` within reason, 1 where either is flat."""
    ratio = np.clip(a / np.maximum(b, _FLAT / _MOST), 1 / _MOST, _MOST)
    return np.where(np.minimum(a, b) > _FLAT, ratio, 1).astype(np.float32)
