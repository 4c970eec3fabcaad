"""The Frechet distance between two sets of features."""

from __future__ import annotations

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets (Dowson and Landau 1982), >= 0.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with means m and unbiased covariances C.

    Args:
        first, second: float (samples, dimensions), 2 samples or more each, as many dimensions.

    There are fewer clips than dimensions (50 to 508, 1024), so the covariances are singular and a matrix square root
    of C1 C2 is not to be trusted. With centred samples A and B it is not needed: the trace of the root is the sum of
    the singular values of A B' / sqrt((n1 - 1) (n2 - 1)), a small matrix.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    for name, samples in (("first", first), ("second", second)):
        if samples.ndim != 2 or len(samples) < 2:
            raise ValueError(
                f"The {name} set needs the shape (2 or more samples, dimensions), not {samples.shape}."
            )
        if not np.isfinite(samples).all():
            raise ValueError(f"The {name} set has a feature that is not a finite number.")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"The sets have {first.shape[1]} and {second.shape[1]} dimensions.")
    mean = first.mean(axis=0) - second.mean(axis=0)
    a = (first - first.mean(axis=0)) / np.sqrt(len(first) - 1)
    b = (second - second.mean(axis=0)) / np.sqrt(len(second) - 1)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(mean @ mean + (a * a).sum() + (b * b).sum() - 2 * root))
