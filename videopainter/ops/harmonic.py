"""Smooth completion: the harmonic extension of known values into a hole, and what to expect of it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.resize import resize

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
_RADIUS = 0.985  # spectral radius of Jacobi on holes some 40 pixels across; coarser levels do wider ones
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
    return _solve(values, hole, sweeps, sweeps if finest is None else finest)


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
    if values.ndim == 2:
        return values * plane
    out = np.empty(values.shape, np.result_type(values, plane))
    for k in range(values.shape[2]):
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
    h, w = use.shape
    mean, mass = masked_mean(values, use.astype(np.float32), (max(4, h // cell), max(4, w // cell)))
    unknown = mass < least
    if unknown.all():
        return None
    smooth = harmonic_fill(mean, unknown, sweeps)
    if blur > 1:
        smooth = cv2.blur(smooth, (blur, blur))
    return resize(smooth, (h, w), "linear")


def _solve(values: np.ndarray, hole: np.ndarray, sweeps: int, finest: int) -> np.ndarray:
    h, w = hole.shape
    size = ((h + 1) // 2, (w + 1) // 2)
    known = (~hole).view(np.uint8)
    mass = resize(known.astype(np.float32), size, "area")
    coarse = _times(resize(_copied(values, known), size, "area"), 1 / np.maximum(mass, 1e-6))
    empty = mass < 1e-3
    if empty.any() and min(size) > 1:
        coarse = _solve(coarse, empty, sweeps, sweeps)
    elif empty.any():
        coarse[empty] = coarse[~empty].mean(axis=0)
    out = _copied(resize(coarse, (h, w), "linear"), hole.view(np.uint8), values.copy())
    return _relax(out, hole, finest)


def _copied(values: np.ndarray, where: np.ndarray, over: np.ndarray | None = None) -> np.ndarray:
    """``over``, or zeros, with ``values`` where uint8 ``where`` is not 0."""
    out = cv2.copyTo(values, where, over)
    return out.reshape(values.shape)  # OpenCV drops a single channel


def _relax(out: np.ndarray, hole: np.ndarray, sweeps: int) -> np.ndarray:
    """Jacobi steps with Chebyshev's acceleration: 20 of them do what 200 plain ones do (Wang 2015)."""
    x, y, width, height = cv2.boundingRect(hole.view(np.uint8))
    # What is known farther off has no say.
    rows, columns = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
    whole, out = out, np.ascontiguousarray(out[rows, columns])
    inside = np.ascontiguousarray(hole[rows, columns]).view(np.uint8)
    before, omega = out, 1.0
    for step in range(sweeps):
        omega = 1.0 if step == 0 else 1 / (1 - _RADIUS**2 / (2 if step == 1 else 4 / omega))
        after = cv2.filter2D(out, -1, _CROSS, borderType=cv2.BORDER_REPLICATE)
        if step:
            after = cv2.addWeighted(after, omega, before, 1 - omega, 0)
        before, out = out, cv2.copyTo(after, inside, out.copy())
    whole[rows, columns] = out.reshape(whole[rows, columns].shape)
    return whole


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
