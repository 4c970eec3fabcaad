"""The properties that the description promises, each by itself."""

from dataclasses import replace

import pytest
import torch
from small_dstt import lively

from videopainter.dstt.config import MAPS, preset
from videopainter.dstt.model import (
    DSTT,
    MemoryAttention,
    SpatialBlock,
    TemporalBlock,
    TokensToFeatures,
    centre_crop,
    from_zones,
    pad_to_fours,
    to_zones,
)

TINY = preset("tiny")


def inputs(size=TINY.size, n=1, seed=0, config=TINY):
    """frame, mask (a box in the middle), previous, maps, an empty memory."""
    g = torch.Generator().manual_seed(seed)
    h, w = size
    frame, previous = (torch.rand(n, 3, h, w, generator=g) * 2 - 1 for _ in range(2))
    mask = torch.zeros(n, 1, h, w)
    mask[..., h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = 1
    maps = torch.rand(n, MAPS, h, w, generator=g)
    return frame, mask, previous, maps, torch.zeros(config.memory_shape(n, size))


def run(model, *tensors):
    with torch.no_grad():
        return model(*tensors)


def hole(output, mask):
    return output[mask.expand_as(output) > 0.5]


def test_known_pixels_pass_through_exactly(tiny):
    frame, mask, *rest = inputs()
    output, _, _ = run(tiny, frame, mask, *rest)
    known = mask.expand_as(frame) == 0
    assert torch.equal(output[known], frame[known])
    assert (output[~known] != frame[~known]).any()
    assert output.abs().max() <= 1


def test_an_untrained_network_is_its_two_guesses():
    frame, mask, previous, maps, memory = inputs()
    maps[:, :1], maps[:, 3:4], maps[:, 4:] = 1, 1, 0
    maps[:, 1:2] = 0
    model = DSTT(TINY)
    output, share, _ = run(model, frame, mask, previous, maps, memory)
    assert (output - frame).abs().max() < 0.02 and share.max() < 0.01
    maps[:, 1:2] = 1
    output, share, _ = run(model, frame, mask, previous, maps, memory)
    assert (hole(output, mask) - hole(previous, mask)).abs().max() < 0.02 and share.min() > 0.99
    maps[:, :1] = 0
    output, share, _ = run(model, frame, mask, previous, maps, memory)
    assert torch.equal(output, frame) and share.max() == 0


def test_the_hole_changes_when_only_the_memory_changes(tiny):
    *rest, memory = inputs()
    remembered = torch.randn(memory.shape, generator=torch.Generator().manual_seed(1))
    empty, _, _ = run(tiny, *rest, memory)
    full, _, _ = run(tiny, *rest, remembered)
    assert (hole(empty, rest[1]) - hole(full, rest[1])).abs().max() > 1e-3


@pytest.mark.parametrize("slot", range(TINY.slots))
@pytest.mark.parametrize("block", range(TINY.blocks))
def test_every_block_looks_at_every_slot(tiny, block, slot):
    *rest, memory = inputs()
    memory = torch.randn(memory.shape, generator=torch.Generator().manual_seed(1))
    other = memory.clone()
    other[:, block, slot] += 1.5 * torch.randn(other[:, block, slot].shape)
    output, _, _ = run(tiny, *rest, memory)
    changed, _, _ = run(tiny, *rest, other)
    assert (hole(output, rest[1]) - hole(changed, rest[1])).abs().max() > 1e-5


def test_information_travels_from_a_past_frame_to_the_hole(tiny):
    """Two pasts that differ in one frame, the same present, no previous output: only the tokens can tell."""
    _, mask, previous, maps, memory = inputs()
    present, past, other = (inputs(seed=s)[0] for s in (3, 4, 5))
    nothing = torch.zeros_like(previous), torch.zeros_like(maps)
    results = []
    for first in (past, other):
        _, _, after = run(tiny, first, torch.zeros_like(mask), *nothing, memory)
        results.append(run(tiny, present, mask, *nothing, after)[0])
    assert (hole(results[0], mask) - hole(results[1], mask)).abs().max() > 1e-4


def test_memory_is_forgotten_after_as_many_frames_as_there_are_slots(tiny):
    frame, mask, previous, maps, memory = inputs()
    _, _, after = run(tiny, frame, mask, previous, maps, memory)
    others = [inputs(seed=s)[:4] for s in range(2, 2 + TINY.slots)]
    a, b = memory, after
    for other in others:
        (_, _, a), (_, _, b) = run(tiny, *other, a), run(tiny, *other, b)
    # The first block's memory is made of the frames alone; those of later blocks have a longer past in them.
    assert torch.equal(a[:, 0], b[:, 0])


def test_the_oldest_slot_goes_and_the_newest_comes_last(tiny):
    *rest, memory = inputs()
    first = run(tiny, *rest, memory)[2]
    assert (first[:, :, 0] == 0).all() and (first[:, :, -1] != 0).any()
    second = run(tiny, *inputs(seed=9)[:4], first)[2]
    assert torch.equal(second[:, :, 0], first[:, :, -1])
    assert not torch.equal(second[:, :, -1], first[:, :, -1])
    assert second.shape == TINY.memory_shape()


def test_the_order_of_the_slots_counts(tiny):
    *rest, memory = inputs()
    memory = torch.randn(memory.shape, generator=torch.Generator().manual_seed(1))
    a, b = (run(tiny, *rest, m)[0] for m in (memory, memory.flip(2)))
    assert (a - b).abs().max() > 1e-5


def test_an_empty_slot_is_not_looked_at():
    """Attention with an empty memory is attention without one."""
    config = replace(TINY, slots=0)
    attention = lively(MemoryAttention(TINY))
    without = MemoryAttention(config)
    without.load_state_dict(attention.state_dict() | {"slot": torch.zeros(0, TINY.hidden)})
    tokens = torch.randn(2, 12, TINY.hidden)
    with torch.no_grad():
        a = attention(tokens, torch.zeros(2, TINY.slots, 12, TINY.hidden))
        b = without(tokens, torch.zeros(2, 0, 12, TINY.hidden))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_spatial_attention_sees_all_present_and_all_remembered_tokens():
    block = lively(SpatialBlock(TINY))
    tokens = torch.randn(1, 12, TINY.hidden, requires_grad=True)
    past = torch.randn(1, TINY.slots, 12, TINY.hidden, requires_grad=True)
    block(tokens, past, (3, 4))[0, 5].sum().backward()
    assert (tokens.grad[0].abs().sum(-1) > 0).all()
    assert (past.grad[0].abs().sum(-1) > 0).all()


def test_temporal_attention_sees_its_own_zone_at_all_times_and_no_other():
    """The queries are the present tokens: each output is that of the same token, changed by its own zone."""
    block = lively(TemporalBlock(TINY))  # zones of 2 x 2
    tokens = torch.randn(1, 12, TINY.hidden, requires_grad=True)
    past = torch.randn(1, TINY.slots, 12, TINY.hidden, requires_grad=True)
    block(tokens, past, (3, 4))[0, 5].sum().backward()  # row 1, column 1
    zone = torch.zeros(3, 4, dtype=torch.bool)
    zone[:2, :2] = True
    assert torch.equal(tokens.grad[0].abs().sum(-1) > 0, zone.flatten())
    for slot in range(TINY.slots):
        assert torch.equal(past.grad[0, slot].abs().sum(-1) > 0, zone.flatten())


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (1, 1)], ids=str)
def test_zones_and_back(grid):
    x = torch.randn(2, *grid, 3)
    assert torch.equal(from_zones(to_zones(x, (2, 3)), (2, 3), grid), x.flatten(1, 2))


