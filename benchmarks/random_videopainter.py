"""VideoPainter with random weights, tiny, of middle or of the released size: it costs what a trained one costs."""

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler

from videopainter.diffusion import (
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)

# The middle size is one whose VAE tiles begin at whole latents, as those of 480 x 720 do.
# Latent height and width, frames of a window, heads (64 wide), blocks, text tokens and width, VAE channels.
SIZES = {
    "tiny": (8, 12, 9, 1, 4, 16, 32, (8, 8, 16, 16)),
    "middle": (24, 20, 25, 4, 12, 226, 512, (16, 16, 32, 32)),
    "real": (60, 90, 49, 48, 42, 226, 4096, (128, 256, 256, 512)),
}


def build(size: str, device: str, dtype: torch.dtype) -> VideoPainterPipeline:
    """A pipeline without text encoder whose weights lie on ``device``."""
    height, width, frames, heads, blocks, text, text_width, channels = SIZES[size]
    shared = {
        "num_attention_heads": heads,
        "attention_head_dim": 64,
        "in_channels": 32,
        "time_embed_dim": 512,
        "text_embed_dim": text_width,
        "attention_bias": True,
        "sample_height": height,
        "sample_width": width,
        "sample_frames": frames,
        "max_text_seq_length": text,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    }
    with init_empty_weights(include_buffers=False):
        networks = [
            VideoPainterTransformer3DModel(**shared, num_layers=blocks),
            VideoPainterBranchModel(**shared, num_layers=2),
            AutoencoderKLCogVideoX(
                down_block_types=("CogVideoXDownBlock3D",) * 4,
                up_block_types=("CogVideoXUpBlock3D",) * 4,
                block_out_channels=channels,
                latent_channels=16,
                layers_per_block=3 if size == "real" else 1,
                norm_num_groups=32 if size == "real" else 4,
                scaling_factor=0.7,
                sample_height=height * 8,
                sample_width=width * 8,
            ),
        ]
    for network in networks:
        _fill(network, device, dtype)
    transformer, branch, vae = networks
    scheduler = CogVideoXDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
    )
    return VideoPainterPipeline(None, None, vae, transformer, scheduler, branch)


def prompt(size: str, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random text embeddings for a call."""
    shape = (1, *SIZES[size][5:7])
    return {
        name: torch.randn(shape, device=device, dtype=dtype)
        for name in ("prompt_embeds", "negative_prompt_embeds")
    }


def clip(size: str, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random video ``[frames, 3, height, width]`` and masks whose hole is a fifth of the picture."""
    height, width = SIZES[size][0] * 8, SIZES[size][1] * 8
    video = torch.rand(frames, 3, height, width)
    masks = torch.zeros(frames, height, width, dtype=torch.bool)
    masks[:, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width * 2 // 5] = True
    return video, masks


@torch.no_grad()
def _fill(network: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    network.eval().requires_grad_(False)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = torch.empty(parameter.shape, device=device, dtype=dtype).normal_(0, 0.02)
            if name == "weight" and parameter.ndim == 1:
                value += 1
            module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    network.to(device, dtype)
