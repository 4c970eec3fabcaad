"""Smooth completion: the harmonic extension of known values into a hole, and what to expect of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.resize import resize

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
_RADIUS = 0.985  # spectral radius of Jacobi on holes some 40 pixels across; coarser levels do wider ones
_TOGETHER = 8000  # pixels of pictures up to which several are relaxed as one
_THIN = 7.0  # pixels from the edge to the middle of a stroke
_STROKE = 2.0
_REACH = 31  # pixels; the surroundings of a hole are judged over boxes of this side


def harmonic_fill(
    values: np.ndarray, hole: np.ndarray, sweeps: int = 14, finest: int | None = None
) -> np.ndarray:
    """Extend ``values`` smoothly into ``hole``: an approximate solution of Laplace's equation.

    A pyramid of masked averages gives the start at every scale (pull-push, Gortler et al. 1996); ``sweeps``
    Jacobi steps a level, accelerated, bring it close to the harmonic function.

    Args:
        values: float32 ``(height, width)`` or ``(height, width, channels)``; what stands in the hole is ignored.
        hole: bool ``(height, width)``. Nothing known at all gives zeros.
        finest: sweeps at full size, where most of the time goes; fewer do for what is smooth anyway.
    """
    values = np.ascontiguousarray(values, np.float32)
    hole = np.asarray(hole, bool)
    if not hole.any():
        return values.copy()
    if hole.all():
        return np.zeros_like(values)
    return _solve([values], [hole], sweeps, sweeps if finest is None else finest)[0]


def harmonic_fills(
    values: Sequence[np.ndarray], holes: Sequence[np.ndarray], sweeps: int = 14, finest: int | None = None
) -> Sequence[np.ndarray]:
    """`harmonic_fill` of several pictures of one size; where they are small, together in a fraction of the time.

    What calls take little time by themselves keeps other threads from working, too.

    Args:
        values: float32 ``(height, width)`` or ``(height, width, channels)`` each.
        holes: bool ``(height, width)`` each.
    """
    if not values:
        return []
    return _solve(values, holes, sweeps, sweeps if finest is None else finest)


def masked_mean(
    values: np.ndarray, weight: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink to weighted means.

    Args:
        values: float32 ``(h, w)`` or ``(h, w, channels)``.
        weight: float32 ``(h, w)``, 0..1: how much each pixel counts.
        size: (height, width) of the result.

    Returns the means of ``values`` in each of the larger pixels, 0 where nothing counts, and float32
    ``(height, width)``, the mean weight there.
    """
    sums = resize(_times(values, weight), size, "area")
    mass = resize(weight, size, "area")
    least = np.maximum(mass, 1e-6)
    return (sums / least if sums.ndim == 2 else np.dstack([p / least for p in cv2.split(sums)])), mass


