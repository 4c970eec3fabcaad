"""Frames that are hidden altogether, seen by a camera that moves evenly or does not."""

import cv2
import numpy as np
import pytest
from made_clips import H, W, db, fill, hidden, texture

from videopainter.masks import MaskTrack
from videopainter.propagation import bridge
from videopainter.propagation.frames import FrameStore
from videopainter.video import ArraySource

FRAMES, FIRST, STOP = 24, 9, 15


def seen_along(path):
    """A camera at each of ``path``, float (n, 2), and its frames FIRST to STOP hidden."""
    big = texture(2 * H, 2 * W)
    shifts = [np.float32([[1, 0, -W / 2 - x], [0, 1, -H / 2 - y]]) for x, y in path]
    truth = np.stack([cv2.warpAffine(big, shift, (W, H), flags=cv2.INTER_CUBIC) for shift in shifts])
    masks = np.zeros(truth.shape[:3], bool)
    masks[FIRST:STOP] = True
    return truth, masks


def even():
    return np.arange(FRAMES)[:, None] * np.array([1.5, -0.5])


def restless():
    t = np.arange(FRAMES)
    return np.stack([4 * np.sin(t / 2.1), 3 * np.sin(t / 1.7 + 1)], axis=-1)


def astray(path):
    truth, masks = seen_along(path)
    store = FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), 60)
    store.advance(0)
    return bridge.astray(store, FIRST - 1, STOP)


def test_unrest_is_told_by_the_path_before_and_after():
    assert astray(np.zeros((FRAMES, 2))) < 1e-6
    assert astray(even()) < 0.2
    assert 0.8 < astray(restless()) <= 1.5


def test_a_path_of_few_frames_tells_nothing(monkeypatch):
    monkeypatch.setattr(bridge, "_TOLD", 12)
    assert astray(restless()) == 0


@pytest.mark.parametrize("path", [even, restless])
def test_no_worse_than_a_cross_fade(path, monkeypatch):
    truth, masks = seen_along(path())
    result, hole = fill(truth, masks), masks.copy()
    share = (np.arange(FIRST, STOP) - FIRST + 1)[:, None, None, None] / (STOP - FIRST + 1)
    fade = truth.copy()
    fade[FIRST:STOP] = np.rint((1 - share) * truth[FIRST - 1] + share * truth[STOP])
    assert db(result, truth, hole) > db(fade, truth, hole)
    monkeypatch.setattr(bridge, "astray", lambda *args: 0.0)
    sharp = fill(truth, masks)
    if path is even:
        np.testing.assert_array_equal(result, sharp)
    else:
        assert db(result, truth, hole) > db(sharp, truth, hole) + 0.5


def test_a_fade_from_black_is_no_worse_than_a_cross_fade_and_has_no_rims():
    path = np.arange(FRAMES)[:, None] * np.array([0.4, 0.2])
    bright, masks = seen_along(path)
    shares = np.clip((np.arange(FRAMES) - 5) / 12, 0, 1)[:, None, None, None]
    truth = np.rint(bright * shares * 0.8).astype(np.uint8)
    result = fill(truth, masks)
    share = (np.arange(FIRST, STOP) - FIRST + 1)[:, None, None, None] / (STOP - FIRST + 1)
    fade = truth.copy()
    fade[FIRST:STOP] = np.rint((1 - share) * truth[FIRST - 1] + share * truth[STOP])
    assert db(result, truth, masks) > db(fade, truth, masks) - 0.1
    middle = (FIRST + STOP) // 2
    rim = np.ones((H, W), bool)
    rim[6:-6, 6:-6] = False
    brightness = [float(frame[middle][rim].mean()) for frame in (result, truth)]
    assert abs(brightness[0] - brightness[1]) < 4
