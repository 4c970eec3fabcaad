"""What is worked out of frames ahead of their turn changes nothing."""

import numpy as np
import pytest
from made_clips import handheld, hidden, moving_hole, scene

from videopainter.masks import MaskTrack
from videopainter.propagation.frames import FrameStore
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


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("whole", [False, True])
def test_looking_ahead_changes_nothing(clip, whole):
    truth = CLIPS[clip]()
    masks = moving_hole(18, size=(16, 14), step=(2, 1), **SIZE)
    if whole:
        masks[6:10] = True
    stores = [FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), 3) for _ in range(2)]
    found = 0
    for first in range(0, 18, 2):
        for ahead, store in enumerate(stores):
            store.advance(first, first + 1)
            if ahead and first < 16:
                store.look_ahead(first + 3)
                found += len(store._ahead)
        plain, other = stores
        assert plain._stored.keys() == other._stored.keys() and plain._fixed == other._fixed
        for i in plain._stored:
            assert plain.noise(i) == other.noise(i)
            np.testing.assert_array_equal(plain.colour(i), other.colour(i))
            np.testing.assert_array_equal(plain.grey(i)[0], other.grey(i)[0])
            assert plain._stored[i].shot == other._stored[i].shot
            if i + 1 in plain and plain._stored[i].camera_to_next is not None:
                np.testing.assert_array_equal(plain.camera(i, i + 1), other.camera(i, i + 1))
    assert found >= 8
