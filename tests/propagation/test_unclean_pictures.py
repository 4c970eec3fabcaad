"""The engine without weights where pictures are not clean: noise, fades, flashes, frames that are wholly hidden."""

import cv2
import numpy as np
import pytest
from made_clips import H, N, W, change, db, fill, handheld, moving_hole, scene, texture

from videopainter.propagation import PropagationEngine

pytestmark = pytest.mark.filterwarnings("error")


def noisy(clean, sigma, seed=1, softness=0.0, held=1):
    """Independent normal noise, softened and scaled back to ``sigma``, which changes every ``held`` frames."""
    rng = np.random.default_rng(seed)
    out = []
    for t in range(len(clean)):
        if t % held == 0:
            noise = rng.normal(size=clean.shape[1:])
            noise = cv2.GaussianBlur(noise, (0, 0), softness) if softness else noise
            noise *= sigma / noise.std()
        out.append(np.clip(np.rint(clean[t] + noise), 0, 255))
    return np.stack(out).astype(np.uint8)


def plain(n=N, shift=(0.0, 0.0)):
    """A scene with edges and flat ground, on which noise can be seen: most films have some."""
    clip = handheld(n, shift)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in clip])


def fine(frames, where):
    """Energy of the fine detail where it says."""
    detail = [f - cv2.GaussianBlur(f, (0, 0), 1.5) for f in frames.astype(np.float32)]
    return float(np.mean(np.stack(detail)[where] ** 2))


def ring_of(masks):
    grown = [
        cv2.dilate(m.view(np.uint8), np.ones((21, 21))) - cv2.dilate(m.view(np.uint8), np.ones((5, 5)))
        for m in masks
    ]
    return np.stack(grown) > 0


@pytest.mark.parametrize("sigma, pan, softness", [(5, 0.0, 0.0), (8, 1.5, 0.7), (14, 1.5, 0.0)])
def test_the_fill_has_the_grain_of_its_surroundings(sigma, pan, softness):
    clean, masks = plain(shift=(pan, 0)), moving_hole()
    truth = noisy(clean, sigma, softness=softness)
    result = fill(truth, masks)
    inside = np.stack([cv2.erode(m.view(np.uint8), np.ones((5, 5))) for m in masks]) > 0
    assert 0.8 < fine(result, inside) / fine(truth, ring_of(masks)) < 1.2
    # The grain hides nothing: without it the scene is there.
    assert db(fill(truth, masks, grain="off"), clean, masks) > (30 if sigma < 14 else 26)
    assert change(result, masks) > 0.8 * change(truth, masks)


