"""Second-order deformable feature propagation (Li et al. 2022, E2FGVI; Chan et al. 2022, BasicVSR++)."""

import torch
from torch import Tensor, nn

from videopainter.ops.deform import modulated_deform_conv2d, offset_network
from videopainter.ops.warp import flow_warp

LARGEST_OFFSET = 10.0  # feature pixels by which a tap can move away from where the flow points


class SecondOrderAlignment(nn.Module):
    """Deformable convolution of the features of the last frame and the one before, led by the flow."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = offset_network(3 * channels + 4, channels, groups)

    def forward(self, features: Tensor, condition: Tensor, flow: Tensor, flow_before: Tensor) -> Tensor:
        """Args:
            features: ``(1, 2 c, h, w)``, of the last frame and of the one before it.
            condition: ``(1, 3 c, h, w)``: both warped, with the current frame's in the middle.
            flow, flow_before: ``(1, 2, h, w)`` from the current frame to each of them.

        Returns ``(1, c, h, w)``.
        """
        out = self.conv_offset(torch.cat((condition, flow.to(condition), flow_before.to(condition)), 1))
        offset, mask = out.tensor_split((out.shape[1] * 2 // 3,), 1)
        offset = LARGEST_OFFSET * torch.tanh(offset.to(flow.dtype))
        half = offset.shape[1] // 2
        # The first half of the groups moves the last frame, the second the one before; offsets are (y, x).
        towards = [f.flip(1).repeat(1, half // 2, 1, 1) for f in (flow, flow_before)]
        return modulated_deform_conv2d(
            features,
            offset + torch.cat(towards, 1),
            torch.sigmoid(mask),
            self.weight,
            self.bias,
            padding=1,
        )


class FeaturePropagation(nn.Module):
    """Features carried along backward in time, then forward, and fused."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.deform_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        for name, inputs in (("backward_", 2), ("forward_", 3)):
            self.deform_align[name] = SecondOrderAlignment(channels, groups)
            self.backbone[name] = nn.Sequential(
                nn.Conv2d(inputs * channels, channels, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        """Args:
            x: features ``(t, c, h, w)`` of frames that follow each other.
            forward, backward: flows ``(t - 1, 2, h, w)`` in feature pixels; float32 also for half precision features.

        Returns ``(t, c, h, w)``.
        """
        frames = list(x.split(1))
        # The flows are not reversed together with the frames: the released networks were trained so.
        from_later = self._carry("backward_", [(frame,) for frame in reversed(frames)], forward)[::-1]
        from_earlier = self._carry("forward_", list(zip(frames, from_later)), backward)
        return torch.cat(
            [self.fusion(torch.cat(both, 1)) + here for *both, here in zip(from_later, from_earlier, frames)]
        )

    def _carry(self, name: str, known: list[tuple[Tensor, ...]], flows: Tensor) -> list[Tensor]:
        """One direction; ``known``: what there is of each frame, its own features first."""
        align, backbone = self.deform_align[name], self.backbone[name]
        out: list[Tensor] = []
        for i, parts in enumerate(known):
            here = parts[0]
            last = torch.zeros_like(here)
            if i:
                flow = flows[i - 1 : i]
                if i > 1:
                    before = out[-2]
                    flow_before = flow + flow_warp(flows[i - 2 : i - 1], flow)
                    seen_before = flow_warp(before, flow_before)
                else:
                    before = seen_before = torch.zeros_like(here)
                    flow_before = torch.zeros_like(flow)
                condition = torch.cat((flow_warp(out[-1], flow), here, seen_before), 1)
                last = align(torch.cat((out[-1], before), 1), condition, flow, flow_before)
            out.append(last + backbone(torch.cat((*parts, last), 1)))
        return out
