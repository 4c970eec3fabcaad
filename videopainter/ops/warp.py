"""Backward warping with optical flow, and the forward-backward consistency check."""

import torch
import torch.nn.functional as F
from torch import Tensor


def flow_warp(x: Tensor, flow: Tensor, mode: str = "bilinear", outside: str = "zeros") -> Tensor:
    """Sample ``x`` at every pixel's position plus its flow.

    Args:
        x: floating ``(n, c, h, w)``.
        flow: floating ``(n, 2, h, w)``; channel 0 is x, channel 1 is y, in pixels.
        mode: "bilinear" or "nearest".
        outside: what lies around the picture, "zeros", or "border": its edge goes on.

    Returns ``(n, c, h, w)`` of ``x``'s dtype. Raises ValueError if the sizes differ.
    """
    if x.shape[-2:] != flow.shape[-2:] or x.shape[0] != flow.shape[0] or flow.shape[1] != 2:
        raise ValueError(f"a flow of {tuple(flow.shape)} does not fit features of {tuple(x.shape)}")
    h, w = x.shape[-2:]
    # Half precision counts only 2048 steps from 0 to 1: too few for positions in a wide picture.
    precise = torch.promote_types(x.dtype, torch.float32)
    flow = flow.to(precise)
    columns = torch.arange(w, device=x.device, dtype=precise)
    rows = torch.arange(h, device=x.device, dtype=precise)[:, None]
    grid = torch.stack(
        (
            2 * (columns + flow[:, 0]) / max(w - 1, 1) - 1,
            2 * (rows + flow[:, 1]) / max(h - 1, 1) - 1,
        ),
        dim=-1,
    )
    return F.grid_sample(x.to(precise), grid, mode, outside, align_corners=True).to(x.dtype)


def consistent(flow: Tensor, flow_back: Tensor, relative: float = 0.01, absolute: float = 0.5) -> Tensor:
    """1 where going along ``flow`` and back along ``flow_back`` ends near the start, else 0.

    The squared error must stay under ``relative`` times the sum of both squared lengths plus ``absolute``
    pixels (Sundaram et al. 2010, section 4; Meister et al. 2018, equation 1).

    ``flow``, ``flow_back``: floating ``(n, 2, h, w)`` in pixels. Returns ``(n, 1, h, w)`` of ``flow``'s dtype;
    the comparison itself is made in float32 or finer.
    """
    precise = torch.promote_types(flow.dtype, torch.float32)
    there = flow.to(precise)
    back = flow_warp(flow_back.to(precise), there)
    error = (there + back).square().sum(1, keepdim=True)
    lengths = there.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return (error < relative * lengths + absolute).to(flow.dtype)
