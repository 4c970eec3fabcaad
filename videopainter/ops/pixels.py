"""From pixels to features and back, as FuseFormer, E2FGVI and ProPainter share it (Liu et al. 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Upsampling(nn.Module):
    """Twice the size, bilinearly, then a 3 x 3 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class Encoder(nn.Module):
    """Frames, perhaps with masks, ``(n, inputs, h, w)`` to features ``(n, channels, h / 4, w / 4)``."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        half = channels // 2
        plan = (
            # inputs, outputs, stride, groups
            (inputs, half, 2, 1),
            (half, half, 1, 1),
            (half, channels, 2, 1),
            (channels, 2 * channels, 1, 1),
            (2 * channels, 3 * channels, 1, 1),
            (5 * channels, 4 * channels, 1, 2),
            (6 * channels, 3 * channels, 1, 4),
            (5 * channels, 2 * channels, 1, 8),
            (4 * channels, channels, 1, 1),
        )
        self.layers = nn.ModuleList()
        for before, after, stride, groups in plan:
            self.layers.append(nn.Conv2d(before, after, 3, stride, 1, groups=groups))
            self.layers.append(nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        convolutions = self.layers[::2]
        for conv in convolutions[:4]:
            x = F.leaky_relu(conv(x), 0.2)
        shallow = x
        x = F.leaky_relu(convolutions[4](x), 0.2)
        for conv in convolutions[5:]:
            # Every group of a convolution sees its share of the shallow features as well.
            both = torch.cat([part.unflatten(1, (conv.groups, -1)) for part in (shallow, x)], 2)
            x = F.leaky_relu(conv(both.flatten(1, 2)), 0.2)
        return x


def decoder(channels: int) -> nn.Sequential:
    """Features ``(n, channels, h, w)`` to frames ``(n, 3, 4 h, 4 w)``, before their tanh."""
    half = channels // 2
    return nn.Sequential(
        Upsampling(channels, channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, half, 3, padding=1),
        nn.LeakyReLU(0.2),
        Upsampling(half, half),
        nn.LeakyReLU(0.2),
        nn.Conv2d(half, 3, 3, padding=1),
    )
