"""The ID pool: tokens of the hole that keep an object's identity, within a clip and from window to window.

VideoPainter, section 3.3: the attention of every block gets extra keys and values. In the first window they are
those of the hole's own tokens; later they come from the hole of the window before.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from videopainter.diffusion.settings import PipelineSettings
from videopainter.ops.memory import to_host


@dataclass
class IDPool:
    """What one window leaves to the next: the states of some of its tokens after each block.

    hidden_states: one ``[batch, kept, width]`` for every block, text tokens first.
    positions: int64 ``[kept]``, ascending, where the kept tokens stand in the sequence (text, then video).
    mask: bool ``[batch, sequence]``, the token mask of the window they are from; False for text.
    kept_text: how many of the kept tokens are text.
    """

    hidden_states: list[torch.Tensor]
    positions: torch.Tensor
    mask: torch.Tensor
    kept_text: int

    def to(self, device: torch.device | None, non_blocking: bool = True) -> "IDPool":
        """The same pool with its states on a device; on the CPU they are in pinned memory.

        Hooks of offloading call it so, too, with what a network is given; None leaves them where they are.
        """
        if device is None:
            return self
        device = torch.device(device)
        host = device.type == "cpu"
        states = [
            to_host(one) if host else one.to(device, non_blocking=non_blocking) for one in self.hidden_states
        ]
        return replace(self, hidden_states=states)

    def of_prompt(self) -> "IDPool":
        """The second half of the rows, which is the prompt's where there is guidance."""
        states = [one.chunk(2)[1] for one in self.hidden_states]
        return replace(self, hidden_states=states, mask=self.mask.chunk(2)[1])

    @property
    def nbytes(self) -> int:
        """Bytes held by the states."""
        return sum(states.nbytes for states in self.hidden_states)


def token_mask(mask: torch.Tensor, patch_size: int) -> torch.Tensor:
    """bool ``[batch, tokens]`` from ``[batch, latent frames, 1, height, width]``: any pixel of the patch masked."""
    batch, frames = mask.shape[:2]
    patches = F.max_pool2d(mask.flatten(0, 1).float(), patch_size)
    return (patches > 0).reshape(batch, -1)


def sequence_mask(mask: torch.Tensor, patch_size: int, text_length: int) -> torch.Tensor:
    """`token_mask` with the text tokens before it, which are never masked: bool ``[batch, sequence]``."""
    return F.pad(token_mask(mask, patch_size), (text_length, 0), value=False)


def sequence_mask_for(prompt_embeds: torch.Tensor, mask: torch.Tensor, patch_size: int) -> torch.Tensor:
    """`sequence_mask` for every row of the embeddings, bool ``[rows, sequence]``; guidance has twice the mask's."""
    mask = mask.repeat(prompt_embeds.shape[0] // mask.shape[0], 1, 1, 1, 1)
    return sequence_mask(mask, patch_size, prompt_embeds.shape[1])


def tokens_to_keep(mask: torch.Tensor, next_mask: torch.Tensor, settings: PipelineSettings) -> torch.Tensor:
    """Positions, int64 ``[kept]``, of the tokens of a window that the next window can use.

    mask, next_mask: bool ``[batch, sequence]``, the tokens of the hole, of the window and of the next one.
    Without resampling all tokens are needed.
    """
    used = mask.any(0)
    if not settings.id_pool:
        used = torch.ones_like(used)
    elif settings.policy.pool_masked_by_present_window:
        used = used | next_mask.any(0)
    return used.nonzero()[:, 0]
