"""VideoPainter with random weights, tiny, of middle or of the released size: it costs what a trained one costs."""

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
from transformers import T5Config, T5EncoderModel

from videopainter.diffusion import (
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)

_SMALL_VAE = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}

# What differs from the released configuration. The VAEs' sizes are those whose tiles begin at whole latents.
SIZES = {
    "tiny": {
        "networks": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "text_embed_dim": 32,
            "time_embed_dim": 32,
            "max_text_seq_length": 16,
            "sample_width": 12,
            "sample_height": 8,
            "sample_frames": 9,
        },
        "blocks": 4,
        "vae": {**_SMALL_VAE, "sample_height": 96, "sample_width": 160},
        "text": {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4, "vocab_size": 128},
    },
    "middle": {
        "networks": {
            "num_attention_heads": 4,
            "text_embed_dim": 512,
            "sample_width": 20,
            "sample_height": 24,
            "sample_frames": 25,
        },
        "blocks": 12,
        "vae": {
            **_SMALL_VAE,
            "block_out_channels": (16, 16, 32, 32),
            "sample_height": 192,
            "sample_width": 160,
        },
        "text": {"d_model": 512, "num_layers": 2, "vocab_size": 128},
    },
    "real": {
        "networks": {"num_attention_heads": 48, "sample_width": 90, "sample_height": 60},
        "blocks": 42,
        "vae": {},
        "text": {
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "vocab_size": 32128,
        },
    },
}


def configuration(size: str, network: str) -> dict:
    """Arguments of the "transformer" or the "branch"."""
    shared = {
        "in_channels": 32,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
        **SIZES[size]["networks"],
    }
    return {**shared, "num_layers": SIZES[size]["blocks"] if network == "transformer" else 2}


def build(size: str, device: str, dtype: torch.dtype) -> VideoPainterPipeline:
    """A pipeline without text encoder whose weights lie on ``device``."""

    def random(make):
        return _random(make, device, dtype)

    pipe = VideoPainterPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=random(lambda: AutoencoderKLCogVideoX(**SIZES[size]["vae"])),
        transformer=random(lambda: VideoPainterTransformer3DModel(**configuration(size, "transformer"))),
        scheduler=CogVideoXDPMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        branch=random(lambda: VideoPainterBranchModel(**configuration(size, "branch"))),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_encoder(size: str, device: str, dtype: torch.dtype) -> T5EncoderModel:
    """The text encoder alone."""
    config = T5Config(feed_forward_proj="gated-gelu", **SIZES[size]["text"])
    return _random(lambda: T5EncoderModel(config), device, dtype)


def prompt(pipe: VideoPainterPipeline, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random text embeddings for a call."""
    config = pipe.transformer.config
    shape = (1, config.max_text_seq_length, config.text_embed_dim)
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: torch.randn(shape, device=device, dtype=dtype) for name in names}


def clip(pipe: VideoPainterPipeline, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random video ``[frames, 3, height, width]`` and masks whose hole is a fifth of the picture."""
    config, scale = pipe.transformer.config, pipe.vae_scale_factor_spatial
    height, width = config.sample_height * scale, config.sample_width * scale
    video = torch.rand(frames, 3, height, width)
    masks = torch.zeros(frames, height, width, dtype=torch.bool)
    masks[:, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width * 2 // 5] = True
    return video, masks


@torch.no_grad()
def _random(make, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """A network filled with copies of one random piece, which is much faster than a draw for every weight."""
    with torch.device("meta"):
        network = make()
    network = network.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    piece = torch.empty(2**20, device=device).uniform_(-0.02, 0.02).to(dtype)
    for tensor in (*network.parameters(), *network.buffers()):
        flat = tensor.view(-1)
        for start in range(0, len(flat), len(piece)):
            part = flat[start : start + len(piece)]
            part.copy_(piece[: len(part)])
    return network
