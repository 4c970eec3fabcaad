"""What stands still behind the hole of a fixed camera: the median of the frames, which needs no motion."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.propagation.blend import remove_seam
from videopainter.propagation.hole_view import HoleView, grown
from videopainter.propagation.references import ERROR_FLOOR, ERROR_GROWTH, SPREAD, beyond, ring_error

_STEADY = 30  # references of a fixed camera: each costs no warp, and a larger set is steadier
_AGREE = 10.0  # grey levels from the median of a fixed camera's references
# Mean absolute difference between a noisy picture and a clean one, by the noise's standard deviation.
_NOISE_OF_ONE = 0.78
# Of what no frame disputes.
_STANDS_OUT = 25.0  # grey levels of misfit beside the hole that are another thing
_FRONT = 0.6  # of the side of such a thing, as a square: so far off it may go on before the background
_DISPUTE = 16.0  # grey levels from the median that are no noise and no shadow's rim
_UNDISPUTED = 0.9  # of the frames that show a place agree
_FEW = 4  # frames that have to show it


def steady_references(view: HoleView) -> list[int]:
    """The frames that `steady` asks, in order."""
    around = [i for i in view.neighbours() if view.camera(i) is not None]
    if not around:
        return []
    stride = -(-len(around) // min(_STEADY, view.store.cached - 2))
    return sorted(i for i in around if i % stride == 0) or around[:1]


def steady(view: HoleView) -> tuple[np.ndarray, np.ndarray]:
    """The background under a fixed camera, as `merge` gives it: what most frames of the neighbourhood agree on.

    The references lie on a grid of the whole video, not of the frame: their set changes slowly, so that nothing
    flickers.
    """
    fetched, error, _ = _steady(view)
    ring = ring_error(average(np.abs(view.frame - fetched)), view.hole, np.isfinite(error))
    ring = beyond(ring, _NOISE_OF_ONE * view.noise)
    return fetched, error + ERROR_GROWTH * ring * ring


def undisputed(view: HoleView) -> tuple[np.ndarray, np.ndarray]:
    """What all frames of the neighbourhood agree on that show a place, as `merge` gives it; inf where they do not.

    No thing has been seen to pass there. Light that differs around the hole is no misfit, and what stands before the
    background beside it says nothing farther off than it is large.
    """
    fetched, error, agreed = _steady(view)
    beside = np.isfinite(error) & ~view.hole
    fetched = remove_seam(fetched, view.frame, beside, view.noise)
    away = average(np.abs(view.frame - fetched))
    ring = ring_error(away, view.hole, beside)
    shows = beside & (cv2.blur(away * beside, (5, 5)) > _STANDS_OUT + view.noise)
    if shows.any():
        off = cv2.distanceTransform((~shows).view(np.uint8), cv2.DIST_L2, 3)
        close = np.clip(2 - off / (_FRONT * np.sqrt(np.count_nonzero(shows))), 0, 1)
        behind = ring_error(away, view.hole, beside & ~grown(shows, 5))
        ring = np.minimum(ring, close * ring + (1 - close) * behind)
        agreed[close > 0.5] = 0  # it may go on there
    ring = beyond(ring, _NOISE_OF_ONE * view.noise)
    return fetched, np.where(agreed >= _UNDISPUTED, error + ERROR_GROWTH * ring * ring, np.inf)


def _steady(view: HoleView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same before the surroundings have been looked at, and the share of the frames that show it and agree."""
    wanted = grown(view.hole, 17)
    fetched = np.zeros(view.size + (3,), np.float32)
    error = np.full(view.size, np.inf, np.float32)
    agreed = np.zeros(view.size, np.float32)
    references = steady_references(view)
    if not references:
        return fetched, error, agreed
    points = view.points(wanted)
    # Channels by themselves, as NumPy is slow where an axis is short.
    values = np.empty((len(references), 3, points.count), np.uint8)
    known = np.empty((len(references), points.count), bool)
    for k, i in enumerate(references):
        values[k], hidden = view.in_place(i, points)
        known[k] = ~hidden
    count = known.sum(axis=0)
    median = _ranked(np.where(known[:, None], values, np.uint8(255)), np.maximum(count - 1, 0) // 2)
    # Averaging what agrees with the median takes the noise out without letting a passer-by in.
    away = (np.maximum(values, median) - np.minimum(values, median)).max(axis=1).astype(np.float32)
    weights = known / (1 + (away / float(np.hypot(_AGREE, 3 * view.noise))) ** 2) ** 2
    total = np.maximum(weights.sum(axis=0), 1e-9)
    mean = np.zeros(values.shape[1:], np.float32)
    for weight, value in zip(weights, values):
        mean += weight * value
    fetched[wanted] = (mean / total).T
    spread = (weights * away**2).sum(axis=0) / total
    spread = np.maximum(spread - (2 * view.noise) ** 2, 0)
    error[wanted] = np.where(count > 0, ERROR_FLOOR + SPREAD * spread, np.inf)
    alike = known & (away < _DISPUTE + 3 * view.noise)
    agreed[wanted] = alike.sum(axis=0) / np.maximum(count, _FEW)
    return fetched, error, agreed


def _ranked(values: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The value that ``rank``, int ``(n,)``, others come before: of uint8 ``(k, c, n)``, k below 256, uint8 ``(c, n)``.

    Bit by bit, as sorting them all takes several times as long.
    """
    found, rank = np.zeros(values.shape[1:], np.uint8), rank.astype(np.uint8)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        below = np.add.reduce((values < found + np.uint8(bit)).view(np.uint8), axis=0, dtype=np.uint8)
        found += (below <= rank).view(np.uint8) * np.uint8(bit)
    return found
