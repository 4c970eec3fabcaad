"""Whole videos: the same as the published script's way with everything in memory, at any size and length."""

import numpy as np
import pytest
import torch
from clips import ArrayClip, random_clip
from small_e2fgvi import lively_model

from videopainter.e2fgvi import streaming
from videopainter.e2fgvi.schedule import NEAREST, windows
from videopainter.e2fgvi.streaming import Settings, mirror


def paint(model, frames, masks, watch=None, **options) -> np.ndarray:
    extra = {} if watch is None else {"watch": watch}
    return np.stack(list(streaming.paint(model, ArrayClip(frames, masks), Settings(**options), **extra)))


@torch.inference_mode()
def in_one_go(model, frames, masks, **options) -> np.ndarray:
    """The published script's order of things, written down plainly."""
    height, width = frames.shape[1:3]
    high, wide = model.config.network_size(height, width)
    holes = torch.from_numpy(masks)[:, None]
    images = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * 2 - 1) * ~holes
    while images.shape[2] < high or images.shape[3] < wide:  # the frame and its mirror image, in turn
        images = torch.cat((images, images.flip(2)), 2)
        images = torch.cat((images, images.flip(3)), 3)
    images = images[..., :high, :wide]
    result = [None] * len(frames)
    for window in windows(len(frames), **options):
        out, _, _ = model(images[window.neighbours + window.references], len(window.neighbours))
        pictures = ((out[..., :height, :width] + 1) / 2).permute(0, 2, 3, 1).numpy() * 255
        for i, picture in zip(window.neighbours, pictures):
            new = np.where(masks[i][..., None], picture.astype(np.uint8), frames[i])
            before = result[i]
            result[i] = (
                new if before is None else before.astype(np.float32) * 0.5 + new.astype(np.float32) * 0.5
            )
    return np.stack([frame.astype(np.uint8) for frame in result])


OPTIONS = [
    (13, {}),
    (9, {"neighbor_stride": 2, "ref_stride": 3, "num_ref": 2}),
    (12, {"neighbor_stride": 3, "ref_stride": 2, "num_ref": -1}),
    (7, {"neighbor_stride": 1, "ref_stride": 1, "num_ref": 0}),
    (5, {"neighbor_stride": 40, "ref_stride": 40, "num_ref": 5}),
]


@pytest.mark.parametrize("count, options", OPTIONS, ids=[f"{count} frames" for count, _ in OPTIONS])
def test_the_same_as_with_everything_in_memory(model, count, options):
    frames, masks = random_clip(count, 56, 70, seed=count)
    masks[3:5] = False  # some frames have no hole
    whole = in_one_go(model, frames, masks, **options)
    streamed = paint(model, frames, masks, **options)
    different = streamed[masks] != whole[masks]
    assert different.mean() < 1e-3 and np.abs(streamed.astype(int) - whole).max() <= 1
    assert np.array_equal(streamed[~masks], frames[~masks])
    assert (streamed[masks] != frames[masks]).mean() > 0.5  # something was painted


def test_flows_move_by_pixels_and_references_matter(model):
    """The comparison above would be easy if nothing moved, or nothing but neighbours counted."""
    frames, masks = random_clip(9, 56, 70)
    flows = []
    options = {"neighbor_stride": 2, "ref_stride": 2}
    with_references = paint(
        model,
        frames,
        masks,
        lambda name, i, value: name == "flow" and flows.append(value.abs().max()),
        **options,
    )
    assert max(flows) > 0.3
    without = paint(model, frames, masks, num_ref=0, **options)
    assert (with_references != without).any()


def test_features_and_flows_are_made_once(model):
    frames, masks = random_clip(30, 40, 40)
    made = []
    paint(
        model, frames, masks, lambda name, i, value: made.append((name, i)), neighbor_stride=2, ref_stride=5
    )
    assert sorted(i for name, i in made if name == "encoded") == list(range(30))
    assert sorted(i for name, i in made if name == "flow") == list(range(29))


def test_windows_without_a_hole_are_left_out(model):
    frames, masks = random_clip(40, 40, 40)
    masks[:17], masks[20:] = False, False
    seen = []
    out = paint(
        model, frames, masks, lambda name, i, value: seen.append((name, i, len(value))), neighbor_stride=3
    )
    painted = [(i, n) for name, i, n in seen if name == "window"]
    # Windows 5, 6 and 7 reach 12..18, 15..21 and 18..24; of their frames 17, 18 and 19 have a hole.
    assert painted == [(5, 2), (6, 3), (7, 2)]
    encoded = [i for name, i, _ in seen if name == "encoded"]
    assert sorted(encoded) == [0, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 30]
    assert np.array_equal(out[~masks], frames[~masks]) and (out[masks] != frames[masks]).any()


@pytest.mark.parametrize(
    "height, width", [(16, 16), (17, 33), (60, 108), (61, 20), (130, 20)], ids=lambda n: str(n)
)
def test_any_size_from_16_comes_back_as_it_was(model, height, width):
    frames, masks = random_clip(3, height, width)
    out = paint(model, frames, masks)
    assert out.shape == frames.shape and out.dtype == np.uint8
    assert np.array_equal(out[~masks], frames[~masks]) and (out[masks] != frames[masks]).any()


