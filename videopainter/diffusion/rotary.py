"""Rotary positions of CogVideoX's video tokens."""

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import get_resize_crop_region_for_grid

TRAINED_SIZE = (480, 720)  # height and width in pixels, over whose grid every other one is laid


def prepare_rotary_tables(
    head_width: int, cell: int, size: tuple[int, int], frames: int, device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each ``[tokens, head width]``, for the tokens of a window.

    cell: pixels to a token, in height and width. size: (height, width) in pixels. frames: latent frames.
    """
    grid = (size[0] // cell, size[1] // cell)
    region = get_resize_crop_region_for_grid(grid, TRAINED_SIZE[1] // cell, TRAINED_SIZE[0] // cell)
    return rotary_tables(head_width, grid, frames, region, device)


def rotary_tables(
    head_width: int,
    grid: tuple[int, int],
    frames: int,
    region: tuple[tuple[int, int], tuple[int, int]],
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each ``[frames * rows * columns, head width]``, of a grid laid over a region.

    Token i of n lies at start + i (stop - start) / n, as where CogVideoX was trained. diffusers spreads the tokens
    otherwise where a region does not start at 0; it is given the stop that makes up for it.
    """
    starts, stops = region
    stops = [
        stop if start == 0 or n == 1 else (start + (stop - start) * (n - 1) / n) * n / (n - 1)
        for start, stop, n in zip(starts, stops, grid)
    ]
    return get_3d_rotary_pos_embed(
        head_width, (starts, stops), grid, frames, device=torch.device(device or "cpu")
    )


def complex_table(rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cosines and sines, which stand twice for each pair of channels, as complex ``[tokens, head width / 2]``."""
    # Hooks that cast inputs give tables of 16 bits, of which there are no complex ones.
    cosines, sines = (one[:, ::2].float().contiguous() for one in rotary)
    return torch.complex(cosines, sines)


def rotate(states: torch.Tensor, table: torch.Tensor, start: int = 0) -> torch.Tensor:
    """Turn pairs of channels of ``[batch, tokens, heads, head width]`` from token ``start`` on, in float32.

    table: complex ``[tokens - start, head width / 2]``. Without gradients it happens in place, a row of the batch at a
    time: three kernels and one copy in float32, where sines and cosines apart take seven and five.
    """
    if table.device != states.device:
        table = table.to(states.device)
    kind = torch.float64 if states.dtype == torch.float64 else torch.float32
    table = table.to(torch.complex128 if kind == torch.float64 else torch.complex64)[:, None]
    if torch.is_grad_enabled() and states.requires_grad:
        pairs = torch.view_as_complex(states[:, start:].to(kind).unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * table).flatten(-2).to(states.dtype)
        return torch.cat([states[:, :start], turned], dim=1)
    for row in states[:, start:]:
        pairs = row.to(kind).unflatten(-1, (-1, 2))
        torch.view_as_complex(pairs).mul_(table)
        if kind != states.dtype:
            row.copy_(pairs.flatten(-2))
    return states
