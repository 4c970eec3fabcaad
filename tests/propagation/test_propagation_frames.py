"""The store of frames: what it keeps, what it forgets, and what it knows of the camera."""

import cv2
import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.propagation import frames as module
from videopainter.propagation.frames import FrameStore
from videopainter.video import ArraySource

pytestmark = pytest.mark.filterwarnings("error")

H, W, N = 96, 128, 24


def texture(seed=0):
    layer = np.random.default_rng(seed).normal(size=(H, W, 3))
    picture = sum(p / p.std() for p in (cv2.GaussianBlur(layer, (0, 0), s) for s in (1.2, 3, 8)))
    return np.clip(125 + 25 * picture, 30, 220).astype(np.uint8)


def still(n=N, seed=0):
    return np.repeat(texture(seed)[None], n, 0)


def panned(n=N, step=2):
    return np.stack([np.roll(texture(), step * t, 1) for t in range(n)])


def holes(n=N):
    masks = np.zeros((n, H, W), bool)
    for t in range(n):
        masks[t, 20 + t : 40 + t, 10 + 3 * t : 36 + 3 * t] = True
    return masks


def store_of(video, radius, masks=None):
    return FrameStore(
        ArraySource(video), MaskTrack.from_array(holes(len(video)) if masks is None else masks), radius
    )


def kept(store, n=N):
    return [i for i in range(n) if i in store]


@pytest.mark.parametrize("radius", [1, 4, 60])
def test_frames_within_the_radius_are_kept_as_they_are(radius):
    video, masks = panned(), holes()
    store = store_of(video, radius)
    for t in range(N):
        store.advance(t)
        assert kept(store) == list(range(max(0, t - radius), min(N, t + radius + 1)))
        for i in kept(store)[::3]:
            np.testing.assert_array_equal(store.colour(i), video[i])
            np.testing.assert_array_equal(store.hole(i), masks[i])


def test_a_source_may_use_its_memory_again():
    class Reusing:
        size, memory = (H, W), np.empty((1, H, W, 3), np.uint8)

        def __len__(self):
            return 6

        def __getitem__(self, key):
            self.memory[:] = 10 * key.start
            return self.memory

    store = FrameStore(Reusing(), MaskTrack.from_array(holes(6)), 6)
    store.advance(0)
    assert [int(store.colour(i).max()) for i in range(6)] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("step", [2, 4])
def test_a_pan_in_growing_light_is_a_pan(step):
    light = 1.02 ** np.arange(N)
    video = np.rint((panned(step=step) // 2 + 30) * light[:, None, None, None]).astype(np.uint8)
    store = store_of(video, 60)
    store.advance(N - 1)
    assert not any(store.is_fixed(i) for i in range(N))
    moved = [store.camera(i, i + 1)[0, 2] for i in range(N - 1)]
    np.testing.assert_allclose(moved, step, atol=0.5)


def test_a_forgotten_frame_is_forgotten_altogether():
    store = store_of(still(), 4)
    for t in range(N):
        store.advance(t)
        for i in range(0, t - 4):
            assert i not in store and not store.is_fixed(i) and i not in store.neighbours(t)
            for look in (store.colour, store.grey, store.hole, store.coarse_hole):
                with pytest.raises(KeyError):
                    look(i)


def test_a_byte_budget_keeps_fewer_frames_as_many_behind_as_ahead(monkeypatch):
    store = store_of(still(), 10)
    store.advance(0)
    each = store.bytes / len(kept(store))
    monkeypatch.setattr(module, "BUDGET_BYTES", int(7 * each))
    store = store_of(still(), 10)
    for t in range(N):
        store.advance(t)
        assert t in store and 5 <= len(kept(store)) <= 9
        assert store.bytes < 9 * each
        if 6 < t < N - 6:
            assert abs((t - min(kept(store))) - (max(kept(store)) - t)) <= 2


def test_large_frames_have_a_larger_budget():
    small, large = (
        FrameStore(
            ArraySource(np.zeros((1, h, w, 3), np.uint8)), MaskTrack.from_array(np.zeros((1, h, w), bool)), 1
        )
        for h, w in ((480, 720), (960, 1440))
    )
    assert large.budget == 4 * small.budget


def test_neighbours_are_near_ones_of_the_same_shot():
    masks = holes()
    masks[9] = True  # shows nothing
    store = store_of(np.concatenate([still(12), still(12, seed=5)]), 60, masks)
    store.advance(0)
    assert store.neighbours(10) == [11, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert sorted(store.neighbours(12)) == list(range(13, N))
    assert store.camera(11, 12) is None and store.camera(12, 11) is None and store.camera(0, 20) is None
    assert store.camera(0, 11) is not None and store.camera(12, 20) is not None


def test_a_fixed_camera_is_told_from_a_moving_one():
    store = store_of(still(), 60)
    store.advance(0)
    assert all(store.is_fixed(i) for i in range(N))
    np.testing.assert_array_equal(store.camera(2, 20), np.eye(3))
    store = store_of(panned(), 60)
    store.advance(0)
    assert not any(store.is_fixed(i) for i in range(N))
    np.testing.assert_allclose(store.camera(2, 5)[:2, 2], (6, 0), atol=0.6)
    np.testing.assert_allclose(store.camera(5, 2) @ store.camera(2, 5), np.eye(3), atol=1e-6)


def test_the_grey_picture_has_its_hole_filled():
    video, masks = still(2), holes(2)
    video[masks] = (255, 0, 255)
    store = store_of(video, 1)
    store.advance(0)
    grey, hole = store.grey(0)
    np.testing.assert_array_equal(hole, masks[0])
    np.testing.assert_array_equal(grey[~hole], cv2.cvtColor(video[0], cv2.COLOR_RGB2GRAY)[~hole])
    around = grey[10:50, 5:50]
    assert around.min() <= grey[hole].min() and grey[hole].max() <= around.max()
    assert grey[hole].std() < grey[~hole].std()
