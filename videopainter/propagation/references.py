"""Fetch what the hole hides from frames that show it, and merge the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.ops.channels import average, median
from videopainter.ops.harmonic import extend_each, harmonic_fill, harmonic_fills
from videopainter.ops.motion import Motion
from videopainter.propagation.bracket import misplaced
from videopainter.propagation.hole_view import HoleView, Points, grown
from videopainter.propagation.movers import GUARD, OUTLIER, Mover, Movers

# Which frames are asked.
_CANDIDATES = 5  # per pixel; then no more references are chosen
_REFERENCES = 9
_MOVED = 5  # references that are asked twice where a thing moves past the hole
_HOPELESS = 3  # near references in which none is found, so that others are not asked
_REACH = 1.5  # frames at which a reference is worth half a near one when it is chosen
# How they are aligned, in working pixels.
_CORRECTION = 2.0  # what agreement may still move a candidate by
_CORRECTED = 20  # pixels around a hole in which flow finds what to correct
_LASTS = 5.0  # frames at which a correction counts half for what all have in common
_MOST_POINTS = 4000  # of which the middle flow is taken
_SMALLEST = 16  # sides of a picture in which flow finds something
# Around the hole they are looked at, to be weighed and to be joined to it: in pixels, and at least in working pixels.
_RING, _WORKING_RING = 12, 8
# Of a thing that moves past the hole of a fixed camera: grey levels of misfit, and working pixels that have them.
_MOVER_SHOWS, _MOVER_SEEN = 10.0, 60
# How they are weighed.
_TAU = 30.0  # frames over which a reference loses its weight
_ROBUST = 20.0  # grey levels from the candidates' mean
_UNKNOWN_ERROR = 10.0  # grey levels, where a reference has no surroundings in common with the hole
ERROR_GROWTH = 3.0
ERROR_FLOOR = 6.0
# Mean absolute difference between two noisy pictures by the noise's standard deviation; a little less than for a normal
# distribution, since interpolation smooths.
_NOISE_OF_TWO = 1.05
SPREAD = 0.2  # of the candidates' disagreement counts as error


@dataclass
class Candidates:
    """What the references say about some pixels of a view.

    colours: float32 (k, channels, n), in grey levels. weights: float32 (k, n), 0 where a reference knows nothing.
    """

    colours: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Aligned:
    """A reference and the motion to it beside the camera's.

    flow: float32 (h, w, 2). near, beside: float32 (h, w), where it counts, see `Mover`; None: everywhere. In working
    pixels.
    """

    reference: int
    flow: np.ndarray
    near: np.ndarray | None = None
    beside: np.ndarray | None = None


def choose(view: HoleView) -> list[int]:
    """References for a view, picked greedily: near ones that show what none of those before did."""
    rows, columns = view.working
    y, x = np.mgrid[rows.start : rows.stop : 4, columns.start : columns.stop : 4].astype(np.float64)
    _, hole = view.grey
    need = grown(hole[::4, ::4], 3)
    points = np.stack([x[need], y[need]], -1)
    if not len(points):
        return []
    seen_by = {i: view.sees(i, points) for i in view.neighbours()}
    seen_by = {i: seen for i, seen in seen_by.items() if seen is not None and seen.any()}
    if not seen_by:
        return []
    others, views = list(seen_by), np.stack(list(seen_by.values()))
    sight = views.astype(np.float32)
    nearness = 1 / (1 + np.abs(np.array(others) - view.t) / _REACH)
    # The first witness of a pixel is worth most; each further one half as much.
    worth = np.append(0.5 ** np.arange(_CANDIDATES), 0).astype(np.float32)
    witnesses = np.zeros(len(points), np.int32)
    chosen: list[int] = []  # places in `others`
    while len(chosen) < min(_REFERENCES, len(others)):
        gain = sight @ worth[np.minimum(witnesses, _CANDIDATES)] * nearness
        gain[chosen] = 0
        best = int(gain.argmax())
        if gain[best] <= 0 or witnesses.min() >= _CANDIDATES:
            break
        chosen.append(best)
        witnesses += views[best]
    return [others[k] for k in chosen]


def fetch(view: HoleView, motion: Motion, references: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """What the references show: float32 ``(h, w, 3)`` and its expected squared error, inf where nobody knows.

    Known in the hole and in a ring around it. Every reference is warped by the camera's motion and a residual flow, in
    one sampling of the original; where a thing moves past the hole by itself, once more by that thing's motion. The
    flow across the hole is first guessed from its surroundings, then corrected so that the candidates agree with their
    own mean inside it.
    """
    aligned = _agreeing(view, motion, _aligned(view, motion, references))
    ring = max(_RING, round(_WORKING_RING / view.store.scale))
    points = view.points(grown(view.hole, 2 * ring + 1))
    fetched = np.zeros(view.size + (3,), np.float32)
    error = np.full(view.size, np.inf, np.float32)
    found = _look(view, aligned, points)
    mean, doubt = merge(found, view.noise)
    # Where it has nothing to compete with, what passes by is believed only close to where it is seen.
    unknown = found.weights[[one.near is None for one in aligned]].sum(axis=0) == 0
    for one in aligned:
        if one.beside is not None:
            unknown &= view.at(points, one.beside) < 0.5
    doubt[unknown] = np.inf
    fetched[points.where], error[points.where] = mean.T, doubt
    return fetched, error


def _aligned(view: HoleView, motion: Motion, references: list[int]) -> list[Aligned]:
    """Motion to each reference beside the camera's; some come twice, see `Movers`."""
    size = view.grey[0].shape
    if min(size) < _SMALLEST:
        return [Aligned(i, np.zeros(size + (2,), np.float32)) for i in references]
    view.store.measure_lights(view.t, references)
    looks = {i: view.grey_of(i) for i in references}
    measured = {i: motion.rest(view.grey[0], there) for i, (there, _) in looks.items()}
    background = _backgrounds(view, measured, looks)
    movers, apart = Movers(view, motion), []
    for i in _nearest_first(view, references):
        apart += _moved(i, movers.find(i, *looks[i], measured[i], background[i]))
        if len(apart) == _MOVED:
            break
    return [*(Aligned(i, background[i]) for i in references), *apart]


