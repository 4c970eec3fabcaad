"""How good a result is where it matters: PSNR, SSIM and E_warp in the hole.

Frames are uint8 ``(n, height, width, 3)`` RGB, masks bool ``(n, height, width)`` with True = hole.
"""

from __future__ import annotations

import cv2
import numpy as np


def _check(result: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> None:
    if result.shape != truth.shape or result.shape[:3] != masks.shape:
        raise ValueError(f"shapes differ: result {result.shape}, truth {truth.shape}, masks {masks.shape}")
    if not masks.any():
        raise ValueError("no frame has a hole: nothing to measure")


def _squared_errors(
    result: np.ndarray, truth: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of squared errors over hole pixels and channels, and the count, for every frame with a hole."""
    _check(result, truth, masks)
    sums, counts = [], []
    for got, want, hole in zip(result, truth, masks):
        if hole.any():
            error = got[hole].astype(np.float64) - want[hole]
            sums.append((error**2).sum())
            counts.append(error.size)
    return np.array(sums), np.array(counts)


def psnr(result: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """PSNR in the hole in dB: pooled over all hole pixels, and as the mean of the frames' own PSNR.

    A frame without error counts as 60 dB in the mean, the pooled value likewise.
    """
    sums, counts = _squared_errors(result, truth, masks)

    def to_db(mse):
        return np.minimum(60.0, 10 * np.log10(255.0**2 / np.maximum(mse, 1e-12)))

    return float(to_db(sums.sum() / counts.sum())), float(to_db(sums / counts).mean())


def ssim(result: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> float:
    """Mean over hole pixels of the SSIM map of luma (Wang et al. 2004: Gaussian window, sigma 1.5)."""
    _check(result, truth, masks)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    total = count = 0.0
    for got, want, hole in zip(result, truth, masks):
        if not hole.any():
            continue
        x, y = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in (got, want))

        def smooth(a):
            return cv2.GaussianBlur(a, (11, 11), 1.5)

        mx, my = smooth(x), smooth(y)
        vx, vy, cxy = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
        values = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        total += float(values[hole].sum())
        count += int(hole.sum())
    return total / count


def e_warp(result: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> float:
    """Warping error in the hole (Lai et al. 2018), colours in [0, 1]; lower is steadier.

    The next result frame is pulled back by the truth's own DIS flow and compared with this one, over hole
    pixels where the flow agrees forth and back within one pixel.
    """
    _check(result, truth, masks)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in truth]
    h, w = masks.shape[1:]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    total = count = 0.0
    for t in range(len(truth) - 1):
        if not masks[t].any():
            continue
        forth, back = flow.calc(grey[t], grey[t + 1], None), flow.calc(grey[t + 1], grey[t], None)
        mx, my = x + forth[..., 0], y + forth[..., 1]
        there = cv2.remap(back, mx, my, cv2.INTER_LINEAR)
        sound = np.hypot(*np.moveaxis(forth + there, 2, 0)) < 1
        sound &= (mx >= 0) & (mx <= w - 1) & (my >= 0) & (my <= h - 1) & masks[t]
        pulled = cv2.remap(result[t + 1], mx, my, cv2.INTER_LINEAR)
        error = (pulled[sound].astype(np.float64) - result[t][sound]) / 255
        total += float((error**2).sum())
        count += error.size
    return total / max(count, 1)
