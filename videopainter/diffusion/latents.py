"""What denoising takes as arguments: latents of the video, noise, and the hole at latent size (section 3.2).

Functions of tensors and of a VAE or a scheduler; they hold nothing between calls.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler, SchedulerMixin
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor

from videopainter.diffusion.id_pool import token_mask
from videopainter.diffusion.inputs import WindowPixels
from videopainter.diffusion.settings import PipelineSettings
from videopainter.diffusion.windows import FRAMES_PER_LATENT
from videopainter.ops.memory import from_host

Generators = torch.Generator | list[torch.Generator] | None


@dataclass(frozen=True)
class WindowLatents:
    """Tensors that one window is denoised with, ``[batch, latent frames, 16 (masks: 1), h, w]``.

    latents: what denoising starts from. noise: the draw in it. video_latents: what is known of the video.
    image_latents: the condition of image-to-video, zero after the first latent frame. masked_video_latents: the
    masked video for the branch, a draw of its own. mask: 1 = repaint, as the networks see it. repaint_mask: 0
    where known latents are put back. has_hole: whether it is 1 anywhere. predicted, sampled: int64 positions of the
    tokens for which the transformer's prediction, and the branch's samples, are used at all; None for all.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    video_latents: torch.Tensor
    image_latents: torch.Tensor
    masked_video_latents: torch.Tensor
    mask: torch.Tensor
    repaint_mask: torch.Tensor
    has_hole: bool = True
    predicted: torch.Tensor | None = None
    sampled: torch.Tensor | None = None


def prepare_window(
    vae: AutoencoderKLCogVideoX,
    scheduler: SchedulerMixin,
    pixels: WindowPixels,
    batch_size: int,
    settings: PipelineSettings,
    timestep: torch.Tensor,
    device: torch.device,
    dtype: torch.dtype,
    first_latents: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    masked_latents: torch.Tensor | None = None,
    patch_size: int = 2,
) -> WindowLatents:
    """Latents, noise and masks of a window; see `VideoPainterPipeline.prepare_latents`.

    The order of its draws from ``settings.generator`` is the published code's: first frame, video, noise, masked
    video.
    """
    policy, spatial_scale = settings.policy, 2 ** (len(vae.config.block_out_channels) - 1)
    encode = partial(encode_video, vae, batch_size=batch_size, device=device)
    draw = partial(
        draw_latents,
        generator=settings.generator,
        scaling_factor=vae.config.scaling_factor,
        dtype=dtype,
    )
    if first_latents is None:
        first_latents = draw(encode(pixels.first_frame.unsqueeze(2)))
    posterior = encode(pixels.video if policy.encode_hole else pixels.masked_video)
    video_latents = draw(posterior)
    start, noise = prepare_noise(
        scheduler, video_latents, timestep, settings.strength, settings.generator, noise
    )
    if masked_latents is None:
        if policy.encode_hole:
            posterior = encode(pixels.masked_video)
        masked_latents = draw(posterior)
    repaint = (sample_mask if policy.sampled_known_region else cover_mask)(pixels.hole, spatial_scale)
    mask = sample_mask(pixels.network_mask, spatial_scale)
    return WindowLatents(
        latents=start,
        noise=noise,
        video_latents=video_latents,
        image_latents=torch.cat([first_latents.to(dtype), torch.zeros_like(video_latents[:, 1:])], dim=1),
        masked_video_latents=masked_latents.to(device, dtype),
        mask=repeat_mask(mask, batch_size, device, dtype),
        repaint_mask=repeat_mask(repaint, batch_size, device, dtype),
        has_hole=bool(repaint.any()),
        predicted=_positions(token_mask(repaint.movedim(1, 2), patch_size), device)
        if predicts_hole_only(scheduler, settings)
        else None,
        sampled=_positions(~token_mask(mask.movedim(1, 2), patch_size), device)
        if settings.mask_add
        else None,
    )


def predicts_hole_only(scheduler: SchedulerMixin, settings: PipelineSettings) -> bool:
    """Whether known latents are put back after every step, and the step lets no latent change another one.

    What the networks predict outside the hole is then overwritten before anything looks at it.
    """
    return settings.replace_gt and type(scheduler) in (CogVideoXDPMScheduler, CogVideoXDDIMScheduler)


