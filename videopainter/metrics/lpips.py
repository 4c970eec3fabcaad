"""LPIPS (Zhang et al. 2018, version 0.1) of our own network definitions: no torchvision.

The convolutions' weights are torchvision's files as published (`FILES`), the linear weights those that the package
`lpips` ships. Checked against that package's code with the same random weights.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.weights import WeightsError
from videopainter.weights.load import load_tensors

# Layers in torchvision's order, whose numbers are the names of the weights: convolution (in, out, kernel, stride,
# padding), a fire module (in, squeezed, expanded), "relu"; "pool", or "ceil" where its last window may hang over, with
# the kernel.
ALEX = [(3, 64, 11, 4, 2), "relu", ("pool", 3), (64, 192, 5, 1, 2), "relu", ("pool", 3), (192, 384, 3, 1, 1), "relu",
        (384, 256, 3, 1, 1), "relu", (256, 256, 3, 1, 1), "relu"]  # fmt: skip
VGG_WIDTHS = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]


def _vgg() -> list:
    layers: list = []
    width = 3
    for step in VGG_WIDTHS:
        if step == "M":
            layers.append(("pool", 2))
        else:
            layers += [(width, step, 3, 1, 1), "relu"]
            width = step
    return layers


SQUEEZE = [(3, 64, 3, 2, 0), "relu", ("ceil", 3), (64, 16, 64), (128, 16, 64), ("ceil", 3), (128, 32, 128),
           (256, 32, 128), ("ceil", 3), (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]  # fmt: skip

# Name -> (layers, after which ones features are taken, their channels).
NETWORKS = {
    "alex": (ALEX, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": (_vgg(), (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
    "squeeze": (SQUEEZE, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)),
}
FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class Fire(nn.Module):
    """A module of SqueezeNet."""

    def __init__(self, channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def _layer(told) -> nn.Module:
    if told == "relu":
        return nn.ReLU()
    if told[0] in ("pool", "ceil"):
        return nn.MaxPool2d(told[1], 2, ceil_mode=told[0] == "ceil")
    return Fire(*told) if len(told) == 3 else nn.Conv2d(*told[:2], told[2], told[3], told[4])


class LPIPS(nn.Module):
    """Distance of pictures ``(n, 3, h, w)`` in -1..1; h and w at least 32.

    Args:
        net: of `NETWORKS`.
    """

    def __init__(self, net: str = "alex"):
        super().__init__()
        if net not in NETWORKS:
            raise ValueError(f"LPIPS uses {', '.join(NETWORKS)}, not {net!r}.")
        layers, self.taken, channels = NETWORKS[net]
        self.features = nn.ModuleList(map(_layer, layers))
        self.linear = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in channels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, one: Tensor, other: Tensor, spatial: bool = False) -> Tensor:
        """``(n,)``; with ``spatial`` a map ``(n, h, w)``, whose mean is nearly that."""
        size, parts = one.shape[-2:], []
        for a, b, linear in zip(self._seen(one), self._seen(other), self.linear):
            difference = linear((_unit(a) - _unit(b)) ** 2)
            if spatial:
                parts.append(F.interpolate(difference, size, mode="bilinear", align_corners=False)[:, 0])
            else:
                parts.append(difference.mean((1, 2, 3)))
        return torch.stack(parts).sum(0)

    def _seen(self, x: Tensor) -> list[Tensor]:
        x, found = (x - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taken:
                found.append(x)
        return found

    @torch.no_grad()
    def frames(self, one: np.ndarray, other: np.ndarray, spatial: bool = False) -> np.ndarray:
        """The same for uint8 ``(n, h, w, 3)``."""
        pair = [
            torch.from_numpy(x).to(self.shift.device).permute(0, 3, 1, 2).float() / 127.5 - 1
            for x in (one, other)
        ]
        return self(*pair, spatial=spatial).cpu().numpy()


def _unit(x: Tensor) -> Tensor:
    """Of length 1 at every place; the small number is added outside the root, as published."""
    return x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


def load_lpips(net: str, folder: str | os.PathLike, device: str = "cpu") -> LPIPS:
    """LPIPS with the published weights.

    Args:
        folder: holds torchvision's file (see `FILES`) and ``lpips_NET.pth``, the linear weights; without the latter
            those of an installed package `lpips` are taken.

    Raises WeightsError, one sentence, for files that are not there or do not fit.
    """
    model, folder = LPIPS(net), Path(folder)
    trunk = folder / FILES[net]
    if not trunk.is_file():
        raise WeightsError(f"There is no '{trunk}', torchvision's weights that LPIPS uses.")
    tensors = load_tensors(trunk)
    own = {f"features.{name}": one for name, one in model.features.state_dict().items()}
    wrong = [name for name, one in own.items() if name not in tensors or tensors[name].shape != one.shape]
    if wrong:
        raise WeightsError(f"'{trunk}' is not the network that LPIPS uses: '{wrong[0]}' does not fit.")
    model.features.load_state_dict({name.partition(".")[2]: tensors[name] for name in own})
    linear = linear_weights(net, folder)
    found = load_tensors(linear)
    names = [f"lin{number}.model.1.weight" for number in range(len(model.linear))]
    for name, layer in zip(names, model.linear):
        if name not in found or found[name].shape != layer.weight.shape:
            raise WeightsError(f"'{linear}' does not hold LPIPS's linear weights: '{name}' does not fit.")
        layer.weight.copy_(found[name])
    return model.to(device)


def linear_weights(net: str, folder: str | os.PathLike) -> Path:
    """The file with the linear weights. Raises WeightsError if there is none."""
    path = Path(folder, f"lpips_{net}.pth")
    if path.is_file():
        return path
    package = find_spec("lpips")  # which is not imported: it needs torchvision
    for place in (package.submodule_search_locations or ()) if package else ():
        shipped = Path(place, "weights", "v0.1", f"{net}.pth")
        if shipped.is_file():
            return shipped
    raise WeightsError(
        f"There is no '{path}', LPIPS's linear weights; the package lpips ships them (pip install --no-deps lpips)."
    )
