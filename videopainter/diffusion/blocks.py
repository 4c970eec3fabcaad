"""The block that branch and transformer are made of, and what they share in running it."""

from typing import Any

import torch
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from torch import nn

from videopainter.diffusion.id_pool import IDPoolAttnProcessor
from videopainter.diffusion.rotary import complex_table


def split_tokens(tokens: torch.Tensor, text_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Text and video of ``[batch, text then video, width]``.

    Contiguous, as blocks give them, so that all compiled blocks share one graph.
    """
    return tokens[:, :text_length].contiguous(), tokens[:, text_length:].contiguous()


def rotary_for(blocks: nn.ModuleList, rotary: tuple[torch.Tensor, torch.Tensor] | None):
    """Rotary positions in the form that all blocks' attention takes: complex for our own, else as they are."""
    own = all(isinstance(block.attn1.processor, IDPoolAttnProcessor) for block in blocks)
    return complex_table(rotary) if own and isinstance(rotary, tuple) else rotary


# diffusers' hooks that bring and cast weights, and leave what a block computes alone.
_OF_WEIGHTS = {
    "group_offloading",
    "lazy_prefetch_group_offloading",
    "layerwise_casting",
    "peft_autocast_disable",
}


def gives_parts(block: nn.Module) -> bool:
    """Whether a block may be asked for ``only`` some tokens: with our own attention, alone, and without gradients.

    What keeps a block's results for other steps, or looks at them, expects all tokens; compiled, the last block would
    need a graph of its own.
    """
    if torch.compiler.is_compiling() or block._compiled_call_impl is not None:
        return False
    processor = block.attn1.processor
    if torch.is_grad_enabled() or not isinstance(processor, IDPoolAttnProcessor):
        return False
    registries = (getattr(module, "_diffusers_hook", None) for module in block.modules())
    hooks = {name for one in registries if isinstance(one, HookRegistry) for name in one.hooks}
    return processor._parallel_config is None and hooks <= _OF_WEIGHTS


def run_block(
    network: nn.Module,
    block: nn.Module,
    video: torch.Tensor,
    text: torch.Tensor,
    temb: torch.Tensor,
    image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None,
    attention_kwargs: dict[str, Any] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Video and text after a CogVideoX block, with gradient checkpointing where the network has it switched on."""
    if torch.is_grad_enabled() and network.gradient_checkpointing:
        return network._gradient_checkpointing_func(
            block, video, text, temb, image_rotary_emb, attention_kwargs
        )
    return block(
        hidden_states=video,
        encoder_hidden_states=text,
        temb=temb,
        image_rotary_emb=image_rotary_emb,
        attention_kwargs=attention_kwargs,
    )


def feed_forward(layers: nn.Module, tokens: torch.Tensor, at_once: int | None) -> torch.Tensor:
    """Feed-forward layers over ``[batch, tokens, width]``, so many tokens of a row at once; None: all together.

    In pieces the result is written over ``tokens``, and there are no gradients.
    """
    if at_once is None or torch.is_grad_enabled():
        return layers(tokens)
    for row in tokens:
        for piece in row.split(at_once):
            piece.copy_(layers(piece[None])[0])
    return tokens


def cut_row(value: Any, row: slice, batch: int) -> Any:
    """One row of what has a row for each of the batch; other things as they are."""
    has_rows = isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == batch
    return value[row] if has_rows else value


class VideoPainterBlock(CogVideoXBlock):
    """A CogVideoX block that ends with the branch's sample, so that caching hooks see block and sample as one.

    ``attention_kwargs`` may hold, besides what the attention processor takes: ``branch_sample``
    ``[batch, video tokens, width]``, ``branch_tokens`` bool ``[batch, video tokens, 1]`` (where it is added;
    everywhere if absent), ``pool_states`` as an `IDPool` keeps them, on any device, and ``pool_text``, how many of
    them are text, and ``only``, for a last block: positions of the video tokens that it is to give (int64
    ``[kept]``). All tokens are looked at, but only those look, and text comes back empty.

    Without gradients memory can be saved: ``tokens_at_once`` go through the feed-forward layers together (None: all),
    and with ``row_by_row`` the rows of a batch go through the block one after the other.
    """

    tokens_at_once: int | None = None
    row_by_row: bool = False

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        image_rotary_emb: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kwargs = dict(attention_kwargs or {})
        batch = hidden_states.shape[0]
        if not self.row_by_row or batch == 1 or torch.is_grad_enabled():
            return self._forward(hidden_states, encoder_hidden_states, temb, image_rotary_emb, kwargs)
        only = kwargs.get("only")
        video = torch.empty_like(hidden_states if only is None else hidden_states[:, only])
        text = torch.empty_like(encoder_hidden_states if only is None else encoder_hidden_states[:, :0])
        for number in range(batch):
            row = slice(number, number + 1)
            video[row], text[row] = self._forward(
                hidden_states[row],
                encoder_hidden_states[row],
                temb[row],
                image_rotary_emb,
                {name: cut_row(value, row, batch) for name, value in kwargs.items()},
            )
        return video, text

    def _forward(self, video, text, temb, rotary, kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        sample, tokens = kwargs.pop("branch_sample", None), kwargs.pop("branch_tokens", None)
        kept_text, only = kwargs.pop("pool_text", 0), kwargs.get("only")
        if kwargs.get("pool_states") is not None:
            states = kwargs["pool_states"].to(video.device, non_blocking=True)
            before, before_text, _, _ = self.norm1(states[:, kept_text:], states[:, :kept_text], temb)
            kwargs["pool_states"] = torch.cat([before_text, before], dim=1)

        # As CogVideoXBlock.forward, which keeps every intermediate result until its end.
        normed, normed_text, gate, text_gate = self.norm1(video, text, temb)
        attended, attended_text = self.attn1(
            hidden_states=normed, encoder_hidden_states=normed_text, image_rotary_emb=rotary, **kwargs
        )
        del normed, normed_text, kwargs
        if only is not None:
            video, text = video[:, only], text[:, :0]
            sample = None if sample is None else sample[:, only]
            tokens = None if tokens is None else tokens[:, only]
        video = video + gate * attended
        text = text + text_gate * attended_text
        del attended, attended_text

        normed, normed_text, gate, text_gate = self.norm2(video, text, temb)
        joined = torch.cat([normed_text, normed], dim=1)
        del normed, normed_text
        out = feed_forward(self.ff, joined, self.tokens_at_once)
        del joined
        length = text.shape[1]
        video = video + gate * out[:, length:]
        text = text + text_gate * out[:, :length]
        del out

        if sample is not None:
            added = video + sample
            video = added if tokens is None else torch.where(tokens, added, video)
        return video, text


TransformerBlockRegistry.register(
    VideoPainterBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)
