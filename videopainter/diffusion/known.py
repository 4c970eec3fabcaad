"""Windows without a hole: every step's result would be overwritten with what is known, so the networks have a rest."""

from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.utils.torch_utils import randn_tensor

from videopainter.diffusion import denoise
from videopainter.diffusion.id_pool import IDPool, sequence_mask_for
from videopainter.diffusion.latents import WindowLatents
from videopainter.diffusion.settings import PipelineSettings


def is_known(
    pipe: Any, window: WindowLatents, settings: PipelineSettings, collect_tokens: torch.Tensor | None
) -> bool:
    """Whether nothing of the window is repainted, and the next one wants no tokens of it."""
    plain = settings.replace_gt and isinstance(pipe.scheduler, CogVideoXDPMScheduler)
    return plain and not window.has_hole and (collect_tokens is None or len(collect_tokens) == 0)


def pass_known_window(
    pipe: Any,
    window: WindowLatents,
    prompt_embeds: torch.Tensor,
    timesteps: torch.Tensor,
    settings: PipelineSettings,
    collect_tokens: torch.Tensor | None = None,
    progress_bar: Any = None,
) -> tuple[torch.Tensor, IDPool | None]:
    """What `VideoPainterPipeline.denoise_window` gives for a window that `is_known`, without a network.

    Draws are drawn and callbacks called as there, so that the windows after it are what they would be.
    """
    latents, config = window.latents, pipe.transformer.config
    timesteps, on_device = timesteps.cpu(), timesteps.to(latents.device)
    scale = settings.guidance_scale
    for index, timestep in enumerate(timesteps):
        if pipe.interrupt:
            break
        pipe._current_timestep = on_device[index]
        if settings.use_dynamic_cfg:
            pipe._guidance_scale = denoise.dynamic_guidance_scale(timestep, scale, len(timesteps))
        _pass_over_draws(pipe.scheduler, latents, timesteps, index, settings.generator)
        latents = denoise.put_back_known(pipe.scheduler, window.latents, window, timesteps, index)
        if settings.callback_on_step_end is not None:
            shown = pipe.guidance_scale
            latents, window, prompt_embeds = denoise.call_back(
                pipe, index, on_device[index], latents, window, prompt_embeds, settings
            )
            scale += round(pipe.guidance_scale - shown, 9)
        if progress_bar is not None:
            progress_bar.update()
    pipe._current_timestep, pipe._guidance_scale = None, scale
    if collect_tokens is None or pipe.interrupt:
        return latents, None
    width = config.num_attention_heads * config.attention_head_dim
    states = [latents.new_empty(prompt_embeds.shape[0], 0, width) for _ in range(config.num_layers)]
    mask = sequence_mask_for(prompt_embeds, window.mask, config.patch_size)
    return latents, IDPool(states, collect_tokens, mask, kept_text=0)


def _pass_over_draws(
    scheduler: CogVideoXDPMScheduler, latents: torch.Tensor, timesteps: torch.Tensor, index: int, generator
) -> None:
    """Draw what step ``index`` would draw."""
    following = timesteps[index] - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    device = generator.device if isinstance(generator, torch.Generator) else latents.device
    for _ in range(2 if index > 0 and following >= 0 else 1):
        randn_tensor(latents.shape, generator=generator, device=device, dtype=latents.dtype)
