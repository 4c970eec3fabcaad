"""Optical flow between neighbouring frames: RAFT (Teed and Deng 2020), in its large configuration.

Flow is estimated at an eighth of the size in float32, whatever the precision of the weights: correlation and
positions lose whole pixels in half precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops.batches import few_at_a_time

# What the finest correlations may take at once (bytes), unless those of a single flow take more.
CORRELATION_BYTES = 2**28
SMALLEST = 128  # below, the coarsest correlation map is a single pixel and says nothing


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, batch_norm: bool):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.InstanceNorm2d
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm1 = norm(outputs)
        self.norm2 = norm(outputs)
        self.downsample = None
        if stride > 1:
            self.norm3 = norm(
                outputs
            )  # never used: the released file keeps the last layer of the next line twice
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class FrameEncoder(nn.Module):
    """Frames ``(n, 3, h, w)`` to features ``(n, outputs, h / 8, w / 8)``."""

    def __init__(self, channels: tuple[int, int, int], outputs: int, batch_norm: bool):
        super().__init__()
        first = channels[0]
        self.conv1 = nn.Conv2d(3, first, 7, 2, 3)
        self.norm1 = nn.BatchNorm2d(first) if batch_norm else nn.InstanceNorm2d(first)
        blocks = []
        before = first
        for width, stride in zip(channels, (1, 2, 2)):
            blocks.append(ResidualBlock(before, width, stride, batch_norm))
            blocks.append(ResidualBlock(width, width, 1, batch_norm))
            before = width
        self.resblocks = nn.ModuleList(blocks)
        self.conv2 = nn.Conv2d(before, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        for block in self.resblocks:
            x = block(x)
        return self.conv2(x)


class Correlation:
    """All-pairs correlation of two feature maps ``(n, c, h, w)`` at several scales (RAFT, section 3.2)."""

    def __init__(self, one: Tensor, other: Tensor, levels: int, radius: int):
        self.radius = radius
        n, c, h, w = one.shape
        volume = (one.flatten(2).transpose(1, 2) / c**0.5) @ other.flatten(2)
        volume = volume.view(n * h * w, 1, h, w)
        self.pyramid = [volume]
        for _ in range(levels - 1):
            volume = F.avg_pool2d(volume, 2)
            self.pyramid.append(volume)

    def __call__(self, positions: Tensor) -> Tensor:
        """Correlation around ``positions`` ``(n, 2, h, w)``: ``(n, levels * (2 radius + 1)**2, h, w)``.

        Within a level the displacement in x changes slowest.
        """
        n, _, h, w = positions.shape
        r = self.radius
        steps = torch.arange(-r, r + 1, device=positions.device, dtype=positions.dtype)
        centres = positions.permute(0, 2, 3, 1).reshape(n * h * w, 1, 1, 2)
        found = []
        for level, volume in enumerate(self.pyramid):
            height, width = volume.shape[-2:]
            x = centres[..., 0] / 2**level + steps[:, None]
            y = centres[..., 1] / 2**level + steps
            grid = torch.stack(
                torch.broadcast_tensors((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1
            )
            near = F.grid_sample(volume, grid, align_corners=False)
            found.append(near.view(n, h, w, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


class MotionEncoder(nn.Module):
    def __init__(self, correlations: int):
        super().__init__()
        self.conv_corr1 = nn.Conv2d(correlations, 256, 1)
        self.conv_corr2 = nn.Conv2d(256, 192, 3, padding=1)
        self.conv_flow1 = nn.Conv2d(2, 128, 7, padding=3)
        self.conv_flow2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(192 + 64, 126, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        c = F.relu(self.conv_corr2(F.relu(self.conv_corr1(correlation))))
        f = F.relu(self.conv_flow2(F.relu(self.conv_flow1(flow))))
        return torch.cat((F.relu(self.conv(torch.cat((c, f), 1))), flow), 1)


class SeparableGRU(nn.Module):
    """A gated recurrent unit of convolutions: one pass along the rows, one along the columns."""

    def __init__(self, hidden: int, inputs: int):
        super().__init__()
        for number, kernel, padding in ((1, (1, 5), (0, 2)), (2, (5, 1), (2, 0))):
            for gate in "zrq":
                conv = nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding)
                self.add_module(f"conv{gate}{number}", conv)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        for z, r, q in ((self.convz1, self.convr1, self.convq1), (self.convz2, self.convr2, self.convq2)):
            both = torch.cat((hidden, x), 1)
            keep = torch.sigmoid(z(both))
            new = torch.tanh(q(torch.cat((torch.sigmoid(r(both)) * hidden, x), 1)))
            hidden = (1 - keep) * hidden + keep * new
        return hidden


class FlowHead(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x)))


class UpdateBlock(nn.Module):
    """One step of refinement; ``mask`` gives the weights of the upsampling."""

    def __init__(self, hidden: int, correlations: int):
        super().__init__()
        self.encoder = MotionEncoder(correlations)
        self.gru = SeparableGRU(hidden, 128 + hidden)
        self.flow_head = FlowHead(hidden)
        self.mask = nn.Sequential(nn.Conv2d(hidden, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 576, 1))

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor):
        motion = self.encoder(flow, correlation)
        hidden = self.gru(hidden, torch.cat((context, motion), 1))
        return hidden, self.flow_head(hidden)


class OpticalFlow(nn.Module):
    """Flow of a clip in both directions.

    Args:
        hidden: channels of the recurrent state and of its context.
        channels: of the frame encoders at a half, a quarter and an eighth of the size.
        levels, radius: scales of the correlation, and how far around a pixel it is looked up.
    """

    def __init__(self, hidden: int, channels: tuple[int, int, int], levels: int, radius: int):
        super().__init__()
        self.levels, self.radius = levels, radius
        self.feature_network = FrameEncoder(channels, 2 * hidden, batch_norm=False)
        self.context_network = FrameEncoder(channels, 2 * hidden, batch_norm=True)
        self.update_block = UpdateBlock(hidden, levels * (2 * radius + 1) ** 2)

    def forward(self, frames: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Flows of every frame to the next, and of every next frame back.

        Args:
            frames: floating ``(t, 3, h, w)`` in -1..1, t >= 2, any size.
            iterations: steps of refinement, 1 or more.

        Returns (forward, backward), each float32 ``(t - 1, 2, h, w)`` in pixels. Frames smaller than 128
        pixels or of no multiple of 8 are continued with their last row and column while flow is estimated.
        """
        h, w = frames.shape[-2:]
        pad = [max(SMALLEST, -(-n // 8) * 8) - n for n in (w, h)]
        if any(pad):
            frames = F.pad(frames, (0, pad[0], 0, pad[1]), mode="replicate")
        low, hidden = self.refine(frames, iterations)
        fine = [self.upsample(*one) for one in zip(low.split(1), hidden.split(1))]
        flow = torch.cat(fine)[..., :h, :w]
        forward, backward = flow.chunk(2)
        return forward, backward

    def refine(self, frames: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Flow at an eighth of the size, float32 ``(2 (t - 1), 2, h / 8, w / 8)``, and the recurrent state.

        The first half of the batch is forward, the second backward.
        """
        dtype = self.update_block.flow_head.conv2.weight.dtype
        features, start = self.prepare(frames.to(dtype))
        kind = torch.promote_types(dtype, torch.float32)
        h, w = start.shape[-2:]
        rows = torch.arange(h, device=frames.device, dtype=torch.float32)[:, None].expand(h, w)
        columns = torch.arange(w, device=frames.device, dtype=torch.float32).expand(h, w)
        origin = torch.stack((columns, rows)).to(kind)
        # Correlations grow with the square of the area: at 720p those of one flow take 0.8 GB.
        at_once = max(1, CORRELATION_BYTES // ((h * w) ** 2 * origin.element_size()))
        one, other = (part.split(at_once) for part in features)
        parts = [
            self._refine(Correlation(*pair, self.levels, self.radius), some, origin, iterations)
            for *pair, some in zip(one, other, start.split(at_once))
        ]
        flow, hidden = (torch.cat(part) for part in zip(*parts))
        return flow, hidden

    def _refine(
        self, correlation: Correlation, start: Tensor, origin: Tensor, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Flows and recurrent state of some pairs."""
        hidden, context = start.chunk(2, 1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        flow = origin.new_zeros(len(hidden), *origin.shape)
        for _ in range(iterations):
            near = correlation(origin + flow)
            hidden, step = self.update_block(hidden, context, near.to(hidden.dtype), flow.to(hidden.dtype))
            flow = flow + step
        return flow, hidden

    def prepare(self, frames: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Features of both frames of all pairs, in both directions, and what the recurrence starts from."""
        features = few_at_a_time(self.feature_network, frames)
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        both = torch.cat((features[:-1], features[1:])), torch.cat((features[1:], features[:-1]))
        context = few_at_a_time(self.context_network, frames)
        return both, torch.cat((context[:-1], context[1:]))

    def upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """Each fine pixel is a convex combination of its 3 x 3 coarse neighbours (RAFT, section 3.3)."""
        n, _, h, w = flow.shape
        weights = 0.25 * self.update_block.mask(hidden)
        weights = weights.to(flow.dtype).view(n, 1, 9, 8, 8, h, w).softmax(2)
        near = F.unfold(8 * flow, 3, padding=1).view(n, 2, 9, 1, 1, h, w)
        return (weights * near).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(n, 2, 8 * h, 8 * w)
