"""What branch and transformer share in running their blocks."""

from typing import Any

import torch
from torch import nn


def split_tokens(tokens: torch.Tensor, text_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Text and video of ``[batch, text then video, width]``.

    Contiguous, as blocks give them, so that all compiled blocks share one graph.
    """
    return tokens[:, :text_length].contiguous(), tokens[:, text_length:].contiguous()


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
