"""RepViT-M1 (Wang et al. 2023, arXiv:2307.09283), EdgeTAM's backbone, at its four resolutions.

transformers takes it from the package `timm`, which does not work without torchvision; this one needs neither. The
modules have the names under which the published weights have their tensors.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

WIDTHS, DEPTHS = (48, 96, 192, 384), (2, 2, 14, 2)
SQUEEZE, DIVISOR = 0.25, 8  # width of a squeeze-and-excitation's middle, a multiple of the second


class RepVitConfig(PreTrainedConfig):
    """`widths`, `depths`: channels and blocks of each of the four stages."""

    model_type = "videopainter_repvit"

    widths: list[int] | None = None
    depths: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.widths = list(self.widths or WIDTHS)
        self.depths = list(self.depths or DEPTHS)
        super().__post_init__(**kwargs)


class ConvNorm(nn.Sequential):
    def __init__(self, inner: int, outer: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.add_module("c", nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outer))


class TokenMixer(nn.Module):
    """A depthwise convolution of 3 x 3, one of 1 x 1 and the input, added up."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, groups=width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.conv1(x) + x


class SqueezeExcite(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        middle = max(DIVISOR, int(width * SQUEEZE + DIVISOR / 2) // DIVISOR * DIVISOR)
        self.fc1, self.fc2 = nn.Conv2d(width, middle, 1), nn.Conv2d(middle, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.act, self.conv2 = ConvNorm(width, 2 * width), nn.GELU(), ConvNorm(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.act(self.conv1(x)))


class Block(nn.Module):
    def __init__(self, width: int, squeeze: bool):
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if squeeze else nn.Identity()
        self.channel_mixer = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.channel_mixer(self.se(self.token_mixer(x)))


class Downsample(nn.Module):
    """To half the size and the next stage's width."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.pre_block = Block(inner, squeeze=False)
        self.spatial_downsample = ConvNorm(inner, inner, 3, 2, groups=inner)
        self.channel_downsample = ConvNorm(inner, outer)
        self.ffn = Mlp(outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ffn(self.channel_downsample(self.spatial_downsample(self.pre_block(x))))


class Stage(nn.Module):
    def __init__(self, inner: int, outer: int, depth: int):
        super().__init__()
        self.downsample = Downsample(inner, outer) if inner != outer else nn.Identity()
        self.blocks = nn.Sequential(*(Block(outer, squeeze=k % 2 == 0) for k in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.downsample(x))


class Stem(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.act1 = ConvNorm(3, width // 2, 3, 2), nn.GELU()
        self.conv2 = ConvNorm(width // 2, width, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.act1(self.conv1(x)))


class RepVit(nn.Module):
    """float (n, 3, height, width) -> four maps at 1/4, 1/8, 1/16 and 1/32 of that size."""

    def __init__(self, widths, depths):
        super().__init__()
        self.stem = Stem(widths[0])
        for k, (inner, outer) in enumerate(zip((widths[0], *widths), widths)):
            self.add_module(f"stages_{k}", Stage(inner, outer, depths[k]))
        self.count = len(widths)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, maps = self.stem(x), []
        for k in range(self.count):
            x = self.get_submodule(f"stages_{k}")(x)
            maps.append(x)
        return maps


class RepVitBackbone(PreTrainedModel):
    """The backbone in the form in which transformers' EdgeTAM asks for it."""

    config_class = RepVitConfig
    main_input_name = "pixel_values"

    def __init__(self, config: RepVitConfig):
        super().__init__(config)
        self.timm_model = RepVit(config.widths, config.depths)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **unused):
        maps = self.timm_model(pixel_values.to(self.dtype))
        return SimpleNamespace(last_hidden_state=maps, hidden_states=None)
