"""VideoPainter's context encoder (section 3.2): a shallow copy of the transformer that reads the masked video."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.embeddings import CogVideoXPatchEmbed, TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNorm
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.utils import BaseOutput
from diffusers.utils.peft_utils import apply_lora_scale
from torch import nn

from videopainter.diffusion.blocks import VideoPainterBlock, gives_parts, rotary_for, run_block, split_tokens
from videopainter.diffusion.id_pool import IDPoolAttnProcessor
from videopainter.diffusion.loading import StrictLoadingMixin


@dataclass
class VideoPainterBranchOutput(BaseOutput):
    """branch_block_samples: one ``[batch, video tokens, width]`` for each layer of the branch."""

    branch_block_samples: list[torch.Tensor]


class VideoPainterBranchModel(StrictLoadingMixin, ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin):
    """The context branch: what is known of the video, as features to be added to the transformer's.

    It takes the transformer's hyper-parameters with fewer ``num_layers`` (2 in the release). ``in_channels`` is
    the transformer's: 32 for image-to-video; the branch itself reads 33 channels (noisy latents, latents of the
    masked video, mask). With ``in_channels=16`` it reads 33 as well.

    ``wo_text=True`` leaves the text tokens out of the branch. ``norm_final``, ``norm_out``, ``proj_out`` and
    ``branch_x_embedder`` take no part in `forward`; the released checkpoint holds them.
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ["patch_embed", "norm"]
    _no_split_modules = ["VideoPainterBlock", "CogVideoXPatchEmbed"]
    _repeated_blocks = ["VideoPainterBlock"]

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 48,
        attention_head_dim: int = 64,
        in_channels: int = 32,
        out_channels: int = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        num_layers: int = 2,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = True,
        use_learned_positional_embeddings: bool = True,
        wo_text: bool = False,
    ):
        super().__init__()
        if in_channels not in (16, 32):
            raise ValueError(f"`in_channels` has to be 16 or 32 but is {in_channels}.")
        width = num_attention_heads * attention_head_dim

        self.patch_embed = CogVideoXPatchEmbed(
            patch_size=patch_size,
            in_channels=2 * 16 + 1,
            embed_dim=width,
            text_embed_dim=text_embed_dim,
            bias=True,
            sample_width=sample_width,
            sample_height=sample_height,
            sample_frames=sample_frames,
            temporal_compression_ratio=temporal_compression_ratio,
            max_text_seq_length=max_text_seq_length,
            spatial_interpolation_scale=spatial_interpolation_scale,
            temporal_interpolation_scale=temporal_interpolation_scale,
            use_positional_embeddings=not use_rotary_positional_embeddings,
            use_learned_positional_embeddings=use_learned_positional_embeddings,
        )
        self.embedding_dropout = nn.Dropout(dropout)
        self.time_proj = Timesteps(width, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(width, time_embed_dim, timestep_activation_fn)
        self.transformer_blocks = nn.ModuleList(
            VideoPainterBlock(
                dim=width,
                num_attention_heads=num_attention_heads,
                attention_head_dim=attention_head_dim,
                time_embed_dim=time_embed_dim,
                dropout=dropout,
                activation_fn=activation_fn,
                attention_bias=attention_bias,
                norm_elementwise_affine=norm_elementwise_affine,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        for block in self.transformer_blocks:
            block.attn1.set_processor(IDPoolAttnProcessor())
        self.norm_final = nn.LayerNorm(width, norm_eps, norm_elementwise_affine)
        self.norm_out = AdaLayerNorm(
            embedding_dim=time_embed_dim,
            output_dim=2 * width,
            norm_elementwise_affine=norm_elementwise_affine,
            norm_eps=norm_eps,
            chunk_dim=1,
        )
        self.proj_out = nn.Linear(width, patch_size * patch_size * out_channels)
        self.branch_blocks = nn.ModuleList(_zero(nn.Linear(width, width)) for _ in range(num_layers))
        self.branch_x_embedder = _zero(nn.Linear(in_channels, width))
        self.gradient_checkpointing = False

    @classmethod
    def from_transformer(
        cls,
        transformer: CogVideoXTransformer3DModel,
        num_layers: int = 2,
        wo_text: bool = False,
        attention_head_dim: int | None = None,
        num_attention_heads: int | None = None,
        load_weights_from_transformer: bool = True,
    ) -> "VideoPainterBranchModel":
        """A trainable start: the transformer's first blocks, and outputs that are zero.

        The patch embedding reads the transformer's video channels for the noisy and for the masked latents, and
        nothing yet for the mask. Weights are copies in the transformer's dtype; the transformer is not changed.

        Args:
            attention_head_dim, num_attention_heads: the transformer's own (None): its samples are added to the
                transformer's tokens.
            load_weights_from_transformer: False leaves all but the zero outputs at random.

        Raises ValueError when it has fewer than ``num_layers`` blocks or patches in time (CogVideoX 1.5), or for other
        heads than the transformer's.
        """
        config = dict(transformer.config)
        heads = {"attention_head_dim": attention_head_dim, "num_attention_heads": num_attention_heads}
        for name, value in heads.items():
            if value not in (None, config[name]):
                raise ValueError(
                    f"`{name}` has to be the transformer's, {config[name]}, to which the branch is added, not {value}."
                )
        if not 1 <= num_layers <= len(transformer.transformer_blocks):
            raise ValueError(
                f"`num_layers` has to be from 1 to {len(transformer.transformer_blocks)} but is {num_layers}."
            )
        if config.get("patch_size_t") is not None:
            raise ValueError("The branch exists for CogVideoX 1.0; this transformer has patches in time.")
        names = cls._get_init_keys(cls)
        kept = {key: value for key, value in config.items() if key in names}
        branch = cls(**{**kept, "num_layers": num_layers, "wo_text": wo_text})
        if not load_weights_from_transformer:
            return branch.to(dtype=transformer.dtype)
        with torch.no_grad():
            source, channels = transformer.patch_embed.proj, 16
            weight = torch.zeros_like(branch.patch_embed.proj.weight)
            weight[:, :channels] = source.weight[:, :channels]
            weight[:, channels : 2 * channels] = source.weight[:, :channels]
            branch.patch_embed.proj.weight.copy_(weight)
            branch.patch_embed.proj.bias.copy_(source.bias)
        branch.time_embedding.load_state_dict(transformer.time_embedding.state_dict())
        for own, theirs in zip(branch.transformer_blocks, transformer.transformer_blocks):
            own.load_state_dict(theirs.state_dict())
        return branch.to(dtype=transformer.dtype)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        branch_cond: torch.Tensor,
        timestep: torch.Tensor,
        conditioning_scale: float | list[float] = 1.0,
        timestep_cond: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        wo_text: bool | None = None,
        return_dict: bool = True,
        wanted_tokens: torch.Tensor | None = None,
    ) -> VideoPainterBranchOutput | tuple[list[torch.Tensor]]:
        """One sample for each layer, to be added to the transformer's video tokens.

        Args:
            hidden_states: noisy latents, ``[batch, latent frames, 16, height, width]``.
            encoder_hidden_states: text embeddings, ``[batch, text tokens, text width]``.
            branch_cond: latents of the masked video and the mask (1 = repaint), joined on channels,
                ``[batch, latent frames, 17, height, width]``.
            timestep: int64 ``[batch]``.
            conditioning_scale: factor of the samples; or one for each layer.
            image_rotary_emb: cosines and sines, each ``[video tokens, head width]``.
            wo_text: leave the text out; as the configuration says if None.
            wanted_tokens: int64 positions of the video tokens whose samples are used, all if None. Those of others may
                be 0: the last block then does not make them.
        """
        scales = conditioning_scale
        if not isinstance(scales, (list, tuple)):
            scales = [scales] * len(self.branch_blocks)
        if len(scales) != len(self.branch_blocks):
            raise ValueError(
                f"`conditioning_scale` has {len(scales)} values, but the branch has {len(self.branch_blocks)} layers."
            )
        emb = self.time_proj(timestep).to(dtype=hidden_states.dtype)
        emb = self.time_embedding(emb, timestep_cond)

        latents = torch.cat([hidden_states, branch_cond], dim=2)
        tokens = self.embedding_dropout(self.patch_embed(encoder_hidden_states, latents))
        text_length = encoder_hidden_states.shape[1]
        text, video = split_tokens(tokens, text_length)
        if self.config.wo_text if wo_text is None else wo_text:
            text = text[:, :0]
        image_rotary_emb = rotary_for(self.transformer_blocks, image_rotary_emb)

        samples, last = [], self.transformer_blocks[-1]
        for block, output, scale in zip(self.transformer_blocks, self.branch_blocks, scales):
            kwargs, only = dict(attention_kwargs or {}), None
            if block is last and "attention_mask" not in kwargs and gives_parts(block):
                kwargs["only"] = only = wanted_tokens
            count = video.shape[1]
            video, text = run_block(self, block, video, text, emb, image_rotary_emb, kwargs)
            sample = output(video) * scale
            if only is not None:
                sample = sample.new_zeros(len(sample), count, sample.shape[2]).index_copy_(1, only, sample)
            samples.append(sample)
        if not return_dict:
            return (samples,)
        return VideoPainterBranchOutput(branch_block_samples=samples)


def _zero(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
