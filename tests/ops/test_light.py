import cv2
import numpy as np
import pytest

from videopainter.ops.light import Light, is_brighter, match_light, match_lights

H, W = 60, 80
ALL = np.ones((H, W), bool)


def picture(seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(np.random.default_rng(9).normal(size=(H, W, 3)), (0, 0), 3)
    values = 120 + 35 * soft / soft.std() + rng.normal(0, noise, soft.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def lit(there, gain, offset=0.0):
    return np.clip(np.rint(there * np.asarray(gain, float) + offset), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("gain, offset", [(0.7, 0), (1.3, -10), ((0.9, 0.6, 1.2), 4), (0.3, 2), (1.8, 30)])
def test_gain_and_offset_of_each_channel_are_found(gain, offset):
    there = picture()
    here = lit(there, gain, offset)
    back = match_light(here, there, ALL).apply(there)
    assert np.abs(back.astype(int) - here).max() <= 3


def test_what_moves_is_outvoted():
    there = picture()
    here = lit(there, 0.75)
    here[10:35, 20:50] = (250, 10, 10)  # a fifth of the picture
    light = match_light(here, there, ALL)
    np.testing.assert_allclose(light.gain, 0.75, atol=0.02)
    np.testing.assert_allclose(light.offset, 0, atol=3)


def test_what_is_hidden_is_not_looked_at():
    there = picture()
    here = lit(there, 0.75)
    known = ALL.copy()
    known[:, :40] = False
    here[:, :40] = 255
    np.testing.assert_allclose(match_light(here, there, known).gain, 0.75, atol=0.02)


def test_noise_does_not_pull_the_gain_towards_zero():
    light = match_light(lit(picture(1, noise=12), 0.8), picture(2, noise=12), ALL)
    np.testing.assert_allclose(light.gain, 0.8, atol=0.04)


@pytest.mark.parametrize("noise", [0, 8, 14])
def test_the_same_light_is_none(noise):
    assert match_light(picture(1, noise), picture(2, noise), ALL) is None


def test_motion_is_not_light():
    assert match_light(picture(), np.roll(picture(), 5, 1), ALL) is None


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_flat_picture_has_an_offset_at_most(level):
    flat = np.full((H, W, 3), level, np.uint8)
    light = match_light(flat, lit(flat, 1, 5), ALL)
    if light is not None:
        np.testing.assert_array_equal(light.gain, 1)
        assert np.isfinite(light.offset).all()


def test_nothing_known_in_common_is_none():
    assert match_light(picture(), lit(picture(), 0.5), np.zeros((H, W), bool)) is None


def test_greys_have_one_channel():
    there = picture()[..., 0]
    light = match_light(lit(there, 0.6), there, ALL)
    assert light.gain.shape == (1,)
    assert light.apply(there).shape == (H, W)


def test_what_was_burnt_out_is_lost_to_a_darker_picture_only():
    bright = np.full((H, W, 3), 255, np.uint8)
    darker = Light(np.full(3, 0.5, np.float32), np.zeros(3, np.float32))
    brighter = Light(np.full(3, 1.5, np.float32), np.zeros(3, np.float32))
    assert darker.lost(bright).all()
    assert brighter.lost(bright) is None


def test_brighter_is_brighter_wherever_things_are():
    grey = picture()[..., 0]
    moved = np.roll(grey, 7, 1)
    assert not is_brighter(grey, moved, ALL)
    assert is_brighter(lit(grey, 1.03), moved, ALL) and is_brighter(moved, lit(grey, 1.03), ALL)
    assert not is_brighter(lit(grey, 1.03), moved, np.zeros((H, W), bool))


def test_a_shadow_on_a_wall_is_not_taken_for_contrast():
    there = np.broadcast_to(np.linspace(190, 235, W)[None, :, None], (H, W, 3)).astype(np.uint8)
    here = (
        there * np.linspace(0.86, 0.94, W)[None, :, None]
    )  # darker by a tenth, and a little more where it is dim
    light = match_light(here.astype(np.uint8), there, ALL)
    np.testing.assert_allclose(light.gain, 0.9, atol=0.02)
    np.testing.assert_array_equal(light.offset, 0)


def test_several_pictures_are_each_as_alone():
    here, none = lit(picture(1, 3), 0.7, 10), np.zeros((H, W), bool)
    half = ALL.copy()
    half[:, : W // 2] = False
    theres = [picture(2, 3), here, picture(3, 3), np.roll(here, 5, 1), picture(4, 3)]
    knowns = [ALL, ALL, half, ALL, none]
    found = match_lights(here, theres, knowns)
    assert [light is None for light in found] == [False, True, False, True, True]
    for light, there, known in zip(found, theres, knowns):
        alone = match_light(here, there, known)
        if light is not None:
            np.testing.assert_allclose(light.gain, alone.gain, rtol=1e-4)
            np.testing.assert_allclose(light.offset, alone.offset, atol=1e-2)
    assert match_lights(here, [], []) == []
