"""Recurrent flow completion: flow behind the holes, from the flow around and before and after them.

ProPainter (Zhou et al. 2023), section 3.1. Only two maps at an eighth of the size are kept for the whole clip;
everything finer is computed a few frames at a time. That is exact: each of the two encoders reaches `REACH`
frames to either side and the decoder looks at one frame at a time.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops.deform import modulated_deform_conv2d, offset_network
from videopainter.ops.pixels import Upsampling

REACH = 4  # frames: two convolutions of three taps, two frames apart
STEP = 4  # frames encoded at once
DECODED = 2  # frames decoded at once; the decoder ends at the full size
LARGEST_OFFSET = 5.0  # pixels at an eighth of the size, by which a tap of the alignment can move


class TemporalBlock(nn.Module):
    """A 3 x 3 convolution of every frame, then one of three taps over time, two frames apart."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1)),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(outputs, outputs, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1))
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
            nn.Conv3d(3, quarter, (1, 5, 5), (1, 2, 2), (0, 2, 2), padding_mode="replicate"),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.encoder1 = self._encoder(quarter, half)
        self.encoder2 = self._encoder(half, channels)
        self.intermediate_dilation = nn.Sequential()
        for reach in (3, 2, 1):
            conv = nn.Conv3d(
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
        count = len(flows)
        coarse = self.feature_propagation_module(torch.cat([*self._coarse(flows, masks, reverse)]))
        for start in range(0, count, STEP):
            stop = min(start + STEP, count)
            fine = self._fine(flows, masks, start, stop, reverse)[0].transpose(0, 1)
            parts = zip(coarse[start:stop].split(DECODED), fine.split(DECODED))
            part = torch.cat([self.upsample(self.decoder1(self.decoder2(c) + f)) for c, f in parts])
            yield (
                (slice(count - stop, count - start), part.flip(0)) if reverse else (slice(start, stop), part)
            )

    def _coarse(self, flows: Tensor, masks: Tensor, reverse: bool) -> Iterator[Tensor]:
        """Yield features at an eighth of the size, ``(STEP or less, c, h, w)``, in order."""
        count, low, high = len(flows), 0, 0
        near: list[Tensor] = []  # finer features, of low..high
        for start in range(0, count, STEP):
            stop = min(start + STEP, count)
            more, begin = min(count, stop + REACH), max(0, start - REACH)
            near = [part[:, :, begin - low :] for part in near]
            if more > high:
                near = [torch.cat([*near, self._fine(flows, masks, high, more, reverse)], 2)]
            low, high = begin, more
            x = self.intermediate_dilation(self.encoder2(near[0]))
            yield x[0, :, start - low : stop - low].transpose(0, 1).contiguous()  # or it would hold all of x

    def _fine(self, flows: Tensor, masks: Tensor, start: int, stop: int, reverse: bool) -> Tensor:
        """Features of start..stop at a quarter of the size, ``(1, c, t, h, w)``."""
        low, high = max(0, start - REACH), min(len(flows), stop + REACH)
        weight = self.downsample[0].weight
        if reverse:
            flows, masks = (part[len(part) - high : len(part) - low].flip(0) for part in (flows, masks))
        else:
            flows, masks = flows[low:high], masks[low:high]
        masks = masks.to(weight)
        x = torch.cat((flows.to(weight) * (1 - masks), masks), 1)
        x = self.encoder1(self.downsample(x.transpose(0, 1)[None]))
        return x[:, :, start - low : stop - low]


def complete_(network: FlowCompletion, forward: Tensor, backward: Tensor, masks: Tensor) -> None:
    """Complete flows of a clip of t frames in both directions, in place, inside the holes of their first frame.

    ``forward``, ``backward``: ``(t - 1, 2, h, w)``; ``masks``: ``(t, 1, h, w)`` with 0 and 1.
    """
    for flows, holes, reverse in ((forward, masks[:-1], False), (backward, masks[1:], True)):
        for place, predicted in network.predict(flows, holes, reverse):
            known = flows[place]
            known.copy_(torch.where(holes[place] > 0, predicted.to(known), known))
