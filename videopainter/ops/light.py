"""Light: by how much one picture is brighter than another of the same place, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import largest

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
_FAR = 1e9  # grey levels
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

    def change(self) -> float:
        """By how many grey levels it changes a middle grey, in the channel where that is most."""
        return float(np.abs(128 * (self.gain - 1) + self.offset).max())

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
    return match_lights(here, [there], [known])[0]


def match_lights(
    here: np.ndarray, theres: Sequence[np.ndarray], knowns: Sequence[np.ndarray]
) -> list[Light | None]:
    """`match_light` against each of several pictures: most are told to have the same light, all at once."""
    size, channels = here.shape[0] * here.shape[1], here[0, 0].size
    samples = [np.flatnonzero(known) for known in knowns]
    asked = [k for k, places in enumerate(samples) if len(places) >= _LEAST_PIXELS]
    found: list[Light | None] = [None] * len(samples)
    if not asked:
        return found
    samples = [samples[k][:: max(1, len(samples[k]) // _MOST_PIXELS)] for k in asked]
    counts = np.array([len(places) for places in samples])
    a = np.zeros((len(asked), channels, counts.max()), np.float32)
    b = np.zeros_like(a)
    for k, places, row_a, row_b in zip(asked, samples, a, b):
        row_a[:, : len(places)] = here.reshape(size, -1)[places].T
        row_b[:, : len(places)] = theres[k].reshape(size, -1)[places].T
    left = _Undecided(a, b, counts)
    difference = a - b
    before = left.median(np.abs(difference))
    middle = left.medians(difference)
    gain, offset, contrast = left.first_fit(middle)
    hopeful = left.median(_misfits(a, b, gain, offset)) <= _HOPELESS * before
    # Most pairs of frames are told at a glance.
    hopeful &= (before >= 1) | (np.abs(middle).max(axis=1) >= 1)
    hopeful = np.flatnonzero(hopeful)
    if not len(hopeful):
        return found
    a, b, before, gain, offset, contrast = (p[hopeful] for p in (a, b, before, gain, offset, contrast))
    left = _Undecided(a, b, counts[hopeful])
    if contrast.any():
        usable = left.usable()
        rows = (p[contrast] for p in (a, b, usable, gain, offset))
        gain[contrast], offset[contrast] = _refit(*rows)
        for k in np.flatnonzero(contrast.all(axis=1)):  # a flat picture tells no gain
            even = _even(a[k], b[k], usable[k])
            if even is not None:
                misfits = _misfits(a[k], b[k], even, np.zeros_like(even))[:, : left.counts[k]]
                if np.median(misfits) < _ENOUGH * before[k]:
                    gain[k], offset[k] = even, 0
    ends = left.ends()
    change = np.abs(ends * gain[..., None] + offset[..., None] - ends).max(axis=(1, 2))
    better = left.median(_misfits(a, b, gain, offset)) <= _BETTER * before
    for k in np.flatnonzero((change >= _SEEN) & better):
        found[asked[hopeful[k]]] = Light(gain[k], offset[k])
    return found


def is_brighter(here: np.ndarray, there: np.ndarray, known: np.ndarray) -> bool:
    """Whether two pictures, uint8 ``(h, w)``, are not as bright as each other where ``known``, wherever things are."""
    if known.sum() < _LEAST_PIXELS:
        return False
    (low, _, high), (other_low, _, other_high) = (
        _quantiles(p[known].astype(np.float32), np.count_nonzero(known)) for p in (here, there)
    )
    return min(high, other_high) < _CLIPPED[1] and abs((high + low) - (other_high + other_low)) >= 2 * _SEEN


def _even(a: np.ndarray, b: np.ndarray, use: np.ndarray) -> np.ndarray | None:
    """The gain of each channel if there is no offset, float32 ``(c,)``; None where too little is bright enough, or
    most of it is not of about one brightness, so that its contrast tells gain and offset apart.

    Before a wall with a soft shadow a gain and an offset take the shadow for contrast that has grown, and make what is
    lit elsewhere as dark. All are ``(c, n)``.
    """
    use = use & (np.minimum(a, b) >= _CONTRAST)
    if use.sum(axis=1).min() < _LEAST_PIXELS:
        return None
    for y, row in zip(b, use):
        low, middle, high = np.percentile(y[row], (25, 50, 75))
        if high - low > _PLAIN * middle:
            return None
    return np.float32([np.median(x[row] / y[row]) for x, y, row in zip(a, b, use)])


def _misfits(a: np.ndarray, b: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """What is left of the difference."""
    fitted = b * gain[..., None]
    fitted += offset[..., None]
    np.maximum(fitted, 0, out=fitted)
    np.minimum(fitted, 255, out=fitted)
    np.subtract(a, fitted, out=fitted)
    return np.abs(fitted, out=fitted)


class _Undecided:
    """Samples of ``k`` pairs of pictures, float32 ``(k, c, n)``, of each pair the first ``counts``, int ``(k,)``."""

    def __init__(self, a: np.ndarray, b: np.ndarray, counts: np.ndarray):
        self._a, self._b, self.counts = a, b, counts
        self._beyond = np.arange(a.shape[2]) >= counts[:, None, None]
        self._far = _far(self._beyond)

    def median(self, values: np.ndarray) -> np.ndarray:
        """Of all samples of a pair: float32 ``(k,)``."""
        values = values + self._far
        return _middle(np.sort(values.reshape(len(values), -1), axis=1), values.shape[1] * self.counts)

    def medians(self, values: np.ndarray) -> np.ndarray:
        """Of each channel: float32 ``(k, c)``."""
        ranked = np.sort(values + self._far, axis=2)
        return _middle(ranked, np.repeat(self.counts[:, None], values.shape[1], axis=1))

    def usable(self) -> np.ndarray:
        """Those that are not clipped in either: bool ``(k, c, n)``."""
        low, high = _CLIPPED
        lowest, highest = np.minimum(self._a, self._b), np.maximum(self._a, self._b)
        return (lowest >= low) & (highest <= high) & ~self._beyond

    def ends(self) -> np.ndarray:
        """The dark and the bright tenth of ``b``: float32 ``(k, c, 2)``."""
        counts = np.repeat(self.counts[:, None], self._b.shape[1], axis=1)
        return _quantiles(self._b + self._far, counts)[..., ::2]

    def first_fit(self, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gain and offset from ``b`` to ``a``, float32, and where there is a contrast to tell a gain, bool; all
        ``(k, c)`` like ``middle``, the difference in the middle."""
        use = self.usable()
        counts = np.count_nonzero(use, axis=2)
        unused = _far(~use)
        qa, qb = (_quantiles(values + unused, counts) for values in (self._a, self._b))
        told = counts >= _LEAST_PIXELS
        # A wall's noise says nothing of the gain, and a wrong one would blow up whatever is not as bright as the wall.
        spread_a, spread_b = qa[..., 2] - qa[..., 0], qb[..., 2] - qb[..., 0]
        contrast = told & (np.minimum(spread_a, spread_b) >= _CONTRAST)
        gain = np.where(contrast, _ratio(spread_a, spread_b), 1).astype(np.float32)
        return gain, np.where(told, qa[..., 1] - gain * qb[..., 1], middle).astype(np.float32), contrast


