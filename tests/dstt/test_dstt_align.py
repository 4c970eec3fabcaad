import numpy as np
import pytest
from small_dstt import box, film

from videopainter.dstt.align import (
    OLDEST,
    AlignedHistory,
    History,
    MotionEstimator,
    completed,
    maps,
    preprocess,
    warp,
)

SIZE = (60, 96)
NOTHING = np.zeros(SIZE, bool)


def history_of(frame, hole=NOTHING) -> History:
    history = History()
    history.update(frame.astype(np.float32), np.zeros(SIZE, np.float32), None, hole)
    return history


def test_the_content_of_the_hole_is_never_looked_at():
    frame = film(1, SIZE)[0]
    hole = box(SIZE)
    other = frame.copy()
    other[hole] = 255 - other[hole]
    for size in (None, (30, 48), (40, 50)):
        a, b = preprocess(frame, hole, size), preprocess(other, hole, size)
        np.testing.assert_array_equal(a.hole, b.hole)
        np.testing.assert_array_equal(a.frame, b.frame)
        np.testing.assert_array_equal(a.grey, b.grey)


def test_a_still_camera_gives_exact_zeros():
    frame = film(1, SIZE)[0]
    field = MotionEstimator()(preprocess(frame, box(SIZE)), preprocess(frame, box(SIZE, left=40)))
    assert field.dtype == np.float32 and not field.any()


@pytest.mark.parametrize("shift", [(2.0, 0.0), (-1.5, 1.0), (0.5, -0.25)], ids=str)
def test_a_moving_camera_is_followed_also_in_the_hole(shift):
    frames, hole = film(2, SIZE, shift), box(SIZE, 20, 30, 20, 24)
    field = MotionEstimator()(preprocess(frames[1], hole), preprocess(frames[0], hole))
    np.testing.assert_allclose(field[hole].mean(0), np.negative(shift), atol=0.1)
    assert np.abs(field[hole] + shift).max() < 0.3


def test_a_thing_that_moves_by_itself_is_followed_in_the_hole_before_it():
    """A large thing passes before a wall that stands still; the hole lies on it. Far from it nothing moves."""
    size, step = (96, 160), 3
    wall, thing = film(1, size)[0] // 3 + 120, film(1, (50, 70), seed=5)[0]
    frames = []
    for t in range(2):
        frame = wall.copy()
        frame[20:70, 30 + step * t : 100 + step * t] = thing
        frames.append(frame)
    hole = box(size, 35, 55, 20, 20)
    field = MotionEstimator()(preprocess(frames[1], hole), preprocess(frames[0], hole))
    assert np.abs(field[hole] + (step, 0)).mean() < 0.5
    assert not field[:, 130:].any() and not field[85:].any()


def test_a_cut_is_noticed():
    assert (
        MotionEstimator()(
            preprocess(film(1, SIZE)[0], NOTHING), preprocess(film(1, SIZE, seed=1)[0], NOTHING)
        )
        is None
    )


def test_pictures_too_small_for_optical_flow_stand_still():
    frames = film(2, (20, 24), (1, 0))
    nothing = np.zeros((20, 24), bool)
    assert not MotionEstimator()(preprocess(frames[1], nothing), preprocess(frames[0], nothing)).any()


def test_without_motion_nothing_is_resampled():
    values = np.random.default_rng(0).uniform(0, 255, (*SIZE, 3)).astype(np.float32)
    assert warp(values, np.zeros((*SIZE, 2), np.float32)) is values


def test_warping_pulls():
    values = np.arange(60 * 96, dtype=np.float32).reshape(SIZE)
    field = np.zeros((*SIZE, 2), np.float32)
    field[..., 0], field[..., 1] = 3, -2
    np.testing.assert_allclose(warp(values, field)[10:50, 10:80], values[8:48, 13:83], rtol=1e-5)


def test_warping_many_times_hardly_blurs():
    frame = film(1, SIZE)[0].astype(np.float32)
    values, back = frame, np.full((*SIZE, 2), 0.3, np.float32)
    for _ in range(10):
        values = warp(warp(values, back), -back)
    inner = np.s_[15:-15, 15:-15]
    assert np.abs(values[inner] - frame[inner]).mean() < 0.5


