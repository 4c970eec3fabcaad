"""Smooth completion: the harmonic extension of known values into a hole, and what to expect of it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
_RADIUS = 0.985  # spectral radius of Jacobi on holes some 40 pixels across; coarser levels do wider ones
_THIN = 7.0  # pixels from the edge to the middle of a stroke
_STROKE = 2.0
_REACH = 31  # pixels; the surroundings of a hole are judged over boxes of this side


def harmonic_fill(values: np.ndarray, hole: np.ndarray, sweeps: int = 14) -> np.ndarray:
    """Extend ``values`` smoothly into ``hole``: an approximate solution of Laplace's equation.

    A pyramid of masked averages gives the start at every scale (pull-push, Gortler et al. 1996); ``sweeps``
    Jacobi steps a level, accelerated, bring it close to the harmonic function.

    Args:
        values: float32 ``(height, width)`` or ``(height, width, channels)``; what stands in the hole is ignored.
        hole: bool ``(height, width)``. Nothing known at all gives zeros.
    """
    values = np.ascontiguousarray(values, np.float32)
    hole = np.asarray(hole, bool)
    if not hole.any():
        return values.copy()
    if hole.all():
        return np.zeros_like(values)
    return _solve(values, hole, sweeps)


def _solve(values: np.ndarray, hole: np.ndarray, sweeps: int) -> np.ndarray:
    known = (~hole).astype(np.float32)
    flat = values.ndim == 2
    weight = known if flat else known[..., None]
    h, w = hole.shape
    size = (max(1, (w + 1) // 2), max(1, (h + 1) // 2))
    mass = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(values * weight, size, interpolation=cv2.INTER_AREA)
    scale = 1 / np.maximum(mass, 1e-6)
    coarse *= scale if flat else scale[..., None]
    empty = mass < 1e-3
    if empty.any() and min(size) > 1:
        coarse = _solve(coarse, empty, sweeps)
    elif empty.any():
        coarse[empty] = coarse[~empty].mean(axis=0)
    pushed = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR)
    out = np.where(hole if flat else hole[..., None], pushed, values)
    return _relax(out, hole, sweeps)


def _relax(out: np.ndarray, hole: np.ndarray, sweeps: int) -> np.ndarray:
    """Jacobi steps with Chebyshev's acceleration: 20 of them do what 200 plain ones do (Wang 2015)."""
    inside = hole.view(np.uint8)
    before, omega = out, 1.0
    for step in range(sweeps):
        omega = 1.0 if step == 0 else 1 / (1 - _RADIUS**2 / (2 if step == 1 else 4 / omega))
        after = cv2.filter2D(out, -1, _CROSS, borderType=cv2.BORDER_REPLICATE)
        after = cv2.addWeighted(after, omega, before, 1 - omega, 0)
        before, out = out, cv2.copyTo(after, inside, out.copy())
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
