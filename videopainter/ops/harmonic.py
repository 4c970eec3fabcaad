"""Smooth completion: the harmonic extension of known values into a hole."""

from __future__ import annotations

import cv2
import numpy as np

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
_RADIUS = 0.985  # spectral radius of Jacobi on holes some 40 pixels across; coarser levels do wider ones


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