def test_a_token_is_laid_where_it_came_from():
    """No channel and no place is mixed: one token changes its own patch only, and each channel keeps to itself."""
    module = TokensToFeatures(TINY)
    size, grid = TINY.features(), TINY.grid()
    patches = torch.zeros(1, TINY.patch_channels, 7, 7, grid[0] * grid[1])
    patches[0, 3, :, :, 6] = 1  # row 1, column 2: its centre is at (3, 6)
    features = module.fold(patches.flatten(1, 3), grid, size)
    expected = torch.zeros(TINY.patch_channels, *size)
    expected[3, 0:7, 3:10] = 1
    assert torch.equal(features[0], expected)
    with pytest.raises(ValueError, match="12 patches"):
        module.fold(patches.flatten(1, 3), (5, 5), size)


def test_overlapping_patches_are_averaged():
    module = TokensToFeatures(TINY)
    with torch.no_grad():
        module.to_patch.weight.zero_()
        module.to_patch.bias.fill_(0.7)
        module.reduce.weight.zero_()
        module.reduce.bias.zero_()
        module.reduce.weight[:, 0] = 1
        out = module(torch.randn(1, 12, TINY.hidden), TINY.grid(), TINY.features())
    torch.testing.assert_close(out, torch.full_like(out, 0.7))


@pytest.mark.parametrize("size", [(32, 48), (33, 46), (30, 51), (9, 8)], ids=str)
def test_sizes_that_do_not_meet_are_cropped_from_the_centre(size):
    x = torch.randn(1, 2, *size)
    padded = pad_to_fours(x)
    assert all(n % 4 == 0 for n in padded.shape[-2:])
    assert torch.equal(centre_crop(padded, size), x)


@pytest.mark.parametrize("size", [(33, 46), (8, 8), (64, 40)], ids=str)
def test_any_size(tiny, size):
    frame, mask, previous, maps, memory = inputs(size)
    output, share, after = run(tiny, frame, mask, previous, maps, memory)
    assert output.shape == frame.shape and share.shape == mask.shape and after.shape == memory.shape
    assert output.isfinite().all()


def test_streams_of_a_batch_do_not_meet(tiny):
    both = inputs(n=2)
    memory = torch.randn(both[4].shape, generator=torch.Generator().manual_seed(1))
    together = run(tiny, *both[:4], memory)
    for i in range(2):
        alone = run(tiny, *(x[i : i + 1] for x in both[:4]), memory[i : i + 1])
        for a, b in zip(alone, together):
            torch.testing.assert_close(a, b[i : i + 1], rtol=0, atol=1e-5)


def test_without_slots_nothing_is_remembered():
    config = replace(TINY, slots=0)
    model = lively(DSTT(config))
    output, _, memory = run(model, *inputs(config=config))
    assert memory.numel() == 0 and output.isfinite().all()


def test_every_weight_is_used():
    model = lively(DSTT(TINY))
    frame, mask, previous, maps, _ = inputs()
    memory = torch.randn(TINY.memory_shape())
    model(frame, mask, previous, maps, memory)[0].sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []
