import subprocess
import sys

import numpy as np
import pytest
import torch
from small_dstt import box, film, lively

from videopainter.dstt.config import preset
from videopainter.dstt.model import DSTT
from videopainter.dstt.runner import TorchRunner
from videopainter.dstt.stream import DSTTStream, working_size
from videopainter.dstt.training.validate import WithoutPrevious

SIZE = (40, 64)


def play(stream, frames, masks):
    return np.stack([stream(f, m) for f, m in zip(frames, masks)])


def moving_hole(frames=6, size=SIZE):
    return np.stack([box(size, left=8 + 6 * t) for t in range(frames)])


@pytest.mark.parametrize("size", [(32, 48), (90, 61), (24, 20), (11, 130)], ids=str)
def test_known_pixels_are_given_back_at_any_size(tiny, size):
    frames = film(3, size, (1, 0))
    masks = np.stack([box(size, 4, 4 + t, 6, 9) for t in range(3)])
    out = play(DSTTStream(tiny), frames, masks)
    assert out.dtype == np.uint8 and out.shape == frames.shape
    np.testing.assert_array_equal(out[~masks], frames[~masks])
    assert (out[masks] != frames[masks]).any()


def test_the_content_of_the_hole_does_not_matter(tiny):
    frames, masks = film(5, SIZE, (1, 0)), moving_hole(5)
    other = frames.copy()
    other[masks] = (255, 0, 255)
    np.testing.assert_array_equal(play(DSTTStream(tiny), frames, masks), play(DSTTStream(tiny), other, masks))


def test_no_frame_depends_on_a_later_one(tiny):
    frames, masks = film(6, SIZE, (1, 0)), moving_hole()
    other = frames.copy()
    other[4:] = 255 - other[4:]
    a, b = play(DSTTStream(tiny), frames, masks), play(DSTTStream(tiny), other, masks)
    np.testing.assert_array_equal(a[:4], b[:4])


@pytest.mark.parametrize("size", [(32, 48), (96, 144)], ids=str)
def test_what_was_seen_before_comes_back(size):
    """An untrained network already brings back what a hole hides only now, in full resolution and without blur."""
    frames = film(12, size)
    frames = np.stack([frames[0]] * 12)
    masks = np.zeros((12, *size), bool)
    masks[6:] = box(size, 8, 12, 12, 16)
    out = play(DSTTStream(DSTT(preset("tiny"))), frames, masks)
    error = np.abs(out[masks].astype(int) - frames[masks])
    assert error.mean() < 6
    alone = WithoutPrevious(DSTT(preset("tiny")))
    assert np.abs(play(alone, frames, masks)[masks].astype(int) - frames[masks]).mean() > 3 * error.mean()


def test_streams_of_a_batch_are_streams_by_themselves(tiny):
    films = [film(5, SIZE, (1, 0)), film(5, SIZE, (0, 2), seed=3)]
    masks = [moving_hole(5), moving_hole(5)[:, ::-1].copy()]
    together = play(DSTTStream(tiny, batch=2), np.stack(films, 1), np.stack(masks, 1))
    for i in range(2):
        alone = play(DSTTStream(tiny), films[i], masks[i])
        assert np.abs(together[:, i].astype(int) - alone).max() <= 1


def test_reset_makes_the_next_frame_a_first_one(tiny):
    frames, masks = film(3, SIZE, (1, 0)), moving_hole(3)
    stream = DSTTStream(tiny)
    first = play(stream, frames, masks)
    assert (play(stream, frames, masks) != first).any()
    stream.reset()
    np.testing.assert_array_equal(play(stream, frames, masks), first)
    stream.reset()
    assert stream(film(1, (30, 40))[0], box((30, 40))).shape == (30, 40, 3)


def test_one_stream_of_a_batch_can_be_reset(tiny):
    frames, masks = film(3, SIZE, (1, 0)), moving_hole(3)
    stream = DSTTStream(tiny, batch=2)
    first = stream(np.stack([frames[0]] * 2), np.stack([masks[0]] * 2))
    stream(np.stack([frames[1]] * 2), np.stack([masks[1]] * 2))
    stream.reset(1)
    again = stream(np.stack([frames[0]] * 2), np.stack([masks[0]] * 2))
    np.testing.assert_array_equal(again[1], first[1])
    assert (again[0] != first[0]).any()
    with pytest.raises(ValueError, match="no stream 2"):
        stream.reset(2)


def test_a_cut_is_a_new_start(tiny):
    before, after = film(3, SIZE, (1, 0)), film(3, SIZE, (1, 0), seed=7)
    masks = moving_hole(3)
    cut, fresh = DSTTStream(tiny, size=SIZE), DSTTStream(tiny, size=SIZE)
    play(cut, before, masks)
    np.testing.assert_array_equal(play(cut, after, masks), play(fresh, after, masks))


