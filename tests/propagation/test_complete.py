"""Smooth completion: what is harmonic comes back, what is known stays."""

import cv2
import numpy as np
import pytest

from videopainter.ops.harmonic import harmonic_fill
from videopainter.propagation.complete import smooth_fill

pytestmark = pytest.mark.filterwarnings("error")


def box(h=80, w=100, rows=slice(25, 55), columns=slice(30, 75)):
    hole = np.zeros((h, w), bool)
    hole[rows, columns] = True
    return hole


def ramp(h=80, w=100):
    y, x = np.mgrid[:h, :w]
    return (20 + 1.5 * x + 0.7 * y).astype(np.float32)


@pytest.mark.parametrize("rows, columns", [((25, 55), (30, 75)), ((10, 70), (10, 90)), ((40, 43), (5, 95))])
def test_a_ramp_comes_back(rows, columns):
    hole = box(rows=slice(*rows), columns=slice(*columns))
    values = np.where(hole, -1000, ramp())
    assert np.abs(harmonic_fill(values, hole) - ramp()).max() < 0.5


def test_a_harmonic_function_comes_back_nearly():
    y, x = np.mgrid[:80, :100] / 100
    saddle = (100 * (x * x - y * y)).astype(np.float32)
    filled = harmonic_fill(np.where(box(), 1e4, saddle), box())
    assert np.abs(filled - saddle)[box()].max() < 2


def test_the_fill_stays_between_the_values_around_it():
    rng = np.random.default_rng(0)
    values = rng.uniform(50, 200, (80, 100)).astype(np.float32)
    filled = harmonic_fill(values, box())[box()]
    assert filled.min() > 45 and filled.max() < 205


def test_channels_are_independent():
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 255, (45, 61, 3)).astype(np.float32)
    hole = box(45, 61, slice(10, 30), slice(0, 33))
    together = harmonic_fill(values, hole)
    apart = np.stack([harmonic_fill(values[..., c], hole) for c in range(3)], -1)
    np.testing.assert_allclose(together, apart, atol=1e-3)


@pytest.mark.parametrize("shape", [(80, 100), (80, 100, 3)])
def test_known_pixels_and_the_argument_are_left_alone(shape):
    values = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
    before = values.copy()
    filled = harmonic_fill(values, box())
    np.testing.assert_array_equal(filled[~box()], values[~box()])
    np.testing.assert_array_equal(values, before)
    assert filled.dtype == np.float32


def test_what_stands_in_the_hole_has_no_say():
    values = ramp()
    other = np.where(box(), 1e6, values)
    np.testing.assert_array_equal(harmonic_fill(values, box()), harmonic_fill(other, box()))


def test_nothing_known_gives_zeros_and_no_hole_a_copy():
    values = ramp()
    assert not harmonic_fill(values, np.ones(values.shape, bool)).any()
    same = harmonic_fill(values, np.zeros(values.shape, bool))
    np.testing.assert_array_equal(same, values)
    assert not np.shares_memory(same, values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 31)])
def test_sizes_down_to_one_pixel_row(shape):
    hole = np.ones(shape, bool)
    hole[0, 0] = False
    filled = harmonic_fill(np.full(shape, 90, np.float32), hole)
    np.testing.assert_allclose(filled, 90, atol=0.01)


def test_smooth_fill_draws_on_lines_in_strokes_and_never_streaks_in_wide_holes():
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(80, 100, 3)), (0, 0), 3)
    frame = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    for columns, least, most in ((slice(48, 52), 0.2, 0.6), (slice(20, 80), 0, 0.02)):
        hole = box(rows=slice(10, 70), columns=columns)
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
