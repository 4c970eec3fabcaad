"""Fetch what the hole hides from frames that show it, and merge the candidates."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.ops.harmonic import extend_smoothly, harmonic_fill
from videopainter.ops.motion import Motion
from videopainter.propagation.hole_view import HoleView

# Which frames are asked.
_CANDIDATES = 5  # per pixel; then no more references are chosen
_REFERENCES = 9
_REACH = 1.5  # frames at which a reference is worth half a near one when it is chosen
_STEADY = 30  # references of a fixed camera: each costs no warp, and a larger set is steadier
# How they are aligned, in working pixels.
_OUTLIER = 2.5  # residual flow beyond this is another object or an error
_CORRECTION = 2.0  # what agreement may still move a candidate by
_GUARD = 7  # DIS patches reach this far over the edge of a hole
_SMALLEST = 16  # sides of a picture in which flow finds something
# How they are weighed.
_TAU = 30.0  # frames over which a reference loses its weight
_AGREE = 10.0  # grey levels from the median of a fixed camera's references
_ROBUST = 14.0  # grey levels from the candidates' mean
_UNKNOWN_ERROR = 10.0  # grey levels, where a reference has no surroundings in common with the hole
_ERROR_GROWTH = 3.0
_ERROR_FLOOR = 6.0
# Mean absolute difference between two noisy pictures, and between a noisy one and a clean one, by the noise's
# standard deviation; a little less than for a normal distribution, since interpolation smooths.
_NOISE_OF_TWO, _NOISE_OF_ONE = 1.05, 0.78
_SPREAD = 0.2  # of the candidates' disagreement counts as error


@dataclass
class Candidates:
    """What the references say about a view, in the source's pixels."""

    colours: np.ndarray  # uint8 (k, h, w, 3)
    weights: np.ndarray  # float32 (k, h, w), 0 where a reference knows nothing


def choose(view: HoleView) -> list[int]:
    """References for a view, picked greedily: near ones that show what none of those before did."""
    rows, columns = view.working
    y, x = np.mgrid[rows.start : rows.stop : 4, columns.start : columns.stop : 4].astype(np.float64)
    _, hole = view.grey
    need = _grown(hole[::4, ::4], 3)
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


def gather(view: HoleView, motion: Motion, references: list[int]) -> Candidates:
    """Warp every reference onto the view: camera, then residual flow, one sampling of the original.

    The flow across the hole is first guessed from its surroundings, then corrected so that the candidates agree
    with their own mean inside it.
    """
    flows = [_residual_flow(view, motion, i) for i in references]
    flows = _agreeing(view, motion, _look(view, references, flows), flows)
    return _look(view, references, flows)


def _residual_flow(view: HoleView, motion: Motion, i: int) -> np.ndarray:
    """Motion to frame ``i`` beside the camera's: measured around the hole, extended harmonically across it."""
    here, hole = view.grey
    there, blind = view.grey_of(i)
    if min(here.shape) < _SMALLEST:
        return np.zeros(here.shape + (2,), np.float32)
    flow = motion.fine(here, there)
    blind = _grown(blind, 2 * _GUARD + 1)
    trusted = ~(_grown(hole, 2 * _GUARD + 1) | blind)
    if trusted.sum() < 64:
        trusted = ~(hole | blind)
    if trusted.sum() < 16:
        return np.zeros_like(flow)
    centre = np.median(flow[trusted], axis=0)
    trusted &= largest(np.abs(flow - centre)) < _OUTLIER
    if trusted.sum() < 16:
        return np.zeros_like(flow)
    return harmonic_fill(flow, ~trusted, sweeps=6)


def _agreeing(view: HoleView, motion: Motion, candidates: Candidates, flows: list[np.ndarray]):
    """Flows corrected by what optical flow finds between the candidates' mean and each of them."""
    composed = _composed_grey(view, *merge(candidates, view.noise))
    corrected = list(flows)
    for k, flow in enumerate(flows):
        seen, blind = view.shrunk(candidates.colours[k], candidates.weights[k] <= 0)
        trusted = ~_grown(blind, 9)
        if trusted.sum() < 64 or min(composed.shape) < _SMALLEST:
            continue
        correction = motion.fine(composed, np.where(blind, composed, seen))
        correction = np.clip(correction, -_CORRECTION, _CORRECTION)
        corrected[k] = flow + harmonic_fill(correction, ~trusted, sweeps=4)
    return corrected


