"""The engine without weights where one shot dissolves into another."""

import numpy as np
import pytest
from made_clips import db, fill, handheld, hidden, moving_hole

from videopainter.masks import MaskTrack
from videopainter.propagation.frames import FrameStore
from videopainter.video import ArraySource

FRAMES, BEFORE, AFTER = 30, 9, 19  # the last frame of the one shot, the first one of the other

pytestmark = pytest.mark.filterwarnings("error")


def dissolve(shift=(0.0, 0.0), shake=0.0):
    first, second = (handheld(FRAMES, shift, shake, seed=seed).astype(float) for seed in (0, 7))
    share = np.clip((np.arange(FRAMES) - BEFORE) / (AFTER - BEFORE), 0, 1)[:, None, None, None]
    return np.rint((1 - share) * first + share * second).astype(np.uint8)


def store_of(truth, masks):
    store = FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), radius=60)
    store.advance(0)
    return store


@pytest.mark.parametrize("shift, shake, least", [((0, 0), 0, 46), ((0.7, 0.3), 0, 36), ((0.5, 0), 0.7, 36)])
def test_frames_of_a_dissolve_are_filled_from_both_shots(shift, shake, least):
    truth, masks = dissolve(shift, shake), moving_hole(FRAMES, step=(3, 1))
    result = fill(truth, masks)
    within = slice(BEFORE + 1, AFTER)
    assert db(result[within], truth[within], masks[within]) > least
    assert min(db(r, t, m) for r, t, m in zip(result[within], truth[within], masks[within])) > least - 4


def test_frames_beside_a_dissolve_show_nothing_of_the_other_shot():
    truth, masks = dissolve(), moving_hole(FRAMES, step=(3, 1))
    result = fill(truth, masks)
    for t in (BEFORE - 1, BEFORE, AFTER, AFTER + 1):
        assert db(result[t], truth[t], masks[t]) > 45


def test_the_result_does_not_depend_on_the_number_of_threads():
    truth, masks = dissolve((0.7, 0.3)), moving_hole(FRAMES, step=(3, 1))
    np.testing.assert_array_equal(fill(truth, masks, workers=1), fill(truth, masks, workers=3))


def test_shots_are_parted_and_a_camera_that_stands_still_does_so_on_either_side():
    store = store_of(dissolve(), moving_hole(FRAMES))
    assert [t for t in range(FRAMES) if store.dissolve(t)] == list(range(BEFORE + 1, AFTER))
    assert max(store.neighbours(BEFORE)) < BEFORE and min(store.neighbours(AFTER)) > AFTER
    assert all(store.is_fixed(t) for t in (*range(BEFORE + 1), *range(AFTER, FRAMES)))
    assert store.camera(BEFORE, AFTER) is None


def test_a_shot_without_a_dissolve_is_left_alone():
    store = store_of(handheld(FRAMES, (1.0, 0.5)), moving_hole(FRAMES))
    assert not any(store.dissolve(t) for t in range(FRAMES))
    assert len(store.neighbours(0)) == FRAMES - 1


@pytest.mark.parametrize("radius", [1, 3])
def test_with_few_frames_at_hand_a_dissolve_is_filled_all_the_same(radius):
    truth, masks = dissolve(), moving_hole(FRAMES, step=(3, 1))
    fill(truth, masks, radius=radius)
