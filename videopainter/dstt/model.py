"""DSTT with memory: one frame in, one frame out, tokens of past frames beside it.

After the decoupled spatial-temporal transformer (Liu et al. 2021, "Decoupled Spatial-Temporal Transformer for Video
Inpainting"), made causal: what a block was given for past frames is its memory, as in Transformer-XL (Dai et al.
2019). Beside the tokens the network has the previous output itself, aligned by motion (`align.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.dstt.config import MAPS, DSTTConfig

_INPUTS = 3 + 1 + 3 + MAPS
# A share reaches 0 and 1 exactly, and still has a gradient close to them (hard sigmoid, stretched).
_STRETCH = 0.05
_SURE = 0.02  # an untrained network takes no more than 1 - this from either guess, before the stretch: 1
_OWN = 0.2  # scale of the residual, which is noise long before it is a picture: so it learns more slowly than the gates
_GATE = 5.0  # scale of the two gates, whose starts are far from their middle
_LIGHT = 2.0  # how firmly it follows changes of light: sigmoid(2) = 0.88


class DSTT(nn.Module):
    """The network. ``config``: its sizes; frames of other sizes than its own are taken, too."""

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.channels)
        self.hierarchy = HierarchyEncoder(config.channels, config.groups)
        self.embedding = PatchEmbedding(config)
        kinds = (SpatialBlock, TemporalBlock)
        self.blocks = nn.ModuleList(kinds[i % 2](config) for i in range(config.blocks))
        self.recompose = TokensToFeatures(config)
        self.decoder = Decoder(config.channels)

    def forward(self, frame: Tensor, mask: Tensor, previous: Tensor, maps: Tensor, memory: Tensor):
        """Paint the hole of one frame.

        Args:
            frame: floating ``(n, 3, h, w)`` in [-1, 1], its hole filled smoothly (`align.completed`).
            mask: ``(n, 1, h, w)``, 1 = hole, 0 = known.
            previous: ``(n, 3, h, w)`` in [-1, 1], the last output at the present frame's places.
            maps: ``(n, 7, h, w)``, what `align.maps` says of it; all zeros where there is no past.
            memory: ``(n, blocks, slots, tokens, hidden)``, oldest slot first; zeros: nothing is remembered yet.

        Returns ``(output, share, memory)``: ``output`` like ``frame``, known pixels exactly those of ``frame``;
        ``share`` ``(n, 1, h, w)`` from 0 to 1, how much of it is ``previous``; the memory for the next frame.
        """
        painted, share, memory = self.paint(frame, mask, previous, maps, memory)
        return torch.where(mask > 0.5, painted, frame), share, memory

    def paint(self, frame: Tensor, mask: Tensor, previous: Tensor, maps: Tensor, memory: Tensor):
        """`forward` without putting the known pixels back: what the loss looks at."""
        size = frame.shape[-2:]
        seen_by_network = pad_to_fours(torch.cat([frame, mask, previous, maps], 1))
        half, quarter = self.encoder(seen_by_network)
        features = self.hierarchy(quarter)
        tokens, grid = self.embedding(features)
        inputs = []
        for block, past in zip(self.blocks, memory.unbind(1)):
            inputs.append(tokens)
            tokens = block(tokens, past, grid)
        memory = torch.cat([memory, torch.stack(inputs, 1).unsqueeze(2)], 2)[:, :, 1:]
        features = features + self.recompose(tokens, grid, features.shape[-2:])
        branch = centre_crop(self.decoder(features, half, seen_by_network), size)
        return (*compose(branch, frame, previous, maps), memory)


def compose(branch: Tensor, frame: Tensor, previous: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The picture from the network's own branch ``(n, 5, h, w)`` and the two guesses there are without it.

    ``share * (previous + light * membrane) + (1 - share) * (frame + tanh(residual))``, in [-1, 1]. The tanh bounds
    the network's own contribution, which goes where the past is not taken: what was seen and is kept stays clean from
    frame to frame. A branch of zeros keeps what was seen and is worth it, and leaves the rest to the smooth fill.
    """
    valid, seen, worth, membrane = maps[:, :1], maps[:, 1:2], maps[:, 3:4], maps[:, 4:]
    start = (seen * worth).clamp(_SURE, 1 - _SURE)
    share = torch.sigmoid(_GATE * branch[:, 3:4] + torch.log(start / (1 - start)))
    share = valid * ((1 + 2 * _STRETCH) * share - _STRETCH).clamp(0, 1)
    light = torch.sigmoid(_GATE * branch[:, 4:] + _LIGHT)
    own = frame + torch.tanh(_OWN * branch[:, :3])
    return (share * (previous + light * membrane) + (1 - share) * own).clamp(-1, 1), share


