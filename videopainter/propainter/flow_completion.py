"""Recurrent flow completion: flow behind the holes, from the flow around and before and after them.

ProPainter (Zhou et al. 2023), section 3.1. Only two maps at an eighth of the size are kept for the whole clip;
everything finer is computed a few frames at a time. That is exact: the encoders look a few frames to either side,
which are kept meanwhile, and the decoder looks at one frame at a time.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops.deform import modulated_deform_conv2d, offset_network
from videopainter.ops.pixels import Upsampling

STEP = 4  # frames encoded at once
DECODED = 2  # frames decoded at once; the decoder ends at the full size
LARGEST_OFFSET = 5.0  # pixels at an eighth of the size, by which a tap of the alignment can move


class FrameConv(nn.Conv3d):
    """A convolution of every frame ``(t, c, h, w)`` by itself, with a weight of one tap in time."""

    def forward(self, x: Tensor) -> Tensor:
        _, high, wide = self.padding
        if self.padding_mode != "zeros":
            x, high, wide = F.pad(x, (wide, wide, high, high), self.padding_mode), 0, 0
        # In three dimensions PyTorch would unfold small clips on a CPU, which takes nine times their memory.
        return F.conv2d(x, self.weight[:, :, 0], self.bias, self.stride[1:], (high, wide), self.dilation[1:])


class TimeConv(nn.Conv3d):
    """A convolution of three taps over time alone, of a clip ``(t, c, h, w)`` with zeros before and after it."""

    @property
    def reach(self) -> int:
        """Frames it looks back and ahead."""
        return self.dilation[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(F.pad(x, (0, 0) * 3 + (self.reach, self.reach)))

    def inner(self, x: Tensor) -> Tensor:
        """For the frames that have all they look at in ``x``: all but `reach` at both ends."""
        count = len(x) - 2 * self.reach
        out = F.conv2d(x[self.reach :][:count], self.weight[:, :, 1], self.bias)
        out += F.conv2d(x[:count], self.weight[:, :, 0])
        out += F.conv2d(x[2 * self.reach :], self.weight[:, :, 2])
        return out


class TemporalBlock(nn.Module):
    """A 3 x 3 convolution of every frame, then one of three taps over time, two frames apart."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Sequential(
            FrameConv(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1)),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.conv2 = nn.Sequential(
            TimeConv(outputs, outputs, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Alignment(nn.Module):
    """Deformable convolution of the features of two frames, led by these and by the current frame."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = offset_network(3 * channels, channels, groups)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        offset, mask = self.conv_offset(condition).tensor_split(
            (self.conv_offset[-1].out_channels * 2 // 3,), 1
        )
        offset = LARGEST_OFFSET * torch.tanh(offset)
        return modulated_deform_conv2d(
            features, offset, torch.sigmoid(mask), self.weight, self.bias, padding=1
        )


class Propagation(nn.Module):
    """Features of a clip ``(t, c, h, w)``, carried along backward in time, then forward.

    Without gradients the result is written over them: two maps of a frame are kept at any time, not three.
    """

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.deform_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        for name, inputs in (("backward_", 2), ("forward_", 3)):
            self.deform_align[name] = Alignment(channels, groups)
            self.backbone[name] = nn.Sequential(
                nn.Conv2d(inputs * channels, channels, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        backward: list[Tensor] = []
        for t in reversed(range(len(x))):
            backward.append(self.step("backward_", x[t : t + 1], backward[-2:], []))
        out = torch.empty_like(x) if torch.is_grad_enabled() else x
        last: list[Tensor] = []
        for t in range(len(x)):
            here, behind = x[t : t + 1], backward.pop()
            last = [*last[-1:], self.step("forward_", here, last, [behind])]
            out[t : t + 1] = self.fusion(torch.cat((behind, last[-1]), 1)) + here
        return out

    def step(self, name: str, here: Tensor, last: list[Tensor], also: list[Tensor]) -> Tensor:
        """Features ``(1, c, h, w)`` of one frame, from those of up to two ``last`` ones, the latest at the end."""
        if last:
            first = last[-1]
            second = last[-2] if len(last) > 1 else torch.zeros_like(first)
            condition = torch.cat((first, here, second), 1)
            carried = self.deform_align[name](torch.cat((first, second), 1), condition)
        else:
            carried = torch.zeros_like(here)
        return carried + self.backbone[name](torch.cat((here, *also, carried), 1))


class EdgeDetector(nn.Module):
    """Edges of a flow ``(n, 2, h, w)`` as ``(n, 1, h, w)`` in 0..1. Only training looks at them."""

    def __init__(self, channels: int = 16):
        super().__init__()
        self.projection = nn.Sequential(nn.Conv2d(2, channels, 3, padding=1), nn.LeakyReLU(0.2))
        self.intermediate_layer_1 = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2)
        )
        self.intermediate_layer_2 = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))
        self.out_layer = nn.Conv2d(channels, 1, 1)

    def forward(self, flow: Tensor) -> Tensor:
        x = self.projection(flow)
        x = F.leaky_relu(x + self.intermediate_layer_2(self.intermediate_layer_1(x)), 0.01)
        return torch.sigmoid(self.out_layer(x))


class FlowCompletion(nn.Module):
    """Completes the flow of a clip in one direction.

    Args:
        channels: at an eighth of the size. groups: deformation groups of the alignment.
    """

    def __init__(self, channels: int, groups: int):
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.downsample = nn.Sequential(
            FrameConv(3, quarter, (1, 5, 5), (1, 2, 2), (0, 2, 2), padding_mode="replicate"),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.encoder1 = self._encoder(quarter, half)
        self.encoder2 = self._encoder(half, channels)
        self.intermediate_dilation = nn.Sequential()
        for reach in (3, 2, 1):
            conv = FrameConv(
                channels, channels, (1, 3, 3), padding=(0, reach, reach), dilation=(1, reach, reach)
            )
            self.intermediate_dilation.extend((conv, nn.LeakyReLU(0.2, inplace=True)))
        self.feature_propagation_module = Propagation(channels, groups)
        self.decoder2 = self._decoder(channels, half)
        self.decoder1 = self._decoder(half, quarter)
        self.upsample = nn.Sequential(
            nn.Conv2d(quarter, quarter, 3, padding=1), nn.LeakyReLU(0.2, inplace=True), Upsampling(quarter, 2)
        )
        self.edgeDetector = EdgeDetector()

    @staticmethod
    def _encoder(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            TemporalBlock(inputs, inputs, 1),
            nn.LeakyReLU(0.2, inplace=True),
            TemporalBlock(inputs, outputs, 2),
            nn.LeakyReLU(0.2, inplace=True),
        )

    @staticmethod
    def _decoder(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            Upsampling(inputs, outputs),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, flows: Tensor, masks: Tensor, reverse: bool = False) -> Tensor:
        """Predict the whole flow of every frame.

        Args:
            flows: floating ``(t, 2, h, w)`` in pixels, h and w multiples of 8; what lies in the holes is not
                looked at.
            masks: ``(t, 1, h, w)``, 1 in the holes.
            reverse: go through time from the end to the start, as for flows that point back.

        Returns ``(t, 2, h, w)``. The arguments may lie on another device than the network; the result is there.
        """
        out = torch.empty_like(flows)
        for place, part in self.predict(flows, masks, reverse):
            out[place] = part
        return out

    def predict(self, flows: Tensor, masks: Tensor, reverse: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Yield ``(frames, their flow)``, a few frames at a time.

        Meanwhile the caller may write into the holes of ``flows``.
        """
        count, start = len(flows), 0
        coarse = self.feature_propagation_module(self._coarse(flows, masks, reverse))
        for fine in self._fine(flows, masks, reverse):
            stop = start + len(fine)
            parts = zip(coarse[start:stop].split(DECODED), fine.split(DECODED))
            part = torch.cat([self.upsample(self.decoder1(self.decoder2(c) + f)) for c, f in parts])
            yield (
                (slice(count - stop, count - start), part.flip(0)) if reverse else (slice(start, stop), part)
            )
            start = stop

    def _coarse(self, flows: Tensor, masks: Tensor, reverse: bool) -> Tensor:
        """Features at an eighth of the size, ``(t, c, h, w)``."""
        out, start = None, 0
        for part in in_order(self.encoder2, self._fine(flows, masks, reverse)):
            part = self.intermediate_dilation(part)
            if out is None:  # in one block: parts would be there twice while they are joined
                out = part.new_empty(len(flows), *part.shape[1:])
            out[start : start + len(part)] = part
            start += len(part)
        return out

    def _fine(self, flows: Tensor, masks: Tensor, reverse: bool) -> Iterator[Tensor]:
        """Features at a quarter of the size, ``(a few frames, c, h, w)``."""
        return in_order(self.encoder1, self._halved(flows, masks, reverse))

    def _halved(self, flows: Tensor, masks: Tensor, reverse: bool) -> Iterator[Tensor]:
        """What the encoders start from, at half the size, ``(a few frames, c, h, w)``."""
        weight, count = self.downsample[0].weight, len(flows)
        for start in range(0, count, STEP):
            stop = min(start + STEP, count)
            place = slice(count - stop, count - start) if reverse else slice(start, stop)
            holes = masks[place].to(weight)
            x = torch.cat((flows[place].to(weight) * (1 - holes), holes), 1)
            yield self.downsample(x.flip(0) if reverse else x)


def in_order(encoder: nn.Sequential, parts: Iterable[Tensor]) -> Iterable[Tensor]:
    """An encoder's features of a clip whose frames come, and go, a few at a time: ``(t, c, h, w)`` in parts.

    The same as of the whole clip; only the frames that later ones look back to are kept.
    """
    for layer in encoder:
        if isinstance(layer, TemporalBlock):
            parts = _over_time(layer.conv2[0], map(layer.conv1, parts))
        else:
            parts = map(layer, parts)
    return parts


def _over_time(conv: TimeConv, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    near, reach = None, conv.reach
    for part in parts:
        near = F.pad(part, (0, 0) * 3 + (reach, 0)) if near is None else torch.cat((near, part))
        del part
        if len(near) > 2 * reach:
            out = conv.inner(near)
            near = near[-2 * reach :].clone()
            yield out
            del out  # the next layer may be done with it
    if near is not None:
        yield conv.inner(F.pad(near, (0, 0) * 3 + (0, reach)))


def complete_(network: FlowCompletion, forward: Tensor, backward: Tensor, masks: Tensor) -> None:
    """Complete flows of a clip of t frames in both directions, in place, inside the holes of their first frame.

    ``forward``, ``backward``: ``(t - 1, 2, h, w)``; ``masks``: ``(t, 1, h, w)`` with 0 and 1.
    """
    for flows, holes, reverse in ((forward, masks[:-1], False), (backward, masks[1:], True)):
        for place, predicted in network.predict(flows, holes, reverse):
            known = flows[place]
            known.copy_(torch.where(holes[place] > 0, predicted.to(known), known))
