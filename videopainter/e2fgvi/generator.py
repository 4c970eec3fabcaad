"""The whole network: features of frames, carried along completed flow, refined by the transformer, decoded."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.e2fgvi.configuration import FIXED_SIZE, SHRINK, E2FGVIConfig
from videopainter.e2fgvi.propagation import FeaturePropagation
from videopainter.e2fgvi.spynet import SPyNet
from videopainter.e2fgvi.transformer import TransformerBlock
from videopainter.ops.batches import PIXELS, few_at_a_time
from videopainter.ops.memory import from_host
from videopainter.ops.pixels import Encoder, decoder
from videopainter.ops.soft_split import Patches, SoftComposition, SoftSplit

PATCHES = Patches(kernel=(7, 7), stride=(3, 3), padding=(3, 3))


class Generator(nn.Module):
    """Paints the holes of a few neighbouring frames, with further frames to look at.

    The names of its parts, and so of its tensors, are those of the released files.
    """

    def __init__(self, config: E2FGVIConfig):
        super().__init__()
        c = config
        fixed = tuple(n // SHRINK for n in FIXED_SIZE) if c.variant == "base" else None
        self.config = c
        self.encoder = Encoder(3, c.channels)
        self.decoder = decoder(c.channels)
        self.feat_prop_module = FeaturePropagation(c.channels, c.groups)
        self.ss = SoftSplit(c.channels, c.hidden_size, PATCHES)
        self.sc = SoftComposition(c.channels, c.hidden_size, PATCHES, fixed)
        self.transformer = nn.ModuleList(
            TransformerBlock(c.hidden_size, c.num_heads, c.intermediate_size, c.window, PATCHES)
            for _ in range(c.num_layers)
        )
        self.update_spynet = SPyNet(c.flow_widths)

    def forward(self, frames: Tensor, local: int) -> tuple[Tensor, Tensor, Tensor]:
        """Args:
            frames: ``(t, 3, h, w)`` in -1..1, 0 in the holes; of a size that the configuration `takes`. The
                ``local`` ones come first and follow each other in time, the others are references.

        Returns all frames, painted, ``(t, 3, h, w)`` in -1..1, and the completed flows of the local ones,
        forward and backward, ``(local - 1, 2, h / 4, w / 4)`` in feature pixels. Raises ValueError for frames
        of another size, and for a number of local frames that is not 1..t.
        """
        height, width = frames.shape[-2:]
        if not self.config.takes(height, width):
            high, wide = FIXED_SIZE if self.config.variant == "base" else self.config.multiple
            rule = f"{wide}x{high}" if self.config.variant == "base" else f"multiples of {wide}x{high}"
            raise ValueError(f"Frames must be {rule} (width x height), not {width}x{height}.")
        if not 1 <= local <= len(frames):
            raise ValueError(f"There can be 1 to {len(frames)} local frames, not {local}.")
        forward, backward = self.flow(shrink(frames[:local]))
        return self.paint(self.encode(frames), forward, backward, local), forward, backward

    def encode(self, frames: Tensor) -> Tensor:
        """Features ``(t, channels, h / 4, w / 4)`` of frames ``(t, 3, h, w)``. Each frame's are its own."""
        return few_at_a_time(self.encoder, frames)

    def flow(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Completed flows between neighbours, forward and backward.

        Args:
            frames: ``(t, 3, h, w)`` in 0..1, shrunk to the size of the features; holes are grey.

        Returns two of ``(t - 1, 2, h, w)`` in pixels of that size: from frame k to k + 1, and back.
        """
        if len(frames) == 1:
            return (frames.new_zeros(0, 2, *frames.shape[-2:]),) * 2
        first, second = frames[:-1], frames[1:]
        return self.update_spynet(first, second), self.update_spynet(second, first)

    def paint(
        self, features: Tensor, forward: Tensor, backward: Tensor, local: int, wanted: list[int] | None = None
    ) -> Tensor:
        """Paint from features.

        Args:
            features: ``(t, channels, h, w)``, the ``local`` frames first.
            forward, backward: ``(local - 1, 2, h, w)`` in feature pixels.
            wanted: numbers of the frames to decode; None: all of them.

        Returns ``(wanted, 3, 4 h, 4 w)`` in -1..1.
        """
        features = self.propagate(features, forward, backward, local)
        refined = self.refine(features, wanted)
        del features  # decoding needs the most memory
        return torch.tanh(few_at_a_time(self.decoder, refined, PIXELS // SHRINK**2))

    def propagate(self, features: Tensor, forward: Tensor, backward: Tensor, local: int) -> Tensor:
        """The features, those of local frames carried to each other along the flow."""
        carried = self.feat_prop_module(features[:local], forward, backward)
        return torch.cat((carried, features[local:]))

    def refine(self, features: Tensor, wanted: list[int] | None = None) -> Tensor:
        """The transformer's part, on top of the features of the wanted frames."""
        size = tuple(features.shape[-2:])
        tokens = self.ss(features)
        chosen = None if wanted is None else from_host(torch.tensor(wanted), features.device)
        for block in self.transformer[:-1]:
            tokens = block(tokens, size)
        tokens = self.transformer[-1](tokens, size, chosen)  # nothing after it looks at the other frames
        return (features if chosen is None else features[chosen]) + self.sc(tokens, size)


def shrink(frames: Tensor) -> Tensor:
    """Frames in -1..1 to what the flow is found in: a quarter of the size, 0..1."""
    size = [n // SHRINK for n in frames.shape[-2:]]
    return F.interpolate((frames + 1) / 2, size, mode="bilinear", align_corners=True)