def test_warm_start_is_a_look_at_earlier_frames(tiny):
    frames, masks = film(6, SIZE, (1, 0)), moving_hole()
    stream = DSTTStream(tiny)
    assert stream.warm_start(frames[:3]) is None
    warm = play(stream, frames[3:], masks[3:])
    masks[:3] = False
    np.testing.assert_array_equal(warm, play(DSTTStream(tiny), frames, masks)[3:])
    stream.reset()
    stream.warm_start(frames[:3], moving_hole()[:3])
    np.testing.assert_array_equal(
        play(stream, frames[3:], masks[3:]), play(DSTTStream(tiny), frames, moving_hole())[3:]
    )


@pytest.mark.parametrize("fill", [False, True], ids=["none", "all"])
def test_frames_without_a_hole_and_without_anything_known(tiny, fill):
    frames = film(3, SIZE)
    masks = np.full((3, *SIZE), fill)
    out = play(DSTTStream(tiny), frames, masks)
    assert out.shape == frames.shape
    if not fill:
        np.testing.assert_array_equal(out, frames)


def test_the_memory_does_not_grow(tiny):
    sizes = []

    class Counting(TorchRunner):
        def __call__(self, *arrays):
            result = super().__call__(*arrays)
            sizes.append(tuple(result[2].shape))
            return result

    play(DSTTStream(Counting(tiny)), film(8, SIZE), moving_hole(8))
    assert set(sizes) == {tiny.config.memory_shape(1, working_size(SIZE, tiny.config.size))}


def test_a_network_of_one_size_is_given_only_that(tiny):
    class Fixed(TorchRunner):
        any_size = False

    stream = DSTTStream(Fixed(tiny))
    frames = film(2, (50, 50))
    assert stream(frames[0], box((50, 50))).shape == (50, 50, 3)
    assert stream.working_size == tiny.config.size
    with pytest.raises(ValueError, match=r"\(32, 48\) only"):
        DSTTStream(Fixed(tiny), size=(40, 40))


def test_a_size_can_be_asked_for(tiny):
    stream = DSTTStream(tiny, size=(24, 32))
    stream(film(1, SIZE)[0], box())
    assert stream.working_size == (24, 32)


@pytest.mark.parametrize(
    "frame, expected",
    [((120, 216), (120, 216)), ((60, 80), (60, 80)), ((480, 640), (140, 184)), ((1280, 720), (216, 120))],
    ids=str,
)
def test_working_size_has_the_networks_area_in_the_frames_proportions(frame, expected):
    assert working_size(frame, (120, 216)) == expected


@pytest.mark.parametrize(
    "frame, mask, words",
    [
        (np.zeros((40, 64, 3), np.float32), box(), "float32"),
        (np.zeros((40, 64), np.uint8), box(), r"\(40, 64\)"),
        (np.zeros((40, 64, 3), np.uint8), box((40, 60)), r"\(40, 60\)"),
        (np.zeros((40, 64, 3), np.uint8), box().astype(np.uint8), "uint8"),
        (np.zeros((4, 64, 3), np.uint8), np.zeros((4, 64), bool), "4 x 64"),
    ],
    ids=["dtype", "grey", "other-size", "mask-dtype", "too-small"],
)
def test_frames_and_masks_that_do_not_fit(tiny, frame, mask, words):
    with pytest.raises(ValueError, match=words):
        DSTTStream(tiny)(frame, mask)


def test_other_things_that_do_not_fit(tiny):
    stream = DSTTStream(tiny)
    stream(film(1, SIZE)[0], box())
    with pytest.raises(ValueError, match=r"\(30, 40\)"):
        stream(film(1, (30, 40))[0], box((30, 40)))
    with pytest.raises(ValueError, match="2 streams"):
        DSTTStream(tiny, batch=2)(film(3, SIZE), np.stack([box()] * 3))
    with pytest.raises(ValueError, match="0"):
        DSTTStream(tiny, batch=0)
    with pytest.raises(ValueError, match=r"\(4, 40\)"):
        DSTTStream(tiny, size=(4, 40))


def test_half_precision_weights_run(tiny):
    model = lively(DSTT(preset("tiny"))).to(torch.bfloat16)
    out = play(DSTTStream(model), film(3, SIZE), moving_hole(3))
    full = play(DSTTStream(tiny), film(3, SIZE), moving_hole(3))
    assert np.abs(out.astype(int) - full).mean() < 4


def test_the_stream_does_not_need_pytorch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import videopainter.dstt.stream, videopainter.dstt.align, videopainter.dstt.runner"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
