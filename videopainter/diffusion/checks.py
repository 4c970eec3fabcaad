"""Arguments that cannot work, told before any computing."""

import torch

from videopainter.diffusion.inputs import MaskInput, VideoInput, as_image
from videopainter.diffusion.settings import PipelineSettings
from videopainter.diffusion.windows import WindowPlan


def check_inputs(
    pipe, settings: PipelineSettings, video: VideoInput, masks: MaskInput, plan: WindowPlan
) -> None:
    """Raises ValueError for arguments of `VideoPainterPipeline` that do not go together."""
    _check_size(pipe, settings)
    results = _check_prompts(pipe, settings)
    for name, count in (("videos", len(video.videos)), ("sets of masks", len(masks.masks))):
        if count not in (1, results):
            raise ValueError(f"There are {count} {name} for {results} prompts; give one, or one for each.")
    if settings.image is not None:
        images = as_image(settings.image)
        count = len(images) if isinstance(images, list) or getattr(images, "ndim", 0) == 4 else 1
        if count not in (1, results):
            raise ValueError(f"There are {count} images for {results} prompts; give one, or one for each.")
    if settings.num_videos_per_prompt < 1:
        raise ValueError(
            f"`num_videos_per_prompt` has to be 1 or more but is {settings.num_videos_per_prompt}."
        )
    wanted = results * settings.num_videos_per_prompt
    if isinstance(settings.generator, list) and len(settings.generator) != wanted:
        raise ValueError(f"There are {len(settings.generator)} generators for {wanted} results.")
    if settings.output_type not in ("pil", "np", "pt", "latent"):
        raise ValueError(f"`output_type` has to be pil, np, pt or latent but is {settings.output_type!r}.")
    if settings.timesteps is None and settings.num_inference_steps < 1:
        raise ValueError(f"`num_inference_steps` has to be 1 or more but is {settings.num_inference_steps}.")
    if not 0 < settings.strength <= 1:
        raise ValueError(f"`strength` has to be above 0 and at most 1 but is {settings.strength}.")
    if not 0 <= settings.prev_clip_weight <= 1:
        raise ValueError(f"`prev_clip_weight` has to be from 0 to 1 but is {settings.prev_clip_weight}.")
    if not 0 < settings.guidance_stop <= 1:
        raise ValueError(f"`guidance_stop` has to be above 0 and at most 1 but is {settings.guidance_stop}.")
    if settings.guidance_stop < 1 and pipe.transformer.is_cache_enabled:
        raise ValueError(
            "`guidance_stop` below 1 leaves rows out, which a cache of the transformer would still expect."
        )
    layers = len(pipe.branch.branch_blocks)
    scale = settings.conditioning_scale
    if isinstance(scale, (list, tuple)) and len(scale) != layers:
        raise ValueError(f"`conditioning_scale` has {len(scale)} values, but the branch has {layers} layers.")
    unknown = set(settings.callback_on_step_end_tensor_inputs) - set(pipe._callback_tensor_inputs)
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` has to be in {pipe._callback_tensor_inputs}, but there is"
            f" {sorted(unknown)}."
        )
    _check_latents(pipe, settings, plan)


def _check_latents(pipe, settings: PipelineSettings, plan: WindowPlan) -> None:
    """Raises ValueError for latents of another number or shape than the windows have."""
    wanted = (
        _check_prompts(pipe, settings) * settings.num_videos_per_prompt,
        plan.latent_length,
        pipe.vae.config.latent_channels,
        settings.height // pipe.vae_scale_factor_spatial,
        settings.width // pipe.vae_scale_factor_spatial,
    )
    for name in ("latents", "masked_video_latents"):
        given = getattr(settings, name)
        if given is None:
            continue
        several = isinstance(given, (list, tuple))
        if several and len(given) != plan.count:
            raise ValueError(f"`{name}` has {len(given)} tensors for {plan.count} windows.")
        for latents in given if several else [given]:
            if tuple(latents.shape) != wanted:
                raise ValueError(f"`{name}` of a window have to be {wanted} but are {tuple(latents.shape)}.")


def _check_size(pipe, settings: PipelineSettings) -> None:
    config, height, width = pipe.transformer.config, settings.height, settings.width
    cell = pipe.vae_scale_factor_spatial * config.patch_size
    if height % cell or width % cell:
        raise ValueError(f"`height` and `width` have to be multiples of {cell} but are {height} and {width}.")
    own = tuple(n * pipe.vae_scale_factor_spatial for n in (config.sample_height, config.sample_width))
    if config.use_learned_positional_embeddings and (height, width) != own:
        raise ValueError(
            f"The base model's learned positions allow only {own[0]} x {own[1]} (height x width), not"
            f" {height} x {width}."
        )


def _check_prompts(pipe, settings: PipelineSettings) -> int:
    """How many prompts there are."""
    for name in ("prompt", "negative_prompt"):
        text, embeds = getattr(settings, name), getattr(settings, f"{name}_embeds")
        if text is not None and embeds is not None:
            raise ValueError(f"Give `{name}` or `{name}_embeds`, not both.")
        if text is not None and not isinstance(text, (str, list)):
            raise ValueError(f"`{name}` has to be a string or a list but is {type(text)}.")
    embeds, negative = settings.prompt_embeds, settings.negative_prompt_embeds
    if settings.prompt is None and embeds is None:
        raise ValueError("Give `prompt` or `prompt_embeds`.")
    needs_text = settings.prompt is not None or (settings.guidance_scale > 1 and negative is None)
    if needs_text and (pipe.tokenizer is None or pipe.text_encoder is None):
        raise ValueError(
            "This pipeline has no text encoder; give `prompt_embeds`, and `negative_prompt_embeds` where"
            " `guidance_scale` is above 1."
        )
    for name, tensor in (("prompt_embeds", embeds), ("negative_prompt_embeds", negative)):
        if tensor is not None and (not isinstance(tensor, torch.Tensor) or tensor.ndim != 3):
            shape = tuple(getattr(tensor, "shape", ())) or type(tensor)
            raise ValueError(f"`{name}` has to be a tensor [batch, tokens, width] but is {shape}.")
    if embeds is not None:
        results = embeds.shape[0]
    else:
        results = len(settings.prompt) if isinstance(settings.prompt, list) else 1
    if results < 1:
        raise ValueError("`prompt` has no entries.")
    _check_embeds(pipe, settings, results)
    texts = settings.negative_prompt
    if isinstance(texts, list) and len(texts) != results:
        raise ValueError(f"There are {len(texts)} negative prompts for {results} prompts; give one for each.")
    return results


def _check_embeds(pipe, settings: PipelineSettings, results: int) -> None:
    config = pipe.transformer.config
    embeds, negative = settings.prompt_embeds, settings.negative_prompt_embeds
    tokens = settings.max_sequence_length if embeds is None else embeds.shape[1]
    wanted = (results, tokens, config.text_embed_dim)
    for name, tensor in (("prompt_embeds", embeds), ("negative_prompt_embeds", negative)):
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise ValueError(f"`{name}` has to be {wanted} here but is {tuple(tensor.shape)}.")
    mixed = embeds is not None and negative is None and settings.guidance_scale > 1
    if mixed and tokens != settings.max_sequence_length:
        raise ValueError(
            f"`prompt_embeds` have {tokens} tokens, but the negative prompt gets `max_sequence_length`"
            f" {settings.max_sequence_length}."
        )
    positions = config.use_learned_positional_embeddings or not config.use_rotary_positional_embeddings
    if positions and tokens != config.max_text_seq_length:
        raise ValueError(
            f"The base model takes {config.max_text_seq_length} text tokens, not {tokens}"
            " (`max_sequence_length`, or those of `prompt_embeds`)."
        )
