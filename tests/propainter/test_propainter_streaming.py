"""Whole videos: the same as one pass with everything in memory, at any size and length, with nothing kept too long."""

import numpy as np
import pytest
import torch
from clips import random_clip
from small_propainter import as_inputs

from videopainter.propainter import schedule, streaming
from videopainter.propainter.flow_completion import FlowCompletion, complete_
from videopainter.propainter.modeling import TensorClip
from videopainter.propainter.propagation import propagate_images


def clip_of(frames, masks) -> TensorClip:
    return TensorClip(*as_inputs(frames, masks).values())


def paint(model, frames, masks, **options) -> np.ndarray:
    return np.stack(list(model.paint(clip_of(frames, masks), **options)))


@torch.inference_mode()
def in_one_go(model, frames, masks, neighbor_length, ref_stride, subvideo_length) -> np.ndarray:
    """The public script's order of things, written down plainly: every stage for the whole video, then the next."""
    count = len(frames)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * 2 - 1
    holes = torch.from_numpy(masks).float()[:, None]
    forward, backward = model.optical_flow_model(images, model.config.raft_iter)

    def in_pieces(length, size, overlap, function):
        done = []
        for start in range(0, length, size):
            low, high = max(0, start - overlap), min(length, start + size + overlap)
            made = function(low, high)
            done.append([part[start - low : min(start + size, length) - low] for part in made])
        return [torch.cat(parts) for parts in zip(*done)]

    def completed(low, high):
        flows = forward[low:high].clone(), backward[low:high].clone()
        complete_(model.flow_completion_net, *flows, holes[low : high + 1])
        return flows

    forward, backward = in_pieces(count - 1, subvideo_length, 5, completed)
    filled, left = in_pieces(
        count,
        min(100, subvideo_length),
        10,
        lambda low, high: propagate_images(
            (images * (1 - holes))[low:high],
            holes[low:high],
            forward[low : high - 1],
            backward[low : high - 1],
        ),
    )
    filled = images * (1 - holes) + filled * holes
    result = [None] * count
    for window in schedule.windows(count, neighbor_length, ref_stride, subvideo_length):
        near, chosen = window.neighbours, window.neighbours + window.references
        out = model.inpaint_generator(
            filled[chosen], forward[near[:-1]], backward[near[:-1]], holes[chosen], left[chosen], len(near)
        )
        for i, picture in zip(near, ((out + 1) / 2).permute(0, 2, 3, 1).numpy() * 255):
            new = np.where(masks[i][..., None], picture.astype(np.uint8), frames[i])
            if result[i] is not None:
                new = (result[i].astype(np.float32) * 0.5 + new.astype(np.float32) * 0.5).astype(np.uint8)
            result[i] = new
    return np.stack(result)


@pytest.mark.parametrize(
    "count, options",
    [
        (9, {"neighbor_length": 4, "ref_stride": 2, "subvideo_length": 80}),
        (19, {"neighbor_length": 4, "ref_stride": 3, "subvideo_length": 7}),
        (17, {"neighbor_length": 3, "ref_stride": 1, "subvideo_length": 16}),  # one flow piece, two of images
        (6, {"neighbor_length": 10, "ref_stride": 10, "subvideo_length": 2}),
    ],
)
def test_the_same_as_with_everything_in_memory(model, count, options):
    frames, masks = random_clip(count, 40, 48, seed=count)
    masks[3:5] = False  # some frames have no hole
    streamed, whole = paint(model, frames, masks, **options), in_one_go(model, frames, masks, **options)
    different = streamed[masks] != whole[masks]
    assert different.mean() < 1e-3 and np.abs(streamed.astype(int) - whole).max() <= 1
    assert np.array_equal(streamed[~masks], frames[~masks])
    assert (streamed[masks] != frames[masks]).mean() > 0.5  # something was painted


def test_flows_move_by_pixels(model):
    """The comparison above would be easy if nothing moved."""
    frames, _ = random_clip(3, 128, 128)
    values = as_inputs(frames, frames[..., 0] > 0)["pixel_values_videos"][0] * 2 - 1
    with torch.inference_mode():
        forward, _ = model.optical_flow_model(values, 1)
    assert forward.abs().max() > 1


@pytest.mark.parametrize("height, width", [(16, 16), (17, 33), (130, 20), (48, 64), (129, 135)])
def test_any_size_from_16_comes_back_as_it_was(model, height, width):
    frames, masks = random_clip(3, height, width)
    out = paint(model, frames, masks)
    assert out.shape == frames.shape and out.dtype == np.uint8
    assert np.array_equal(out[~masks], frames[~masks])


@pytest.mark.parametrize("height, width", [(15, 64), (64, 8)])
def test_under_16_pixels(model, height, width):
    frames, masks = np.zeros((2, height, width, 3), np.uint8), np.ones((2, height, width), bool)
    with pytest.raises(ValueError, match=f"16 pixels or more in both directions, not {width}x{height}"):
        paint(model, frames, masks)


def test_size_that_needs_no_continuing_is_not_changed(model):
    """128 x 136 as it is, and as a part of what 128 x 131 is continued to."""
    frames, masks = random_clip(3, 128, 131)
    wider = np.pad(frames, ((0, 0), (0, 0), (0, 5), (0, 0)), mode="edge")
    wider_masks = np.pad(masks, ((0, 0), (0, 0), (0, 5)), mode="edge")
    assert np.array_equal(paint(model, frames, masks), paint(model, wider, wider_masks)[:, :, :131])


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_frames(model, count):
    frames, masks = random_clip(count, 32, 40)
    out = paint(model, frames, masks)
    assert np.array_equal(out[~masks], frames[~masks]) and (out != frames).any()


