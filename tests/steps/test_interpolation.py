"""Frames between painted ones: carried by the motion that is there, not faded."""

import cv2
import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.steps.interpolation import carry, with_last
from videopainter.video import ArraySource

H, W, N = 96, 144, 13
KEYS = [0, 3, 6, 9, 12]


def scene(shifts):
    """uint8 (n, H, W, 3): a smooth texture, shifted by `shifts` [(x, y), ...] in pixels."""
    rng = np.random.default_rng(0)
    big = rng.integers(20, 236, ((H + 80) // 8, (W + 80) // 8, 3), np.uint8)
    big = cv2.resize(big, (W + 80, H + 80), interpolation=cv2.INTER_CUBIC)
    move = [np.array([[1, 0, -40 + x], [0, 1, -40 + y]], np.float32) for x, y in shifts]
    return np.stack([cv2.warpAffine(big, m, (W, H), flags=cv2.INTER_CUBIC) for m in move])


def block(count=N):
    masks = np.zeros((count, H, W), bool)
    masks[:, 35:65, 50:95] = True
    return masks


def error(one, other, mask):
    return np.abs(one[mask].astype(int) - other[mask]).mean()


def spoiled(truth, masks):
    """What the camera saw: something else in every hole."""
    video = truth.copy()
    video[masks] = (255, 0, 0)
    return video


@pytest.mark.parametrize("name", ["pan", "shaking hand"])
def test_the_content_moves_with_the_camera(name):
    rng = np.random.default_rng(2)
    steady = [(2.0 * i, 0.7 * i) for i in range(N)]
    shaken = [(x + rng.uniform(-2, 2), y + rng.uniform(-2, 2)) for x, y in steady]
    truth, masks = scene(steady if name == "pan" else shaken), block()
    source = ArraySource(spoiled(truth, masks), 24)
    out = list(carry(source, MaskTrack.from_array(masks), KEYS, (truth[k] for k in KEYS)))
    assert len(out) == N
    for i in range(N):
        if i in KEYS:
            np.testing.assert_array_equal(out[i], truth[i])
            continue
        a = i // 3 * 3
        faded = (truth[a] * (1 - (i - a) / 3) + truth[a + 3] * ((i - a) / 3)).astype(np.uint8)
        assert error(out[i], truth[i], masks[i]) < 0.5 * error(faded, truth[i], masks[i])
        np.testing.assert_array_equal(out[i][~masks[i]], truth[i][~masks[i]])


def test_a_painted_thing_moves_by_itself():
    """A still camera, and in the hole something that goes its own way: it is seen once, in between."""
    truth, masks = scene([(0, 0)] * N), block()
    yy, xx = np.mgrid[:H, :W]
    rng = np.random.default_rng(1)
    skin = cv2.resize(rng.integers(0, 90, (5, 5, 3), np.uint8), (16, 16), interpolation=cv2.INTER_CUBIC)
    for i in range(N):
        truth[i, 42:58, 55 + 2 * i : 71 + 2 * i] = skin
    source = ArraySource(spoiled(truth, masks), 24)
    out = list(carry(source, MaskTrack.from_array(masks), KEYS, (truth[k] for k in KEYS)))
    for i in (1, 2, 4, 5, 7, 8):
        a = i // 3 * 3
        faded = (truth[a] * (1 - (i - a) / 3) + truth[a + 3] * ((i - a) / 3)).astype(np.uint8)
        assert error(out[i], truth[i], masks[i]) < 0.6 * error(faded, truth[i], masks[i])


def test_nothing_is_carried_over_a_cut():
    one, masks = scene([(0, 0)] * N), block()
    fine = np.random.default_rng(7).integers(0, 256, (H // 3, W // 3, 3), np.uint8)
    other = np.repeat(cv2.resize(fine, (W, H), interpolation=cv2.INTER_CUBIC)[None], N, axis=0)
    truth = np.concatenate([one[:5], other[5:]])
    source = ArraySource(spoiled(truth, masks), 24)
    out = list(carry(source, MaskTrack.from_array(masks), KEYS, (truth[k] for k in KEYS)))
    assert error(out[4], truth[4], masks[4]) < 6 and error(out[5], truth[5], masks[5]) < 6


def test_painted_frames_are_asked_for_one_after_the_other():
    truth, masks = scene([(i, 0) for i in range(N)]), block()
    asked = []

    def painted():
        for k in KEYS:
            asked.append(k)
            yield truth[k]

    frames = carry(ArraySource(truth, 24), MaskTrack.from_array(masks), KEYS, painted())
    next(frames)
    assert asked == [0]
    next(frames)
    assert asked == [0, 3]
    assert len(list(frames)) == N - 2


def test_a_hole_that_comes_and_goes_and_touches_the_edge():
    truth, masks = scene([(i, 0) for i in range(N)]), block() & False
    masks[4:6, :20, 120:] = True
    out = list(carry(ArraySource(truth, 24), MaskTrack.from_array(masks), KEYS, (truth[k] for k in KEYS)))
    for i in range(N):
        np.testing.assert_array_equal(out[i][~masks[i]], truth[i][~masks[i]])
    assert error(out[5], truth[5], masks[5]) < 10


def test_a_tiny_picture():
    frames = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), np.uint8)
    masks = np.zeros((4, 12, 10), bool)
    masks[:, 3:6, 3:6] = True
    out = list(
        carry(ArraySource(frames, 24), MaskTrack.from_array(masks), [0, 3], iter([frames[0], frames[3]]))
    )
    assert len(out) == 4 and all(frame.shape == (12, 10, 3) for frame in out)


@pytest.mark.parametrize(
    "numbers, length, expected", [([0, 3], 6, [0, 3, 5]), ([0, 3], 4, [0, 3]), ([0], 1, [0])]
)
def test_the_last_frame_is_painted(numbers, length, expected):
    assert with_last(numbers, length) == expected
