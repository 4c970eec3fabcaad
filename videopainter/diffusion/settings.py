"""The arguments of one call, which nothing changes on their way through the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from videopainter.diffusion.policy import OWN, PUBLISHED, Policy


@dataclass(frozen=True)
class PipelineSettings:
    """The arguments of a call except video and masks, with their defaults; see `VideoPainterPipeline.__call__`."""

    prompt: str | list[str] | None = None
    negative_prompt: str | list[str] | None = None
    image: Any = None
    height: int | None = None
    width: int | None = None
    num_inference_steps: int = 50
    timesteps: list[int] | None = None
    guidance_scale: float = 6.0
    use_dynamic_cfg: bool = True
    num_videos_per_prompt: int = 1
    eta: float = 0.0
    generator: torch.Generator | list[torch.Generator] | None = None
    latents: torch.Tensor | list[torch.Tensor] | None = None
    prompt_embeds: torch.Tensor | None = None
    negative_prompt_embeds: torch.Tensor | None = None
    output_type: str = "pil"
    attention_kwargs: dict[str, Any] | None = None
    callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None
    callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",)
    max_sequence_length: int | None = None
    strength: float = 1.0
    conditioning_scale: float | list[float] = 1.0
    mask_add: bool = True
    replace_gt: bool = True
    mask_background: bool = False
    add_first: bool = False
    wo_text: bool | None = None
    first_frame_gt: bool | None = None
    window: int | None = None
    overlap: int = 1
    prev_clip_weight: float = 0.0
    id_pool: bool = False
    match_reference: bool = False
    masked_video_latents: torch.Tensor | list[torch.Tensor] | None = None
    guidance_stop: float = 1.0
    decode_known: bool = True

    def completed(self, config: Any, spatial_scale: int) -> "PipelineSettings":
        """With the base model's own values where None stands for them.

        config: the transformer's. spatial_scale: pixels to a latent pixel.
        """
        callback, names = self.callback_on_step_end, self.callback_on_step_end_tensor_inputs
        if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
            names = callback.tensor_inputs
        return replace(
            self,
            height=self.height or config.sample_height * spatial_scale,
            width=self.width or config.sample_width * spatial_scale,
            window=self.window or config.sample_frames,
            max_sequence_length=self.max_sequence_length or config.max_text_seq_length,
            callback_on_step_end_tensor_inputs=names,
        )

    @property
    def policy(self) -> Policy:
        """Ours, or the published code's."""
        return PUBLISHED if self.match_reference else OWN

    @property
    def guided(self) -> bool:
        """Whether there is classifier-free guidance, with which every batch is doubled: negative rows first."""
        return self.guidance_scale > 1

    @property
    def keeps_first_frame(self) -> bool:
        """Whether nothing of the first frame is repainted."""
        return self.image is not None if self.first_frame_gt is None else self.first_frame_gt

    def latents_of(self, number: int) -> torch.Tensor | None:
        """Initial noise of one window, if the caller gave it."""
        return _of(self.latents, number)

    def masked_latents_of(self, number: int) -> torch.Tensor | None:
        """Latents of one window's masked video, if the caller gave them."""
        return _of(self.masked_video_latents, number)


def in_own_words(arguments: dict[str, Any], longest: int) -> dict[str, Any]:
    """Arguments of a call with ``window``, ``overlap`` and ``id_pool`` for what the published code calls otherwise.

    longest: frames of a window where none are given. Raises ValueError where both names say different things.
    """
    rest = dict(arguments)
    published = {
        name: rest.pop(name, None) for name in ("num_frames", "stride", "id_pool_resample_learnable")
    }
    length = published["num_frames"]
    if length is not None:
        _agree("window", rest.get("window"), "num_frames", length, None)
        rest["window"] = length
    if published["stride"] is not None:
        overlap = (rest.get("window") or longest) - published["stride"]
        if overlap == 0 and not rest.get("match_reference"):
            overlap = 1
        _agree("overlap", rest.get("overlap", 1), "stride", overlap, 1)
        rest["overlap"] = overlap
    if published["id_pool_resample_learnable"] is not None:
        rest["id_pool"] = bool(published["id_pool_resample_learnable"]) or rest.get("id_pool", False)
    return rest


def _agree(name: str, value: Any, alias: str, meant: Any, default: Any) -> None:
    if value not in (default, meant):
        raise ValueError(f"`{name}` is {value}, but `{alias}` means {meant}; give one of them.")


def _of(given: torch.Tensor | list[torch.Tensor] | None, number: int) -> torch.Tensor | None:
    return given[number] if isinstance(given, (list, tuple)) else given
