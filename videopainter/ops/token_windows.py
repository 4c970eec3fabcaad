"""Windows of tokens, and the tokens around them (Yang et al. 2021, Focal Transformer)."""

import torch
from torch import Tensor


def places(size: tuple[int, int], window: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Where the tokens of each window lie, row by row: int64 ``(windows, tokens of a window)``.

    ``size``: (rows, columns) of all tokens, multiples of those of the ``window``.
    """
    return _split(_numbers(size, device), window)


def shifted_places(
    size: tuple[int, int],
    window: tuple[int, int],
    reach: tuple[int, int],
    device: torch.device | None = None,
) -> Tensor:
    """The same for windows shifted by ``reach`` (rows, columns) to the four sides, wrapping around.

    int64 ``(windows, 4 * tokens of a window)``: shifted up-left, up-right, down-left, down-right, as `roll` sees it.
    """
    numbers, (down, right) = _numbers(size, device), reach
    shifted = [numbers.roll((y, x), (0, 1)) for y in (-down, down) for x in (-right, right)]
    return torch.cat([_split(rolled, window) for rolled in shifted], 1)


def around(window: tuple[int, int], reach: tuple[int, int]) -> Tensor:
    """Which tokens of the four shifted windows lie outside the window itself: int64 ``(n,)`` indices.

    A token that two shifted windows share counts twice, as in the released networks.
    """
    down, right = reach
    # On the CPU also where transformers makes empty models: indices are counted, which needs values.
    outside = torch.ones(4, *window, dtype=torch.bool, device="cpu")
    outside[0, :-down, :-right] = False
    outside[1, :-down, right:] = False
    outside[2, down:, :-right] = False
    outside[3, down:, right:] = False
    return outside.flatten().nonzero()[:, 0]


def _numbers(size: tuple[int, int], device: torch.device | None) -> Tensor:
    return torch.arange(size[0] * size[1], device=device).view(size)


def _split(numbers: Tensor, window: tuple[int, int]) -> Tensor:
    high, wide = window
    parts = numbers.unflatten(1, (-1, wide)).unflatten(0, (-1, high))
    return parts.transpose(1, 2).flatten(2).flatten(0, 1)
