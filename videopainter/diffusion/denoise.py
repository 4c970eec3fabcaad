"""One step of denoising, as functions of what they need (sections 3.2 and 3.3)."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler, SchedulerMixin

from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.id_pool import IDPool, ZeroKeys
from videopainter.diffusion.latents import WindowLatents, add_noise
from videopainter.diffusion.rotary import complex_table
from videopainter.diffusion.settings import PipelineSettings
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel, find_zero_keys
from videopainter.ops.memory import from_host

Rotary = tuple[torch.Tensor, torch.Tensor] | None


def double_batch(tensor: torch.Tensor, guided: bool) -> torch.Tensor:
    """The same rows for the negative prompt and for the prompt, where there is guidance."""
    return torch.cat([tensor] * 2) if guided else tensor


def zero_keys_of(
    patch: int,
    window: WindowLatents,
    prompt_embeds: torch.Tensor,
    rotary: Rotary,
    settings: PipelineSettings,
    id_pool: IDPool | None,
) -> ZeroKeys | None:
    """What attention leaves out in every step of a window; None without ID resampling."""
    if not settings.id_pool:
        return None
    frames, _, height, width = window.mask.shape[1:]
    grid = (frames, height // patch, width // patch)
    table = None if rotary is None else complex_table(rotary)
    pool = id_pool if settings.prev_clip_weight > 0 else None
    return find_zero_keys(window.mask, patch, prompt_embeds.shape[1], pool, (table, grid))


def predict_noise(
    transformer: VideoPainterTransformer3DModel,
    branch: VideoPainterBranchModel,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    window: WindowLatents,
    prompt_embeds: torch.Tensor,
    rotary: Rotary,
    settings: PipelineSettings,
    id_pool: IDPool | None = None,
    pool_mask: torch.Tensor | None = None,
    collect_tokens: torch.Tensor | None = None,
    collect_into: Callable[[torch.Tensor], torch.Tensor] | None = None,
    zero_keys: ZeroKeys | None = None,
    alone: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
    """What branch and transformer make of noisy latents.

    Args:
        latents: ``[rows, latent frames, 16, h, w]``, scaled for the model; twice the window's rows with guidance.
        alone: the prompt's rows alone, without the negative ones that embeddings, pool and masks have besides.
        timestep: int64, one value.
        prompt_embeds: ``[rows, tokens, width]``.
        id_pool, pool_mask, collect_tokens, collect_into, zero_keys: see `VideoPainterTransformer3DModel.forward`.

    Returns:
        The prediction, float32, like ``latents``; and the states of the collected tokens after each block.
    """
    if alone:
        settings = replace(settings, guidance_scale=1.0)
        prompt_embeds = prompt_embeds.chunk(2)[1]
        id_pool = None if id_pool is None else id_pool.of_prompt()
        pool_mask = None if pool_mask is None else pool_mask.chunk(2)[1]
    mask = double_batch(window.mask, settings.guided)
    timestep = timestep.expand(latents.shape[0])
    samples = branch(
        hidden_states=latents,
        encoder_hidden_states=prompt_embeds,
        branch_cond=torch.cat([double_batch(window.masked_video_latents, settings.guided), mask], dim=2),
        timestep=timestep,
        conditioning_scale=settings.conditioning_scale,
        image_rotary_emb=rotary,
        wo_text=settings.wo_text,
        return_dict=False,
        wanted_tokens=window.sampled,
    )[0]
    with transformer.cache_context("cond_uncond"):
        output = transformer(
            hidden_states=torch.cat([latents, double_batch(window.image_latents, settings.guided)], dim=2),
            encoder_hidden_states=prompt_embeds,
            timestep=timestep,
            image_rotary_emb=rotary,
            attention_kwargs=settings.attention_kwargs,
            branch_block_samples=samples,
            mask=mask,
            mask_add=settings.mask_add,
            add_first=settings.add_first,
            resample=settings.id_pool,
            id_pool=id_pool,
            prev_clip_weight=settings.prev_clip_weight,
            pool_mask=pool_mask,
            collect_tokens=collect_tokens,
            collect_into=collect_into,
            zero_keys=zero_keys,
            wanted_tokens=window.predicted,
            return_dict=False,
        )
    return output[0].float(), output[1] if collect_tokens is not None else None


def dynamic_guidance_scale(timestep: torch.Tensor, scale: float, steps: int) -> float:
    """The guidance scale of one of ``steps`` steps under dynamic CFG."""
    # In Python floats and in this order: with few steps the argument of the cosine is huge.
    return 1 + scale * ((1 - math.cos(math.pi * ((steps - timestep.item()) / steps) ** 5.0)) / 2)


class Guidance:
    """Classifier-free guidance of a window: predictions of two rows, negative ones first, become one.

    From the share ``guidance_stop`` of the steps on only the prompt's row is predicted, and what guidance adds is taken
    over from the last step that had both.
    """

    def __init__(self, settings: PipelineSettings, steps: int):
        self.guided = settings.guided
        self._stop = math.ceil(settings.guidance_stop * steps)
        self._keeps = self._stop < steps
        self._difference: torch.Tensor | None = None

    def is_alone(self, step: int, collected: bool) -> bool:
        """Whether the prompt's row does. ``collected``: the next window wants states of both."""
        return self.guided and step >= self._stop and not collected and self._difference is not None

    def __call__(self, noise_pred: torch.Tensor, scale: float, alone: bool) -> torch.Tensor:
        if not self.guided:
            return noise_pred
        if alone:
            return noise_pred + (scale - 1) * self._difference
        negative, positive = noise_pred.chunk(2)
        difference = positive - negative
        self._difference = difference if self._keeps else None
        return negative + scale * difference


