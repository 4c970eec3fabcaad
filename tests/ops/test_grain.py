import cv2
import numpy as np
import pytest

from videopainter.ops.grain import Grain, noise_level


@pytest.mark.parametrize("size", [(240, 432), (1080, 1920)])
@pytest.mark.parametrize("sigma", [0, 5, 12])
def test_noise_is_as_strong_in_a_large_picture_of_which_only_bands_are_looked_at(size, sigma):
    rng = np.random.default_rng(1)
    slope = np.linspace(60, 180, size[1], dtype=np.float32)[None, :, None]
    noisy = slope + sigma * rng.standard_normal((*size, 3), np.float32)
    hole = np.zeros(size, bool)
    hole[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    picture = np.rint(noisy).astype(np.uint8)
    picture[hole] = rng.integers(0, 256, (int(hole.sum()), 3))
    level = noise_level(picture, hole)
    assert abs(level - sigma) <= 0.12 * sigma


def test_of_a_picture_that_is_hidden_nothing_is_told():
    assert noise_level(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool)) == 0


def test_texture_makes_the_grain_neither_coarser_nor_stronger():
    """Two fifths of the ground have soft texture besides, faint enough to pass for noise."""
    size, sigma = (160, 240), 8.0
    rng = np.random.default_rng(2)
    soft = cv2.GaussianBlur(rng.standard_normal((*size, 3), np.float32), (0, 0), 2.0)
    soft *= 8 / soft.std()
    soft[:, 2 * size[1] // 5 :] = 0
    grain = Grain(0)
    for t in range(4):
        noisy = 120 + soft + sigma * rng.standard_normal((*size, 3), np.float32)
        grain.measure(t, np.rint(noisy).astype(np.uint8), np.zeros(size, bool))
    made = grain.strength(np.full((*size, 3), 120, np.float32)) * grain.field(
        4, size, slice(0, 160), slice(0, 240)
    )
    white = sigma * rng.standard_normal((*size, 3), np.float32)
    coarse, coarse_white = (cv2.GaussianBlur(p, (0, 0), 1.5).std() for p in (made, white))
    assert coarse < 1.2 * coarse_white
    assert abs(made.std() - sigma) < 0.35


def test_ground_that_is_nowhere_flat_gets_no_more_grain_than_the_rest():
    """All that is dark has fine texture, which passes for noise there: there is nothing flatter to tell it from."""
    size, sigma = (160, 240), 8.0
    rng = np.random.default_rng(3)
    scene = cv2.GaussianBlur(rng.standard_normal((*size, 3), np.float32), (0, 0), 1.4)
    scene = 80 + scene * np.float32(11 / scene.std())
    scene[:, size[1] // 2 :] = 150
    grain = Grain(0)
    for t in range(3):
        noisy = scene + sigma * rng.standard_normal((*size, 3), np.float32)
        grain.measure(t, np.clip(np.rint(noisy), 0, 255).astype(np.uint8), np.zeros(size, bool))
    dark, bright = (
        float(grain.strength(np.full((9, 9, 3), level, np.float32)).mean()) for level in (80, 150)
    )
    assert abs(bright - sigma) < 0.6
    assert dark < 1.25 * sigma
