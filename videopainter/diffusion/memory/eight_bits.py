"""Weights in 8 bits with a scale for each row.

float8_e4m3fn has three bits of mantissa from 2^-6 to 448, and fewer below: weights of a few hundredths lose digits when
they are merely cast. Divided by their row's largest value, times 448, they keep all of them. Computing is in
the layer's own dtype.
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

KIND = torch.float8_e4m3fn
LARGEST = torch.finfo(KIND).max


class EightBitLinear(nn.Module):
    """An `nn.Linear` whose weight is stored in 8 bits, without gradients.

    weight: float8_e4m3fn ``[out, in]``. scale: ``[out, 1]`` in the dtype of computing. bias: ``[out]`` or None.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # Rounded to the dtype of computing before it divides, so that it is the same number that multiplies.
        scale = (weight.float().abs().amax(1, keepdim=True) / LARGEST).to(weight.dtype)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        scaled = (weight.float() / scale.float()).clamp_(-LARGEST, LARGEST)
        self.weight = nn.Parameter(scaled.to(KIND), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype).mul_(self.scale.to(x.dtype)), self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


def store_in_eight_bits(network: nn.Module, skipped: tuple[str, ...]) -> None:
    """Replace all linear layers whose names hold none of the ``skipped`` patterns (regular expressions)."""
    chosen = [
        (name, module)
        for name, module in network.named_modules()
        if type(module) is nn.Linear and not any(re.search(pattern, name) for pattern in skipped)
    ]
    for name, module in chosen:
        owner, _, leaf = name.rpartition(".")
        parent = network.get_submodule(owner)
        # Through the table of children, as some are items of a list and some attributes.
        parent._modules[leaf] = EightBitLinear(module)
