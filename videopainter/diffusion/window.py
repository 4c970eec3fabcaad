"""What travels through the pipeline: the caller's settings, and the tensors of one window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Settings:
    """The arguments of a call, except video and masks; see `VideoPainterPipeline.__call__`."""

    prompt: str | list[str] | None
    negative_prompt: str | list[str] | None
    image: Any
    height: int
    width: int
    num_inference_steps: int
    timesteps: list[int] | None
    guidance_scale: float
    use_dynamic_cfg: bool
    num_videos_per_prompt: int
    eta: float
    generator: torch.Generator | list[torch.Generator] | None
    latents: torch.Tensor | list[torch.Tensor] | None
    prompt_embeds: torch.Tensor | None
    negative_prompt_embeds: torch.Tensor | None
    output_type: str
    attention_kwargs: dict[str, Any] | None
    callback_on_step_end: Callable | None
    callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...]
    max_sequence_length: int
    strength: float
    conditioning_scale: float | list[float]
    mask_add: bool
    replace_gt: bool
    mask_background: bool
    add_first: bool
    wo_text: bool | None
    first_frame_gt: bool | None
    window: int
    overlap: int
    prev_clip_weight: float
    id_pool: bool
    match_reference: bool
    dtype: torch.dtype = torch.float32  # of the text embeddings, in which the networks are fed

    @property
    def keeps_first_frame(self) -> bool:
        """Whether nothing of the first frame is repainted."""
        return self.image is not None if self.first_frame_gt is None else self.first_frame_gt

    def latents_of(self, number: int) -> torch.Tensor | None:
        """Initial noise of one window, if the caller gave it."""
        return self.latents[number] if isinstance(self.latents, (list, tuple)) else self.latents


@dataclass
class Window:
    """Tensors of one window, ``[batch, latent frames, 16 (masks: 1), h, w]``.

    latents: what denoising starts from. noise: the draw in it. video_latents: of the masked video.
    image_latents: the condition of image-to-video, zero after the first latent frame. masked_video_latents: the
    same video for the branch, a second draw. mask: 1 = repaint, as the networks see it. paint: 0 where known
    latents are put back.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    video_latents: torch.Tensor
    image_latents: torch.Tensor
    masked_video_latents: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    paint: torch.Tensor | None = None
