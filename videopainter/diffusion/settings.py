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
        return self.latents[number] if isinstance(self.latents, (list, tuple)) else self.latents
