"""Mask-guided sparse video transformer (ProPainter, section 3.3).

Tokens ``(t, rows, columns, dim)`` are attended to in windows. In windows with a hole every token of every frame
looks at every second frame: at the window itself, at what lies around it, and at a coarse view of the whole
frame. In windows without a hole tokens look only at their own window in their own frame.
"""

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
    """Sparse attention in windows.

    Args:
        dim, heads: of the tokens. window: (rows, columns) of tokens. pool: (rows, columns) of tokens that the
            coarse view takes together.
    """

    def __init__(self, dim: int, heads: int, window: tuple[int, int], pool: tuple[int, int]):
        super().__init__()
        self.heads, self.window = heads, window
        self.key = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.pool_layer = nn.Conv2d(dim, dim, pool, pool, groups=dim)
        self.register_buffer("valid_ind_rolled", around(window))

    def forward(self, x: Tensor, windows: tuple[Tensor, Tensor], frames: Tensor) -> Tensor:
        """Args:
            x: tokens ``(t, rows, columns, dim)``.
            windows: numbers of those without a hole and of those with one, counted row by row, for tokens padded at
                the bottom and right to whole windows.
            frames: indices of the frames that windows with a hole look at; none leaves them zero.

        Returns ``(t, rows, columns, dim)``.
        """
        t, rows, columns, dim = x.shape
        high, wide = self.window
        x = F.pad(x, (0, 0, 0, -columns % wide, 0, -rows % high))
        padded = x.shape[1:3]
        pooled = self.pool_layer(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        x = x.flatten(1, 2)
        query, key, value = self.query(x), self.key(x), self.value(x)
        own = token_windows.places(padded, self.window, x.device)
        shifted = token_windows.shifted_places(padded, self.window, reach(self.window), x.device)
        surroundings = shifted[:, self.valid_ind_rolled]
        out = torch.zeros_like(x)

        gathered = _GATHERED_GPU if x.is_cuda else _GATHERED_CPU
        plain, holed = windows
        for some in _pieces(own[plain], gathered // (3 * t * own.shape[1] * dim)):
            near = [self._split(part[:, some].flatten(0, 1)) for part in (query, key, value)]
            out[:, some] = self._join(F.scaled_dot_product_attention(*near)).unflatten(0, (t, -1))

        if len(frames):
            seen = torch.cat((own, surroundings), 1)
            keys, values = key[frames], value[frames]
            coarse = pooled[frames]
            coarse_keys, coarse_values = self.key(coarse), self.value(coarse)
            each = len(frames) * (seen.shape[1] + coarse.shape[1]) * dim
            for some in _pieces(holed, gathered // each):
                there, looked_at = own[some], seen[some]
                asked = query[:, there].transpose(0, 1).flatten(1, 2)
                known = [
                    torch.cat((part[:, looked_at].transpose(0, 1), whole.expand(len(some), -1, -1, -1)), 2)
                    for part, whole in ((keys, coarse_keys), (values, coarse_values))
                ]
                answer = F.scaled_dot_product_attention(
                    self._split(asked), *(self._split(part.flatten(1, 2)) for part in known)
                )
                out[:, there] = self._join(answer).unflatten(1, (t, -1)).transpose(0, 1)
        return self.proj(out.unflatten(1, padded)[:, :rows, :columns])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    @staticmethod
    def _join(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class TransformerBlock(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, window, pool, patches: Patches):
        super().__init__()
        self.attention = WindowAttention(dim, heads, window, pool)
        self.layer_norm1 = nn.LayerNorm(dim)
        self.layer_norm2 = nn.LayerNorm(dim)
        self.mlp = FusionFeedForward(dim, hidden, patches)

    def forward(
        self, x: Tensor, size: tuple[int, int], windows: tuple[Tensor, Tensor], frames: Tensor
    ) -> Tensor:
        x = x + self.attention(self.layer_norm1(x), windows, frames)
        return x + self.mlp(self.layer_norm2(x), size)


class SparseTransformer(nn.Module):
    """Blocks that look at even and odd frames in turn."""

    def __init__(self, depth: int, dim: int, heads: int, hidden: int, window, pool, patches: Patches):
        super().__init__()
        self.window = window
        self.transformer = nn.ModuleList(
            TransformerBlock(dim, heads, hidden, window, pool, patches) for _ in range(depth)
        )

    def forward(self, x: Tensor, size: tuple[int, int], token_masks: Tensor) -> Tensor:
        """Args:
            x: tokens ``(t, rows, columns, dim)``. size: (height, width) of the features they came from.
            token_masks: ``(any number of frames, 1, rows, columns)``, over 0 where a token touches a hole.

        Returns ``(t, rows, columns, dim)``.
        """
        windows = self.windows(token_masks)
        for i, block in enumerate(self.transformer):
            x = block(x, size, windows, torch.arange(i % 2, len(x), 2, device=x.device))
        return x

    def windows(self, token_masks: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the windows that touch no hole in any of the frames, and of those that do.

        Found once for all blocks: to ask a GPU for them makes the host wait for it.
        """
        holed = self.holed(token_masks).cpu()
        return tuple(from_host(some.nonzero()[:, 0], token_masks.device) for some in (~holed, holed))

    def holed(self, token_masks: Tensor) -> Tensor:
        """bool ``(windows,)``: windows that touch a hole in any of the frames."""
        rows, columns = token_masks.shape[-2:]
        high, wide = self.window
        touched = token_masks.amax(0)
        touched = F.pad(touched, (0, -columns % wide, 0, -rows % high))
        return F.max_pool2d(touched, self.window).flatten() > 0


def _pieces(windows: Tensor, at_once: int) -> tuple[Tensor, ...]:
    """So many of the windows at a time; none for no windows."""
    return windows.split(max(1, at_once)) if len(windows) else ()


def around(window: tuple[int, int]) -> Tensor:
    """Which tokens of the four shifted windows lie outside the window itself; see `token_windows.around`."""
    return token_windows.around(window, reach(window))


def reach(window: tuple[int, int]) -> tuple[int, int]:
    """By how many (rows, columns) of tokens windows are shifted to see what lies around them."""
    return (window[0] + 1) // 2, (window[1] + 1) // 2
