"""The light of pictures without contrast: nothing that is not as bright as they are may be blown up."""

import numpy as np
import pytest

from videopainter.ops.light import match_light


def wall(level, noise, seed):
    rng = np.random.default_rng(seed)
    return np.clip(level + rng.normal(scale=noise, size=(60, 80, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise, other", [(2, 8), (8, 2), (1, 1)])
@pytest.mark.parametrize("level", [200, 180, 100])
def test_a_wall_has_an_offset_at_most(noise, other, level):
    light = match_light(wall(level, noise, 0), wall(200, other, 1), np.ones((60, 80), bool))
    if light is None:
        assert level == 200
        return
    ends = light.apply(np.array([[[100] * 3, [255] * 3]], np.uint8))[0, :, 0].astype(int)
    assert ends[1] - ends[0] <= 155 and abs(ends[1] - (255 + level - 200)) < 3
