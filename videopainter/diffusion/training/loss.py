"""One training example as the networks take it, and the published loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, SchedulerMixin

from videopainter.diffusion.latents import sample_mask
from videopainter.diffusion.training.config import TrainingConfig
from videopainter.diffusion.training.data import Sample

Rotary = tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True)
class Encoded:
    """Moments of the VAE's posteriors, ``[batch, 32, latent frames, h, w]``, and the mask.

    video, masked: of the clip and of the masked clip. image: of the noised first frame, one latent frame. mask:
    ``[batch, latent frames, 1, h, w]``, 1 = inpaint.
    """

    video: torch.Tensor
    masked: torch.Tensor
    image: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """What one forward and its loss need, ``[batch, latent frames, 16 (mask: 1), h, w]``.

    latents: of the clip, scaled. masked_latents: of the masked clip. image_latents: of the first frame, then zeros.
    noise: like latents. timesteps: int64 ``[batch]``. prompt_embeds: ``[batch, tokens, width]``.
    """

    latents: torch.Tensor
    masked_latents: torch.Tensor
    image_latents: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    prompt_embeds: torch.Tensor


def generator_of(seed: int, stream: int, number: int) -> torch.Generator:
    """Random numbers of one example, whatever process it is in: on the CPU, so the same on every device."""
    state = (seed * 1_000_003 + stream) * 1_000_000_007 + number
    return torch.Generator().manual_seed(state % 2**63)


@torch.no_grad()
def encode(vae: AutoencoderKLCogVideoX, sample: Sample, config: TrainingConfig) -> Encoded:
    """The VAE's part of an example, which `cache_latents` keeps."""
    device, dtype = vae.device, vae.dtype
    video, masked = (one.transpose(0, 1)[None] for one in (sample.video, sample.masked))
    first = video[:, :, :1] if config.first_frame == "complete" else masked[:, :, :1]
    generator = generator_of(config.seed, 1, sample.number)
    sigma = torch.exp(torch.randn(1, generator=generator) * 0.5 - 3.0)
    noised = first + torch.randn(first.shape, generator=generator) * sigma
    moments = [vae.encode(one.to(device, dtype)).latent_dist.parameters for one in (video, masked, noised)]
    spatial = 2 ** (len(vae.config.block_out_channels) - 1)
    mask = sample_mask(sample.mask.transpose(0, 1)[None] > 0, spatial).transpose(1, 2)
    return Encoded(*moments, mask.to(device))


def make_batch(
    encoded: list[Encoded],
    numbers: list[int],
    prompt_embeds: torch.Tensor,
    scaling_factor: float,
    steps: int,
    config: TrainingConfig,
    dtype: torch.dtype,
) -> Batch:
    """Draw latents, noise and timesteps of examples; every example draws from its own generator.

    numbers: of the examples in the run. steps: of the scheduler's training.
    """
    rows = []
    for one, number in zip(encoded, numbers):
        generator = generator_of(config.seed, 2, number)

        def draw(moments: torch.Tensor, generator=generator) -> torch.Tensor:
            mean, log_variance = moments.float().chunk(2, dim=1)
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
            drawn = mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise
            return (drawn * scaling_factor).transpose(1, 2)

        image, video, masked = draw(one.image), draw(one.video), draw(one.masked)
        image = F.pad(image, (0, 0, 0, 0, 0, 0, 0, video.shape[1] - 1))
        if float(torch.rand((), generator=generator)) < config.noised_image_dropout:
            image = torch.zeros_like(image)
        noise = torch.randn(video.shape, generator=generator).to(video.device)
        timestep = torch.randint(0, steps, (1,), generator=generator).to(video.device)
        rows.append((video, masked, image, one.mask, noise, timestep))
    video, masked, image, mask, noise, timesteps = (torch.cat(parts) for parts in zip(*rows))
    latents = (part.to(dtype) for part in (video, masked, image, mask, noise))
    return Batch(*latents, timesteps, prompt_embeds.to(video.device, dtype))


def training_loss(
    transformer,
    branch,
    scheduler: SchedulerMixin,
    batch: Batch,
    rotary: Rotary,
    config: TrainingConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the loss, its part in the hole): the squared error of the clean latents, weighted as v-prediction asks for.

    The transformer predicts velocity; with it the clean latents are known, and the weight 1 / (1 - alpha) makes their
    error that of the velocity. The hole's part is a mean over all latents as well, so that small holes count little.
    """
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    samples = branch(
        hidden_states=noisy,
        encoder_hidden_states=batch.prompt_embeds,
        branch_cond=torch.cat([batch.masked_latents, batch.mask], dim=2),
        timestep=batch.timesteps,
        image_rotary_emb=rotary,
        wo_text=config.wo_text,
        return_dict=False,
    )[0]
    output = transformer(
        hidden_states=torch.cat([noisy, batch.image_latents], dim=2),
        encoder_hidden_states=batch.prompt_embeds,
        timestep=batch.timesteps,
        image_rotary_emb=rotary,
        branch_block_samples=[sample.to(noisy.dtype) for sample in samples],
        mask=batch.mask,
        mask_add=config.mask_add,
        add_first=config.add_first,
        resample=config.resample,
        return_dict=False,
    )[0]
    predicted = scheduler.get_velocity(output, noisy, batch.timesteps)
    alphas = scheduler.alphas_cumprod.to(batch.latents.device, torch.float32)
    weights = (1 / (1 - alphas[batch.timesteps])).reshape(-1, 1, 1, 1, 1)
    errors = (predicted.float() - batch.latents.float()) ** 2
    hole = (weights * errors * batch.mask.float() ** 2).mean()
    whole = (weights * errors).mean()
    return whole + config.inpainting_loss_weight * hole, hole
