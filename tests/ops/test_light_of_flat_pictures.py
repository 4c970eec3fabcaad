"""The light of pictures without contrast: nothing that is not as bright as they are may be blown up."""

import numpy as np
import pytest

from videopainter.ops.light import match_light


def wall(level, noise, seed):
    rng = np.random.default_rng(seed)
    return np.clip(level + rng.normal(scale=noise, size=(60, 80, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise, other", [(2, 8), (8, 2), (1, 1)])
@pytest.mark.parametrize("level", [200, 180, 100])
def test_a_gain_is_the_ratio_of_brightness(noise, other, level):
    light = match_light(wall(level, noise, 0), wall(200, other, 1), np.ones((60, 80), bool))
    if level == 200:
        assert light is None or np.abs(light.gain - 1).max() < 0.05
        return
    assert np.abs(light.gain - level / 200).max() < 0.05 and np.abs(light.offset).max() < 3
    ends = light.apply(np.array([[[0] * 3, [100] * 3, [255] * 3]], np.uint8))[0, :, 0]
    assert np.abs(ends.astype(float) - np.array([0, 0.5, 1.275]) * level).max() < 12
