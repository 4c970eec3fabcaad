"""Frames that threads work out ahead of their turn, and those that are looked at while the next ones are read."""

import sys

import cv2
import numpy as np
import pytest
from made_clips import handheld, hidden, moving_hole, scene

from videopainter.masks import MaskTrack
from videopainter.propagation import frames
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.pool import Pool
from videopainter.video import ArraySource

SIZE = {"height": 64, "width": 80}


def noisy(frames):
    grain = np.random.default_rng(3).normal(0, 9, frames.shape)
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def cut():
    return np.concatenate([handheld(9, (1, 0), **SIZE), handheld(9, (1, 0), seed=5, **SIZE)])


CLIPS = {
    "pan": lambda: handheld(18, shift=(1, 0.5), shake=1, **SIZE),
    "fixed": lambda: np.repeat(scene(1, True)[None, :64, :80], 18, axis=0),
    "cut": cut,
    "noise begins": lambda: np.concatenate([cut()[:9], noisy(cut()[9:])]),
}


def store_of(truth, masks, radius):
    return FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), radius)


def assert_same(plain, other):
    assert plain._stored.keys() == other._stored.keys() and plain._fixed == other._fixed
    for i in plain._stored:
        assert plain.noise(i) == other.noise(i)
        np.testing.assert_array_equal(plain.colour(i), other.colour(i))
        np.testing.assert_array_equal(plain.grey(i)[0], other.grey(i)[0])
        assert plain._stored[i].shot == other._stored[i].shot
        if i + 1 in plain and plain._stored[i].camera_to_next is not None:
            np.testing.assert_array_equal(plain.camera(i, i + 1), other.camera(i, i + 1))


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("whole", [False, True])
def test_threads_that_read_change_nothing(clip, whole):
    truth = CLIPS[clip]()
    masks = moving_hole(18, size=(16, 14), step=(2, 1), **SIZE)
    if whole:
        masks[6:10] = True
    plain, other = (store_of(truth, masks, 3) for _ in range(2))
    with Pool(3) as pool:
        for first in range(0, 18, 2):
            plain.advance(first, first + 1)
            other.advance(first, first + 1, pool=pool)
            assert_same(plain, other)


def test_threads_read_a_tight_budget_too(monkeypatch):
    monkeypatch.setattr(frames, "BUDGET_BYTES", 40000)
    truth = CLIPS["pan"]()
    masks = moving_hole(18, size=(16, 14), step=(2, 1), **SIZE)
    plain, other = (store_of(truth, masks, 8) for _ in range(2))
    with Pool(2) as pool:
        for t in range(18):
            plain.advance(t)
            other.advance(t, pool=pool if t < 4 else None)
            assert len(plain._stored) < 17
            assert_same(plain, other)


def test_a_frame_that_cannot_be_read_ends_the_threads():
    class Broken:
        size = (64, 80)

        def __len__(self):
            return 12

        def __getitem__(self, key):
            if key.start == 8:
                raise OSError("gone")
            return CLIPS["pan"]()[key]

    store = FrameStore(Broken(), MaskTrack.from_array(np.zeros((12, 64, 80), bool)), 12)
    with pytest.raises(OSError, match="gone"), Pool(2) as pool:
        store.advance(0, pool=pool)


def test_what_is_at_hand_stays_while_the_store_moves_on():
    truth = CLIPS["noise begins"]()
    masks = moving_hole(18, size=(16, 14), step=(2, 1), **SIZE)
    store, alone = (store_of(truth, masks, 3) for _ in range(2))
    for one in (store, alone):
        one.advance(5, 6)
    now = store.at_hand()
    for t in range(7, 18):
        store.advance(t)
    assert 2 not in store and 2 in now and 17 not in now
    assert_same(alone, now)
    assert now.neighbours(5) == alone.neighbours(5)


def test_pools_leave_the_process_as_it_was():
    def settings():
        return sys.getswitchinterval(), cv2.getNumThreads()

    before = settings()
    with Pool(1):
        assert settings() == before
    with Pool(2):
        with Pool(2):
            assert sys.getswitchinterval() < before[0] and cv2.getNumThreads() == 1
        assert sys.getswitchinterval() < before[0] and cv2.getNumThreads() == 1
    assert settings() == before
