"""Fetch what the hole hides from frames that show it, and merge the candidates."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.ops.harmonic import harmonic_fill
from videopainter.ops.motion import Motion, project
from videopainter.propagation.window import Window

MARGIN = 28  # context around a hole, working pixels: enough for DIS to lock on at its coarsest scale
_STEADY = 30  # references of a fixed camera: each costs no warp, and a larger set is steadier
_CANDIDATES = 5  # per pixel, then no more references are asked
_REFERENCES = 9
_OUTLIER = 2.5  # residual flow beyond this, in working pixels, is another object or an error
_ALIGNMENTS = 1
_CORRECTION = 2.0  # working pixels that agreement may still move a candidate
_GUARD = 7  # DIS patches reach this far over the edge of a hole
_REACH = 1.5  # frames at which a reference is worth half a near one when it is chosen
_TAU = 30.0  # frames over which a reference loses its weight
_AGREE = 10.0  # grey levels
_ERROR_GROWTH = 3.0
_ERROR_FLOOR = 6.0
_SPREAD = 0.2  # of the candidates' disagreement counts as error


@dataclass
class Region:
    """A rectangle of the frame that holds one or more holes: working pixels and source pixels."""

    work: tuple[slice, slice]
    full: tuple[slice, slice]


def regions(window: Window, t: int) -> list[Region]:
    """Rectangles around the holes of frame ``t``; holes whose margins meet share one."""
    _, hole = window.grey(t)
    h, w = hole.shape
    grown = cv2.dilate(hole.view(np.uint8), np.ones((MARGIN | 1, MARGIN | 1), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(grown)
    found = []
    extra = MARGIN - (MARGIN | 1) // 2
    for left, top, width, height, _ in stats[1:count]:
        y0, y1 = max(0, top - extra), min(h, top + height + extra)
        x0, x1 = max(0, left - extra), min(w, left + width + extra)
        sy, sx = window.height / h, window.width / w
        full = (
            slice(int(y0 * sy), min(window.height, int(np.ceil(y1 * sy)))),
            slice(int(x0 * sx), min(window.width, int(np.ceil(x1 * sx)))),
        )
        found.append(Region((slice(y0, y1), slice(x0, x1)), full))
    return found


def choose(window: Window, t: int, region: Region) -> list[int]:
    """References for a region, picked greedily: near ones that show what none of those before did."""
    rows, columns = region.work
    y, x = np.mgrid[rows.start : rows.stop : 4, columns.start : columns.stop : 4].astype(np.float64)
    _, hole = window.grey(t)
    need = hole[rows, columns][::4, ::4]
    need = cv2.dilate(need.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    points = np.stack([x[need], y[need]], -1)
    if not len(points):
        return []
    others, views = [], []
    h, w = window.work
    for i in window.neighbours(t):
        camera = window.camera(t, i)
        if camera is None:
            continue
        there = np.rint(project(camera, points))
        px, py = there[:, 0], there[:, 1]
        view = (px >= 0) & (py >= 0) & (px < w) & (py < h)
        view[view] = ~window.small_hole(i)[py[view].astype(int) // 4, px[view].astype(int) // 4]
        if view.any():
            others.append(i)
            views.append(view)
    if not others:
        return []
    sight = np.stack(views).astype(np.float32)
    nearness = 1 / (1 + np.abs(np.array(others) - t) / _REACH)
    seen = np.zeros(len(points), np.int32)
    chosen: list[int] = []
    # The first witness of a pixel is worth most; each further one half as much.
    worth = np.append(0.5 ** np.arange(_CANDIDATES), 0).astype(np.float32)
    while len(chosen) < min(_REFERENCES, len(others)):
        gain = sight @ worth[np.minimum(seen, _CANDIDATES)] * nearness
        gain[[others.index(i) for i in chosen]] = 0
        best = int(gain.argmax())
        if gain[best] <= 0 or seen.min() >= _CANDIDATES:
            break
        chosen.append(others[best])
        seen += views[best]
    return chosen


@dataclass
class Candidates:
    """What the references say about a region at the source's size."""

    colours: np.ndarray  # uint8 (k, h, w, 3)
    weights: np.ndarray  # float32 (k, h, w), 0 where a reference knows nothing


def gather(window: Window, motion: Motion, t: int, region: Region, references: list[int]) -> Candidates:
    """Warp every reference onto the region: camera, then residual flow, one sampling of the original.

    More than once: the flow across the hole is first guessed from its surroundings, then corrected so that the
    candidates agree with their own mean inside it.
    """
    flows = [_residual(motion, window, region, t, i) for i in references]
    candidates = _look(window, t, region, references, flows)
    for _ in range(_ALIGNMENTS):
        flows = _agree(window, motion, t, region, candidates, flows)
        candidates = _look(window, t, region, references, flows)
    return candidates


