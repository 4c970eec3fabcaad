"""Temporal focal transformer (Li et al. 2022, E2FGVI; Yang et al. 2021, Focal Transformer).

Tokens ``(t, rows, columns, dim)`` are attended to in windows. Every token of every frame looks at its own window,
at what lies around it, and at a coarse view, one token a window, of the windows near it - in all frames.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops import token_windows
from videopainter.ops.memory import from_host
from videopainter.ops.soft_split import FusionFeedForward, Patches

# Keys and values of this many numbers are gathered at once. A GPU wants many windows to be busy; a CPU is busy
# with one, and more would only take memory.
_GATHERED_GPU, _GATHERED_CPU = 2**25, 2**21


class WindowAttention(nn.Module):
    """Attention in windows; ``dim``, ``heads``: of the tokens, ``window``: (rows, columns) of tokens."""

    def __init__(self, dim: int, heads: int, window: tuple[int, int]):
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("valid_ind_rolled", token_windows.around(window, _reach(window)))

    def forward(self, x: Tensor, pooled: Tensor, asking: Tensor | None = None) -> Tensor:
        """Args:
            x: tokens ``(t, rows, columns, dim)``, whole windows.
            pooled: the coarse view ``(t, rows of windows, columns of windows, dim)``.
            asking: indices of the frames whose result is wanted; None: all.

        Returns ``(frames that ask, rows, columns, dim)``.
        """
        t, rows, columns, dim = x.shape
        near = x.flatten(1, 2)
        asking_tokens = near if asking is None else near[asking]
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(asking_tokens, weight[:dim], bias[:dim])
        everything = torch.cat((near, pooled.flatten(1, 2)), 1)
        key, value = F.linear(everything, weight[dim:], bias[dim:]).split(dim, -1)
        out = torch.zeros_like(query)
        own = token_windows.places((rows, columns), self.window, x.device)
        shifted = token_windows.shifted_places((rows, columns), self.window, _reach(self.window), x.device)
        surroundings = shifted[:, self.valid_ind_rolled]
        # Windows that see equally many others go together, so that none has to look at padding.
        for some, coarse in _coarse_view(tuple(pooled.shape[1:3]), self.window, x.device):
            coarse = coarse + rows * columns
            seen = torch.cat((own[some], surroundings[some], coarse), 1)
            each = t * seen.shape[1] * dim
            at_once = max(1, (_GATHERED_GPU if x.is_cuda else _GATHERED_CPU) // each)
            for places, looked_at in zip(own[some].split(at_once), seen.split(at_once)):
                answer = F.scaled_dot_product_attention(
                    self._split(query[:, places]),
                    *(self._split(part[:, looked_at]) for part in (key, value)),
                )
                answer = answer.transpose(1, 2).flatten(2).unflatten(1, (len(query), -1))
                out[:, places] = answer.transpose(0, 1)
        return self.proj(out).unflatten(1, (rows, columns))

    def _split(self, x: Tensor) -> Tensor:
        """``(t, windows, n, dim)`` -> ``(windows, heads, t * n, dim of a head)``."""
        return x.transpose(0, 1).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TransformerBlock(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, window: tuple[int, int], patches: Patches):
        super().__init__()
        self.window = window
        # The mean of a window's tokens to begin with; in a list, as the released files count.
        self.pool_layers = nn.ModuleList([nn.Linear(window[0] * window[1], 1)])
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FusionFeedForward(dim, hidden, patches, names=("conv1", "conv2"))

    def forward(self, x: Tensor, size: tuple[int, int], wanted: Tensor | None = None) -> Tensor:
        """Args:
        x: tokens ``(t, rows, columns, dim)``. size: (height, width) of the features they came from.
        wanted: indices of the frames to return; None: all.
        """
        normed = self.norm1(x)
        attended = self.attn(normed, self._pool(normed), wanted)
        del normed
        x = (x if wanted is None else x[wanted]) + attended
        return x + self.mlp(self.norm2(x), size)

    def _pool(self, x: Tensor) -> Tensor:
        """One token a window: ``(t, rows of windows, columns of windows, dim)``."""
        high, wide = self.window
        parts = x.unflatten(2, (-1, wide)).unflatten(1, (-1, high)).transpose(2, 3).flatten(3, 4)
        return self.pool_layers[0](parts.transpose(-1, -2)).squeeze(-1)


def _reach(window: tuple[int, int]) -> tuple[int, int]:
    """By how many (rows, columns) of tokens windows are shifted to see what lies around them."""
    return window[0] // 2, window[1] // 2


@lru_cache(maxsize=8)
def _coarse_view(
    grid: tuple[int, int], window: tuple[int, int], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Which windows each window sees coarsely: ``window`` (rows, columns) of them with itself in the middle.

    ``grid``: (rows, columns) of windows. Returns, for windows that see equally many, their numbers ``(n,)`` and
    the numbers of those they see ``(n, m)``, kept on the device: every block of every step asks for them.
    """
    groups: dict[int, list[tuple[int, list[int]]]] = {}
    for row in range(grid[0]):
        for column in range(grid[1]):
            seen = [
                y * grid[1] + x
                for y in range(max(0, row - window[0] // 2), min(grid[0], row + window[0] // 2 + 1))
                for x in range(max(0, column - window[1] // 2), min(grid[1], column + window[1] // 2 + 1))
            ]
            groups.setdefault(len(seen), []).append((row * grid[1] + column, seen))
    return [tuple(from_host(torch.tensor(part), device) for part in zip(*group)) for group in groups.values()]
