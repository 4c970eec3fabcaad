"""Light: by how much one picture is brighter than another of the same place, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import largest

_LEAST_PIXELS = 64
_MOST_PIXELS = 2000  # evenly chosen among those there are: more tell nothing new
_CLIPPED = (2, 253)  # values beyond these say nothing of how bright a place is
_MOST = 6.0  # times brighter; beyond it hardly anything is left of the darker picture
_FLAT = 1.5  # grey levels of spread; what is flatter has no contrast to compare
_CONTRAST = (
    20.0  # grey levels between the dark and the bright tenth, from which on a gain can be told from them
)
_LEVELS = (10, 50, 90)  # per cent of the pixels; how dark the dark ones are, and how bright the bright ones
_SAME = 1.0  # grey levels by which none of them differs in the same light
_ROUNDS = 5  # of reweighting
_SEEN = 1.5  # grey levels by which the light has to change somewhere within the picture's range
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
    places = np.flatnonzero(known)[:: max(1, int(known.sum()) // _MOST_PIXELS)]
    a, b = (picture.reshape(known.size, -1)[places].astype(np.float32) for picture in (here, there))
    low, high = _CLIPPED
    unclipped = (a >= low) & (a <= high) & (b >= low) & (b <= high)
    before = np.abs(a - b)
    if np.median(before) < 1 and np.abs(np.median(a - b, axis=0)).max() < 1:
        return None  # most pairs of frames, told at a glance
    if (
        np.abs(np.subtract(*np.percentile(np.stack([a, b]), _LEVELS, axis=1).transpose(1, 0, 2))).max()
        < _SAME
    ):
        return None  # and most of the others: as dark, as bright, as far spread
    fits = [_fit(a[:, c], b[:, c], unclipped[:, c]) for c in range(a.shape[1])]
    gain, offset = (np.array(values, np.float32) for values in zip(*fits))
    ends = np.percentile(b, (10, 90), axis=0)
    change = np.abs(ends * gain + offset - ends).max()
    after = np.abs(a - np.clip(b * gain + offset, 0, 255))
    if change < _SEEN or np.median(after) > _BETTER * np.median(before):
        return None
    return Light(gain, offset)


def _fit(a: np.ndarray, b: np.ndarray, use: np.ndarray) -> tuple[float, float]:
    """Gain and offset from ``b`` to ``a``, of one channel."""
    if use.sum() < _LEAST_PIXELS:
        return 1.0, float(np.median(a - b))
    a, b = a[use], b[use]
    qa, qb = (np.percentile(values, (10, 50, 90)) for values in (a, b))
    if min(qa[2] - qa[0], qb[2] - qb[0]) < _CONTRAST:
        # A wall's noise says nothing of the gain, and a wrong one would blow up whatever is not as bright as the wall.
        return 1.0, float(qa[1] - qb[1])
    gain = _ratio(qa[2] - qa[0], qb[2] - qb[0])
    offset = qa[1] - gain * qb[1]
    for _ in range(_ROUNDS):
        misfit = a - (gain * b + offset)
        scale = 2 * np.median(np.abs(misfit)) + 1
        weight = 1 / (1 + (misfit / scale) ** 2) ** 2
        weight /= weight.sum()
        ma, mb = weight @ a, weight @ b
        gain = _ratio(np.sqrt(weight @ (a - ma) ** 2), np.sqrt(weight @ (b - mb) ** 2))
        offset = ma - gain * mb
    return float(gain), float(offset)


def _ratio(a: float, b: float) -> float:
    return float(np.clip(a / b, 1 / _MOST, _MOST)) if min(a, b) > _FLAT else 1.0