def _positions(tokens: torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """int64 positions of what is True in a row of ``[videos, tokens]`` or more; None if that is all or nothing."""
    found = tokens.any(0).nonzero()[:, 0]
    if len(found) in (0, tokens.shape[1]):
        return None
    return from_host(found, device)


def encode_video(
    vae: AutoencoderKLCogVideoX, pixels: torch.Tensor, batch_size: int, device: torch.device
) -> DiagonalGaussianDistribution:
    """The VAE's posterior of ``[videos, 3, frames, height, width]`` in -1..1, repeated for every result."""
    moments = vae.encode(pixels.to(device, vae.dtype)).latent_dist.parameters
    return DiagonalGaussianDistribution(moments.repeat_interleave(batch_size // len(moments), 0))


def draw_latents(
    posterior: DiagonalGaussianDistribution, generator: Generators, scaling_factor: float, dtype: torch.dtype
) -> torch.Tensor:
    """Scaled latents ``[batch, latent frames, 16, h, w]``."""
    latents = posterior.sample(generator) * scaling_factor
    return latents.permute(0, 2, 1, 3, 4).to(dtype)


def prepare_noise(
    scheduler: SchedulerMixin,
    video_latents: torch.Tensor,
    timestep: torch.Tensor,
    strength: float,
    generator: Generators,
    noise: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what denoising starts from, the noise in it), both like ``video_latents``.

    timestep: the first one, ``[1]``; a draw is mixed with the video there if ``strength`` is below 1. Given
    ``noise`` is taken as it is.
    """
    device, dtype = video_latents.device, video_latents.dtype
    if noise is not None:
        noise = noise.to(device, dtype)
        return noise * scheduler.init_noise_sigma, noise
    noise = randn_tensor(video_latents.shape, generator=generator, device=device, dtype=dtype)
    if strength < 1:
        return add_noise(scheduler, video_latents, noise, timestep.reshape(())), noise
    return noise * scheduler.init_noise_sigma, noise


def add_noise(
    scheduler: SchedulerMixin, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """Latents as noisy as at a timestep (one value, on the CPU).

    As the scheduler's own step of this name, but for where it looks its numbers up: it would move its table to the
    GPU, and the host would wait for the GPU whenever a step asks for one of them.
    """
    if not isinstance(scheduler, (CogVideoXDPMScheduler, CogVideoXDDIMScheduler)):
        return scheduler.add_noise(latents, noise, timestep.reshape(1).to(latents.device))
    signal = scheduler.alphas_cumprod.cpu().to(latents.dtype)[timestep.cpu()]
    return signal**0.5 * latents + (1 - signal) ** 0.5 * noise


def sample_mask(hole: torch.Tensor, spatial_scale: int) -> torch.Tensor:
    """The mask as the networks were trained with it: one pixel and one frame of each block of 8 x 8 x 4.

    hole: bool ``[videos, 1, frames, height, width]``. Returns float32 ``[videos, 1, latent frames, h, w]``.
    """
    frames, height, width = hole.shape[2:]
    size = ((frames - 1) // FRAMES_PER_LATENT + 1, height // spatial_scale, width // spatial_scale)
    return F.interpolate(hole.float(), size=size)


def cover_mask(hole: torch.Tensor, spatial_scale: int) -> torch.Tensor:
    """As `sample_mask`, but 1 where any pixel of the block is masked."""
    covered = F.max_pool3d(hole.float(), (1, spatial_scale, spatial_scale))
    later = F.max_pool3d(covered[:, :, 1:], (FRAMES_PER_LATENT, 1, 1))
    return torch.cat([covered[:, :, :1], later], dim=2)


def repeat_mask(
    mask: torch.Tensor, batch_size: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """``[batch, latent frames, 1, h, w]`` from ``[videos, 1, latent frames, h, w]``."""
    mask = mask.repeat_interleave(batch_size // len(mask), 0).permute(0, 2, 1, 3, 4)
    return mask.to(device, dtype)
