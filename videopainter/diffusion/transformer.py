"""CogVideoX's transformer with two doors: one for the branch's samples, one for the ID pool."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  diffusers looks for it here when loading
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.utils.peft_utils import apply_lora_scale

from videopainter.diffusion.blocks import VideoPainterBlock, gives_parts, rotary_for, run_block, split_tokens
from videopainter.diffusion.caching import CheckedCacheMixin
from videopainter.diffusion.id_pool import (
    FusedIDPoolAttnProcessor,
    IDPool,
    IDPoolAttnProcessor,
    ZeroKeys,
    sequence_mask,
    token_mask,
)
from videopainter.diffusion.loading import StrictLoadingMixin


@dataclass
class VideoPainterTransformerOutput(Transformer2DModelOutput):
    """sample: ``[batch, latent frames, 16, height, width]``; hidden_states: see ``collect_tokens`` of `forward`."""

    hidden_states: list[torch.Tensor] | None = None


# What a block takes from the configuration under the same name.
BLOCK_OPTIONS = (
    "num_attention_heads",
    "attention_head_dim",
    "time_embed_dim",
    "dropout",
    "activation_fn",
    "attention_bias",
    "norm_elementwise_affine",
    "norm_eps",
)


class VideoPainterTransformer3DModel(StrictLoadingMixin, CheckedCacheMixin, CogVideoXTransformer3DModel):
    """`CogVideoXTransformer3DModel` (same configuration, same checkpoint) that takes a branch and an ID pool.

    Without them it gives what its base class gives.
    """

    _no_split_modules = ["VideoPainterBlock", "CogVideoXPatchEmbed"]
    _repeated_blocks = ["VideoPainterBlock"]

    @wraps(CogVideoXTransformer3DModel.__init__)  # diffusers reads the configuration's keys off the signature
    def __init__(self, *args, **kwargs):
        bound = signature(CogVideoXTransformer3DModel.__init__).bind(self, *args, **kwargs).arguments
        given = {name: value for name, value in bound.items() if name != "self"}
        default = signature(CogVideoXTransformer3DModel.__init__).parameters["num_layers"].default
        # All of the base model but its blocks, in whose place come ours.
        super().__init__(**{**given, "num_layers": 0})
        self.register_to_config(num_layers=given.get("num_layers", default))
        config = self.config
        if config.patch_size_t is not None:
            raise ValueError("VideoPainter exists for CogVideoX 1.0; this configuration has patches in time.")
        for _ in range(config.num_layers):
            block = VideoPainterBlock(
                dim=config.num_attention_heads * config.attention_head_dim,
                **{name: config[name] for name in BLOCK_OPTIONS},
            )
            block.attn1.set_processor(IDPoolAttnProcessor())
            self.transformer_blocks.append(block)
        self.original_attn_processors = None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, id_pool_resample_learnable: bool = True, **kwargs
    ):
        """As `StrictLoadingMixin.from_pretrained`.

        ``id_pool_resample_learnable`` is the published code's: there it makes a transformer that can resample. Ours
        always can, and does where a call asks for it.
        """
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_transformer(cls, transformer: CogVideoXTransformer3DModel) -> "VideoPainterTransformer3DModel":
        """The same weights (shared, not copied) with VideoPainter's doors; ``transformer`` is not changed.

        Raises ValueError where adapters or hooks have added weights: load them afterwards.
        """
        with init_empty_weights():
            model = cls.from_config(transformer.config)
        try:
            model.load_state_dict(transformer.state_dict(), strict=True, assign=True)
        except RuntimeError as error:
            raise ValueError(
                "This transformer has other weights than its configuration says; give it to VideoPainter before"
                " adapters are loaded or projections fused."
            ) from error
        for name, buffer in transformer.named_buffers():
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer)
        for own, theirs in zip(model.parameters(), transformer.parameters()):
            own.requires_grad_(theirs.requires_grad)
        return model.train(transformer.training)

    def fuse_qkv_projections(self):
        """One matrix for query, key and value in every block. Raises ValueError while adapters are not fused."""
        if any(hasattr(module, "lora_A") and not module.merged for module in self.modules()):
            raise ValueError("`fuse_qkv_projections` would leave the adapters out; call `fuse_lora` first.")
        # Under the name and with the processors by which users of diffusers tell that it is done.
        self.original_attn_processors = self.attn_processors
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Attention) and not module.fused_projections:
                    module.fuse_projections(fuse=True)
                    if type(module.processor) is IDPoolAttnProcessor:
                        module.set_processor(FusedIDPoolAttnProcessor())

    def unfuse_qkv_projections(self):
        """Back to separate matrices."""
        for module in self.modules():
            if isinstance(module, Attention) and module.fused_projections:
                module.fused_projections = False
                del module.to_qkv
                if type(module.processor) is FusedIDPoolAttnProcessor:
                    module.set_processor(IDPoolAttnProcessor())
        self.original_attn_processors = None

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: int | float | torch.LongTensor,
        timestep_cond: torch.Tensor | None = None,
        ofs: int | float | torch.LongTensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        *,
        branch_block_samples: list[torch.Tensor] | None = None,
        mask: torch.Tensor | None = None,
        mask_add: bool = False,
        add_first: bool = False,
        resample: bool = False,
        id_pool: IDPool | None = None,
        prev_clip_weight: float = 0.0,
        pool_mask: torch.Tensor | None = None,
        collect_tokens: torch.Tensor | None = None,
        collect_into: Callable[[torch.Tensor], torch.Tensor] | None = None,
        zero_keys: ZeroKeys | None = None,
        wanted_tokens: torch.Tensor | None = None,
    ) -> VideoPainterTransformerOutput | tuple:
        """As in the base class, and:

        Args:
            branch_block_samples: from the branch, each ``[batch, video tokens, width]``. Block i gets sample
                i // ceil(blocks / samples) (section 3.2).
            mask: ``[batch, latent frames, 1, height, width]``, 1 = repaint; needed by ``mask_add`` and ``resample``.
            mask_add: add samples only at tokens whose patch holds no masked pixel.
            add_first: sample i goes to block i, and later blocks get none.
            resample: ID resampling (section 3.3; the ID adapter is trained for it).
            id_pool: tokens of the window before, used if ``prev_clip_weight`` (0 to 1) is above 0. Without
                ``resample`` it has to hold all tokens.
            pool_mask: bool ``[batch, sequence]``, which of the pool's tokens count; its own mask if None.
            collect_tokens: int64 positions in the sequence; the states of these tokens after each block are
                returned, for the next window's pool.
            collect_into: what takes them from block to block, such as to the host's memory; it returns what is kept.
            zero_keys: for ``resample``, what `IDPoolAttnProcessor` may leave out; made from mask and pool if None.
            wanted_tokens: int64 positions of the video tokens that are to be predicted, all if None. Others may be 0:
                nobody looks at them after the last block, which then does not make them.

        Returns:
            `VideoPainterTransformerOutput`, or a tuple of sample and, if collected, hidden states.
        """
        if mask is None and (mask_add or resample):
            raise ValueError("`mask_add` and `resample` need `mask`.")
        use_pool = id_pool is not None and prev_clip_weight > 0
        if (resample or use_pool) and not isinstance(
            self.transformer_blocks[0].attn1.processor, IDPoolAttnProcessor
        ):
            raise ValueError("The ID pool needs `IDPoolAttnProcessor` as attention processor.")
        text_length = encoder_hidden_states.shape[1]
        patch = self.config.patch_size

        emb = self.time_embedding(self.time_proj(timestep).to(dtype=hidden_states.dtype), timestep_cond)
        if self.ofs_embedding is not None:
            emb = emb + self.ofs_embedding(self.ofs_proj(ofs).to(dtype=hidden_states.dtype))
        tokens = self.embedding_dropout(self.patch_embed(encoder_hidden_states, hidden_states))
        text, video = split_tokens(tokens, text_length)

        shared = dict(attention_kwargs or {})
        image_rotary_emb = rotary_for(self.transformer_blocks, image_rotary_emb)
        if resample:
            shared["resample_mask"] = sequence_mask(mask, patch, text_length)
            if zero_keys is None and not torch.is_grad_enabled():
                pool = id_pool if use_pool else None
                zero_keys = find_zero_keys(mask, patch, text_length, pool, (image_rotary_emb, None))
            shared["zero_keys"] = zero_keys
        if use_pool:
            if not resample and id_pool.positions.shape[0] != tokens.shape[1]:
                raise ValueError(
                    f"Without `resample` the pool has to hold all {tokens.shape[1]} tokens, but it holds"
                    f" {id_pool.positions.shape[0]}."
                )
            shared["pool_positions"] = id_pool.positions
            shared["pool_text"] = id_pool.kept_text
            shared["pool_mask"] = id_pool.mask if pool_mask is None else pool_mask
            shared["prev_clip_weight"] = prev_clip_weight
        if branch_block_samples is not None and mask_add:
            shared["branch_tokens"] = ~token_mask(mask, patch)[..., None]

        collected, only = [], None
        blocks, last = len(self.transformer_blocks), self.transformer_blocks[-1]
        if collect_tokens is None and "attention_mask" not in shared and gives_parts(last):
            only = wanted_tokens
        for index, block in enumerate(self.transformer_blocks):
            kwargs = dict(shared)
            if use_pool:
                kwargs["pool_states"] = id_pool.hidden_states[index]
            sample = _sample_number(index, blocks, len(branch_block_samples or ()), add_first)
            if sample is not None:
                kwargs["branch_sample"] = branch_block_samples[sample]
            if only is not None and block is last:
                kwargs["only"] = only
            video, text = run_block(self, block, video, text, emb, image_rotary_emb, kwargs)
            if collect_tokens is not None:
                states = torch.cat([text, video], dim=1)[:, collect_tokens]
                collected.append(states if collect_into is None else collect_into(states))

        video = self.proj_out(self.norm_out(self.norm_final(video), temb=emb))
        batch, frames, _, height, width = hidden_states.shape
        if only is not None:
            count = frames * (height // patch) * (width // patch)
            video = video.new_zeros(batch, count, video.shape[2]).index_copy_(1, only, video)
        video = video.reshape(batch, frames, height // patch, width // patch, -1, patch, patch)
        output = video.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, frames, -1, height, width)
        if not return_dict:
            return (output,) if collect_tokens is None else (output, collected)
        return VideoPainterTransformerOutput(
            sample=output, hidden_states=None if collect_tokens is None else collected
        )


def find_zero_keys(
    mask: torch.Tensor,
    patch: int,
    text_length: int,
    id_pool: IDPool | None,
    rotary: tuple[torch.Tensor | None, tuple[int, int, int] | None],
) -> ZeroKeys:
    """What attention with ID resampling may leave out in a window.

    rotary: complex table, and the grid of tokens where it is made of one table an axis (`ZeroKeys.build`).
    """
    table, grid = rotary
    tokens = token_mask(mask, patch)
    if id_pool is not None:
        positions, kept_text = id_pool.positions, id_pool.kept_text
    else:
        positions, kept_text = tokens.any(0).nonzero()[:, 0] + text_length, 0
    return ZeroKeys.build(positions, text_length, table, tokens.shape[1], grid, kept_text)


def _sample_number(block: int, blocks: int, samples: int, add_first: bool) -> int | None:
    """Which of the branch's samples goes to a block; None: no one."""
    if samples == 0:
        return None
    if add_first:
        return block if block < samples else None
    return block // -(-blocks // samples)
