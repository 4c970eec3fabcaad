"""CogVideoX's attention with the ID pool."""

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.attention_processor import Attention

from videopainter.diffusion.id_pool.zero_keys import ZeroKeys, attend_with_sums
from videopainter.diffusion.rotary import complex_table, rotate

Rotary = torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None


class IDPoolAttnProcessor:
    """CogVideoX's joint attention of text and video, with the ID pool's keys and values where they are given.

    ``resample_mask`` (bool ``[batch, sequence]``) switches ID resampling on: keys and values are followed by
    those of the masked tokens. Tokens outside the mask take part with a zero vector in place of the key (before
    its norm, so that its bias stays) and of the value; the adapter was trained with them in the softmax. With
    ``zero_keys``, whose positions hold all masked tokens, they are left out and made up for (`ZeroKeys`).

    ``pool_states`` (``[batch, kept, width]``, normed like the block's own input) are tokens of the window before,
    at ``pool_positions``. With resampling they replace the window's own tokens as extra keys, masked by
    ``pool_mask`` and weighed by ``prev_clip_weight``; without it, all tokens have to be there, and attention over
    them is mixed in with that weight.

    ``only`` (int64 ``[queries]``): the video tokens that look at all others; the result is theirs alone,
    and that of the text is empty.

    ``image_rotary_emb``: cosines and sines, or `complex_table` of them.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Rotary = None,
        resample_mask: torch.Tensor | None = None,
        pool_states: torch.Tensor | None = None,
        pool_positions: torch.Tensor | None = None,
        pool_mask: torch.Tensor | None = None,
        prev_clip_weight: float = 0.0,
        zero_keys: ZeroKeys | None = None,
        only: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text_length = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = _project(attn, tokens, only=only, text_length=text_length)
        del tokens
        if isinstance(image_rotary_emb, tuple):
            image_rotary_emb = complex_table(image_rotary_emb)

        def turned(states: torch.Tensor, norm) -> torch.Tensor:
            states = _heads(attn, states, norm)
            return states if image_rotary_emb is None else rotate(states, image_rotary_emb, text_length)

        without_zeros = zero_keys is not None and self._keeps_sums(attention_mask, query)
        extra_key = extra_value = None
        if pool_states is not None:
            extra_key, extra_value = _project(attn, pool_states, query=False)[1:]
            if resample_mask is not None:
                used = pool_mask[:, pool_positions, None].to(key.dtype)
                extra_key, extra_value = (
                    states * used * prev_clip_weight for states in (extra_key, extra_value)
                )
                if not without_zeros:
                    shape = (*key.shape[:2], extra_key.shape[-1])
                    extra_key, extra_value = (
                        states.new_zeros(shape).index_copy(1, pool_positions, states)
                        for states in (extra_key, extra_value)
                    )
        elif resample_mask is not None:
            if without_zeros:
                places = zero_keys.positions
                used = resample_mask[:, places, None].to(key.dtype)
                extra_key, extra_value = key[:, places] * used, value[:, places] * used
            else:
                used = resample_mask[..., None].to(key.dtype)
                extra_key, extra_value = key * used, value * used

        if only is None:
            query = turned(query, attn.norm_q)
        else:
            query = _heads(attn, query, attn.norm_q)
            query = query if image_rotary_emb is None else rotate(query, image_rotary_emb[only])
        key = turned(key, attn.norm_k)
        value = _heads(attn, value)
        if extra_key is not None:
            if without_zeros:
                extra_key = _heads(attn, extra_key, attn.norm_k)
                if image_rotary_emb is not None:
                    extra_key = rotate(extra_key, _at(image_rotary_emb, zero_keys.positions, text_length))
            else:
                extra_key = turned(extra_key, attn.norm_k)
            extra_value = _heads(attn, extra_value)

        if extra_key is None:
            attended = self._attend(attn, query, key, value, attention_mask)
        elif resample_mask is not None:
            key, value = torch.cat([key, extra_key], dim=1), torch.cat([value, extra_value], dim=1)
            del extra_key, extra_value
            if without_zeros:
                attended, sums = attend_with_sums(query, key, value)
                del key, value
                attended = attended.mul_(zero_keys.gate(query, _bias(attn.norm_k, query), sums))
            else:
                attended = self._attend(attn, query, key, value, attention_mask)
        else:
            attended = self._attend(attn, query, key, value, attention_mask) * (1 - prev_clip_weight)
            before = self._attend(attn, query, extra_key, extra_value, attention_mask)
            attended = attended + before * prev_clip_weight

        attended = attn.to_out[1](attn.to_out[0](attended.flatten(2, 3)))
        if only is not None:
            return attended, attended[:, :0]
        return attended[:, text_length:], attended[:, :text_length]

    def _keeps_sums(self, attention_mask: torch.Tensor | None, query: torch.Tensor) -> bool:
        """Whether attention is PyTorch's own, whose kernels give the sums of the softmax (but no gradient of them)."""
        own = self._attention_backend in (None, AttentionBackendName.NATIVE)
        training = torch.is_grad_enabled() and query.requires_grad
        return own and self._parallel_config is None and attention_mask is None and not training

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


def _project(
    attn: Attention, tokens: torch.Tensor, query: bool = True, only=None, text_length: int = 0
) -> tuple:
    """Query (or None), key and value, each ``[batch, tokens, width]``, from fused or separate layers.

    only: of the video tokens, those that have a query; all tokens have one if None.
    """
    if attn.fused_projections:
        first, key, value = attn.to_qkv(tokens).chunk(3, dim=-1)
        return first if only is None else first[:, text_length:][:, only], key, value
    asking = tokens if only is None else tokens[:, text_length:][:, only]
    return attn.to_q(asking) if query else None, attn.to_k(tokens), attn.to_v(tokens)


def _heads(attn: Attention, states: torch.Tensor, norm=None) -> torch.Tensor:
    states = states.unflatten(2, (attn.heads, -1))
    return states if norm is None else norm(states)


def _bias(norm: torch.nn.Module | None, like: torch.Tensor) -> torch.Tensor | None:
    """The bias of a norm, ``[head width]``: what it makes of zeros.

    Through its call, as hooks of offloading bring its weights only then.
    """
    if norm is None or getattr(norm, "bias", None) is None:
        return None
    return norm(like.new_zeros(like.shape[-1]))


def _at(table: torch.Tensor, positions: torch.Tensor, text_length: int) -> torch.Tensor:
    """Rows of the table for tokens of the sequence; text is not turned."""
    rows = table[(positions - text_length).clamp(min=0)]
    return torch.where((positions < text_length)[:, None], torch.ones_like(rows), rows)
