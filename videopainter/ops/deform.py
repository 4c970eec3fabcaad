"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2", equation 1)."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def modulated_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolution whose taps are displaced by ``offset`` and weighted by ``mask``; zero outside the picture.

    Args:
        x: floating ``(n, c, h, w)``.
        offset: ``(n, 2 * groups * taps, h_out, w_out)`` in pixels of ``x``: for every group and tap (row by
            row) y, then x. The number of deformation groups follows from its size.
        mask: ``(n, groups * taps, h_out, w_out)``.
        weight: ``(c_out, c, kernel_h, kernel_w)``. bias: ``(c_out,)``.
        stride, padding, dilation: pixels, the same for both directions.

    Returns ``(n, c_out, h_out, w_out)`` of ``x``'s dtype. Raises ValueError where the sizes do not fit.
    """
    _check(x, offset, mask, weight)
    # In half precision its kernel would round the positions as well.
    kernel = torchvision_kernel() if x.is_cuda and offset.dtype == x.dtype == torch.float32 else None
    if kernel is not None:
        return kernel(x, offset, weight, bias, stride, padding, dilation, mask)
    return plain(x, offset, mask, weight, bias, stride, padding, dilation)


def plain(x, offset, mask, weight, bias=None, stride=1, padding=0, dilation=1) -> Tensor:
    """The same with nothing but PyTorch: one bilinear sampling of all taps, then one matrix product."""
    n, c, h, w = x.shape
    c_out, _, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    groups = mask.shape[1] // taps
    h_out, w_out = mask.shape[-2:]
    precise = torch.promote_types(x.dtype, torch.float32)
    offset = offset.to(precise).view(n * groups, taps, 2, h_out, w_out)

    def places(count: int, start: int, step: int) -> Tensor:
        return torch.arange(count, device=x.device, dtype=precise) * step + start

    rows = places(h_out, -padding, stride)[:, None]
    columns = places(w_out, -padding, stride)
    tap_rows = places(kernel_h, 0, dilation).repeat_interleave(kernel_w)[:, None, None]
    tap_columns = places(kernel_w, 0, dilation).repeat(kernel_h)[:, None, None]
    y = rows + tap_rows + offset[:, :, 0]
    xs = columns + tap_columns + offset[:, :, 1]
    # align_corners=False maps pixel i of n to (2 i + 1) / n - 1, which is defined for a single pixel too.
    grid = torch.stack(((2 * xs + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
    sampled = F.grid_sample(
        x.to(precise).reshape(n * groups, c // groups, h, w),
        grid.view(n * groups, taps * h_out, w_out, 2),
        "bilinear",
        "zeros",
        align_corners=False,
    )
    sampled = sampled.view(n, groups, c // groups, taps, h_out * w_out).to(x.dtype)
    sampled = sampled * mask.view(n, groups, 1, taps, h_out * w_out)
    out = weight.reshape(c_out, c * taps) @ sampled.view(n, c * taps, h_out * w_out)
    if bias is not None:
        out = out + bias[:, None]
    return out.view(n, c_out, h_out, w_out)


@cache
def torchvision_kernel():
    """torchvision's ``deform_conv2d`` if it loads beside this PyTorch and computes, else None."""
    try:
        from torchvision.ops import deform_conv2d

        one = torch.ones(1, 1, 1, 1)
        deform_conv2d(one, torch.zeros(1, 2, 1, 1), one, mask=one)
    except Exception:  # a build for another PyTorch fails in many ways: ImportError, RuntimeError, OSError
        return None
    return deform_conv2d


def _check(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> None:
    taps = weight.shape[2] * weight.shape[3]
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"weights for {weight.shape[1]} channels, but features have {x.shape[1]}")
    groups, rest = divmod(mask.shape[1], taps)
    if rest or groups == 0 or x.shape[1] % groups or offset.shape[1] != 2 * mask.shape[1]:
        raise ValueError(
            f"{offset.shape[1]} offset and {mask.shape[1]} mask channels do not fit {taps} taps of "
            f"{x.shape[1]} channels"
        )


def offset_network(inputs: int, channels: int, groups: int) -> nn.Sequential:
    """Convolutions to 9 offsets (y, x) and 9 weights for every group, in this order."""
    layers: list[nn.Module] = []
    for before in (inputs, channels, channels):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(channels, 27 * groups, 3, padding=1))
