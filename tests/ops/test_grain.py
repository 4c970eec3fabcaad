import numpy as np
import pytest

from videopainter.ops.grain import noise_level


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
