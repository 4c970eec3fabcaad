"""Flow warping and the consistency check."""

import pytest
import torch

from videopainter.ops.warp import consistent, flow_warp


def constant_flow(x, y, h=6, w=8):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, h, w).contiguous()


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_whole_pixels_shift_and_leave_zero_outside(mode):
    x = torch.rand(1, 3, 6, 8) + 1
    out = flow_warp(x, constant_flow(2.0, -1.0), mode)
    torch.testing.assert_close(out[..., 1:, :-2], x[..., :-1, 2:])
    assert out[..., 0, :].max() < 1e-5 and out[..., -2:].max() < 1e-5


def test_half_pixels_are_means():
    x = torch.rand(1, 1, 6, 8)
    out = flow_warp(x, constant_flow(0.5, 0.0))
    torch.testing.assert_close(out[..., :-1], (x[..., 1:] + x[..., :-1]) / 2)


def test_half_precision_counts_in_full():
    x = torch.arange(4000.0).view(1, 1, 1, 4000) / 4000
    flow = torch.zeros(1, 2, 1, 4000)
    flow[:, 0] = 0.25
    out = flow_warp(x.half(), flow)
    assert out.dtype == torch.float16 and (out - flow_warp(x, flow)).abs().max() < 1e-3


@pytest.mark.parametrize("flow", [torch.zeros(1, 2, 6, 7), torch.zeros(2, 2, 6, 8), torch.zeros(1, 3, 6, 8)])
def test_sizes_that_do_not_fit(flow):
    with pytest.raises(ValueError, match="does not fit features of"):
        flow_warp(torch.zeros(1, 3, 6, 8), flow)


def test_there_and_back_again():
    there = constant_flow(1.0, 0.0)
    assert (consistent(there, -there)[..., :-1] == 1).all()
    assert (consistent(there, there) == 0)[..., :-1].all()
    # The squared error of 0.36 is under 0.5, that of 0.81 over 0.5 and a hundredth of both squared lengths.
    assert consistent(there, constant_flow(-0.4, 0.0))[0, 0, 2, 2] == 1
    assert consistent(there, constant_flow(-0.1, 0.0))[0, 0, 2, 2] == 0
    # Long flows may miss by more: an error of 1 against 0.5 + 0.01 (10^2 + 9^2) = 2.31.
    assert consistent(constant_flow(10.0, 0.0, 6, 30), constant_flow(-9.0, 0.0, 6, 30))[0, 0, 2, 2] == 1


def test_beyond_the_border_is_zero_or_its_edge():
    x = torch.arange(1.0, 7).view(1, 1, 2, 3)
    far = torch.full((1, 2, 2, 3), 50.0)
    assert not flow_warp(x, far).any()
    assert torch.equal(flow_warp(x, far, outside="border"), torch.full_like(x, 6.0))
