"""SPyNet: optical flow from coarse to fine (Ranjan and Black 2017), as E2FGVI completes flow with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops.warp import flow_warp

LEVELS = 6
MULTIPLE = 2 ** (LEVELS - 1)  # of pixels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class Convolution(nn.Module):
    """7 x 7, in a module of its own, as the released files name it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Level(nn.Module):
    """Two pictures and the flow so far ``(n, 8, h, w)`` to what is to be added to it ``(n, 2, h, w)``."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        sizes = (8, *widths, 2)
        self.basic_module = nn.Sequential(*(Convolution(a, b) for a, b in zip(sizes[:-1], sizes[1:])))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.basic_module[:-1]:
            x = F.relu(layer(x))
        return self.basic_module[-1](x)


class SPyNet(nn.Module):
    """Flow from one picture to another; ``widths``: channels between the convolutions of a level."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 32, 16)):
        super().__init__()
        self.basic_module = nn.ModuleList(Level(widths) for _ in range(LEVELS))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, here: Tensor, there: Tensor) -> Tensor:
        """Args:
            here, there: ``(n, 3, h, w)`` in 0..1, of any size.

        Returns ``(n, 2, h, w)``, channel 0 is x, in pixels, from every pixel of ``here`` to where it is in ``there``.
        """
        h, w = here.shape[-2:]
        size = h + -h % MULTIPLE, w + -w % MULTIPLE
        pyramids = []
        for picture in (here, there):
            picture = F.interpolate(picture, size, mode="bilinear", align_corners=False)
            pyramid = [(picture - self.mean) / self.std]
            for _ in range(LEVELS - 1):
                pyramid.append(F.avg_pool2d(pyramid[-1], 2))
            pyramids.append(reversed(pyramid))
        flow = None
        for level, near, far in zip(self.basic_module, *pyramids):
            if flow is None:
                flow = near.new_zeros(near.shape[0], 2, *near.shape[-2:])
            else:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + level(torch.cat((near, flow_warp(far, flow, outside="border"), flow), 1))
        flow = F.interpolate(flow, (h, w), mode="bilinear", align_corners=False)
        across, down = flow.split(1, 1)
        return torch.cat((across * (w / size[1]), down * (h / size[0])), 1)
