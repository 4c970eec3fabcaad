"""Frames that do not meet, a few at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

# Of frames that go through a network at once: larger batches gain no speed worth the memory.
PIXELS = 4 * 320 * 240


def few_at_a_time(network: Callable[[Tensor], Tensor], x: Tensor, pixels: int = PIXELS) -> Tensor:
    """``network(x)`` for ``x`` ``(n, c, h, w)``, n >= 1, with as many frames at once as have ``pixels`` pixels."""
    count = max(1, pixels // (x.shape[-2] * x.shape[-1]))
    return torch.cat([network(some) for some in x.split(count)])
