"""Modulated deformable convolution against a loop over every tap, and against torchvision where it loads."""

import math

import pytest
import torch

from videopainter.ops import deform
from videopainter.ops.deform import modulated_deform_conv2d, plain


def bilinear(picture, y, x):
    """One value of a picture ``(h, w)``, zero outside."""
    h, w = picture.shape
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < h and 0 <= j < w:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * picture[i, j].item()
    return total


def brute_force(x, offset, mask, weight, bias, stride, padding, dilation):
    n, c, _, _ = x.shape
    c_out, _, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    groups = mask.shape[1] // taps
    out = torch.zeros(n, c_out, *mask.shape[-2:], dtype=torch.float64)
    for b in range(n):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                for channel in range(c):
                    group = channel // (c // groups)
                    for tap in range(taps):
                        at = group * taps + tap
                        y = i * stride - padding + tap // kernel_w * dilation + offset[b, 2 * at, i, j].item()
                        xs = (
                            j * stride
                            - padding
                            + tap % kernel_w * dilation
                            + offset[b, 2 * at + 1, i, j].item()
                        )
                        value = bilinear(x[b, channel], y, xs) * mask[b, at, i, j].item()
                        out[b, :, i, j] += weight[:, channel].flatten(1)[:, tap].double() * value
    return out + bias[:, None, None]


def arguments(
    n=1, c=4, c_out=3, h=5, w=6, groups=2, kernel=(3, 3), stride=1, padding=1, dilation=1, spread=2.0
):
    torch.manual_seed(0)
    h_out, w_out = (
        (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for size, k in zip((h, w), kernel)
    )
    taps = kernel[0] * kernel[1]
    return (
        torch.randn(n, c, h, w),
        torch.randn(n, 2 * groups * taps, h_out, w_out) * spread,
        torch.rand(n, groups * taps, h_out, w_out),
        torch.randn(c_out, c, *kernel),
        torch.randn(c_out),
        stride,
        padding,
        dilation,
    )


CASES = [
    {},
    {"n": 2, "groups": 1},
    {"stride": 2, "padding": 2, "dilation": 2, "h": 7},
    {"kernel": (1, 3), "padding": 0, "groups": 4},
    {"spread": 30.0},  # most taps far outside the picture
    {"h": 1, "w": 1, "spread": 0.4},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_a_loop(case):
    given = arguments(**case)
    torch.testing.assert_close(plain(*given).double(), brute_force(*given), atol=2e-5, rtol=1e-5)


def test_without_offsets_it_is_a_convolution():
    x, offset, _, weight, bias, *_ = arguments()
    mask = torch.ones(1, offset.shape[1] // 2, *offset.shape[-2:])
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(plain(x, torch.zeros_like(offset), mask, weight, bias, padding=1), expected)


def test_half_precision_keeps_exact_positions():
    """An offset beyond what half precision can count to a quarter pixel, far out in a wide picture."""
    x = torch.arange(3000.0).view(1, 1, 1, 3000) / 3000
    offset, mask = torch.zeros(1, 2, 1, 3000), torch.ones(1, 1, 1, 3000)
    offset[:, 1] = 0.25
    weight = torch.ones(1, 1, 1, 1)
    half = plain(x.half(), offset, mask.half(), weight.half())
    full = plain(x, offset, mask, weight)
    assert half.dtype == torch.float16
    assert (half - full).abs()[..., :-1].max() < 1e-3


def test_torchvision_gives_the_same_where_it_loads():
    """Without torchvision the function that looks for it says so; with it, both agree."""
    kernel = deform.torchvision_kernel()
    for case in CASES:
        x, offset, mask, weight, bias, stride, padding, dilation = arguments(**case)
        own = modulated_deform_conv2d(x, offset, mask, weight, bias, stride, padding, dilation)
        theirs = (
            plain(x, offset, mask, weight, bias, stride, padding, dilation)
            if kernel is None
            else kernel(x, offset, weight, bias, stride, padding, dilation, mask)
        )
        torch.testing.assert_close(own, theirs, atol=2e-5, rtol=1e-5)


def test_a_broken_torchvision_is_not_used(monkeypatch):
    import sys
    import types

    broken = types.ModuleType("torchvision.ops")
    broken.deform_conv2d = lambda *a, **k: (_ for _ in ()).throw(RuntimeError("no kernel"))
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", broken)
    deform.torchvision_kernel.cache_clear()
    assert deform.torchvision_kernel() is None
    deform.torchvision_kernel.cache_clear()


def test_gradients_flow():
    x, offset, mask, weight, bias, *_ = arguments()
    leaves = [part.requires_grad_() for part in (x, offset, mask, weight, bias)]
    plain(*leaves, padding=1).square().sum().backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x, o, m, w: (x[:, :3], o, m, w), "weights for 4 channels"),
        (lambda x, o, m, w: (x, o[:, :-2], m, w), "34 offset and 18 mask channels"),
        (lambda x, o, m, w: (x, o[:, :-4], m[:, :-2], w), "32 offset and 16 mask channels"),
    ],
)
def test_sizes_that_do_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        modulated_deform_conv2d(*change(*arguments()[:4]), padding=1)