def _agree(window: Window, motion: Motion, t: int, region: Region, candidates: Candidates, flows):
    """Flows corrected by what optical flow finds between the candidates' mean and each of them."""
    mean, error = merge(candidates)
    composed = _composed_grey(window, t, region, mean, np.isfinite(error))
    small = (composed.shape[1], composed.shape[0])
    corrected = list(flows)
    for k, flow in enumerate(flows):
        blind = candidates.weights[k] <= 0
        seen = cv2.cvtColor(candidates.colours[k], cv2.COLOR_RGB2GRAY)
        if window.scale < 1:
            seen = cv2.resize(seen, small, interpolation=cv2.INTER_AREA)
            blind = cv2.resize(blind.view(np.uint8), small, interpolation=cv2.INTER_AREA) > 0
        trusted = ~cv2.dilate(blind.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)
        if trusted.sum() < 64 or min(small) < 16:
            continue
        correction = np.clip(
            motion.fine(composed, np.where(blind, composed, seen)), -_CORRECTION, _CORRECTION
        )
        corrected[k] = flow + harmonic_fill(correction, ~trusted, sweeps=4)
    return corrected


def _composed_grey(window: Window, t: int, region: Region, mean: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The frame with the first guess in its hole, uint8 grey at the working size."""
    hole = window.hole(t)[region.full]
    colour = window.colour(t)[region.full].copy()
    colour[hole & seen] = np.clip(np.rint(mean[hole & seen]), 0, 255)
    return window.to_grey(colour, hole & ~seen, tuple(s.stop - s.start for s in region.work))[0]


def _look(window, t, region, references, flows) -> Candidates:
    """Sample the references through camera and ``flows``, and weigh each by how it fits around the hole."""
    target, hole = window.colour(t)[region.full], window.hole(t)[region.full]
    gy, gx = np.mgrid[region.work].astype(np.float32)
    colours, weights = [], []
    for i, flow in zip(references, flows):
        mx, my = _maps(window.camera(t, i), gx + flow[..., 0], gy + flow[..., 1])
        sampled, valid = _sample(window, i, region, mx, my)
        error = _ring_error(target, hole, sampled, valid)
        weight = 1 / (_ERROR_GROWTH * error * error * (1 + abs(i - t) / _TAU) + _ERROR_FLOOR)
        weight[~valid] = 0
        colours.append(sampled)
        weights.append(weight.astype(np.float32))
    return Candidates(np.stack(colours), np.stack(weights))


def _maps(camera, x, y):
    there = project(camera, np.stack([x, y], -1))
    return there[..., 0].astype(np.float32), there[..., 1].astype(np.float32)


def _residual(motion, window, region, t, i):
    """What camera motion leaves over: measured around the hole, extended harmonically across it."""
    here, here_hole = (part[region.work] for part in window.grey(t))
    near_hole = cv2.dilate(here_hole.view(np.uint8), np.ones((2 * _GUARD + 1,) * 2, np.uint8)).view(bool)
    grey, hole = window.grey(i)
    gy, gx = np.mgrid[region.work].astype(np.float32)
    mx, my = _maps(window.camera(t, i), gx, gy)
    there = cv2.remap(grey, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    blind = cv2.remap(
        hole.view(np.uint8), mx, my, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1
    )
    if min(here.shape) < 16:
        return np.zeros(here.shape + (2,), np.float32)
    flow = motion.fine(here, there)
    blind = cv2.dilate(blind, np.ones((2 * _GUARD + 1,) * 2, np.uint8)).view(bool)
    trusted = ~(near_hole | blind)
    if trusted.sum() < 64:
        trusted = ~(here_hole | blind)
    if trusted.sum() < 16:
        return np.zeros_like(flow)
    centre = np.median(flow[trusted], axis=0)
    trusted &= largest(np.abs(flow - centre)) < _OUTLIER
    if trusted.sum() < 16:
        return np.zeros_like(flow)
    return harmonic_fill(flow, ~trusted, sweeps=6)


def frame_maps(window: Window, region: Region, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where every source pixel of a region lies in another frame, float32 x and y, by camera motion alone."""
    rows, columns = region.work
    gy, gx = np.mgrid[rows, columns].astype(np.float32)
    return _to_source(window, region, *_maps(camera, gx, gy))


def _to_source(window, region, mx, my):
    """Maps at the working size, stretched to the source's size."""
    if window.scale == 1:
        return mx, my
    sy, sx = window.height / window.work[0], window.width / window.work[1]
    rows, columns = region.full
    qy, qx = np.mgrid[rows, columns].astype(np.float32)
    # Pixel centres: working x covers source (x + 0.5) * s - 0.5.
    qx = ((qx + 0.5) / sx - 0.5 - region.work[1].start).astype(np.float32)
    qy = ((qy + 0.5) / sy - 0.5 - region.work[0].start).astype(np.float32)
    mx = cv2.remap(mx, qx, qy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    my = cv2.remap(my, qx, qy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return (mx + 0.5) * np.float32(sx) - 0.5, (my + 0.5) * np.float32(sy) - 0.5


def _sample(window, i, region, mx, my):
    """One bicubic sample of the original frame; valid where every tap is known and inside."""
    mx, my = _to_source(window, region, mx, my)
    sampled = remap(window.colour(i), mx, my, cv2.INTER_CUBIC)
    # Cubic taps reach one pixel further than linear ones: grow the hole by it.
    hole = cv2.dilate(window.hole(i).view(np.uint8), np.ones((3, 3), np.uint8)) * 255
    blind = remap(hole, mx, my, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 255)
    inside = (mx >= 0) & (my >= 0) & (mx <= window.width - 1) & (my <= window.height - 1)
    return sampled, (blind == 0) & inside


def remap(image, mx, my, interpolation, border=cv2.BORDER_REPLICATE, value=0):
    """``cv2.remap`` for images of any size: OpenCV's own stops at sides of 32767, so only the part used goes in."""
    h, w = image.shape[:2]
    if max(h, w) < 32767:
        return cv2.remap(image, mx, my, interpolation, borderMode=border, borderValue=value)
    x0 = int(np.clip(np.floor(mx.min()) - 4, 0, w - 1))
    y0 = int(np.clip(np.floor(my.min()) - 4, 0, h - 1))
    part = image[y0 : y0 + 32766, x0 : x0 + 32766]
    return cv2.remap(part, mx - x0, my - y0, interpolation, borderMode=border, borderValue=value)


def _ring_error(target, hole, sampled, valid):
    """How badly a reference fits just outside the hole, carried inwards: float32 ``(h, w)`` in grey levels."""
    difference = average(
        cv2.absdiff(target, sampled) if sampled.dtype == np.uint8 else np.abs(target - sampled)
    )
    known = (~hole & valid).astype(np.float32)
    small = (max(4, hole.shape[1] // 4), max(4, hole.shape[0] // 4))
    mass = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(difference * known, small, interpolation=cv2.INTER_AREA) / np.maximum(mass, 1e-6)
    unknown = mass < 0.25
    if unknown.all():
        return np.full(hole.shape, 10.0, np.float32)
    mean = cv2.blur(harmonic_fill(mean, unknown, sweeps=4), (3, 3))
    return cv2.resize(mean, (hole.shape[1], hole.shape[0]), interpolation=cv2.INTER_LINEAR)


def merge(candidates: Candidates, robust: float = 14.0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of the candidates that agree, and its expected squared error (inf where nobody knows).

    Two reweighting steps of a Cauchy estimator: a passer-by in one reference is outvoted, noise is averaged.
    """
    colours, weights = candidates.colours, candidates.weights
    mean = _weighted(colours, weights)
    adjusted = weights
    for _ in range(2):
        adjusted = [w / (1 + (largest(np.abs(c - mean)) / robust) ** 2) for w, c in zip(weights, colours)]
        mean = _weighted(colours, adjusted)
    total = weights.sum(axis=0)
    spread = sum(w * average((c - mean) ** 2) for w, c in zip(weights, colours))
    # Errors of the candidates go together (they share the motion that was guessed): averaging does not help.
    powers = sum(w * w for w in weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = total / powers + _SPREAD * spread / total
    return mean, np.where(total > 0, error, np.inf).astype(np.float32)


def _weighted(colours, weights):
    total = np.maximum(sum(weights), 1e-12)
    out = np.zeros(colours.shape[1:], np.float32)
    for colour, weight in zip(colours, weights):
        out += colour * (weight / total)[..., None]
    return out


def steady(window: Window, t: int, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """The background under a fixed camera, as `merge` gives it: what most frames of the neighbourhood agree on.

    The references lie on a grid of the whole video, not of ``t``: the set changes slowly, so nothing flickers.
    """
    hole = window.hole(t)[region.full]
    wanted = cv2.dilate(hole.view(np.uint8), np.ones((17, 17), np.uint8)).view(bool)
    fetched = np.zeros(hole.shape + (3,), np.float32)
    error = np.full(hole.shape, np.inf, np.float32)
    around = [i for i in window.neighbours(t) if window.camera(t, i) is not None]
    if not around:
        return fetched, error
    stride = -(-len(around) // min(_STEADY, window.cached - 2))
    values, known = [], []
    for i in sorted(i for i in around if i % stride == 0) or around[:1]:
        values.append(window.colour(i)[region.full][wanted])
        known.append(~window.hole(i)[region.full][wanted])
    values, known = np.stack(values), np.stack(known)
    count = known.sum(axis=0)
    ranked = np.sort(np.where(known[..., None], values.astype(np.int16), 256), axis=0)
    median = np.take_along_axis(ranked, (np.maximum(count - 1, 0) // 2)[None, :, None], axis=0)[0]
    # Averaging what agrees with the median takes the noise out without letting a passer-by in.
    away = largest(np.abs(values - median.astype(np.float32)))
    weights = known / (1 + (away / _AGREE) ** 2) ** 2
    total = np.maximum(weights.sum(axis=0), 1e-9)
    mean = np.einsum("kn,knc->nc", weights, values, dtype=np.float32) / total[:, None]
    fetched[wanted] = mean
    spread = (weights * away**2).sum(axis=0) / total
    error[wanted] = np.where(count > 0, _ERROR_FLOOR + _SPREAD * spread, np.inf)
    ring = _ring_error(window.colour(t)[region.full], hole, fetched, np.isfinite(error))
    return fetched, error + _ERROR_GROWTH * ring * ring