def _moved(i: int, mover: Mover | None) -> list[Aligned]:
    return [] if mover is None else [Aligned(i, mover.flow, mover.near, mover.beside)]


def _nearest_first(view: HoleView, references: list[int]) -> list[int]:
    return sorted(references, key=lambda i: abs(i - view.t))


def _backgrounds(view: HoleView, measured: dict[int, np.ndarray], looks: dict) -> dict[int, np.ndarray]:
    """Flows ``measured`` around the hole, without what moves by itself, extended harmonically across it.

    ``looks``: of each reference what `HoleView.grey_of` gives.
    """
    trusted = {i: _trusted(view, flow, looks[i][1]) for i, flow in measured.items()}
    told = [i for i in measured if trusted[i] is not None]
    filled = harmonic_fills([measured[i] for i in told], [~trusted[i] for i in told], sweeps=6, finest=2)
    found = dict(zip(told, filled))
    return {i: found[i] if i in found else np.zeros_like(flow) for i, flow in measured.items()}


def _trusted(view: HoleView, measured: np.ndarray, blind: np.ndarray) -> np.ndarray | None:
    """Where a flow is the background's, bool ``(h, w)``; None where that is hardly anywhere."""
    _, hole = view.grey
    known = ~(grown(hole, 2 * GUARD + 1) | grown(blind, 2 * GUARD + 1))
    if np.count_nonzero(known) < 64:
        known = ~(hole | grown(blind, 2 * GUARD + 1))
    places = np.flatnonzero(known)
    if len(places) < 16:
        return None
    # Each by itself, as NumPy is slow where an axis is short.
    x, y = cv2.split(measured)
    few = places[:: max(1, len(places) // _MOST_POINTS)]
    x -= median(x.ravel()[few])
    y -= median(y.ravel()[few])
    known &= np.maximum(np.abs(x), np.abs(y)) < OUTLIER
    return known if np.count_nonzero(known) >= 16 else None


def _agreeing(view: HoleView, motion: Motion, aligned: list[Aligned]) -> list[Aligned]:
    """Flows corrected by what optical flow finds between the candidates' mean and each of them.

    In grey and working pixels: that is all that flow sees.
    """
    here, hole = view.grey
    if min(here.shape) < _SMALLEST:
        return aligned
    pictures = [view.grey_along(one.reference, one.flow) for one in aligned]
    errors = _ring_errors(
        hole, ((cv2.absdiff(here, seen).astype(np.float32), blind == 0) for seen, blind in pictures)
    )
    inside, weights = np.flatnonzero(hole), []
    for one, (_, blind), error in zip(aligned, pictures, errors):
        weight = _weight(view, one.reference, error, blind.ravel()[inside] == 0, inside)
        weights.append(weight if one.near is None else weight * one.near.ravel()[inside])
    seen_in_hole = np.stack([seen.ravel()[inside] for seen, _ in pictures]).astype(np.float32)[:, None]
    mean, error = merge(Candidates(seen_in_hole, np.stack(weights)), view.noise)
    composed = here.copy()
    composed[hole] = np.where(np.isfinite(error), np.clip(np.rint(mean[0]), 0, 255), composed[hole])
    left = hole.copy()
    left[hole] = np.isinf(error)
    if left.any() and not left.all():
        composed = np.rint(harmonic_fill(composed.astype(np.float32), left, sweeps=2)).astype(np.uint8)
    corrected = list(aligned)
    # What lies farther out has been measured already, and is not corrected.
    box = bounding_box(hole, _CORRECTED)
    box = box if min(composed[box].shape) >= _SMALLEST else (slice(None), slice(None))
    places, corrections, doubtful = [], [], []
    for k, (seen, blind) in enumerate(pictures):
        blind, seen = blind[box], seen[box]
        unsure = grown(blind, 9)
        if unsure.size - np.count_nonzero(unsure) < 64:
            continue
        correction = motion.rest(composed[box], np.where(blind, composed[box], seen))
        places.append(k)
        corrections.append(np.clip(correction, -_CORRECTION, _CORRECTION))
        doubtful.append(unsure)
    for k, correction in zip(places, harmonic_fills(corrections, doubtful, sweeps=4, finest=2)):
        flow = aligned[k].flow.copy()
        flow[box] += correction
        corrected[k] = replace(aligned[k], flow=flow)
    seen = [blind == 0 for _, blind in pictures]
    return _bracketed(view, _carried(view, aligned, corrected, seen, box), seen, box)


def _carried(view: HoleView, before: list[Aligned], after: list[Aligned], seen, box) -> list[Aligned]:
    """Flows ``after`` a correction, with what it had in common right beside the hole carried on across the hole.

    In the hole the references are only compared with each other, so that what all flows miss by does not show there.
    """
    if any(one.near is not None for one in before):
        return after  # they follow different things
    hole = view.grey[1][box]
    change = np.stack([new.flow[box] - old.flow[box] for new, old in zip(after, before)])
    frames = np.array([abs(one.reference - view.t) for one in before], np.float32)
    weights = np.stack([known[box] for known in seen]) / (1 + frames / np.float32(_LASTS))[:, None, None]
    total = weights.sum(axis=0)
    unknown = grown(hole, 3) | (total <= 0)
    if unknown.all():
        return after
    common = np.einsum("khw,khwc->hwc", weights, change) / np.maximum(total, 1e-6)[..., None]
    common = harmonic_fill(common, unknown, sweeps=6, finest=2) * hole[..., None]
    carried = []
    for one in after:
        flow = one.flow.copy()
        flow[box] += common
        carried.append(replace(one, flow=flow))
    return carried


def _bracketed(view: HoleView, aligned: list[Aligned], seen: list[np.ndarray], box) -> list[Aligned]:
    """Flows moved together to where the frames before and after say that it is."""
    if any(one.near is not None for one in aligned):
        return aligned  # what moves past would pass for the background's path
    frames = np.array([one.reference - view.t for one in aligned], np.float32)
    flows = np.stack([one.flow[box] for one in aligned])
    off = misplaced(frames, flows, np.stack([known[box] for known in seen]), view.grey[1][box])
    if off is None:
        return aligned
    moved = []
    for one in aligned:
        flow = one.flow.copy()
        flow[box] -= off
        moved.append(replace(one, flow=flow))
    return moved


def _look(view: HoleView, aligned: list[Aligned], points: Points) -> Candidates:
    """Sample the references through camera and flow, and weigh each by how it fits around the hole."""
    places = points.places
    around = ~view.hole.ravel()[places]
    frame = view.frame[points.where]
    colours = np.empty((len(aligned), 3, points.count), np.float32)
    weights = np.empty((len(aligned), points.count), np.float32)
    valid = np.empty((len(aligned), points.count), bool)

    def misfits():
        away, known = np.zeros(view.size, np.float32), np.zeros(view.size, bool)
        for k, one in enumerate(aligned):
            sampled, valid[k] = view.sample(one.reference, one.flow, points)
            away.ravel()[places] = average(cv2.absdiff(frame, sampled))
            known.ravel()[places] = valid[k] & around
            colours[k] = sampled.T
            yield away, known

    for k, (one, error) in enumerate(zip(aligned, _ring_errors(view.hole, misfits()))):
        weights[k] = _weight(view, one.reference, error, valid[k], places)
        if one.near is not None:
            weights[k] *= view.at(points, one.near)
    return Candidates(colours, weights)


def _weight(view: HoleView, i: int, error: np.ndarray, valid: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Of reference ``i``, which misses its surroundings by ``error``, at the ``places`` that are ``valid``."""
    growth = np.float32(1 + abs(i - view.t) / _TAU)
    return valid / expected_of_one(error.ravel()[places], view.noise, growth)


def expected_of_one(error: np.ndarray, noise: float, growth: float = 1.0) -> np.ndarray:
    """Squared error that is expected of what one frame shows, which misses its surroundings by ``error``.

    Both in grey levels, as ``noise``, that of either frame. ``growth``: by which factor it grows with time.
    """
    error = beyond(error, _NOISE_OF_TWO * noise)
    return ERROR_GROWTH * error * error * growth + ERROR_FLOOR


def ring_error(away: np.ndarray, hole: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """How badly a reference fits just outside the hole, carried inwards: float32 ``(h, w)`` in grey levels.

    ``away``: float32 ``(h, w)``, absolute difference to the frame. ``valid``: bool ``(h, w)``, what it knows.
    """
    return next(_ring_errors(hole, [(away, valid)]))


def _ring_errors(hole: np.ndarray, misfits: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """`ring_error` of several ``misfits``, each ``away`` and ``valid``."""
    pairs = ((away, ~hole & valid) for away, valid in misfits)
    for error in extend_each(pairs, least=0.25, sweeps=4, blur=3):
        yield np.full(hole.shape, _UNKNOWN_ERROR, np.float32) if error is None else error


def beyond(error: np.ndarray, expected: float) -> np.ndarray:
    """What of an error, in grey levels, noise of the ``expected`` size does not explain."""
    if not expected:
        return error
    return np.sqrt(np.maximum(error * error - expected * expected, (0.2 * error) ** 2))


def merge(candidates: Candidates, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean ``(channels, n)`` of the candidates that agree, and its expected squared error ``(n,)``.

    Two reweighting steps of a Cauchy estimator: a passer-by in one reference is outvoted, noise is averaged. The error
    is inf where nobody knows. ``noise``: its standard deviation in each candidate, which is no disagreement.
    """
    robust = float(np.hypot(_ROBUST, 2 * noise))
    colours, weights = candidates.colours, candidates.weights
    mean = _weighted(colours, weights)
    adjusted = np.empty_like(weights)
    for _ in range(2):
        for k, (weight, colour) in enumerate(zip(weights, colours)):
            away = np.abs(colour - mean).max(axis=0)
            away *= np.float32(1 / robust)
            away *= away
            away += 1
            np.divide(weight, away, out=adjusted[k])
        mean = _weighted(colours, adjusted)
    total = weights.sum(axis=0)
    spread = np.zeros_like(total)
    for weight, colour in zip(weights, colours):
        away = colour - mean
        away *= away
        spread += weight * away.mean(axis=0)
    # The candidates share the motion that was guessed, so their errors go together and do not average out.
    powers = np.einsum("kn,kn->n", weights, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = total / powers + SPREAD * np.maximum(spread / total - noise * noise, 0)
    return mean, np.where(total > 0, error, np.inf).astype(np.float32)


def _weighted(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.zeros(colours.shape[1:], np.float32)
    for colour, weight in zip(colours, weights):
        out += colour * weight
    out /= np.maximum(weights.sum(axis=0), 1e-12)
    return out


def with_movers(
    view: HoleView, motion: Motion, fetched: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A fixed camera's background, as `steady` gives it, and before it what moves past the hole; None if nothing does.

    The background counts as much as all that follow the thing together.
    """
    away = cv2.blur(average(np.abs(view.frame - fetched)), (5, 5))
    beside = np.isfinite(error) & ~view.hole
    scale = view.store.scale
    if np.count_nonzero(beside & (away > _MOVER_SHOWS + view.noise)) * scale * scale < _MOVER_SEEN:
        return None
    here, _ = view.grey
    if min(here.shape) < _SMALLEST:
        return None
    movers, apart, asked = Movers(view, motion), [], 0
    still = np.zeros(here.shape + (2,), np.float32)
    for i in _nearest_first(view, choose(view)):
        there, blind = view.grey_of(i)
        apart += _moved(i, movers.find(i, there, blind, motion.rough(here, there), still))
        asked += 1
        if len(apart) == _MOVED or asked == _HOPELESS and not apart:
            break
    if not apart:
        return None
    points = view.points(np.isfinite(error) | view.hole)
    where = points.where
    found = _look(view, apart, points)
    behind = Candidates(fetched[where].T[None], 1 / error[where][None])
    colours, weights = (
        np.concatenate([*len(apart) * [one], all_])
        for one, all_ in ((behind.colours, found.colours), (behind.weights, found.weights))
    )
    fetched, error = fetched.copy(), error.copy()
    mean, error[where] = merge(Candidates(colours, weights), view.noise)
    fetched[where] = mean.T
    return fetched, error