def scheduler_step(
    scheduler: SchedulerMixin,
    noise_pred: torch.Tensor,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    index: int,
    previous_original: torch.Tensor | None,
    step_kwargs: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(latents after step ``index``, the prediction of the clean latents that the DPM scheduler looks back to)."""
    kwargs = {**step_kwargs, "return_dict": False}
    if not isinstance(scheduler, CogVideoXDPMScheduler):
        return scheduler.step(noise_pred, timesteps[index], latents, **kwargs)[0], None
    before = timesteps[index - 1] if index > 0 else None
    generator = kwargs.get("generator")
    if (
        latents.device.type != "cpu"
        and isinstance(generator, torch.Generator)
        and generator.device.type == "cpu"
    ):
        return dpm_step(
            scheduler, noise_pred, previous_original, timesteps[index], before, latents, generator
        )
    return scheduler.step(noise_pred, previous_original, timesteps[index], before, latents, **kwargs)


def dpm_step(
    scheduler: CogVideoXDPMScheduler,
    noise_pred: torch.Tensor,
    previous_original: torch.Tensor | None,
    timestep: torch.Tensor,
    timestep_before: torch.Tensor | None,
    latents: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `CogVideoXDPMScheduler.step`, for draws on the host and latents on a GPU.

    diffusers uploads draws from memory that is not pinned, for which the host waits until the GPU is idle, and makes of
    the first of its two draws a result that it throws away. Here the first one is drawn, so that seeds keep their
    meaning, and no more; the second one goes up from pinned memory.
    """
    config, alphas = scheduler.config, scheduler.alphas_cumprod
    following = timestep - config.num_train_timesteps // scheduler.num_inference_steps
    alpha = alphas[timestep]
    alpha_next = alphas[following] if following >= 0 else scheduler.final_alpha_cumprod
    alpha_before = None if timestep_before is None else alphas[timestep_before]
    if config.prediction_type == "epsilon":
        original = (latents - (1 - alpha) ** 0.5 * noise_pred) / alpha**0.5
    elif config.prediction_type == "sample":
        original = noise_pred
    else:
        original = alpha**0.5 * latents - (1 - alpha) ** 0.5 * noise_pred

    h, r, _, _ = scheduler.get_variables(alpha, alpha_next, alpha_before)
    keep, towards, *looking_back = scheduler.get_mult(h, r, alpha, alpha_next, alpha_before)
    of_noise = (1 - alpha_next) ** 0.5 * (1 - (-2 * h).exp()) ** 0.5

    target = original
    draw = torch.randn(latents.shape, generator=generator, dtype=latents.dtype)
    if previous_original is not None and following >= 0:
        target = looking_back[0] * original - looking_back[1] * previous_original
        draw = torch.randn(latents.shape, generator=generator, dtype=latents.dtype)
    draw = from_host(draw, latents.device)
    return keep * latents - towards * target + of_noise * draw, original


def put_back_known(
    scheduler: SchedulerMixin,
    latents: torch.Tensor,
    window: WindowLatents,
    timesteps: torch.Tensor,
    index: int,
) -> torch.Tensor:
    """Latents after step ``index`` with what is known of the video, as noisy as they are, outside the hole."""
    known = window.video_latents
    if index < len(timesteps) - 1:
        known = add_noise(scheduler, known, window.noise, timesteps[index + 1])
    return (1 - window.repaint_mask) * known + window.repaint_mask * latents


def call_back(
    pipe: Any,
    step: int,
    timestep: torch.Tensor,
    latents: torch.Tensor,
    window: WindowLatents,
    prompt_embeds: torch.Tensor,
    settings: PipelineSettings,
) -> tuple[torch.Tensor, WindowLatents, torch.Tensor]:
    """Latents, window and embeddings as the caller's callback leaves them."""
    tensors = {
        "latents": latents,
        "prompt_embeds": prompt_embeds,
        "negative_prompt_embeds": prompt_embeds.chunk(2)[0] if settings.guided else None,
        "mask": window.mask,
        "masked_video_latents": window.masked_video_latents,
    }
    wanted = {name: tensors[name] for name in settings.callback_on_step_end_tensor_inputs}
    changed = settings.callback_on_step_end(pipe, step, timestep, wanted) or {}
    if changed.get("mask", window.mask) is not window.mask:
        window = replace(window, sampled=None)
    window = replace(
        window,
        mask=changed.get("mask", window.mask),
        masked_video_latents=changed.get("masked_video_latents", window.masked_video_latents),
    )
    prompt_embeds = changed.get("prompt_embeds", prompt_embeds)
    if settings.guided and changed.get("negative_prompt_embeds") is not None:
        positive = prompt_embeds.chunk(2)[1]
        prompt_embeds = torch.cat([changed["negative_prompt_embeds"], positive])
    return changed.get("latents", latents), window, prompt_embeds
