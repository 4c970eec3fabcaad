"""The ID pool: tokens of the hole that keep an object's identity, within a clip and from window to window.

VideoPainter, section 3.3: the attention of every block gets extra keys and values. In the first window they are
those of the hole's own tokens; later they come from the hole of the window before.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb

from videopainter.diffusion.settings import PipelineSettings


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


class IDPoolAttnProcessor:
    """CogVideoX's joint attention of text and video, with the ID pool's keys and values where they are given.

    ``resample_mask`` (bool ``[batch, sequence]``) switches ID resampling on: keys and values are followed by
    those of the masked tokens. Tokens outside the mask take part with a zero vector in place of the key (before
    its norm, so that its bias stays) and of the value; the adapter was trained with them in the softmax.

    ``pool_states`` (``[batch, kept, width]``, normed like the block's own input) are tokens of the window before,
    at ``pool_positions``. With resampling they replace the window's own tokens as extra keys, masked by
    ``pool_mask`` and weighed by ``prev_clip_weight``; without it, all tokens have to be there, and attention over
    them is mixed in with that weight.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        resample_mask: torch.Tensor | None = None,
        pool_states: torch.Tensor | None = None,
        pool_positions: torch.Tensor | None = None,
        pool_mask: torch.Tensor | None = None,
        prev_clip_weight: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text_length = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = _project(attn, tokens)

        extra_key = extra_value = None
        if pool_states is not None:
            extra_key, extra_value = _project(attn, pool_states, query=False)[1:]
            if resample_mask is not None:
                used = pool_mask[:, pool_positions, None].to(key.dtype)
                shape = (*key.shape[:2], extra_key.shape[-1])
                extra_key, extra_value = (
                    states.new_zeros(shape).index_copy(1, pool_positions, states * used * prev_clip_weight)
                    for states in (extra_key, extra_value)
                )
        elif resample_mask is not None:
            used = resample_mask[..., None].to(key.dtype)
            extra_key, extra_value = key * used, value * used

        query = _rotate(_heads(attn, query, attn.norm_q), text_length, image_rotary_emb)
        key = _rotate(_heads(attn, key, attn.norm_k), text_length, image_rotary_emb)
        value = _heads(attn, value)
        if extra_key is not None:
            extra_key = _rotate(_heads(attn, extra_key, attn.norm_k), text_length, image_rotary_emb)
            extra_value = _heads(attn, extra_value)

        if extra_key is None:
            attended = self._attend(attn, query, key, value, attention_mask)
        elif resample_mask is not None:
            key, value = torch.cat([key, extra_key], dim=1), torch.cat([value, extra_value], dim=1)
            attended = self._attend(attn, query, key, value, attention_mask)
        else:
            attended = self._attend(attn, query, key, value, attention_mask) * (1 - prev_clip_weight)
            before = self._attend(attn, query, extra_key, extra_value, attention_mask)
            attended = attended + before * prev_clip_weight

        attended = attn.to_out[1](attn.to_out[0](attended.flatten(2, 3)))
        return attended[:, text_length:], attended[:, :text_length]

    def _attend(self, attn, query, key, value, attention_mask):
        if attention_mask is not None:
            if attention_mask.shape[-1] != key.shape[1]:
                raise ValueError(
                    f"`attention_mask` covers {attention_mask.shape[-1]} keys, but with the ID pool there are"
                    f" {key.shape[1]}."
                )
            batch, length = key.shape[:2]
            attention_mask = attn.prepare_attention_mask(attention_mask, length, batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, length)
        return dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )


class FusedIDPoolAttnProcessor(IDPoolAttnProcessor):
    """The same where one matrix gives query, key and value; by its name diffusers tells that they are fused."""


def _project(attn: Attention, tokens: torch.Tensor, query: bool = True) -> tuple:
    """Query (or None), key and value, each ``[batch, tokens, width]``, from fused or separate layers."""
    if attn.fused_projections:
        return attn.to_qkv(tokens).chunk(3, dim=-1)
    return attn.to_q(tokens) if query else None, attn.to_k(tokens), attn.to_v(tokens)


def _heads(attn: Attention, states: torch.Tensor, norm=None) -> torch.Tensor:
    states = states.unflatten(2, (attn.heads, -1))
    return states if norm is None else norm(states)


def _rotate(states: torch.Tensor, text_length: int, rotary) -> torch.Tensor:
    """Rotary positions for the video tokens of ``[batch, tokens, heads, head width]``; text has none."""
    if rotary is None:
        return states
    video = apply_rotary_emb(states[:, text_length:], rotary, sequence_dim=1)
    return torch.cat([states[:, :text_length], video], dim=1)