@pytest.mark.parametrize("height, width", [(15, 64), (64, 8)])
def test_under_16_pixels(model, height, width):
    frames, masks = np.zeros((2, height, width, 3), np.uint8), np.ones((2, height, width), bool)
    with pytest.raises(ValueError, match=f"16 pixels or more in both directions, not {width}x{height}"):
        paint(model, frames, masks)


def test_frames_are_continued_by_mirror_images():
    assert mirror(3, 3).tolist() == [0, 1, 2]
    assert mirror(3, 5).tolist() == [0, 1, 2, 2, 1]
    assert mirror(2, 9).tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0]


def test_what_is_in_the_hole_never_counts(model):
    frames, masks = random_clip(5, 40, 44)
    other = frames.copy()
    other[masks] = 255 - other[masks]
    one, two = paint(model, frames, masks), paint(model, other, masks)
    assert np.array_equal(one, two)


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_frames(model, count):
    frames, masks = random_clip(count, 32, 40)
    out = paint(model, frames, masks)
    assert np.array_equal(out[~masks], frames[~masks]) and (out != frames).any()


def test_no_hole_at_all_needs_no_network(model):
    frames, masks = random_clip(4, 32, 40)
    seen = []
    out = paint(model, frames, np.zeros_like(masks), lambda *what: seen.append(what))
    assert np.array_equal(out, frames) and not seen


def test_nothing_known_at_all(model):
    frames, masks = random_clip(4, 32, 40)
    out = paint(model, frames, np.ones_like(masks))
    assert out.shape == frames.shape and np.array_equal(out, paint(model, 255 - frames, np.ones_like(masks)))


def test_the_base_variant_takes_one_size_only():
    base = lively_model(variant="base")
    frames, masks = random_clip(2, 40, 44)
    with pytest.raises(ValueError, match="takes 432x240 only, not 44x40"):
        paint(base, frames, masks)
    frames, masks = random_clip(2, 240, 432)
    assert (paint(base, frames, masks) != frames).any()


# -- memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_ref", [None, 4], ids=["nearest", "four"])
def test_nothing_piles_up(model, monkeypatch, num_ref):
    """What is kept between windows is as much after 280 frames as after 200."""
    kept = []
    original = streaming._Painting._finished

    def watched(self, i):
        kept.append((len(self._frames), len(self._flows), len(self._painted), len(self._holes)))
        return original(self, i)

    monkeypatch.setattr(streaming._Painting, "_finished", watched)
    # The network itself is of no interest here.
    monkeypatch.setattr(model, "encode", lambda frames: frames.new_zeros(len(frames), 16, 1, 1))
    monkeypatch.setattr(model, "flow", lambda frames: (frames.new_zeros(len(frames) - 1, 2, 1, 1),) * 2)
    monkeypatch.setattr(model, "paint", lambda f, a, b, n, wanted: f.new_zeros(len(wanted), 3, 16, 16))
    frames, masks = np.zeros((400, 16, 16, 3), np.uint8), np.ones((400, 16, 16), bool)
    paint(model, frames, masks, num_ref=num_ref)
    first, second = np.array(kept[120:200]).max(0), np.array(kept[200:280]).max(0)
    assert (first == second).all()
    assert first[0] <= 11 + NEAREST + 1 and (first[1:3] <= 11).all() and first[3] <= 11 + NEAREST


# -- which frames ----------------------------------------------------------------------------------------


def test_up_to_eight_references_nothing_differs_from_the_published_rule():
    for length in (1, 12, 80):
        assert list(windows(length)) == list(windows(length, num_ref=-1))
    for window in windows(320):
        assert len(window.references) == NEAREST
    middle = list(windows(320))[30]
    assert (middle.neighbours[0], middle.neighbours[-1]) == (145, 155)
    assert middle.references == [110, 120, 130, 140, 160, 170, 180, 190]


@pytest.mark.parametrize("stride, ref_stride", [(5, 10), (12, 2), (3, 7), (1, 1), (40, 3)])
def test_the_nearest_references_are_the_nearest_of_all(stride, ref_stride):
    for number, window in enumerate(windows(200, stride, ref_stride)):
        others = [i for i in range(0, 200, ref_stride) if i not in window.neighbours]
        distances = sorted(abs(i - stride * number) for i in others)[:NEAREST]
        assert sorted(abs(i - stride * number) for i in window.references) == distances
        assert set(window.references) <= set(others)


@pytest.mark.parametrize("num_ref", [None, -1, 0, 3, 4, 50])
@pytest.mark.parametrize("length", [1, 9, 30, 35, 101])
def test_windows_hold_only_frames_that_there_are(length, num_ref):
    plan = list(windows(length, 5, 10, num_ref))
    assert sorted({i for w in plan for i in w.neighbours}) == list(range(length))
    for window in plan:
        both = window.neighbours + window.references
        assert len(both) == len(set(both)) and all(0 <= i < length for i in both)
        assert window.references == sorted(window.references)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"neighbor_stride": 0}, "neighbor_stride must be a whole number of 1 or more, not 0"),
        ({"ref_stride": 2.5}, "ref_stride must be a whole number of 1 or more, not 2.5"),
        ({"num_ref": -2}, "num_ref must be a whole number of -1 or more, not -2"),
        ({"num_ref": True}, "num_ref must be .*, not True"),
    ],
    ids=["neighbours", "stride", "references", "truth"],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        Settings(**options)
