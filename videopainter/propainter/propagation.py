"""Dual-domain propagation (ProPainter, section 3.2): known pixels, then features, carried along the flow."""

import torch
from torch import Tensor, nn

from videopainter.ops.deform import modulated_deform_conv2d, offset_network
from videopainter.ops.warp import consistent, flow_warp

LARGEST_OFFSET = 3.0  # feature pixels by which a tap can move away from where the flow points
THRESHOLD = 0.1  # a warped mask counts as hole above this


def fill_step(
    frame: Tensor, mask: Tensor, last_frame: Tensor, last_mask: Tensor, flow: Tensor, valid: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    """Fill holes of one frame with known pixels of the last one in the order of propagation.

    Args:
        frame, last_frame: ``(1, 3, h, w)``. mask, last_mask: ``(1, 1, h, w)``, 1 = not known.
        flow: ``(1, 2, h, w)`` from the frame to the last one; only its values in the holes count.
        valid: ``(1, 1, h, w)``, 1 where the flow can be relied on; only its values in the holes count.
        mode: how pixels are sampled, "nearest" or "bilinear".

    Returns the frame with what was found, and the mask of what is still missing.
    """
    hidden = (flow_warp(last_mask, flow) > THRESHOLD).to(mask.dtype)
    found = mask * valid * (1 - hidden)
    return torch.where(found > 0, flow_warp(last_frame, flow, mode), frame), mask - found


def propagate_images(
    frames: Tensor, masks: Tensor, forward: Tensor, backward: Tensor, mode: str = "nearest"
) -> tuple[Tensor, Tensor]:
    """Fill holes with pixels of other frames, first from later ones, then from earlier ones.

    Args:
        frames: ``(t, 3, h, w)``. masks: ``(t, 1, h, w)`` with 0 and 1.
        forward, backward: completed flows ``(t - 1, 2, h, w)`` in pixels.
        mode: "nearest" (what inference uses) or "bilinear".

    Returns (frames, masks of what is still missing), of the same shapes.
    """
    frames, masks = list(frames.split(1)), list(masks.split(1))
    ahead, behind = consistent(forward, backward).split(1), consistent(backward, forward).split(1)
    for t in reversed(range(len(frames) - 1)):
        frames[t], masks[t] = fill_step(
            frames[t], masks[t], frames[t + 1], masks[t + 1], forward[t : t + 1], ahead[t], mode
        )
    for t in range(1, len(frames)):
        frames[t], masks[t] = fill_step(
            frames[t], masks[t], frames[t - 1], masks[t - 1], backward[t - 1 : t], behind[t - 1], mode
        )
    return torch.cat(frames), torch.cat(masks)


class GuidedAlignment(nn.Module):
    """Deformable convolution whose taps start from where the flow points."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = offset_network(2 * channels + 5, channels, groups)

    def forward(self, features: Tensor, condition: Tensor, flow: Tensor) -> Tensor:
        out = self.conv_offset(condition)
        offset, mask = out.tensor_split((out.shape[1] * 2 // 3,), 1)
        offset = LARGEST_OFFSET * torch.tanh(offset.to(flow.dtype))
        offset = offset + flow.flip(1).repeat(1, offset.shape[1] // 2, 1, 1)  # offsets are (y, x)
        return modulated_deform_conv2d(
            features, offset, torch.sigmoid(mask), self.weight, self.bias, padding=1
        )


class FeaturePropagation(nn.Module):
    """Features carried along backward in time, then forward, and fused with those of each frame."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.deform_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        for name in ("backward_1", "forward_1"):
            self.deform_align[name] = GuidedAlignment(channels, groups)
            self.backbone[name] = self._two_convolutions(channels)
        self.fuse = self._two_convolutions(channels)

    @staticmethod
    def _two_convolutions(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(2 * channels + 2, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, forward: Tensor, backward: Tensor, masks: Tensor) -> Tensor:
        """Args:
            x: features ``(t, c, h, w)``.
            forward, backward: flows ``(t - 1, 2, h, w)`` in feature pixels; float32 also for half precision features.
            masks: ``(t, 2, h, w)``: the holes, and what image propagation has left of them.

        Returns ``(t, c, h, w)``.
        """
        from_later = self._carry(
            "backward_1", x.flip(0), forward.flip(0), backward.flip(0), masks.flip(0)
        ).flip(0)
        from_earlier = self._carry("forward_1", from_later, backward, forward, masks)
        return self.fuse(torch.cat((from_later, from_earlier, masks), 1)) + x

    def _carry(self, name: str, x: Tensor, flows: Tensor, flows_back: Tensor, masks: Tensor) -> Tensor:
        """One direction; ``flows[i]`` leads from frame i + 1, in the order given, to frame i."""
        valid = consistent(flows, flows_back)
        out: list[Tensor] = []
        for i, (here, mask) in enumerate(zip(x.split(1), masks.split(1))):
            carried = here
            if i:
                flow = flows[i - 1 : i]
                warped = flow_warp(out[-1], flow)
                condition = torch.cat((here, warped, flow.to(x), valid[i - 1 : i].to(x), mask), 1)
                carried = self.deform_align[name](out[-1], condition, flow)
            out.append(carried + self.backbone[name](torch.cat((here, carried, mask), 1)))
        return torch.cat(out)
