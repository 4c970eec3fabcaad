"""One window of VideoPainter: what goes in, and the denoising loop (sections 3.2 and 3.3)."""

import math

import torch
import torch.nn.functional as F
from diffusers import CogVideoXDPMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import get_resize_crop_region_for_grid
from diffusers.utils.torch_utils import randn_tensor

from videopainter.diffusion.id_pool import IDPool, sequence_mask
from videopainter.diffusion.window import Settings, Window
from videopainter.diffusion.windows import RATIO


class WindowMixin:
    """The steps of `VideoPainterPipeline` that work on one window."""

    def prepare_latents(
        self,
        video: torch.Tensor,
        first_frame: torch.Tensor,
        batch_size: int,
        settings: Settings,
        timestep: torch.Tensor,
        latents: torch.Tensor | None = None,
    ) -> tuple[Window, DiagonalGaussianDistribution]:
        """Noise, what is known of the video, and the condition of image-to-video.

        Args:
            video: ``[videos, 3, frames, height, width]`` in -1..1, 0 in the hole.
            first_frame: ``[videos, 3, height, width]``, or latents ``[batch, 1, 16, h, w]`` of an earlier window.
            timestep: the first one; noise is mixed with the video there if ``strength`` is below 1.
            latents: initial noise ``[batch, latent frames, 16, h, w]`` instead of a draw.

        Returns:
            The window without its mask, and the posterior of the video.
        """
        device, dtype, generator = self._execution_device, settings.dtype, settings.generator
        if first_frame.ndim == 4:
            posterior = self._encode(first_frame.unsqueeze(2), batch_size)
            first_frame = self._draw(posterior, settings)
        posterior = self._encode(video, batch_size)
        video_latents = self._draw(posterior, settings)
        if latents is None:
            noise = randn_tensor(video_latents.shape, generator=generator, device=device, dtype=dtype)
        else:
            noise = latents.to(device, dtype)
        if settings.strength < 1 and latents is None:
            start = self.scheduler.add_noise(video_latents, noise, timestep.reshape(1))
        else:
            start = noise * self.scheduler.init_noise_sigma
        rest = torch.zeros_like(video_latents[:, 1:])
        window = Window(
            latents=start,
            noise=noise,
            video_latents=video_latents,
            image_latents=torch.cat([first_frame.to(dtype), rest], dim=1),
        )
        return window, posterior

    def prepare_mask_latents(
        self,
        window: Window,
        hole: torch.Tensor,
        posterior: DiagonalGaussianDistribution,
        batch_size: int,
        settings: Settings,
    ) -> None:
        """Add the masked video's latents and the mask, bool ``[videos, 1, frames, height, width]``, to a window.

        The network sees the mask as it was trained with: one pixel and one frame of each block of 8 x 8 x 4.
        Known latents are put back (``replace_gt``) only where no pixel of the whole block is masked, unless the
        reference is to be matched: at the hole's edge it puts back latents that have seen the black of the hole.
        """
        window.masked_video_latents = self._draw(posterior, settings)
        window.mask = self.latent_mask(hole, batch_size, settings.dtype)
        if settings.match_reference:
            window.paint = 1 - window.mask if settings.mask_background else window.mask
        else:
            scale = self.vae_scale_factor_spatial
            seen = F.max_pool3d(hole.float(), (1, scale, scale))
            later = F.max_pool3d(seen[:, :, 1:], (RATIO, 1, 1))
            window.paint = self._to_batch(
                torch.cat([seen[:, :, :1], later], dim=2), batch_size, settings.dtype
            )

    def latent_mask(self, hole: torch.Tensor, batch_size: int, dtype: torch.dtype) -> torch.Tensor:
        """``[batch, latent frames, 1, h, w]``, 1 = repaint, from bool ``[videos, 1, frames, height, width]``."""
        frames, height, width = hole.shape[2:]
        size = (
            (frames - 1) // self.vae_scale_factor_temporal + 1,
            height // self.vae_scale_factor_spatial,
            width // self.vae_scale_factor_spatial,
        )
        return self._to_batch(F.interpolate(hole.float(), size=size), batch_size, dtype)

    def denoise_window(
        self,
        window: Window,
        prompt_embeds: torch.Tensor,
        timesteps: torch.Tensor,
        settings: Settings,
        id_pool: IDPool | None = None,
        collect_tokens: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
        """The denoising loop of one window.

        Args:
            prompt_embeds: ``[batch, tokens, width]``, or twice that with guidance: negative ones first.
            id_pool: of the window before. collect_tokens: which tokens of the last step to keep for the next.

        Returns:
            Latents ``[batch, latent frames, 16, h, w]``, and the kept tokens after each block.
        """
        guided = settings.guidance_scale > 1
        latents = window.latents
        mask, masked_video_latents = window.mask, window.masked_video_latents
        rotary = self._prepare_rotary_positional_embeddings(
            settings.height, settings.width, latents.shape[1], latents.device
        )
        step_kwargs = self.prepare_extra_step_kwargs(settings.generator, settings.eta)
        count, old_pred_original_sample, collected = len(timesteps), None, None
        cached = self.transformer.is_cache_enabled
        if cached:
            self.transformer._reset_stateful_cache()

        for i, t in enumerate(timesteps):
            if self.interrupt:
                break
            self._current_timestep = t
            both = (lambda x: torch.cat([x] * 2)) if guided else (lambda x: x)
            model_input = self.scheduler.scale_model_input(both(latents), t)
            timestep = t.expand(model_input.shape[0])
            both_masks = both(mask)
            samples = self.branch(
                hidden_states=model_input,
                encoder_hidden_states=prompt_embeds,
                branch_cond=torch.cat([both(masked_video_latents), both_masks], dim=2),
                timestep=timestep,
                conditioning_scale=settings.conditioning_scale,
                image_rotary_emb=rotary,
                wo_text=settings.wo_text,
                return_dict=False,
            )[0]
            collect = collect_tokens if i == count - 1 else None
            if cached and collect is not None:
                self.transformer._reset_stateful_cache()  # a skipped block has no states to collect
            pool_mask = None
            if id_pool is not None and settings.match_reference and i > 0:
                patch = self.transformer.config.patch_size
                pool_mask = sequence_mask(both_masks, patch, prompt_embeds.shape[1])
            with self.transformer.cache_context("cond_uncond"):
                output = self.transformer(
                    hidden_states=torch.cat([model_input, both(window.image_latents)], dim=2),
                    encoder_hidden_states=prompt_embeds,
                    timestep=timestep,
                    image_rotary_emb=rotary,
                    attention_kwargs=settings.attention_kwargs,
                    branch_block_samples=samples,
                    mask=both_masks,
                    mask_add=settings.mask_add,
                    add_first=settings.add_first,
                    resample=settings.id_pool,
                    id_pool=id_pool,
                    prev_clip_weight=settings.prev_clip_weight,
                    pool_mask=pool_mask,
                    collect_tokens=collect,
                    return_dict=False,
                )
            noise_pred = output[0].float()
            collected = output[1] if collect is not None else None

            if settings.use_dynamic_cfg:
                # In Python floats and in this order: with few steps the argument of the cosine is huge.
                steps = settings.num_inference_steps
                self._guidance_scale = 1 + settings.guidance_scale * (
                    (1 - math.cos(math.pi * ((steps - t.item()) / steps) ** 5.0)) / 2
                )
            if guided:
                negative, positive = noise_pred.chunk(2)
                noise_pred = negative + self.guidance_scale * (positive - negative)
            if isinstance(self.scheduler, CogVideoXDPMScheduler):
                before = timesteps[i - 1] if i > 0 else None
                latents, old_pred_original_sample = self.scheduler.step(
                    noise_pred,
                    old_pred_original_sample,
                    t,
                    before,
                    latents,
                    **step_kwargs,
                    return_dict=False,
                )
            else:
                latents = self.scheduler.step(noise_pred, t, latents, **step_kwargs, return_dict=False)[0]
            latents = latents.to(settings.dtype)

            if settings.replace_gt:
                known = window.video_latents
                if i < count - 1:
                    known = self.scheduler.add_noise(known, window.noise, timesteps[i + 1].reshape(1))
                latents = (1 - window.paint) * known + window.paint * latents

            if settings.callback_on_step_end is not None:
                tensors = {
                    "latents": latents,
                    "prompt_embeds": prompt_embeds,
                    "negative_prompt_embeds": prompt_embeds.chunk(2)[0] if guided else None,
                    "mask": mask,
                    "masked_video_latents": masked_video_latents,
                }
                wanted = {name: tensors[name] for name in settings.callback_on_step_end_tensor_inputs}
                changed = settings.callback_on_step_end(self, i, t, wanted) or {}
                latents = changed.get("latents", latents)
                mask = changed.get("mask", mask)
                masked_video_latents = changed.get("masked_video_latents", masked_video_latents)
                prompt_embeds = changed.get("prompt_embeds", prompt_embeds)
                if guided and changed.get("negative_prompt_embeds") is not None:
                    positive = prompt_embeds.chunk(2)[1]
                    prompt_embeds = torch.cat([changed["negative_prompt_embeds"], positive])
            self._bar.update()
        self._current_timestep = None
        return latents, collected

    def _encode(self, pictures: torch.Tensor, batch_size: int) -> DiagonalGaussianDistribution:
        """The VAE's posterior, repeated for every result of a video."""
        pictures = pictures.to(self._execution_device, self.vae.dtype)
        moments = self.vae.encode(pictures).latent_dist.parameters
        return DiagonalGaussianDistribution(moments.repeat_interleave(batch_size // len(moments), 0))

    def _draw(self, posterior: DiagonalGaussianDistribution, settings: Settings) -> torch.Tensor:
        """Scaled latents ``[batch, latent frames, 16, h, w]``."""
        latents = posterior.sample(settings.generator) * self.vae_scaling_factor_image
        return latents.permute(0, 2, 1, 3, 4).to(settings.dtype)

    def _to_batch(self, mask: torch.Tensor, batch_size: int, dtype: torch.dtype) -> torch.Tensor:
        mask = mask.repeat_interleave(batch_size // len(mask), 0).permute(0, 2, 1, 3, 4)
        return mask.to(self._execution_device, dtype)

    def _token_mask(self, mask: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """bool ``[rows of prompt_embeds, sequence]``, for both halves of the guidance."""
        mask = mask.repeat(prompt_embeds.shape[0] // mask.shape[0], 1, 1, 1, 1)
        return sequence_mask(mask, self.transformer.config.patch_size, prompt_embeds.shape[1])

    def _prepare_rotary_positional_embeddings(
        self, height: int, width: int, num_frames: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rotary tables for the network's grid, laid over that of 480 x 720, for which the base is trained."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        cell = self.vae_scale_factor_spatial * config.patch_size
        grid = (height // cell, width // cell)
        region = get_resize_crop_region_for_grid(grid, 720 // cell, 480 // cell)
        return rotary_tables(config.attention_head_dim, grid, num_frames, region, device)


def rotary_tables(
    head_width: int,
    grid: tuple[int, int],
    frames: int,
    region: tuple[tuple[int, int], tuple[int, int]],
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each ``[frames * rows * columns, head width]``, of a grid laid over a region.

    Token i of n lies at start + i (stop - start) / n, as where CogVideoX was trained. diffusers spreads the tokens
    otherwise where a region does not start at 0; it is given the stop that makes up for it.
    """
    starts, stops = region
    stops = [
        stop if start == 0 or n == 1 else (start + (stop - start) * (n - 1) / n) * n / (n - 1)
        for start, stop, n in zip(starts, stops, grid)
    ]
    return get_3d_rotary_pos_embed(
        head_width, (starts, stops), grid, frames, device=torch.device(device or "cpu")
    )