def test_a_trail_without_a_past_has_none():
    assert History().aligned(np.zeros((*SIZE, 2), np.float32), SIZE) is None
    assert history_of(film(1, SIZE)[0]).aligned(None, SIZE) is None


def test_what_was_seen_and_when():
    frame, hole = film(1, SIZE)[0], box(SIZE)
    still = np.zeros((*SIZE, 2), np.float32)
    history = history_of(frame)
    past = history.aligned(still, SIZE)
    assert past.valid.all() and past.seen.all() and not past.age.any()
    # Kept in the hole: still seen, one frame ago.
    history.update(past.output, np.ones(SIZE, np.float32), past, hole)
    past = history.aligned(still, SIZE)
    assert past.seen.all() and (past.age == hole).all()
    # Replaced by the network's own idea: not seen any more, and older still.
    history.update(past.output, np.zeros(SIZE, np.float32), past, hole)
    past = history.aligned(still, SIZE)
    assert (past.seen == ~hole).all() and (past.age == 2 * hole).all()


def test_a_hole_in_the_first_frame_was_never_seen():
    past = history_of(film(1, SIZE)[0], box(SIZE)).aligned(np.zeros((*SIZE, 2), np.float32), SIZE)
    assert (past.seen == ~box(SIZE)).all() and (past.age == OLDEST * box(SIZE)).all()


def test_what_comes_from_outside_the_picture_is_not_valid():
    field = np.zeros((*SIZE, 2), np.float32)
    field[..., 0] = 5
    past = history_of(film(1, SIZE)[0]).aligned(field, SIZE)
    assert past.valid[:, :91].all() and not past.valid[:, 91:].any() and not past.seen[:, 91:].any()


def test_a_larger_output_is_aligned_at_its_own_size():
    frames = film(2, (120, 192), (4, 0))
    history = History()
    history.update(frames[0].astype(np.float32), np.zeros(SIZE, np.float32), None, NOTHING)
    field = np.zeros((*SIZE, 2), np.float32)
    field[..., 0] = -2
    past = history.aligned(field, (120, 192))
    assert past.output.shape == (120, 192, 3) and past.previous.shape == (*SIZE, 3)
    assert np.abs(past.output - frames[1])[10:-10, 20:-20].mean() < 1.5


def test_maps_without_a_past_are_zero():
    previous, told = maps(preprocess(film(1, SIZE)[0], box(SIZE)), None)
    assert previous.shape == (*SIZE, 3) and told.shape == (*SIZE, 7)
    assert not previous.any() and not told.any()


def test_the_membrane_carries_a_change_of_light():
    frame, hole = film(1, SIZE)[0] // 2 + 40, box(SIZE)
    past = history_of(frame).aligned(np.zeros((*SIZE, 2), np.float32), SIZE)
    _, told = maps(preprocess(frame + 10, hole), past)
    np.testing.assert_allclose(told[..., 4:] * 127.5, 10, atol=0.5)
    assert (told[..., :2] == 1).all() and not told[..., 2].any()
    assert told[..., 3].min() > 0.95


def test_a_past_that_does_not_fit_around_the_hole_is_worth_little():
    """On one side of the hole something else stands now: less is worth taking there than on the other."""
    frame, hole = film(1, SIZE)[0], box(SIZE, 20, 30, 20, 36)
    past = history_of(frame).aligned(np.zeros((*SIZE, 2), np.float32), SIZE)
    now = frame.copy()
    now[:, :45] = 255 - now[:, :45]
    worth = maps(preprocess(now, hole), past)[1][..., 3]
    assert worth.min() >= 0 and worth.max() <= 1
    left, right = (worth[hole & side].mean() for side in (np.arange(96) < 40, np.arange(96) > 56))
    assert left < 0.6 and right > left + 0.2


def test_what_was_seen_is_remembered_through_resampling():
    """Half a pixel to and fro, again and again: what was seen does not melt away from its rim."""
    frame, hole = film(1, SIZE)[0], box(SIZE)
    history = history_of(frame, box(SIZE, width=2))
    for i in range(10):
        field = np.full((*SIZE, 2), 0.5 if i % 2 else -0.5, np.float32)
        past = history.aligned(field, SIZE)
        history.update(past.output, np.ones(SIZE, np.float32), past, hole)
    assert set(np.unique(past.seen)) <= {0.0, 1.0}
    assert past.seen[hole & ~box(SIZE, top=10, left=18, height=18, width=6)].all()