def _composed_grey(view: HoleView, mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The view with the first guess in its hole, uint8 grey in working pixels."""
    seen = np.isfinite(error)
    known = view.hole & seen
    colour = view.frame.copy()
    colour[known] = np.clip(np.rint(mean[known]), 0, 255)
    return view.to_grey(colour, view.hole & ~seen)[0]


def _look(view: HoleView, references: list[int], flows: list[np.ndarray]) -> Candidates:
    """Sample the references through camera and ``flows``, and weigh each by how it fits around the hole."""
    frame = view.frame
    colours, weights = [], []
    for i, flow in zip(references, flows):
        sampled, valid = view.sample(i, flow)
        error = _beyond(
            _ring_error(cv2.absdiff(frame, sampled), view.hole, valid), _NOISE_OF_TWO * view.noise
        )
        weight = 1 / (_ERROR_GROWTH * error * error * (1 + abs(i - view.t) / _TAU) + _ERROR_FLOOR)
        weight[~valid] = 0
        colours.append(sampled)
        weights.append(weight.astype(np.float32))
    return Candidates(np.stack(colours), np.stack(weights))


def _ring_error(difference: np.ndarray, hole: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """How badly a reference fits just outside the hole, carried inwards: float32 ``(h, w)`` in grey levels.

    ``difference``: ``(h, w, 3)``, absolute, to the frame. ``valid``: bool ``(h, w)``, what the reference knows.
    """
    error = extend_smoothly(average(difference), ~hole & valid, least=0.25, sweeps=4, blur=3)
    return np.full(hole.shape, _UNKNOWN_ERROR, np.float32) if error is None else error


def _beyond(error: np.ndarray, expected: float) -> np.ndarray:
    """What of an error, in grey levels, noise of the ``expected`` size does not explain."""
    if not expected:
        return error
    return np.sqrt(np.maximum(error * error - expected * expected, (0.2 * error) ** 2))


def merge(candidates: Candidates, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of the candidates that agree, and its expected squared error (inf where nobody knows).

    Two reweighting steps of a Cauchy estimator: a passer-by in one reference is outvoted, noise is averaged.
    ``noise``: its standard deviation in each candidate, which is no disagreement.
    """
    robust = float(np.hypot(_ROBUST, 2 * noise))
    colours, weights = candidates.colours, candidates.weights
    mean = _weighted(colours, weights)
    adjusted = weights
    for _ in range(2):
        adjusted = [w / (1 + (largest(np.abs(c - mean)) / robust) ** 2) for w, c in zip(weights, colours)]
        mean = _weighted(colours, adjusted)
    total = weights.sum(axis=0)
    spread = sum(w * average((c - mean) ** 2) for w, c in zip(weights, colours))
    # The candidates share the motion that was guessed, so their errors go together and do not average out.
    powers = sum(w * w for w in weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = total / powers + _SPREAD * np.maximum(spread / total - noise * noise, 0)
    return mean, np.where(total > 0, error, np.inf).astype(np.float32)


def _weighted(colours, weights) -> np.ndarray:
    total = np.maximum(sum(weights), 1e-12)
    out = np.zeros(colours.shape[1:], np.float32)
    for colour, weight in zip(colours, weights):
        out += colour * (weight / total)[..., None]
    return out


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
    wanted = _grown(view.hole, 17)
    fetched = np.zeros(view.size + (3,), np.float32)
    error = np.full(view.size, np.inf, np.float32)
    references = steady_references(view)
    if not references:
        return fetched, error
    values, known = [], []
    for i in references:
        colour, hole = view.in_place(i)
        values.append(colour[wanted])
        known.append(~hole[wanted])
    values, known = np.stack(values), np.stack(known)
    count = known.sum(axis=0)
    ranked = np.sort(np.where(known[..., None], values.astype(np.int16), 256), axis=0)
    median = np.take_along_axis(ranked, (np.maximum(count - 1, 0) // 2)[None, :, None], axis=0)[0]
    # Averaging what agrees with the median takes the noise out without letting a passer-by in.
    away = largest(np.abs(values - median.astype(np.float32)))
    weights = known / (1 + (away / float(np.hypot(_AGREE, 3 * view.noise))) ** 2) ** 2
    total = np.maximum(weights.sum(axis=0), 1e-9)
    fetched[wanted] = np.einsum("kn,knc->nc", weights, values, dtype=np.float32) / total[:, None]
    spread = (weights * away**2).sum(axis=0) / total
    spread = np.maximum(spread - (2 * view.noise) ** 2, 0)
    error[wanted] = np.where(count > 0, _ERROR_FLOOR + _SPREAD * spread, np.inf)
    ring = _ring_error(np.abs(view.frame - fetched), view.hole, np.isfinite(error))
    ring = _beyond(ring, _NOISE_OF_ONE * view.noise)
    return fetched, error + _ERROR_GROWTH * ring * ring


def _grown(mask: np.ndarray, side: int) -> np.ndarray:
    """bool ``(h, w)``: ``mask`` grown by squares of odd ``side``."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).view(bool)
