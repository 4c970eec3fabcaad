"""The ID pool: tokens of the hole that keep an object's identity, within a clip and from window to window.

VideoPainter, section 3.3: the attention of every block gets extra keys and values. In the first window they are
those of the hole's own tokens; later they come from the hole of the window before.
"""

from videopainter.diffusion.id_pool.attention import FusedIDPoolAttnProcessor, IDPoolAttnProcessor
from videopainter.diffusion.id_pool.pool import (
    IDPool,
    sequence_mask,
    sequence_mask_for,
    token_mask,
    tokens_to_keep,
)
from videopainter.diffusion.id_pool.zero_keys import ZeroKeys

__all__ = [
    "FusedIDPoolAttnProcessor",
    "IDPool",
    "IDPoolAttnProcessor",
    "ZeroKeys",
    "sequence_mask",
    "sequence_mask_for",
    "token_mask",
    "tokens_to_keep",
]
