"""T-PatchGAN: tells painted clips from real ones, patch by patch in space and time (Chang et al. 2019)."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Discriminator(nn.Module):
    """Six 3D convolutions, all but the last with spectral norm (Miyato et al. 2018).

    Args:
        width: channels of the first layer; E2FGVI has 32.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 4 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip(channels[:-1], channels[1:])):
            last = i == len(channels) - 2
            padding = (
                1 if i == 0 else (1, 2, 2)
            )  # as published: the first layer gives one row and column less
            conv = nn.Conv3d(inputs, outputs, (3, 5, 5), (1, 2, 2), padding, bias=last)
            nn.init.normal_(conv.weight, std=0.02)
            if last:
                nn.init.zeros_(conv.bias)
                layers.append(conv)
            else:
                layers += [spectral_norm(conv), nn.LeakyReLU(0.2)]
        self.conv = nn.Sequential(*layers)

    def forward(self, clips: Tensor) -> Tensor:
        """``(b, t, 3, h, w)`` in -1..1 to ``(b, t, c, h', w')``, higher where a patch looks real."""
        return self.conv(clips.transpose(1, 2)).transpose(1, 2)