def _far(beyond: np.ndarray) -> np.ndarray:
    """Added to values it puts those ``beyond`` after all others, in less time than to replace them."""
    return beyond * np.float32(_FAR)


def _middle(ranked: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of the first ``counts``, int ``(...)``, of each row of sorted values ``(..., n)``."""
    low, high = (
        np.take_along_axis(ranked, place[..., None], axis=-1)[..., 0]
        for place in ((counts - 1) // 2, counts // 2)
    )
    return (low + high) / 2


def _refit(a, b, use, gain, offset) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset of rows, all ``(k, n)`` and ``(k,)``, fitted anew, by means and spreads in which what does not
    fit counts little."""
    middle, rows = np.rint(0.5 * (use.sum(axis=1) - 1)).astype(int), np.arange(len(use))
    fitted, moved, unused = gain[:, None], offset[:, None], _far(~use)
    for _ in range(_ROUNDS):
        misfit = a - (fitted * b + moved)
        away = np.abs(misfit) + unused
        scale = 2 * np.sort(away, axis=1)[rows, middle][:, None] + 1
        weight = use / (1 + (misfit / scale) ** 2) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        ma, mb = ((weight * x).sum(axis=1, keepdims=True) for x in (a, b))
        va, vb = ((weight * (x - m) ** 2).sum(axis=1, keepdims=True) for x, m in ((a, ma), (b, mb)))
        fitted = _ratio(np.sqrt(va), np.sqrt(vb))
        moved = ma - fitted * mb
    return fitted[:, 0], moved[:, 0]


def _quantiles(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The tenth, the middle and the ninetieth per cent of each row's ``counts`` smallest values: float32 ``(..., 3)``
    of ``(..., n)``; 0 of none."""
    ranked = np.sort(values, axis=-1)
    places = np.array([0.1, 0.5, 0.9]) * np.maximum(counts - 1, 0)[..., None]
    found = np.take_along_axis(ranked, np.rint(places).astype(int), axis=-1)
    return np.where(found < _FAR / 2, found, np.float32(0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b`` within reason, 1 where either is flat."""
    ratio = np.clip(a / np.maximum(b, _FLAT / _MOST), 1 / _MOST, _MOST)
    return np.where(np.minimum(a, b) > _FLAT, ratio, 1).astype(np.float32)
