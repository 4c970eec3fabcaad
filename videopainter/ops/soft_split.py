"""Soft split and soft composition: overlapping patches to tokens and back (Liu et al. 2021, FuseFormer)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Patches:
    """How patches lie: kernel, stride and padding in feature pixels, each (height, width)."""

    kernel: tuple[int, int] = (7, 7)
    stride: tuple[int, int] = (3, 3)
    padding: tuple[int, int] = (3, 3)

    @property
    def area(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of patches in features of ``size`` (height, width)."""
        rows, columns = (
            (n + 2 * pad - kernel) // stride + 1
            for n, kernel, stride, pad in zip(size, self.kernel, self.stride, self.padding)
        )
        return rows, columns

    def split(self, x: Tensor) -> Tensor:
        """``(n, c, h, w)`` -> ``(n, patches, c * area)``."""
        return F.unfold(x, self.kernel, 1, self.padding, self.stride).transpose(1, 2)

    def compose(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """``(n, patches, c * area)`` -> ``(n, c, *size)``; overlapping values are added."""
        return F.fold(patches.transpose(1, 2), size, self.kernel, 1, self.padding, self.stride)

    def overlap(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """``(1, 1, *size)``: how many patches cover each pixel, of the dtype and on the device of ``like``."""
        rows, columns = self.grid(size)
        return self.compose(like.new_ones(1, rows * columns, self.area), size)


class SoftSplit(nn.Module):
    """Features ``(t, channels, h, w)`` to tokens ``(t, rows, columns, hidden)``."""

    def __init__(self, channels: int, hidden: int, patches: Patches):
        super().__init__()
        self.patches = patches
        self.embedding = nn.Linear(channels * patches.area, hidden)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.patches.grid(x.shape[-2:])
        # Patches overlap: they are several times as large as the features, so only one frame's are made at once.
        tokens = torch.cat([self.embedding(self.patches.split(frame)) for frame in x.split(1)])
        return tokens.unflatten(1, (rows, columns))


class SoftComposition(nn.Module):
    """Tokens ``(t, rows, columns, hidden)`` to features ``(t, channels, *size)``.

    Args:
        fixed_size: (height, width) of the only features there are, which have a learned bias at every pixel;
            None: any size, with a convolution in its place.
    """

    def __init__(
        self, channels: int, hidden: int, patches: Patches, fixed_size: tuple[int, int] | None = None
    ):
        super().__init__()
        self.patches = patches
        self.embedding = nn.Linear(hidden, channels * patches.area)
        if fixed_size is None:
            self.bias_conv = nn.Conv2d(channels, channels, 3, padding=1)
        else:
            self.bias = nn.Parameter(torch.zeros(channels, *fixed_size))

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        frames = [self.patches.compose(self.embedding(t.flatten(1, 2)), size) for t in tokens.split(1)]
        features = torch.cat(frames)
        return features + self.bias if hasattr(self, "bias") else self.bias_conv(features)


class FusionFeedForward(nn.Module):
    """Feed-forward whose hidden values of overlapping patches are averaged in the picture (FuseFormer, 3.3).

    Tokens ``(t, rows, columns, dim)`` in and out; ``size``: (height, width) of the features they came from.
    ``names``: what released files call the two layers.
    """

    def __init__(self, dim: int, hidden: int, patches: Patches, names: tuple[str, str] = ("fc1", "fc2")):
        super().__init__()
        if hidden % patches.area:
            raise ValueError(
                f"hidden values ({hidden}) need to be a multiple of a patch's area, {patches.area}"
            )
        self.patches, self.names = patches, names
        # Sequences of one and two, as the released files count.
        self.add_module(names[0], nn.Sequential(nn.Linear(dim, hidden)))
        self.add_module(names[1], nn.Sequential(nn.GELU(), nn.Linear(hidden, dim)))

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        expand, reduce = (self.get_submodule(name) for name in self.names)
        overlap = self.patches.overlap(size, tokens)
        out = []
        # The hidden values are the largest thing in the network, and frames do not meet here.
        for t in tokens:
            picture = self.patches.compose(expand(t.flatten(0, 1))[None], size) / overlap
            out.append(reduce(self.patches.split(picture))[0].unflatten(0, t.shape[:2]))
        return torch.stack(out)
