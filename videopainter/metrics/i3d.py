"""I3D (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017): Inception-v1 inflated to 3D, RGB.

Submodules are named as in the released `i3d_rgb_imagenet.pt`. Every convolution and pooling pads with zeros as
TensorFlow's SAME does, by the size of its input; in time the padding is an argument of each stage, so that a long
video can go through in pieces (`stream`) with the result of one that goes through whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 1024  # channels of the last stage
REDUCTION = (8, 32, 32)  # frames, rows and columns that one position of the last stage stands for
CLASSES = 400  # of Kinetics; the classifier is part of the released file and of no use here

Padding = tuple[int, int]


def same(size: int, kernel: int, stride: int) -> Padding:
    """Zeros before and after an axis of `size`, so that ceil(size / stride) positions come out."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


class Stage(nn.Module):
    """Something with a temporal kernel: `forward(x, time)`, x (n, channels, t, h, w), time = zeros in time."""

    kernel = stride = 1  # in time


class Unit(Stage):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        # momentum=0: normalising by a clip's own statistics leaves the stored ones as they are.
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.0)

    def forward(self, x: Tensor, time: Padding) -> Tensor:
        rows, columns = (same(size, self.kernel, self.stride) for size in x.shape[-2:])
        return F.relu(self.bn(self.conv3d(F.pad(x, (*columns, *rows, *time)))), inplace=True)


class Pool(Stage):
    """Maximum; what goes in is not negative, so that zeros around it do no harm."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        (self.kernel, self.side), (self.stride, self.step) = kernel, stride

    def forward(self, x: Tensor, time: Padding) -> Tensor:
        rows, columns = (same(size, self.side, self.step) for size in x.shape[-2:])
        x = F.pad(x, (*columns, *rows, *time))
        return F.max_pool3d(x, (self.kernel, self.side, self.side), (self.stride, self.step, self.step))


class Mixed(Stage):
    """Four branches side by side: 1; 1 and 3; 1 and 3; pooling and 1."""

    kernel = 3

    def __init__(self, inputs: int, one: int, two: Padding, three: Padding, four: int):
        super().__init__()
        self.b0 = Unit(inputs, one)
        self.b1a, self.b1b = Unit(inputs, two[0]), Unit(two[0], two[1], 3)
        self.b2a, self.b2b = Unit(inputs, three[0]), Unit(three[0], three[1], 3)
        self.b3a, self.b3b = Pool((3, 3), (1, 1)), Unit(inputs, four)

    def forward(self, x: Tensor, time: Padding) -> Tensor:
        none = (0, 0)
        # A frame that is there for its neighbours only has no result of its own.
        own = x[:, :, 1 - time[0] : x.shape[2] - 1 + time[1]]
        branches = (
            self.b0(own, none),
            self.b1b(self.b1a(x, none), time),
            self.b2b(self.b2a(x, none), time),
            self.b3b(self.b3a(x, time), none),
        )
        return torch.cat(branches, dim=1)


class Classifier(nn.Module):
    """The released file's last layer."""

    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(FEATURES, CLASSES, 1)


class I3D(nn.Module):
    """RGB (n, 3, t, h, w) of any size -> features (n, 1024, ceil(t / 8), ceil(h / 32), ceil(w / 32))."""

    def __init__(self):
        super().__init__()
        stages: dict[str, Stage] = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, 2),
            "MaxPool3d_2a_3x3": Pool((1, 3), (1, 2)),
            "Conv3d_2b_1x1": Unit(64, 64),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
            "MaxPool3d_3a_3x3": Pool((1, 3), (1, 2)),
            "Mixed_3b": Mixed(192, 64, (96, 128), (16, 32), 32),
            "Mixed_3c": Mixed(256, 128, (128, 192), (32, 96), 64),
            "MaxPool3d_4a_3x3": Pool((3, 3), (2, 2)),
            "Mixed_4b": Mixed(480, 192, (96, 208), (16, 48), 64),
            "Mixed_4c": Mixed(512, 160, (112, 224), (24, 64), 64),
            "Mixed_4d": Mixed(512, 128, (128, 256), (24, 64), 64),
            "Mixed_4e": Mixed(512, 112, (144, 288), (32, 64), 64),
            "Mixed_4f": Mixed(528, 256, (160, 320), (32, 128), 128),
            "MaxPool3d_5a_2x2": Pool((2, 2), (2, 2)),
            "Mixed_5b": Mixed(832, 256, (160, 320), (32, 128), 128),
            "Mixed_5c": Mixed(832, 384, (192, 384), (48, 128), 128),
        }
        for name, stage in stages.items():
            self.add_module(name, stage)
        self._stages = list(stages)
        self.logits = Classifier()

    def forward(self, x: Tensor) -> Tensor:
        """The features of a whole clip at once."""
        for stage in self.stages():
            x = stage(x, same(x.shape[2], stage.kernel, stage.stride))
        return x

    def stages(self) -> list[Stage]:
        return [self.get_submodule(name) for name in self._stages]

    def stream(self, pieces: Iterable[Tensor], length: int) -> Iterator[Tensor]:
        """The same features, in pieces along time, from pieces along time that are `length` frames in all.

        Needs the memory of a piece (of 8 frames or more, for thrift) and of each stage's few frames of context.
        Not for `train()`, whose batch normalisation would have to see the whole clip.
        """
        flows = []
        for stage in self.stages():
            flows.append(_Flow(stage, length))
            length = -(-length // stage.stride)
        for piece in pieces:
            for flow in flows:
                piece = flow.push(piece)
                if piece is None:
                    break
            else:
                yield piece


class _Flow:
    """One stage of a stream: what it needs of the pieces that went through, to go on with the next."""

    def __init__(self, stage: Stage, length: int):
        self._stage, self._left = stage, length
        self._before, self._after = same(length, stage.kernel, stage.stride)
        self._held: Tensor | None = None

    def push(self, piece: Tensor) -> Tensor | None:
        """What can be told after one more piece; something for certain after the last."""
        kernel, stride = self._stage.kernel, self._stage.stride
        self._left -= piece.shape[2]
        if self._held is not None:
            piece = torch.cat([self._held, piece], dim=2)
        end = 0 if self._left else self._after
        count = max((self._before + piece.shape[2] + end - kernel) // stride + 1, 0)
        gone = count * stride - self._before
        self._held = piece[:, :, max(gone, 0) :].clone()  # a view would hold on to all of it
        if count == 0:
            return None
        used = gone - stride + kernel  # frames, those of `end` included
        padding = (self._before, max(used - piece.shape[2], 0))
        self._before = max(-gone, 0)
        return self._stage(piece[:, :, :used], padding)