def _times(values: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Every channel of ``values`` times ``plane`` (h, w), one by one, as NumPy is slow where an axis is short."""
    if values.ndim == plane.ndim:
        return values * plane
    out = np.empty(values.shape, np.result_type(values, plane))
    for k in range(values.shape[-1]):
        np.multiply(values[..., k], plane, out=out[..., k])
    return out


def extend_smoothly(
    values: np.ndarray, use: np.ndarray, *, cell: int = 4, least: float = 0.3, sweeps: int = 6, blur: int = 1
) -> np.ndarray | None:
    """The part of ``values`` that varies over more than a few pixels where ``use``, harmonic everywhere else.

    This is how what is measured around a hole (a misfit, a change of light, a motion) is carried into it: at a
    fraction of the size, since noise and fine misfits say nothing about the hole.

    Args:
        values: float32 ``(h, w)`` or ``(h, w, channels)``.
        use: bool ``(h, w)``, where they mean something.
        cell: side in pixels of the cells that are averaged; there are at least 4 x 4 of them.
        least: share of a cell that has to be in use for its mean to count.
        sweeps: of `harmonic_fill`. blur: cells over which the result is averaged besides.

    Returns ``values``'s shape, float32; None if no cell counts.
    """
    return next(extend_each([(values, use)], cell=cell, least=least, sweeps=sweeps, blur=blur))


def extend_each(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], *, cell: int = 4, least: float, sweeps: int, blur: int = 1
) -> Iterator[np.ndarray | None]:
    """`extend_smoothly` of several pairs of values and use of one size; each is let go before the next is taken."""
    means, unknown, size = [], [], (0, 0)
    for values, use in pairs:
        size = use.shape
        cells = max(4, size[0] // cell), max(4, size[1] // cell)
        mean, mass = masked_mean(values, use.astype(np.float32), cells)
        means.append(mean)
        unknown.append(mass < least)
    for smooth, nothing in zip(harmonic_fills(means, unknown, sweeps), unknown):
        if nothing.all():
            yield None
            continue
        if blur > 1:
            smooth = cv2.blur(smooth, (blur, blur))
        yield resize(smooth, size, "linear")


def _solve(values: Sequence, holes: Sequence, sweeps: int, finest: int) -> Sequence[np.ndarray]:
    """Of pictures of one size; one in which nothing is known becomes 0."""
    h, w = holes[0].shape
    if len(values) > 1 and h * w <= _TOGETHER:
        planes = cv2.split(_solve_together(*_merged(values, holes), sweeps, finest))
        if values[0].ndim == 2:
            return planes
        n = values[0].shape[2]
        return [np.stack(planes[k : k + n], axis=-1) for k in range(0, len(planes), n)]
    size = ((h + 1) // 2, (w + 1) // 2)
    coarse, mass = zip(*(_halved(one, hole, size) for one, hole in zip(values, holes)))
    empty = [one < 1e-3 for one in mass]
    if any(gap.any() for gap in empty):
        if min(size) > 1:
            coarse = _solve(coarse, empty, sweeps, sweeps)
        else:
            for one, gap in zip(coarse, empty):
                one[gap] = 0 if gap.all() else one[~gap].mean(axis=0)
    return [_relaxed(*one, finest) for one in zip(values, holes, coarse)]


def _merged(values: Sequence, holes: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """As channels of one picture: float32 and bool ``(h, w, n)``."""
    times = 1 if values[0].ndim == 2 else values[0].shape[2]
    holes = [hole.view(np.uint8) for hole in holes for _ in range(times)]
    return cv2.merge(values), cv2.merge(holes).view(bool)


def _solve_together(values: np.ndarray, holes: np.ndarray, sweeps: int, finest: int) -> np.ndarray:
    """The same for every channel of a picture, float32 and bool ``(h, w, n)``, by itself."""
    mass = _shrunk((~holes).astype(np.float32))
    coarse = _shrunk(np.where(holes, np.float32(0), values)) / np.maximum(mass, 1e-6)
    empty = mass < 1e-3
    if empty.any():
        if min(mass.shape[:2]) > 1:
            coarse = _solve_together(coarse, empty, sweeps, sweeps)
        else:
            known = ~empty
            mean = (coarse * known).sum(axis=(0, 1)) / np.maximum(known.sum(axis=(0, 1)), 1)
            coarse = np.where(empty, mean.astype(np.float32), coarse)
    out = np.where(holes, resize(coarse, holes.shape[:2], "linear"), values)
    return _swept(out, holes.view(np.uint8), finest)


def _shrunk(planes: np.ndarray) -> np.ndarray:
    """`resize` to half the size, "area", of any number of channels; for small pictures.

    By sums and not as a product of matrices, which NumPy's library works out in threads that turn round while they
    wait: they double the seconds of the processor, and are in the way of ours.
    """
    return _fewer_rows(_fewer_rows(planes).swapaxes(0, 1)).swapaxes(0, 1)


def _fewer_rows(planes: np.ndarray) -> np.ndarray:
    """Half as many rows, the odd one more; each the mean of what it covers."""
    even, odd = planes[0::2], planes[1::2]
    half = len(even)
    if len(odd) == half:
        return (even + odd) * np.float32(0.5)
    # Row k covers 2 - 1 / half: all of row 2k, of the one before k / half, and of the one after what is left.
    before = (np.arange(1, half, dtype=np.float32) / half).reshape(-1, *[1] * (planes.ndim - 1))
    out = even.copy()
    out[1:] += before * odd
    out[:-1] += (1 - before) * odd
    out *= np.float32(1 / (2 - 1 / half))
    return out


def _halved(values: np.ndarray, hole: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Means of what is known, and how much that is."""
    known = (~hole).view(np.uint8)
    mass = resize(known.astype(np.float32), size, "area")
    sums = resize(cv2.copyTo(values, known).reshape(values.shape), size, "area")
    return _times(sums, 1 / np.maximum(mass, 1e-6)), mass


def _relaxed(values: np.ndarray, hole: np.ndarray, coarse: np.ndarray, sweeps: int) -> np.ndarray:
    """``values``, in the hole Jacobi steps from ``coarse`` on."""
    out, mask = values.copy(), hole.view(np.uint8)
    cv2.copyTo(resize(coarse, hole.shape, "linear"), mask, out)
    x, y, width, height = cv2.boundingRect(mask)
    # What is known farther off has no say.
    box = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
    part = np.ascontiguousarray(out[box])
    out[box] = _swept(part, np.ascontiguousarray(mask[box]), sweeps).reshape(part.shape)
    return out


def _swept(out: np.ndarray, inside: np.ndarray, sweeps: int) -> np.ndarray:
    """Jacobi steps with Chebyshev's acceleration: 20 of them do what 200 plain ones do (Wang 2015).

    ``inside``: uint8, of ``out``'s height and width, and as many channels or one. ``out`` is used up.
    """
    before, after, omega = out.copy(), np.empty_like(out), 1.0
    for step in range(sweeps):
        omega = 1.0 if step == 0 else 1 / (1 - _RADIUS**2 / (2 if step == 1 else 4 / omega))
        cv2.filter2D(out, -1, _CROSS, after, borderType=cv2.BORDER_REPLICATE)
        if step:
            cv2.addWeighted(after, omega, before, 1 - omega, 0, after)
        # Outside the hole all three are the same.
        cv2.copyTo(after, inside, before)
        before, out = out, before
    return out


def thinness(hole: np.ndarray) -> np.ndarray:
    """Towards 1 in thin strokes, towards 0 in wide holes up to their rims; float32 ``(h, w)``."""
    if hole.all():
        return np.zeros(hole.shape, np.float32)
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    return np.exp(-((cv2.dilate(depth, np.ones((15, 15), np.uint8)) / _THIN) ** 2))


def expected_error(frame: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Squared error to be expected of a smooth fill, float32 ``(h, w)``.

    Near the border it is the squared slope of the surroundings times the squared distance, far inside their
    variance; the constants (1 and 1) were fitted on real clips, and hold for strokes as for wide holes.
    """
    if hole.all():
        return np.full(hole.shape, 255.0**2, np.float32)
    values = frame.astype(np.float32)
    known = (~hole).astype(np.float32)
    box = (_REACH, _REACH)
    share = cv2.boxFilter(known, -1, box)
    scale = 1 / np.maximum(share, 1e-3)
    mean = cv2.boxFilter(values * known[..., None], -1, box) * scale[..., None]
    variance = cv2.boxFilter(average(values * values) * known, -1, box) * scale - average(mean**2)
    slope = cv2.boxFilter(_slope(values, hole), -1, box) * scale
    bare = share < 0.1
    variance, slope = (harmonic_fill(np.maximum(v, 0), bare, sweeps=2) for v in (variance, slope))
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    expected = 1 / (1 / (variance + 0.1) + 1 / (slope * depth * depth + 0.1))
    # Strokes are drawn on as well as filled (`smooth_fill`), and misplaced detail shows most there.
    return expected / (1 + _STROKE * thinness(hole))


def _slope(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Squared differences to the pixels above and to the left, 0 where either is unknown."""
    out = np.zeros(hole.shape, np.float32)
    out[:, 1:] += average((values[:, 1:] - values[:, :-1]) ** 2) * ~(hole[:, 1:] | hole[:, :-1])
    out[1:] += average((values[1:] - values[:-1]) ** 2) * ~(hole[1:] | hole[:-1])
    return out