def noisy_past(noise: float, frames: int = 6):
    """A standing picture under a sensor's noise, seen ``frames`` times, then a hole: picture, look, past."""
    rng = np.random.default_rng(0)
    picture, hole = film(1, SIZE)[0].astype(np.float32) * 0.5 + 60, box(SIZE)
    shots = [
        np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)
        for _ in range(frames + 1)
    ]
    history, past, still = History(), None, np.zeros((*SIZE, 2), np.float32)
    for shot in shots[:-1]:
        past = history.aligned(still, SIZE)
        history.update(shot.astype(np.float32), np.zeros(SIZE, np.float32), past, NOTHING)
    return picture, preprocess(shots[-1], hole), history.aligned(still, SIZE), hole


def test_under_noise_the_mean_of_what_was_seen_is_taken():
    picture, now, past, hole = noisy_past(12)
    assert (past.count == 6).all()
    previous, told = maps(now, past)
    errors = [np.square(x - picture)[hole].mean() for x in (previous, past.previous)]
    assert errors[0] < 0.4 * errors[1]
    worth_of_one = maps(now, AlignedHistory(**{**vars(past), "count": past.count * 0}))[1][..., 3]
    assert told[hole][:, 3].mean() > worth_of_one[hole].mean()


def test_without_noise_and_in_the_beginning_it_is_the_last_of_it():
    for noise, frames in ((0, 6), (12, 2)):
        _, now, past, _ = noisy_past(noise, frames)
        assert maps(now, past)[0] is past.previous


def test_the_mean_forgets_what_was_not_kept():
    """Where the network put its own idea, the mean starts from there; where the past was kept, it stays."""
    _, _, past, hole = noisy_past(12)
    history, own = History(), np.full((*SIZE, 3), 200, np.float32)
    for share, mean, count in ((0.0, own, 0), (1.0, past.mean, 6)):
        history.update(own, np.full(SIZE, share, np.float32), past, hole)
        after = history.aligned(np.zeros((*SIZE, 2), np.float32), SIZE)
        np.testing.assert_allclose(after.mean[hole], mean[hole], atol=1e-3)
        assert (after.count[hole] == count).all() and (after.count[~hole] == 7).all()


def walked(light: int = 0):
    """A hole that moves to the right by less than its width, over a standing picture: look, past, told, parts."""
    frame, hole = film(1, SIZE)[0], box(SIZE, 12, 30, 36, 24)
    history = history_of(frame, box(SIZE, 12, 14, 36, 24))
    past = history.aligned(np.zeros((*SIZE, 2), np.float32), SIZE)
    now = preprocess(np.clip(frame.astype(int) + light, 0, 255).astype(np.uint8), hole)
    return frame, now, past, maps(now, past), hole & (past.seen == 0)


def test_what_was_never_seen_is_continued_from_what_was():
    frame, now, past, told, unseen = walked()
    assert unseen.any() and (now.hole & ~unseen).any()
    frame, filled = frame.astype(np.float32), completed(now, past, *told)
    np.testing.assert_array_equal(filled[~unseen], now.frame[~unseen])
    errors = [np.square(f - frame)[unseen].mean() for f in (filled, now.frame)]
    assert errors[0] < 0.8 * errors[1]


def test_the_light_of_the_present_is_continued_too():
    _, now, past, told, unseen = walked(light=20)
    standing = walked()
    difference = completed(now, past, *told) - completed(standing[1], standing[2], *standing[3])
    assert abs(difference[unseen].mean() - 20) < 3


def test_nothing_follows_from_a_past_that_is_worth_nothing():
    _, now, past, (previous, told), _ = walked()
    told[..., 3] = 0
    np.testing.assert_allclose(completed(now, past, previous, told), now.frame, atol=8)
    unseen = np.zeros((*SIZE, 1), np.float32)
    past.seen[:] = unseen[..., 0]
    assert completed(now, past, previous, told) is now.frame
    assert completed(now, None, previous, told) is now.frame
