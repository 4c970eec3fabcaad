"""The VideoPainter pipeline: any length, one window at a time (arXiv 2503.05639)."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.hooks import apply_group_offloading
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import retrieve_timesteps
from diffusers.pipelines.cogvideo.pipeline_output import CogVideoXPipelineOutput
from transformers import T5EncoderModel, T5Tokenizer

from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.checks import check_inputs, check_latents
from videopainter.diffusion.decode import StreamingDecoder
from videopainter.diffusion.denoise import WindowMixin
from videopainter.diffusion.id_pool import IDPool
from videopainter.diffusion.inputs import MaskInput, VideoInput, as_image
from videopainter.diffusion.loading import check_whole
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel
from videopainter.diffusion.window import Settings
from videopainter.diffusion.windows import RATIO, Timeline, WindowPlan, plan_windows

CPU = torch.device("cpu")


class VideoPainterPipeline(WindowMixin, CogVideoXImageToVideoPipeline):
    """Repaints a masked region of a video after a prompt, with CogVideoX-5b-I2V and VideoPainter's branch.

    A diffusers pipeline: `from_pretrained`, `save_pretrained`, LoRA, offloading, VAE tiling and caching work as
    in `CogVideoXImageToVideoPipeline`, which it extends.

    Args:
        tokenizer, text_encoder: T5; not needed where ``prompt_embeds`` are given.
        vae: the base model's.
        transformer: of VideoPainter, or the base model's, whose weights are then taken over without a copy.
        scheduler: any CogVideoX scheduler. As in the reference its configuration is used for the DPM scheduler
            with trailing timesteps; to use another one set ``pipe.scheduler`` afterwards.
        branch: VideoPainter's context encoder.

    With None in place of a network the pipeline does what it can without, such as `encode_prompt`.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _exclude_from_cpu_offload = ["branch"]  # needed at every step with the transformer, and small
    _optional_components = ["tokenizer", "text_encoder"]
    _callback_tensor_inputs = [
        "latents",
        "prompt_embeds",
        "negative_prompt_embeds",
        "mask",
        "masked_video_latents",
    ]

    def __init__(
        self,
        tokenizer: T5Tokenizer | None,
        text_encoder: T5EncoderModel | None,
        vae: AutoencoderKLCogVideoX,
        transformer: CogVideoXTransformer3DModel,
        scheduler: CogVideoXDPMScheduler,
        branch: VideoPainterBranchModel,
    ):
        for name, network in (("transformer", transformer), ("vae", vae), ("branch", branch)):
            if network is not None:
                check_whole(name, network)
        if transformer is not None and not isinstance(transformer, VideoPainterTransformer3DModel):
            transformer = VideoPainterTransformer3DModel.from_transformer(transformer)
        if type(scheduler) is not CogVideoXDPMScheduler or scheduler.config.timestep_spacing != "trailing":
            scheduler = CogVideoXDPMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
        super().__init__(tokenizer, text_encoder, vae, transformer, scheduler)
        self.register_modules(branch=branch)

    @property
    def num_windows(self) -> int:
        """Windows of the present call."""
        return self._num_windows

    @property
    def current_window(self) -> int:
        """Number of the window in work, from 0; for callbacks."""
        return self._current_window

    def check_inputs(self, settings: Settings, video: VideoInput, masks: MaskInput) -> None:
        """Raises ValueError, quoting the value, for arguments that do not go together."""
        check_inputs(self, settings, video, masks)

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        **kwargs: Any,
    ) -> None:
        """As in diffusers; an adapter that does not fit, or not at all (there a warning), is a ValueError."""
        source = pretrained_model_name_or_path_or_dict
        where = "The dictionary" if isinstance(source, dict) else f"'{source}'"
        before = set(getattr(self.transformer, "peft_config", {}))
        try:
            super().load_lora_weights(source, adapter_name, hotswap, **kwargs)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n", 2)[:2])
            raise ValueError(f"{where} does not fit VideoPainter's transformer: {reason}") from error
        if not hotswap and set(getattr(self.transformer, "peft_config", {})) == before:
            raise ValueError(f"{where} holds no adapter for VideoPainter's transformer.")

    def enable_group_offload(
        self,
        onload_device: torch.device,
        offload_device: torch.device = CPU,
        offload_type: str = "block_level",
        num_blocks_per_group: int | None = None,
        offload_to_disk_path: str | None = None,
        exclude_modules: str | list[str] | None = None,
        **options: Any,
    ) -> None:
        """As in diffusers, with what it leaves to the caller.

        The VAE goes by leaves: `encode` and `decode` call no hook of the whole VAE. On the disk every network has
        a folder of its own, as transformer and branch have blocks of the same names, and the text encoder goes as
        a whole: its embedding, which two of its leaves share, would be saved after it was emptied.
        """
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules or []
        for name, network in self.components.items():
            if not isinstance(network, torch.nn.Module):
                continue
            if name in excluded:
                network.to(onload_device)
                continue
            kind, folder = "leaf_level" if name == "vae" else offload_type, None
            if offload_to_disk_path is not None:
                kind = "block_level" if name == "text_encoder" else kind
                folder = Path(offload_to_disk_path) / name
                folder.mkdir(parents=True, exist_ok=True)
            apply_group_offloading(
                network,
                onload_device=onload_device,
                offload_device=offload_device,
                offload_type=kind,
                num_blocks_per_group=num_blocks_per_group or (1 if kind != offload_type else None),
                offload_to_disk_path=folder and str(folder),
                **options,
            )

    # --- the whole video ------------------------------------------------------------------------------------

    def stream(self, video: Any, masks: Any, **arguments: Any) -> Iterator[Any]:
        """Takes the arguments of `__call__` and yields finished parts of the video in order.

        Each part is what ``frames`` of the output would be, for the frames that no later window changes: lists
        of PIL images, arrays or tensors, each with a batch dimension. Memory does not grow with the video.
        """
        bound = inspect.signature(self.__call__).bind(video, masks, **arguments)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for name in ("video", "masks", "return_dict"):
            arguments.pop(name)
        for name in ("transformer", "branch", "vae"):
            if getattr(self, name) is None:
                raise ValueError(f"This pipeline was made without `{name}`; it can only encode prompts.")
        settings = Settings(**arguments)
        if isinstance(settings.callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            settings.callback_on_step_end_tensor_inputs = settings.callback_on_step_end.tensor_inputs
        config = self.transformer.config
        settings.height = settings.height or config.sample_height * self.vae_scale_factor_spatial
        settings.width = settings.width or config.sample_width * self.vae_scale_factor_spatial
        settings.window = settings.window or config.sample_frames
        settings.max_sequence_length = settings.max_sequence_length or config.max_text_seq_length
        source = VideoInput(video)
        holes = MaskInput(masks, len(source))
        self.check_inputs(settings, source, holes)
        plan = plan_windows(len(source), settings.window, settings.overlap, settings.match_reference)
        check_latents(self, settings, plan)
        return self._windows(source, holes, settings, plan)

    @torch.no_grad()
    def _windows(
        self, video: VideoInput, masks: MaskInput, settings: Settings, plan: WindowPlan
    ) -> Iterator[Any]:
        self._guidance_scale = settings.guidance_scale
        self._attention_kwargs = settings.attention_kwargs
        self._current_timestep, self._interrupt = None, False
        self._num_windows, self._current_window = plan.count, 0
        device = self._execution_device

        prompt_embeds = self._prompt(settings, device)
        batch_size = prompt_embeds.shape[0] // (2 if settings.guidance_scale > 1 else 1)
        settings.dtype = prompt_embeds.dtype
        timesteps, steps = retrieve_timesteps(
            self.scheduler, settings.num_inference_steps, device, settings.timesteps
        )
        timesteps, settings.num_inference_steps = self.get_timesteps(
            steps, timesteps, settings.strength, device
        )
        if settings.num_inference_steps < 1:
            raise ValueError(f"With `strength` {settings.strength} no step is left of {steps}.")
        self._num_timesteps = len(timesteps)

        timeline = Timeline(plan, settings.match_reference)
        # Decoded in pairs after the first latent frame, so their number has to be odd (see Timeline).
        total = plan.total_latents
        odd = total % 2 if settings.match_reference else 1
        decoder = StreamingDecoder(self.vae, total + (total + odd) % 2)
        latent = settings.output_type == "latent"

        def length(latents: int) -> int:
            """Of the output, for so many latent frames."""
            return latents if latent else RATIO * latents - (RATIO - 1) * odd

        end = length(total)
        if not settings.match_reference:
            end = (len(video) - 1) // RATIO + 1 if latent else len(video)
        made, given = 0, 0
        pool, carried = None, None
        try:
            with self.progress_bar(total=plan.count * len(timesteps)) as self._bar:
                for number in range(plan.count):
                    self._current_window = number
                    last = number == plan.count - 1
                    pictures, masked, hole, first = self._read(number, video, masks, settings, plan)
                    window, posterior = self.prepare_latents(
                        pictures if settings.match_reference else masked,
                        first if carried is None else carried,
                        batch_size,
                        settings,
                        timesteps[:1],
                        settings.latents_of(number),
                    )
                    if settings.match_reference:
                        posterior = self._encode(masked, batch_size)
                    self.prepare_mask_latents(window, hole, posterior, batch_size, settings)
                    keep = None
                    if not last and settings.prev_clip_weight > 0:
                        following = self._hole(number + 1, masks, settings, plan)
                        keep = self._tokens_to_keep(
                            window, following, prompt_embeds, len(timesteps), settings
                        )
                    latents, states = self.denoise_window(
                        window, prompt_embeds, timesteps, settings, pool, keep
                    )
                    if self.interrupt:
                        last = True
                    if states is not None:
                        pool = self._pool(states, keep, window, prompt_embeds, settings)
                    carried = latents[:, latents.shape[1] - plan.shared :][:, :1]

                    part = timeline.push(latents, last)
                    made += part.shape[1]
                    if last:
                        end = min(end, length(made))  # fewer after an interruption
                        if made % 2 != odd:
                            part = torch.cat([part, part[:, -1:]], dim=1)
                    if not latent:
                        part = self.decode_latents(part, decoder)
                    if part is not None:
                        dim = 1 if latent else 2
                        part = part.narrow(dim, 0, min(end - given, part.shape[dim]))
                        given += part.shape[dim]
                        if part.shape[dim]:
                            yield self._finish(part, settings.output_type)
                    if last:
                        break
        finally:
            self.maybe_free_model_hooks()

    def decode_latents(
        self, latents: torch.Tensor, decoder: StreamingDecoder | None = None
    ) -> torch.Tensor | None:
        """Frames ``[batch, 3, frames, height, width]`` of latents ``[batch, latent frames, 16, h, w]``.

        With a decoder the latents go on where its last ones ended; None if there are too few to decode yet.
        """
        if decoder is None:
            decoder = StreamingDecoder(self.vae, latents.shape[1])
        latents = latents.permute(0, 2, 1, 3, 4) / self.vae_scaling_factor_image
        return decoder.push(latents.to(self.vae.dtype))

    def __call__(
        self,
        video: Any,
        masks: Any,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        image: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        timesteps: list[int] | None = None,
        guidance_scale: float = 6.0,
        use_dynamic_cfg: bool = True,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | list[torch.Tensor] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
        max_sequence_length: int | None = None,
        strength: float = 1.0,
        conditioning_scale: float | list[float] = 1.0,
        mask_add: bool = True,
        replace_gt: bool = True,
        mask_background: bool = False,
        add_first: bool = False,
        wo_text: bool | None = None,
        first_frame_gt: bool | None = None,
        window: int | None = None,
        overlap: int = 1,
        prev_clip_weight: float = 0.0,
        id_pool: bool = False,
        match_reference: bool = False,
    ) -> CogVideoXPipelineOutput | tuple:
        """Repaint the masked region of a video. Every frame of the input is in the output.

        Args:
            video: see `VideoInput`; any size, resized to ``height`` x ``width``. What it shows in the hole is
                never looked at.
            masks: see `MaskInput`; where to repaint.
            prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, max_sequence_length: as in diffusers.
                Several prompts give several results, of one video or of one video each. ``max_sequence_length``
                is the base model's own (226) if None.
            image: the finished first frame (or one for each prompt), e.g. inpainted by an image model.
            height, width: the base model's own size if None. Learned positions allow no other.
            num_inference_steps, timesteps, eta, strength: as in diffusers; with ``strength`` below 1 denoising
                starts from the masked video.
            guidance_scale, use_dynamic_cfg: CFG above 1; dynamic CFG lets it fall during denoising.
            num_videos_per_prompt, generator: as in diffusers; a list of generators has one for each result.
            latents: initial noise ``[batch, latent frames, 16, h, w]`` of every window, or a list with one for each.
            output_type: "pil", "np" (``[batch, frames, height, width, 3]`` in 0..1), "pt"
                (``[batch, frames, 3, height, width]`` in 0..1) or "latent" (scaled,
                ``[batch, latent frames, 16, h, w]``); tensors lie on the CPU.
            attention_kwargs: for the transformer's attention processors; "scale" is LoRA's.
            callback_on_step_end: called as ``f(pipe, step of the window, timestep, tensors)``; what it returns
                replaces them; ``callback_on_step_end_tensor_inputs`` names those that it gets.
                ``pipe.current_window`` and ``pipe.num_windows`` say where it is. After
                ``pipe._interrupt = True`` the output ends with the present window.
            conditioning_scale: strength of the branch, or one for each of its layers (section 3.2).
            mask_add: feed the branch only into tokens without a masked pixel (section 3.2).
            replace_gt: put the known latents back after every step.
            mask_background: the masks say what to keep.
            add_first: feed the branch only into the first blocks.
            wo_text: no text in the branch; as its configuration says if None.
            first_frame_gt: the first frame is finished as it is, so nothing of it is repainted. True by default
                where ``image`` is given.
            window: frames the network sees at once; the base model's number (49) if None.
            overlap: frames shared by two windows: 1, 5, 9, ...
            prev_clip_weight: 0 to 1, how much a window attends to the one before (section 3.3).
            id_pool: ID resampling, for use with the ID adapter (section 3.3).
            match_reference: numbers as the published code gives them, with its habits: frames that do not fill
                a window are dropped, overlaps averaged, the video is encoded as it comes, hole included, known
                latents at the hole's edge are put back, the window before is masked by its own mask only at
                the first step, and any window and overlap are taken.

        Returns:
            `CogVideoXPipelineOutput` with ``frames``, or a tuple of them.
        """
        arguments = dict(locals())
        for name in ("self", "return_dict"):
            arguments.pop(name)
        parts = list(self.stream(**arguments))
        if isinstance(parts[0], np.ndarray):
            frames = np.concatenate(parts, axis=1)
        elif isinstance(parts[0], torch.Tensor):
            frames = torch.cat(parts, dim=1)
        else:
            frames = [sum(one, []) for one in zip(*parts)]
        return CogVideoXPipelineOutput(frames=frames) if return_dict else (frames,)

    # --- helpers --------------------------------------------------------------------------------------------

    def _prompt(self, settings: Settings, device: torch.device) -> torch.Tensor:
        """Embeddings for every result, negative ones first where there is guidance."""
        guided, copies = settings.guidance_scale > 1, settings.num_videos_per_prompt
        given, given_negative = (
            settings.prompt_embeds is not None,
            settings.negative_prompt_embeds is not None,
        )
        positive, negative = self.encode_prompt(
            prompt=settings.prompt,
            negative_prompt=settings.negative_prompt,
            do_classifier_free_guidance=guided,
            num_videos_per_prompt=copies,
            prompt_embeds=settings.prompt_embeds,
            negative_prompt_embeds=settings.negative_prompt_embeds,
            max_sequence_length=settings.max_sequence_length,
            device=device,
        )
        positive = positive.repeat_interleave(copies, 0) if given else positive
        if guided:
            negative = negative.repeat_interleave(copies, 0) if given_negative else negative
            positive = torch.cat([negative.to(positive), positive])
        dtype = self.transformer.dtype  # not a float where weights are quantized
        return positive.to(device, dtype if dtype.is_floating_point else positive.dtype)

    def _read(self, number, video, masks, settings, plan) -> tuple[torch.Tensor, ...]:
        """Video, masked video (0 in the hole), hole and first frame of a window."""
        size = (settings.height, settings.width)
        hole = self._hole(number, masks, settings, plan)
        pictures = video.window(plan.frames_of(number), self.video_processor, *size)
        image = None
        if number == 0 and settings.image is not None:
            image = self.video_processor.preprocess(as_image(settings.image), *size).float()
            if settings.keeps_first_frame:
                pictures = pictures.expand(max(len(pictures), len(image)), *pictures.shape[1:]).clone()
                pictures[:, :, 0] = image
        painted = ~hole if settings.mask_background and settings.match_reference else hole
        masked = pictures * ~painted
        return pictures, masked, hole, masked[:, :, 0] if image is None else image

    def _hole(self, number: int, masks: MaskInput, settings: Settings, plan: WindowPlan) -> torch.Tensor:
        hole = masks.window(plan.frames_of(number), settings.height, settings.width)
        inverted = settings.mask_background and not settings.match_reference
        hole = ~hole if inverted else hole.clone()
        if number == 0 and settings.keeps_first_frame:
            hole[:, :, 0] = settings.mask_background and settings.match_reference
        return hole

    def _tokens_to_keep(self, window, following, prompt_embeds, steps, settings) -> torch.Tensor:
        """Positions of the tokens that the next window can use; `following` is its hole."""
        used = self._token_mask(window.mask, prompt_embeds).any(0)
        if not settings.id_pool:
            used = torch.ones_like(used)
        elif settings.match_reference and steps > 1:
            following = self.latent_mask(following, len(window.mask), settings.dtype)
            used |= self._token_mask(following, prompt_embeds).any(0)
        return used.nonzero()[:, 0]

    def _pool(self, states, keep, window, prompt_embeds, settings) -> IDPool:
        kept_text = int((keep < prompt_embeds.shape[1]).sum())
        return IDPool(states, keep, self._token_mask(window.mask, prompt_embeds), kept_text)

    def _finish(self, part: torch.Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return part.cpu()
        done = self.video_processor.postprocess_video(part, output_type=output_type)
        return done.cpu() if output_type == "pt" else done
