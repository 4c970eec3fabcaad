"""The engine without weights on made-up clips whose truth behind the hole is known."""

import threading

import cv2
import numpy as np
import pytest
from made_clips import (
    MAGENTA,
    H,
    N,
    W,
    change,
    db,
    fill,
    handheld,
    hidden,
    moving_hole,
    scene,
    telea,
    temporal_copy,
    texture,
)

from videopainter.engines.base import EngineError
from videopainter.masks import MaskTrack
from videopainter.propagation import PropagationEngine, frames
from videopainter.propagation.engine import _BLOCK
from videopainter.propagation.smooth import smooth_fill
from videopainter.video import ArraySource

pytestmark = pytest.mark.filterwarnings("error")


def test_fixed_camera_gives_back_what_was_hidden_and_is_steady():
    truth, masks = np.repeat(texture()[None], N, 0), moving_hole()
    result = fill(truth, masks)
    assert db(result, truth, masks) > 40
    assert min(db(r, t, m) for r, t, m in zip(result, truth, masks)) > 36
    assert change(result, masks) < 0.6


def test_fixed_camera_takes_the_noise_out_and_does_not_flicker():
    clean = np.repeat(texture()[None], N, 0)
    noise = np.random.default_rng(1).normal(0, 5, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    masks = moving_hole()
    result = fill(noisy, masks, grain="off")
    assert db(result, clean, masks) > db(noisy, clean, masks) + 4
    assert change(result, masks) < 0.4 * change(noisy, masks)


def test_a_slow_pan_is_followed_and_not_taken_for_a_fixed_camera():
    truth = handheld(30, shift=(0.2, 0))
    masks = moving_hole(30, size=(26, 20), start=(6, 6), step=(2, 2))
    result = fill(truth, masks)
    late = masks.copy()
    late[:20] = False
    assert db(result, truth, late) > db(temporal_copy(truth, masks), truth, late) + 3
    assert db(result, truth, late) > 32


def test_a_handheld_camera_is_followed():
    truth, masks = handheld(shift=(0.6, 0.2), shake=2, turn=0.8), moving_hole()
    result = fill(truth, masks)
    assert db(result, truth, masks) > 30
    assert db(result, truth, masks) > db(telea(truth, masks), truth, masks) + 10


def test_large_frames_with_a_moving_camera():
    h, w, n = 560, 840, 5
    truth = handheld(n, shift=(5, 1), shake=1, turn=0.2, height=h, width=w)
    masks = moving_hole(n, size=(60, 90), start=(300, 200), step=(40, 4), height=h, width=w)
    result = fill(truth, masks)
    assert frames.WORKING_AREA < h * w  # or this would test nothing
    assert db(result, truth, masks) > db(telea(truth, masks), truth, masks) + 8


@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_a_short_clip_with_a_moving_camera(n):
    truth, masks = handheld(n, shift=(2, 0.5)), moving_hole(n, step=(24 // n + 6, 2))
    result = fill(truth, masks)
    # Of 2 frames each shows only a part of what the other hides.
    gain = 1 if n == 2 else 6
    assert db(result, truth, masks) > db(telea(truth, masks), truth, masks) + gain


@pytest.mark.parametrize("radius", [4, 9])
def test_a_small_radius_follows_the_camera_too(radius):
    truth, masks = handheld(shift=(2, 0)), moving_hole(size=(14, 20), step=(4, 2))
    assert db(fill(truth, masks, radius), truth, masks) > 30


def test_a_camera_that_stood_still_before_a_cut_may_move_after_it():
    moving = handheld(8, shift=(2, 0))
    truth = np.concatenate([np.repeat(texture(seed=3)[None], 12, 0), moving])
    masks = np.concatenate([moving_hole(12), moving_hole(8, step=(9, 2))])
    result = fill(truth, masks)
    assert db(result[:12], truth[:12], masks[:12]) > 36
    assert db(result[12:], moving, masks[12:]) > db(telea(moving, masks[12:]), moving, masks[12:]) + 6


def test_a_camera_may_begin_to_move():
    pan = handheld(8, shift=(2, 0))
    truth, masks = np.concatenate([np.repeat(pan[:1], 16, 0), pan]), moving_hole(24, step=(3, 2))
    result = fill(truth, masks)
    assert db(result[16:], truth[16:], masks[16:]) > 30


# -- cuts, light and passers-by --------------------------------------------------------------------------


@pytest.mark.parametrize("pan", [0, 2])
def test_nothing_comes_across_a_hard_cut(pan):
    half = N // 2
    scenes = [np.stack([np.roll(scene(i, not i), pan * t, 1) for t in range(half)]) for i in (0, 1)]
    truth = np.concatenate(scenes)
    masks = np.zeros(truth.shape[:3], bool)
    # Neither hole is ever seen in its own scene, both lie open in the other.
    masks[:half, 20:50, 20:50] = True
    masks[half:, 55:85, 75:105] = True
    result = fill(truth, masks).astype(int)
    gap = result[..., 0] - result[..., 2]
    assert gap[:half][masks[:half]].min() > 40
    assert gap[half:][masks[half:]].max() < -40


@pytest.mark.parametrize("pan", [0, 2])
def test_a_shot_comes_out_as_if_it_were_alone(pan):
    before = np.repeat(texture(seed=3)[None], 12, 0)
    truth = np.stack([np.roll(texture(seed=9), pan * t, 1) for t in range(8)])
    masks = np.zeros((20, H, W), bool)
    masks[:, 30:62, 45:81] = True  # never seen under a fixed camera: its texture is carried along
    result = fill(np.concatenate([before, truth]), masks)[12:]
    np.testing.assert_array_equal(result, fill(truth, masks[12:]))


def test_a_change_of_exposure_is_not_a_cut():
    truth = np.repeat(texture()[None], N, 0)
    truth[N // 2 :] = np.rint(truth[N // 2 :] * 0.8)
    masks = np.zeros(truth.shape[:3], bool)
    masks[: N // 2, 30:60, 40:75] = True  # shown by the darker half only
    result = fill(truth, masks)
    assert db(result, truth, masks) > db(telea(truth, masks), truth, masks) + 4


def test_a_passer_by_leaves_no_ghost():
    background, masks = texture(), moving_hole(24, size=(30, 26), start=(6, 20), step=(4, 1))
    truth, his = np.repeat(background[None], 24, 0), np.zeros(masks.shape, bool)
    for t in range(24):
        x = 110 - 5 * t
        his[t, 20:80, max(x, 0) : max(x + 14, 0)] = True
    truth[his] = (250, 250, 20)
    result = fill(truth, masks)
    his_surroundings = np.stack([cv2.dilate(m.view(np.uint8), np.ones((13, 13))) > 0 for m in his])
    left = masks & ~his_surroundings
    assert (masks & his).any(axis=(1, 2)).sum() >= 4  # he does walk behind the hole
    wrong = np.abs(result.astype(int) - truth).max(axis=3)[left]
    assert db(result, truth, left) > 33
    assert (wrong > 40).mean() < 0.002


def test_the_fill_follows_the_brightness_of_the_frame():
    gain = np.linspace(0.85, 1.05, 24)
    truth = np.rint(texture()[None] * gain[:, None, None, None]).astype(np.uint8)
    masks = moving_hole(24, step=(3, 2))
    result = fill(truth, masks)
    for t in range(24):
        inner = cv2.erode(masks[t].view(np.uint8), np.ones((7, 7), np.uint8)) > 0
        rim = masks[t] & ~inner
        assert abs(result[t][rim].astype(float).mean() - truth[t][rim].mean()) < 4
        assert abs(result[t][inner].astype(float).mean() - truth[t][inner].mean()) < 6
    assert db(result, truth, masks) > 33


# -- what no frame shows ---------------------------------------------------------------------------------


def test_what_no_frame_shows_is_steady_and_textured():
    clean = np.repeat(texture()[None], N, 0).astype(float)
    noise = np.random.default_rng(2).normal(0, 2, clean.shape)
    truth = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    masks = np.zeros(truth.shape[:3], bool)
    masks[:, 30:62, 45:81] = True
    result = fill(truth, masks)
    assert change(result, masks) < change(truth, masks)

    def detail(frame):
        grey = cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY)
        return float((grey - cv2.GaussianBlur(grey, (0, 0), 3))[36:56, 51:75].std())

    for t in (0, N // 2, N - 1):
        assert detail(result[t]) > 1.5 * detail(smooth_fill(hidden(truth, masks)[t], masks[t]))
        assert np.abs(result[t][masks[t]].astype(int) - MAGENTA).max(axis=1).min() > 30


def test_what_no_frame_shows_moves_with_the_camera():
    truth = handheld(12, shift=(3, 0))
    masks = moving_hole(12, size=(40, 30), start=(60, 30), step=(-3, 0))  # fixed to the scene
    result = fill(truth, masks)
    moved = np.roll(result[:-1], -3, axis=2).astype(int)
    inner = np.stack([cv2.erode(m.view(np.uint8), np.ones((9, 9), np.uint8)) > 0 for m in masks[1:]])
    in_place = np.abs(result[1:].astype(int) - result[:-1])[inner].mean()
    assert np.abs(result[1:] - moved)[inner].mean() < 0.6 * in_place


# -- holes and videos of every shape ---------------------------------------------------------------------


def test_a_hole_at_the_border():
    truth = np.repeat(texture()[None], N, 0)
    masks = moving_hole(size=(40, 30), start=(-30, -10), step=(8, 6))
    assert masks[:, 0].any() and masks[:, :, 0].any() and masks[:, -1].any() and masks[:, :, -1].any()
    assert db(fill(truth, masks), truth, masks) > 36


def test_one_frame_wholly_covered_is_taken_from_its_neighbours():
    truth, masks = np.repeat(texture()[None], N, 0), moving_hole()
    masks[N // 2] = True
    result = fill(truth, masks)
    assert db(result[N // 2], truth[N // 2], masks[N // 2]) > 30
    assert db(result[N // 2 + 1], truth[N // 2 + 1], masks[N // 2 + 1]) > 30


def test_everything_covered_everywhere_still_gives_frames():
    truth = np.repeat(texture()[None], 4, 0)
    result = fill(truth, np.ones(truth.shape[:3], bool))
    assert not (result == np.array(MAGENTA)).all(axis=3).any()


def test_a_video_of_one_frame():
    truth, masks = texture()[None], moving_hole(1)
    result = fill(truth, masks)
    assert db(result, truth, masks) > 14
    assert np.abs(result[masks].astype(int) - MAGENTA).max(axis=1).min() > 30


def test_without_holes_nothing_changes():
    truth = handheld(5, shake=1)
    np.testing.assert_array_equal(fill(truth, np.zeros(truth.shape[:3], bool)), truth)


@pytest.mark.parametrize("height, width", [(16, 16), (33, 47), (1, 40), (40, 1)])
@pytest.mark.parametrize("pan", [0, 1])
def test_tiny_and_odd_sizes(height, width, pan):
    truth = np.stack([np.roll(texture(height, width), pan * t, 1) for t in range(6)])
    masks = np.zeros(truth.shape[:3], bool)
    for t in range(6):
        masks[
            t, height // 3 : height // 3 + height // 4 + 1, t * width // 8 : t * width // 8 + width // 6 + 1
        ] = True
    result = fill(truth, masks)
    if min(height, width) > 1:
        assert db(result, truth, masks) > (26 if not pan else 14)


def test_many_small_holes():
    truth = np.repeat(texture(160, 240)[None], 8, 0)
    masks = np.zeros(truth.shape[:3], bool)
    for t in range(8):
        masks[t, 10 + t :: 75, :][:, 5 + 9 * t % 70 :: 80] = True
        masks[t, 20 + 4 * t : 28 + 4 * t, 200:210] = True
    assert db(fill(truth, masks), truth, masks) > 34


# -- the same every time, in little memory ---------------------------------------------------------------


def test_two_runs_of_one_engine_are_the_same():
    truth, masks = handheld(8, shift=(1, 0), shake=1, turn=0.5), moving_hole(8, step=(2, 1))
    engine = PropagationEngine(radius=4)
    first, second = (
        np.stack(list(engine(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks)))) for _ in "ab"
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("alike", [True, False], ids=["still", "handheld"])
def test_any_number_of_workers_gives_the_same(alike):
    rng = np.random.default_rng(2)
    truth = handheld(11, shake=0 if alike else 2).astype(int) + rng.normal(0, 6, (11, H, W, 3))
    truth, masks = np.clip(truth, 0, 255).astype(np.uint8), moving_hole(11)
    one, *others = (fill(truth, masks, workers=n) for n in (1, 2, 5))
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_an_error_and_an_early_end_stop_the_threads():
    truth, masks = handheld(11, shake=2), moving_hole(11)
    before = threading.active_count()
    frames_ = PropagationEngine(workers=3)(ArraySource(truth), MaskTrack.from_array(masks))
    next(frames_)
    frames_.close()
    assert threading.active_count() == before


def test_no_workers_are_refused():
    with pytest.raises(EngineError, match="workers must be 1 or more, not 0"):
        PropagationEngine(workers=0)


def test_what_the_hole_hides_has_no_say():
    truth, masks = handheld(8, shift=(1, 0), shake=1), moving_hole(8, step=(2, 1))
    other = np.where(masks[..., None], 255 - truth, truth)
    first, second = (
        np.stack(list(PropagationEngine()(ArraySource(f), MaskTrack.from_array(masks))))
        for f in (truth, other)
    )
    np.testing.assert_array_equal(first, second)


class Recorder:
    """A source or mask track that notes which slices are asked for."""

    def __init__(self, inner):
        self.inner, self.size, self.asked = inner, inner.size, []

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, key):
        low, high, _ = key.indices(len(self)) if isinstance(key, slice) else (key, key + 1, 1)
        self.asked.append((low, high))
        return self.inner[key]


def test_frames_are_read_in_order_and_no_further_ahead_than_needed():
    truth, masks, radius = handheld(24, shake=1), moving_hole(24, step=(3, 2)), 4
    source, track = Recorder(ArraySource(hidden(truth, masks))), Recorder(MaskTrack.from_array(masks))
    for t, _ in enumerate(PropagationEngine(radius=radius)(source, track)):
        for asked in (source.asked, track.asked):
            # Two blocks are at work: one is given out while the next one is begun.
            assert max(high for _, high in asked) <= min(t + radius + 2 * _BLOCK, 24)
    for asked in (source.asked, track.asked):
        assert max(high - low for low, high in asked) <= 4
        assert [low for low, _ in asked] == sorted(low for low, _ in asked)


def test_a_budget_for_few_frames_still_serves(monkeypatch):
    truth, masks = np.repeat(texture()[None], 24, 0), moving_hole(24, step=(3, 2))
    ok, png = cv2.imencode(".png", hidden(truth, masks)[0])
    monkeypatch.setattr(frames, "BUDGET_BYTES", 7 * len(png))
    result = fill(truth, masks, radius=10)
    assert min(db(r, t, m) for r, t, m in zip(result, truth, masks)) > 20


def test_frames_over_a_megapixel_are_kept_and_given_back_exactly():
    h, w = 800, 1320
    truth = np.repeat(texture(h, w)[None], 3, 0)
    masks = np.zeros(truth.shape[:3], bool)
    for t in range(3):
        masks[t, 300:340, 400 + 60 * t : 440 + 60 * t] = True
    assert db(fill(truth, masks), truth, masks) > 32


# -- the interface ---------------------------------------------------------------------------------------


def test_progress_counts_every_frame():
    truth, masks, told = handheld(6), moving_hole(6), []
    fill(truth, masks, progress=lambda *step: told.append(step))
    assert list(dict.fromkeys(told)) == [("inpaint", i, 6) for i in range(7)]


@pytest.mark.parametrize("shape, words", [((5, H, W), ("5", "6")), ((6, H, W - 2), (f"{W - 2}", f"{W}"))])
def test_masks_of_another_video_are_refused(shape, words):
    source, track = ArraySource(handheld(6)), MaskTrack.from_array(np.zeros(shape, bool))
    with pytest.raises(ValueError) as caught:
        list(PropagationEngine()(source, track))
    assert all(word in str(caught.value) for word in words)


def test_a_radius_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0"):
        PropagationEngine(radius=0)
