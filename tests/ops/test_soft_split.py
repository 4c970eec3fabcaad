"""Patches to tokens and back."""

import pytest
import torch

from videopainter.ops.soft_split import FusionFeedForward, Patches, SoftComposition, SoftSplit


@pytest.mark.parametrize("size", [(7, 9), (32, 40), (2, 2)])
def test_split_and_compose_undo_each_other(size):
    patches = Patches()
    x = torch.rand(2, 3, *size)
    there = patches.split(x)
    rows, columns = patches.grid(size)
    assert there.shape == (2, rows * columns, 3 * 49)
    torch.testing.assert_close(patches.compose(there, size) / patches.overlap(size, x), x)


def test_tokens_keep_their_place():
    torch.manual_seed(0)
    patches = Patches()
    split, compose = SoftSplit(3, 16, patches), SoftComposition(3, 16, patches)
    x = torch.rand(2, 3, 14, 22)
    tokens = split(x)
    assert tokens.shape == (2, *patches.grid((14, 22)), 16)
    # The patch in row 1, column 2 starts at pixel (0, 3), as 3 pixels are padded.
    patch = torch.nn.functional.pad(x, (3, 3, 3, 3))[1, :, 3:10, 6:13].flatten()
    torch.testing.assert_close(tokens[1, 1, 2], split.embedding(patch))
    assert compose(tokens, (14, 22)).shape == x.shape


def test_feed_forward_averages_overlapping_patches():
    """With the identity as first layer and no bias it is the second layer of a picture that stays itself."""
    torch.manual_seed(0)
    patches = Patches((3, 3), (1, 1), (1, 1))
    block = FusionFeedForward(9, 9, patches)
    with torch.no_grad():
        block.fc1[0].weight.copy_(torch.eye(9))
        block.fc1[0].bias.zero_()
    picture = torch.rand(1, 1, 5, 6)
    tokens = patches.split(picture).unflatten(1, (5, 6))
    torch.testing.assert_close(block(tokens, (5, 6)), block.fc2(tokens))


def test_hidden_values_must_fill_patches():
    with pytest.raises(ValueError, match="100.*multiple of a patch's area, 49"):
        FusionFeedForward(8, 100, Patches())