def pad_to_fours(x: Tensor) -> Tensor:
    """Repeat the border, evenly on both sides, until height and width are multiples of 4."""
    down, right = (-n % 4 for n in x.shape[-2:])
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2), "replicate")


def centre_crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle ``size`` (height, width) of ``x``: undoes `pad_to_fours`."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.2)


class Encoder(nn.Module):
    """Frames to features at a half, ``channels / 2``, and at a quarter of the size, ``channels``."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.to_half = nn.Sequential(
            nn.Conv2d(_INPUTS, half, 3, 2, 1), _activation(), nn.Conv2d(half, half, 3, 1, 1), _activation()
        )
        self.to_quarter = nn.Sequential(
            nn.Conv2d(half, channels, 3, 2, 1),
            _activation(),
            nn.Conv2d(channels, channels, 3, 1, 1),
            _activation(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        half = self.to_half(x)
        return half, self.to_quarter(half)


class HierarchyEncoder(nn.Module):
    """Grouped convolutions, each of which sees the first features again, group by group (Liu et al. 2021, 3.2)."""

    def __init__(self, channels: int, groups: tuple[int, ...]):
        super().__init__()
        self.groups = groups
        self.layers = nn.ModuleList(
            nn.Conv2d(channels if i == 0 else 2 * channels, channels, 3, 1, 1, groups=group)
            for i, group in enumerate(groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i, (layer, group) in enumerate(zip(self.layers, self.groups)):
            if i > 0:
                # A group of the first features beside the same group of the present ones.
                pair = torch.stack([x.unflatten(1, (group, -1)), out.unflatten(1, (group, -1))], 2)
                out = pair.flatten(1, 3)
            out = F.leaky_relu(layer(out), 0.2)
        return out


class PatchEmbedding(nn.Module):
    """Features to tokens ``(n, tokens, hidden)``, row by row, with their (rows, columns).

    Their places come from a depthwise convolution (Chu et al. 2023, "Conditional Positional Encodings"), which takes
    any size.
    """

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.project = nn.Conv2d(
            config.channels, config.hidden, config.patch, config.stride, padding=config.patch // 2
        )
        self.place = nn.Conv2d(config.hidden, config.hidden, 3, 1, 1, groups=config.hidden)

    def forward(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.project(features)
        x = x + self.place(x)
        return x.flatten(2).transpose(1, 2), (x.shape[-2], x.shape[-1])


class TokensToFeatures(nn.Module):
    """Tokens back to patches, overlapping ones averaged, then a 1 x 1 convolution to the features' channels.

    Every token makes its own patch, and `fold` lays each patch where its token came from: no value changes its
    place or its channel on the way.
    """

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.patch, self.stride = config.patch, config.stride
        self.to_patch = nn.Linear(config.hidden, config.patch_channels * config.patch**2)
        self.reduce = nn.Conv2d(config.patch_channels, config.channels, 1)

    def forward(self, tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """``(n, tokens, hidden)`` of ``grid`` (rows, columns) to ``(n, channels, *size)``."""
        ones = tokens.new_ones(1, self.patch**2, grid[0] * grid[1])
        # Rows beyond the last stride are in no patch: they divide zero by one.
        covered = self.fold(ones, grid, size).clamp(min=1)
        return self.reduce(self.fold(self.to_patch(tokens).transpose(1, 2), grid, size) / covered)

    def fold(self, patches: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """``(n, c * patch * patch, tokens)`` to ``(n, c, *size)``; what overlaps is added."""
        if grid[0] * grid[1] != patches.shape[-1]:
            raise ValueError(f"{patches.shape[-1]} patches do not make {grid[0]} rows of {grid[1]}.")
        return F.fold(patches, size, self.patch, padding=self.patch // 2, stride=self.stride)


class Decoder(nn.Module):
    """Features at a quarter of the size to five maps at the full one, past those at a half and the input.

    The last layer starts at zero, so that an untrained network is the two guesses of `compose` and no worse.
    """

    def __init__(self, channels: int):
        super().__init__()
        half, full = channels // 2, channels // 4
        self.to_half = Deconvolution(channels, half)
        self.join_half = nn.Conv2d(half, half, 3, 1, 1)
        self.to_full = Deconvolution(half, full)
        self.last = nn.Conv2d(full + _INPUTS, 5, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, half: Tensor, inputs: Tensor) -> Tensor:
        x = F.leaky_relu(self.join_half(self.to_half(features) + half), 0.2)
        return self.last(torch.cat([self.to_full(x), inputs], 1))


class Deconvolution(nn.Module):
    """Twice the size: a convolution, then bilinear, which leaves no checkerboard (Odena et al. 2016).

    In this order the convolution costs a quarter.
    """

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), 0.2)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class MemoryAttention(nn.Module):
    """Multi-head attention of ``(n, tokens, hidden)`` over themselves and what is remembered.

    ``past``: ``(n, slots, tokens, hidden)``, oldest first. Every slot has a vector of its own that says how old it
    is. Tokens that are all zeros are empty: nobody looks at them.
    """

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.hidden)
        self.queries = nn.Linear(config.hidden, config.hidden)
        self.keys_values = nn.Linear(config.hidden, 2 * config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)
        self.slot = nn.Parameter(torch.zeros(config.slots, config.hidden))

    def forward(self, tokens: Tensor, past: Tensor) -> Tensor:
        present = self.norm(tokens)
        there = (past != 0).any(-1).flatten(1)
        remembered = (self.norm(past) + self.slot[:, None]).flatten(1, 2)
        everything = torch.cat([remembered, present], 1)
        visible = torch.cat([there, (tokens != 0).any(-1)], 1)
        keys, values = self.keys_values(everything).chunk(2, -1)
        out = F.scaled_dot_product_attention(
            *(self._heads(x) for x in (self.queries(present), keys, values)), attn_mask=visible[:, None, None]
        )
        return self.output(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    def __init__(self, config: DSTTConfig):
        wide = config.hidden * config.expansion
        super().__init__(
            nn.LayerNorm(config.hidden),
            nn.Linear(config.hidden, wide),
            nn.GELU(),
            nn.Linear(wide, config.hidden),
        )


class SpatialBlock(nn.Module):
    """Spatial, with memory: every token of the present frame looks at all of them and at all remembered ones."""

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.attention = MemoryAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, tokens: Tensor, past: Tensor, grid: tuple[int, int]) -> Tensor:
        """``tokens`` ``(n, tokens, hidden)``, ``past`` ``(n, slots, tokens, hidden)``; returns like ``tokens``."""
        tokens = tokens + self.attention(tokens, past)
        return tokens + self.feed_forward(tokens)


class TemporalBlock(nn.Module):
    """Temporal, with memory: the present tokens of a zone look at the same zone in every slot, and at themselves."""

    def __init__(self, config: DSTTConfig):
        super().__init__()
        self.zone = config.zone
        self.attention = MemoryAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, tokens: Tensor, past: Tensor, grid: tuple[int, int]) -> Tensor:
        """As `SpatialBlock`."""
        n, slots = past.shape[:2]
        present = to_zones(tokens.unflatten(1, grid), self.zone)
        remembered = to_zones(past.flatten(0, 1).unflatten(1, grid), self.zone)
        zones = present.shape[0] // n
        remembered = remembered.unflatten(0, (n, slots, zones)).transpose(1, 2).flatten(0, 1)
        tokens = tokens + from_zones(self.attention(present, remembered), self.zone, grid)
        return tokens + self.feed_forward(tokens)


def to_zones(x: Tensor, zone: tuple[int, int]) -> Tensor:
    """``(n, rows, columns, c)`` to ``(n * zones, zone tokens, c)``; zones past the edge are filled up with zeros."""
    down, right = (-size % side for size, side in zip(x.shape[1:3], zone))
    x = F.pad(x, (0, 0, 0, right, 0, down))
    x = x.unflatten(2, (-1, zone[1])).unflatten(1, (-1, zone[0]))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_zones(x: Tensor, zone: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Undo `to_zones`: ``(n, tokens, c)`` of ``grid`` (rows, columns)."""
    down, across = (-(-size // side) for size, side in zip(grid, zone))
    x = x.unflatten(0, (-1, down, across)).unflatten(3, zone)
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x[:, : grid[0], : grid[1]].flatten(1, 2)