def test_no_hole_at_all(model):
    frames, masks = random_clip(4, 32, 40)
    calls = []
    out = paint(model, frames, np.zeros_like(masks), watch=lambda *seen: calls.append(seen))
    assert np.array_equal(out, frames) and calls == []


def test_nothing_but_hole(model):
    frames, masks = random_clip(4, 32, 40)
    out = paint(model, frames, np.ones_like(masks))
    assert out.shape == frames.shape and (out != frames).any()


def test_what_lies_in_the_holes_changes_nothing_but_the_flow(model, monkeypatch):
    """With the flow kept the same, hidden pixels never reach the result."""
    frames, masks = random_clip(5, 128, 128)
    flows = {}
    original = model.optical_flow_model.forward

    def remembered(images, iterations):
        if len(images) not in flows:
            flows[len(images)] = original(images, iterations)
        return flows[len(images)]

    monkeypatch.setattr(model.optical_flow_model, "forward", remembered)
    other = frames.copy()
    other[masks] = 255 - other[masks]
    assert np.array_equal(paint(model, frames, masks)[masks], paint(model, other, masks)[masks])


def test_flow_is_only_estimated_where_a_piece_has_holes(model):
    """Holes at both ends of a long clip; the middle is never looked at but as it is."""
    frames, masks = random_clip(60, 32, 40)
    masks[4:56] = False
    seen = []
    out = paint(
        model,
        frames,
        masks,
        neighbor_length=4,
        ref_stride=4,
        subvideo_length=8,
        watch=lambda name, number, value: seen.append((name, number)),
    )
    pairs = sorted(number for name, number in seen if name == "flow")
    assert pairs and not [k for k in pairs if 14 <= k < 42]
    assert {number for name, number in seen if name == "window"} == {0, 1, 2, 27, 28, 29}
    assert np.array_equal(out[~masks], frames[~masks])


def kept_at_most(model, monkeypatch, count) -> tuple:
    """Most (frames, filled frames, flows, encoded frames) that were ever kept at once."""
    most = np.zeros(4, int)
    original = streaming._Painting._forget

    def watched(self, coming):
        now = len(self.pixels._frames), len(self.filled._done), len(self.flows._small), len(self.features)
        np.maximum(most, now, out=most)
        assert len(self.flows._raw) <= 2 * schedule.FLOW_OVERLAP
        original(self, coming)

    monkeypatch.setattr(streaming._Painting, "_forget", watched)
    frames, masks = random_clip(count, 32, 40)
    for _ in model.paint(clip_of(frames, masks), neighbor_length=4, ref_stride=2, subvideo_length=4):
        pass
    return tuple(most)


def test_nothing_piles_up(model, monkeypatch):
    assert kept_at_most(model, monkeypatch, 41) == kept_at_most(model, monkeypatch, 49)


def test_a_window_holds_what_the_next_one_needs_and_no_more(model, monkeypatch):
    frames, masks = random_clip(60, 32, 40)
    options = {"neighbor_length": 4, "ref_stride": 4, "subvideo_length": 24}
    plan = list(schedule.windows(60, *options.values()))
    wanted = [set(window.neighbours + window.references) for window in plan]
    seen, painting = [], None
    start, paint_window = streaming._Painting.__init__, model.inpaint_generator.paint

    def started(self, *args):
        nonlocal painting
        painting = self
        start(self, *args)

    def watched(*args):
        number = len(seen)
        seen.append(set(painting.features))
        assert seen[-1] == wanted[number] & wanted[number + 1] if number + 1 < len(plan) else not seen[-1]
        # Of the frames those of the window that was, too: they may be given out yet.
        assert set(painting.pixels._frames) <= set().union(*wanted[max(0, number - 1) : number + 3])
        return paint_window(*args)

    monkeypatch.setattr(streaming._Painting, "__init__", started)
    monkeypatch.setattr(model.inpaint_generator, "paint", watched)
    assert len(list(model.paint(clip_of(frames, masks), **options))) == 60
    assert len(seen) == len(plan)


def test_frames_are_read_when_they_are_needed(model):
    frames, masks = random_clip(40, 32, 40)
    clip = clip_of(frames, masks)
    read = []
    original = clip.frame
    clip.frame = lambda i: read.append(i) or original(i)
    painted = model.paint(clip, neighbor_length=4, ref_stride=3, subvideo_length=6)
    next(painted)
    assert max(read) < 25
    assert not torch.is_inference_mode_enabled()  # between frames the caller's tensors are ordinary ones


@pytest.mark.parametrize("count", [1, 2, 5, 29])
def test_flow_completion_in_steps_is_exact(count):
    """Encoding and decoding a few frames at a time, against all at once."""
    torch.manual_seed(0)
    network = FlowCompletion(16, 2).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    flows, masks = torch.randn(count, 2, 32, 40), (torch.rand(count, 1, 32, 40) > 0.7).float()
    x = torch.cat((flows * (1 - masks), masks), 1)
    fine = network.encoder1(network.downsample(x))
    coarse = network.intermediate_dilation(network.encoder2(fine))
    coarse = network.feature_propagation_module(coarse)
    expected = network.upsample(network.decoder1(network.decoder2(coarse) + fine))
    torch.testing.assert_close(network(flows, masks), expected, atol=1e-5, rtol=1e-4)
    reverse = network(flows.flip(0), masks.flip(0), reverse=True)
    torch.testing.assert_close(reverse.flip(0), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name, value",
    [
        ("neighbor_length", 1),
        ("ref_stride", 0),
        ("subvideo_length", 0),
        ("raft_iter", 0),
        ("ref_stride", 2.5),
    ],
)
def test_options_that_cannot_be(model, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of . or more, not {value}"):
        model.paint(clip_of(*random_clip(2, 32, 40)), **{name: value})
