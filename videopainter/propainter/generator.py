"""The painter: features of frames, carried along the flow, refined by the transformer, decoded to pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.ops.batches import PIXELS, few_at_a_time
from videopainter.ops.memory import from_host
from videopainter.ops.pixels import Encoder, decoder
from videopainter.ops.soft_split import Patches, SoftComposition, SoftSplit
from videopainter.propainter.propagation import FeaturePropagation
from videopainter.propainter.transformer import SparseTransformer

SHRINK = 4  # features are this much smaller than frames


class Generator(nn.Module):
    """Paints the holes of a few neighbouring frames, with further frames to look at.

    Args:
        channels: of the features. groups: deformation groups. dim, depth, heads, hidden, window, pool: of the
            transformer (see there). patches: how tokens are cut from the features.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        window: tuple[int, int],
        pool: tuple[int, int],
        patches: Patches,
    ):
        super().__init__()
        self.patches = patches
        self.encoder = Encoder(5, channels)  # frames and two masks
        self.decoder = decoder(channels)
        self.soft_split = SoftSplit(channels, dim, patches)
        self.soft_comp = SoftComposition(channels, dim, patches)
        self.feature_propagation_module = FeaturePropagation(channels, groups)
        self.transformers = SparseTransformer(depth, dim, heads, hidden, window, pool, patches)

    def forward(
        self,
        frames: Tensor,
        forward: Tensor,
        backward: Tensor,
        masks: Tensor,
        masks_left: Tensor,
        local: int,
    ) -> Tensor:
        """Args:
            frames: ``(t, 3, h, w)`` in -1..1, 0 where nothing is known; h and w multiples of 4. The ``local``
                ones come first and follow each other in time, the others are references.
            forward, backward: completed flows ``(local - 1, 2, h, w)`` of the local frames, in pixels.
            masks, masks_left: ``(t, 1, h, w)`` with 0 and 1: the holes, and what image propagation left of them.

        Returns the local frames, ``(local, 3, h, w)`` in -1..1.
        """
        features = self.encode(frames, masks, masks_left)
        both = torch.cat((shrink(masks), shrink(masks_left)), 1)[:local]
        return self.paint(features, shrink_flow(forward), shrink_flow(backward), both)

    def encode(self, frames: Tensor, masks: Tensor, masks_left: Tensor) -> Tensor:
        """Features ``(t, channels, h / 4, w / 4)``; arguments as above. Each frame's are its own."""
        x = torch.cat((frames, masks, masks_left), 1)
        return few_at_a_time(self.encoder, x)

    def paint(
        self,
        features: Tensor,
        forward: Tensor,
        backward: Tensor,
        masks: Tensor,
        wanted: list[int] | None = None,
    ) -> Tensor:
        """Paint from features.

        Args:
            features: ``(t, channels, h, w)``, the local frames first.
            forward, backward: ``(local - 1, 2, h, w)`` in feature pixels.
            masks: ``(local, 2, h, w)``: the holes, and what is left of them.
            wanted: local frames to decode; None: all of them.

        Returns ``(wanted, 3, 4 h, 4 w)`` in -1..1.
        """
        local = len(masks)
        propagated = self.feature_propagation_module(features[:local], forward, backward, masks)
        # One name, so that nothing else is held while the decoder works, which needs the most.
        features = torch.cat((propagated, features[local:]))
        del propagated
        features = self.refine(features, masks[:, :1], local if wanted is None else wanted)
        return torch.tanh(few_at_a_time(self.decoder, features, PIXELS // SHRINK**2))

    def refine(self, features: Tensor, masks: Tensor, wanted: int | list[int]) -> Tensor:
        """The transformer's part, on top of the features of the wanted frames."""
        size = tuple(features.shape[-2:])
        tokens = self.transformers(self.soft_split(features), size, self.token_masks(masks))
        if isinstance(wanted, int):
            chosen = slice(wanted)
        else:
            chosen = from_host(torch.tensor(wanted), features.device)
        return features[chosen] + self.soft_comp(tokens[chosen], size)

    def token_masks(self, masks: Tensor) -> Tensor:
        """``(n, 1, h, w)`` masks of features to ``(n, 1, rows, columns)`` of tokens."""
        return F.max_pool2d(masks, self.patches.kernel, self.patches.stride, self.patches.padding)


def shrink(masks: Tensor) -> Tensor:
    """Masks at the size of the features: every fourth pixel."""
    return masks[..., ::SHRINK, ::SHRINK]


def shrink_flow(flow: Tensor) -> Tensor:
    """Flow ``(n, 2, h, w)`` at the size of the features, in pixels of the features."""
    if not len(flow):
        return flow[..., ::SHRINK, ::SHRINK]
    precise = torch.promote_types(flow.dtype, torch.float32)
    small = F.interpolate(flow.to(precise), scale_factor=1 / SHRINK, mode="bilinear", align_corners=False)
    return (small / SHRINK).to(flow.dtype)
