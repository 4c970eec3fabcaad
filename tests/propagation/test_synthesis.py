"""Texture for what was never seen: patterns go on, and nothing costs more than the smooth fill."""

import cv2
import numpy as np
import pytest

from videopainter.propagation.synthesis import synthesize

H, W = 120, 160


def smooth_fill(frame, hole):
    """A harmonic fill by plain relaxation: float32 (h, w, 3)."""
    out = frame.astype(np.float32)
    out[hole] = frame[~hole].mean(0)
    for _ in range(1500):
        padded = np.pad(out, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        out[hole] = mean[hole]
    return out


def middle_hole():
    hole = np.zeros((H, W), bool)
    hole[40:80, 55:105] = True
    return hole


def psnr(a, b, hole):
    return 10 * np.log10(255**2 / max(np.mean((a[hole] - b[hole].astype(np.float64)) ** 2), 1e-6))


def grey(pattern):
    return np.repeat(np.clip(pattern, 0, 255).astype(np.uint8)[..., None], 3, 2)


def natural(seed):
    """Noise with the falling spectrum of real pictures, plus soft-edged things: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(H), np.fft.fftfreq(W), indexing="ij"))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(H, W, 3)), axes=(0, 1)) / frequency[..., None] ** 1.1
    picture = np.fft.ifft2(spectrum, axes=(0, 1)).real
    picture = 120 + 40 * (picture - picture.mean()) / picture.std()
    for _ in range(8):
        y, x, r = rng.integers(0, H), rng.integers(0, W), int(rng.integers(8, 25))
        shape = np.zeros((H, W), np.float32)
        cv2.circle(shape, (int(x), int(y)), r, 1, -1)
        picture += cv2.GaussianBlur(shape, (0, 0), 1)[..., None] * rng.uniform(-50, 50, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def roughness(picture, area):
    return float(np.abs(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F))[area].mean())


def test_constant_picture_stays_constant():
    frame = np.full((H, W, 3), (40, 120, 200), np.uint8)
    hole = middle_hole()
    result = synthesize(frame, hole, smooth_fill(frame, hole))
    assert result.dtype == np.float32 and result.shape == frame.shape
    assert np.abs(result - frame).max() < 0.5


@pytest.mark.parametrize("kind", ["stripes", "slanted", "checker"])
def test_periodic_texture_is_continued(kind):
    y, x = np.mgrid[:H, :W]
    pattern = {
        "stripes": 120 + 80 * np.sin(2 * np.pi * x / 12),
        "slanted": 120 + 80 * np.sin(2 * np.pi * (x + y) / 16),
        "checker": 60 + 140 * ((x // 8 + y // 8) % 2),
    }[kind]
    frame, hole = grey(pattern), middle_hole()
    base = smooth_fill(frame, hole)
    assert psnr(synthesize(frame, hole, base), frame, hole) > psnr(base, frame, hole) + 10


def test_straight_edge_crosses_the_hole():
    y, x = np.mgrid[:H, :W]
    frame, hole = grey(np.where(x < 50 + y / 2, 60, 190)), middle_hole()
    base = smooth_fill(frame, hole)
    assert psnr(synthesize(frame, hole, base), frame, hole) > psnr(base, frame, hole) + 1


def test_grain_is_continued_at_little_cost():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:H, :W]
    light = 120 + 60 * np.sin(x / 23) * np.cos(y / 31)
    frame = grey(light + rng.normal(0, 8, (H, W)))
    hole = middle_hole()
    base = smooth_fill(frame, hole)
    result = synthesize(frame, hole, base)
    inner = cv2.erode(hole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert roughness(result, inner) > 3 * roughness(base, inner)
    assert psnr(result, frame, hole) > psnr(base, frame, hole) - 0.3


@pytest.mark.parametrize("seed", range(4))
def test_natural_picture_is_not_worse_than_smooth(seed):
    frame, hole = natural(seed), middle_hole()
    base = smooth_fill(frame, hole)
    result = synthesize(frame, hole, base)
    assert psnr(result, frame, hole) > psnr(base, frame, hole) - 0.2
    assert roughness(result, hole) > roughness(base, hole)


def test_known_pixels_are_kept_and_the_hole_is_never_read():
    frame, hole = natural(1), middle_hole()
    base = smooth_fill(frame, hole)
    result = synthesize(frame, hole, base)
    assert np.array_equal(result[~hole], frame[~hole].astype(np.float32))
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 255
    other = frame.copy()
    other[hole] = 255 - other[hole]
    assert np.array_equal(synthesize(other, hole, base), result)


def test_inputs_are_not_changed_and_the_result_repeats():
    frame, hole = natural(2), middle_hole()
    base = smooth_fill(frame, hole)
    copies = frame.copy(), hole.copy(), base.copy()
    first = synthesize(frame, hole, base)
    for before, after in zip(copies, (frame, hole, base)):
        assert np.array_equal(before, after)
    assert np.array_equal(first, synthesize(frame, hole, base))


def test_empty_and_full_holes():
    frame = natural(5)
    base = frame.astype(np.float32) * 0.5
    nothing, everything = np.zeros((H, W), bool), np.ones((H, W), bool)
    assert np.array_equal(synthesize(frame, nothing, base), frame.astype(np.float32))
    assert np.array_equal(synthesize(frame, everything, base), base)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40), (7, 7), (17, 16)])
def test_tiny_pictures(size):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    for hole in (rng.random(size) < 0.4, np.arange(size[0] * size[1]).reshape(size) == 0):
        result = synthesize(frame, hole, np.full(frame.shape, 90, np.float32))
        assert result.shape == frame.shape and np.isfinite(result).all()
        assert np.array_equal(result[~hole], frame[~hole].astype(np.float32))


@pytest.mark.parametrize(
    "rows,cols",
    [(slice(0, 30), slice(0, 50)), (slice(90, None), slice(100, None)), (slice(None), slice(60, 90))],
)
def test_hole_at_the_border(rows, cols):
    frame = natural(6)
    hole = np.zeros((H, W), bool)
    hole[rows, cols] = True
    base = smooth_fill(frame, hole)
    result = synthesize(frame, hole, base)
    assert psnr(result, frame, hole) > psnr(base, frame, hole) - 0.5
    assert np.array_equal(result[~hole], frame[~hole].astype(np.float32))


def test_several_holes_are_each_filled():
    frame = natural(7)
    hole = np.zeros((H, W), bool)
    hole[10:40, 10:40] = hole[80:110, 110:150] = True
    base = smooth_fill(frame, hole)
    changed = np.abs(synthesize(frame, hole, base) - base).max(2) > 0.5
    assert changed[10:40, 10:40].any() and changed[80:110, 110:150].any()


def test_shapes_that_do_not_match_are_refused():
    frame = natural(8)
    with pytest.raises(ValueError, match="120, 160"):
        synthesize(frame, np.zeros((5, 5), bool), frame.astype(np.float32))