def test_noise_hides_no_fine_texture_that_other_frames_show():
    """How good a smooth guess is, is judged by the frame itself: without its noise it has no fine texture either."""
    flat, detail = np.full((H, W, 3), 120.0), np.random.default_rng(5).normal(0, 22, (H, W, 3))
    detail = cv2.GaussianBlur(detail, (0, 0), 0.7) * 2
    detail[:, : W // 2] = 0  # flat ground, on which noise can be told
    clean = np.clip(flat + detail, 0, 255)[None].repeat(N, axis=0)
    clean = np.stack([np.roll(frame, t // 2, axis=0) for t, frame in enumerate(clean)])
    truth, masks = noisy(clean, 8), moving_hole(start=(70, 8), step=(1, 2))
    result = fill(truth, masks, grain="off")
    assert db(result, clean, masks) > db(truth, clean, masks) + 0.7


def test_grain_that_stands_still_for_some_frames_does_so_in_the_fill():
    masks = moving_hole()
    truth = noisy(plain(), 8, held=N)
    assert change(fill(truth, masks), masks) < 0.5 * change(noisy(plain(), 8), masks)


def test_clean_clips_get_no_grain():
    truth, masks = handheld(8, shift=(1, 0.5)), moving_hole(8)  # texture everywhere, which is no noise
    np.testing.assert_array_equal(fill(truth, masks), fill(truth, masks, grain="off"))


def test_the_seed_decides_the_grain():
    truth, masks = noisy(plain(6), 8), moving_hole(6)
    first, again, other = (fill(truth, masks, generator=np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_word_that_is_no_grain_is_refused():
    with pytest.raises(ValueError, match="grain is auto or off, not 'film'"):
        PropagationEngine(grain="film")


def in_light(clip, gains, offset=0.0):
    gains = np.asarray(gains, float)[:, None, None, None]
    return np.clip(np.rint(clip * gains + offset), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("step, least", [(0.97, 34), (0.94, 34), (1.03, 40)])
@pytest.mark.parametrize("pan", [0.0, 1.0])
def test_a_fade_is_followed(step, least, pan):
    clean, masks = handheld(shift=(pan, 0)) // 2 + 30, moving_hole()
    truth = in_light(clean, step ** np.arange(N))
    result = fill(truth, masks)
    assert db(result, truth, masks) > least
    assert min(db(r, t, m) for r, t, m in zip(result, truth, masks)) > least - 4


@pytest.mark.parametrize("pan", [0.0, 1.0])
def test_a_flash_and_the_frames_around_it_are_filled_in_their_own_light(pan):
    gains = np.ones(N)
    gains[9:12] = 1.9, 1.4, 1.15
    truth, masks = in_light(handheld(shift=(pan, 0)), gains, 10), moving_hole()
    result = fill(truth, masks)
    assert min(db(r, t, m) for r, t, m in zip(result, truth, masks)) > 29


# -- frames that are wholly hidden -----------------------------------------------------------------------


def gap(n=N, start=7, length=6):
    masks = np.zeros((n, H, W), bool)
    masks[start : start + length] = True
    return masks


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.5, 0.5), (5.0, 0.0)])
def test_hidden_frames_lie_on_the_cameras_path_between_both_sides(shift):
    truth, masks = handheld(shift=shift), gap()
    result = fill(truth, masks)
    assert min(db(r, t, m) for r, t, m in zip(result[7:13], truth[7:13], masks[7:13])) > 26
    assert db(result, truth, masks) > 28


def test_what_moves_goes_on_through_hidden_frames():
    truth, masks = np.repeat(texture()[None], N, 0), gap()
    thing = texture(seed=4)[36:64, 40:68]
    for t in range(N):
        truth[t, 36:64, 6 + t : 34 + t] = thing
    result = fill(truth, masks)
    faded = truth.copy()
    for t in range(7, 13):
        faded[t] = np.rint(truth[6] + (t - 6) / 7 * (truth[13].astype(float) - truth[6]))
    assert db(result, truth, masks) > db(faded, truth, masks) + 5


def test_hidden_frames_in_a_fade_get_darker_step_by_step():
    truth = in_light(handheld(shift=(1, 0)), 0.96 ** np.arange(N))
    result = fill(truth, gap())
    assert np.abs(result[7:13].mean(axis=(1, 2, 3)) - truth[7:13].mean(axis=(1, 2, 3))).max() < 2.5


def test_a_cut_among_hidden_frames_is_not_blended():
    half = N // 2
    truth = np.concatenate([np.repeat(scene(i, not i)[None], half, 0) for i in (0, 1)])
    result = fill(truth, gap(start=7, length=6)).astype(int)
    tint = (result[..., 0] - result[..., 2]).mean(axis=(1, 2))
    assert (tint[:half] > 60).all() and (tint[half:] < -60).all()


@pytest.mark.parametrize("start", [0, N - 5])
def test_hidden_frames_at_an_end_show_the_nearest_frame(start):
    truth, masks = np.repeat(texture()[None], N, 0), gap(start=start, length=5)
    assert db(fill(truth, masks), truth, masks) > 38


def test_a_video_of_which_nothing_is_seen_is_filled_all_the_same():
    truth = handheld(4)
    fill(truth, np.ones((4, H, W), bool))


def test_holes_beside_hidden_frames_are_filled_from_further_away():
    truth, masks = np.repeat(texture()[None], N, 0), moving_hole()
    masks |= gap()
    assert db(fill(truth, masks), truth, masks) > 33
