"""The smooth fill: lines are drawn on across strokes, wide holes stay harmonic."""

import cv2
import numpy as np
import pytest

from videopainter.ops.harmonic import harmonic_fill
from videopainter.propagation.smooth import smooth_fill

pytestmark = pytest.mark.filterwarnings("error")


def box(h, w, rows, columns):
    hole = np.zeros((h, w), bool)
    hole[rows, columns] = True
    return hole


def test_smooth_fill_draws_on_lines_in_strokes_and_never_streaks_in_wide_holes():
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(80, 100, 3)), (0, 0), 3)
    frame = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    for columns, least, most in ((slice(48, 52), 0.2, 0.6), (slice(20, 80), 0, 0.02)):
        hole = box(80, 100, slice(10, 70), columns)
        drawn = cv2.inpaint(frame, hole.view(np.uint8), 3, cv2.INPAINT_NS)[hole].astype(float)
        harmonic = harmonic_fill(frame.astype(np.float32), hole)[hole]
        share = np.abs(smooth_fill(frame, hole)[hole] - harmonic).sum() / np.abs(drawn - harmonic).sum()
        assert least <= share <= most


def test_smooth_fill_keeps_known_pixels_and_takes_any_hole():
    frame = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    for hole in (box(40, 50, slice(5, 9), slice(3, 40)), np.zeros((40, 50), bool), np.ones((40, 50), bool)):
        filled = smooth_fill(frame, hole)
        assert filled.shape == frame.shape and np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[~hole], frame[~hole])
