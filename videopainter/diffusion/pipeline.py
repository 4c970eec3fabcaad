"""The VideoPainter pipeline: any length, one window at a time (arXiv 2503.05639)."""

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import retrieve_timesteps
from diffusers.pipelines.cogvideo.pipeline_output import CogVideoXPipelineOutput

from videopainter.diffusion import denoise
from videopainter.diffusion.checks import check_inputs
from videopainter.diffusion.components import CPU, VideoPainterComponents
from videopainter.diffusion.id_pool import IDPool, sequence_mask_for, tokens_to_keep
from videopainter.diffusion.inputs import (
    MaskInput,
    VideoInput,
    WindowPixels,
    last_repainted,
    read_holes,
    read_window,
)
from videopainter.diffusion.known import is_known, pass_known_window
from videopainter.diffusion.latents import WindowLatents, prepare_window, repeat_mask, sample_mask
from videopainter.diffusion.settings import PipelineSettings, in_own_words
from videopainter.diffusion.vae import OutputCutter, StreamingDecoder, latents_to_decode
from videopainter.diffusion.windows import LatentBlender, StreamState, WindowPlan, plan_windows
from videopainter.ops.memory import to_host

NOT_STREAMED = ("self", "video", "masks", "return_dict")  # of the arguments of a call


class VideoPainterPipeline(VideoPainterComponents):
    """Repaints a masked region of a video after a prompt, with CogVideoX-5b-I2V and VideoPainter's branch.

    A diffusers pipeline: `from_pretrained`, `save_pretrained`, LoRA, offloading, VAE tiling and caching work as
    in `CogVideoXImageToVideoPipeline`, which it extends. Its components are those of `VideoPainterComponents`; with
    None in place of a network it does what it can without, such as `encode_prompt`.
    """

    stream_state: StreamState | None = None  # of the last call
    step_on_host = 0  # the timestep in work, for which nobody has to wait
    pool_on_host = False  # also while it is in use: a block's states come to the GPU when it is their turn

    _callback_tensor_inputs = [
        "latents",
        "prompt_embeds",
        "negative_prompt_embeds",
        "mask",
        "masked_video_latents",
    ]

    @property
    def num_windows(self) -> int:
        """Windows of the present call."""
        return self._num_windows

    @property
    def current_window(self) -> int:
        """Number of the window in work, from 0; for callbacks."""
        return self._current_window

    # --- the steps of a call, in their order ------------------------------------------------------------------

    def check_inputs(
        self, settings: PipelineSettings, video: VideoInput, masks: MaskInput, plan: WindowPlan
    ) -> None:
        """Raises ValueError, quoting the value, for arguments that do not go together."""
        check_inputs(self, settings, video, masks, plan)

    def prepare_timesteps(self, settings: PipelineSettings, device: torch.device) -> torch.Tensor:
        """The timesteps that ``strength`` leaves, int64 ``[steps]``; the scheduler is set to them.

        device: of the result. On the CPU nobody has to wait for a GPU to know which step comes next.
        """
        timesteps, steps = retrieve_timesteps(
            self.scheduler, settings.num_inference_steps, device, settings.timesteps
        )
        timesteps, left = self.get_timesteps(steps, timesteps, settings.strength, device)
        if left < 1:
            raise ValueError(f"With `strength` {settings.strength} no step is left of {steps}.")
        return timesteps

    def prepare_latents(
        self,
        pixels: WindowPixels,
        batch_size: int,
        settings: PipelineSettings,
        timestep: torch.Tensor,
        dtype: torch.dtype,
        first_latents: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        masked_latents: torch.Tensor | None = None,
    ) -> WindowLatents:
        """Latents, noise and masks of a window, in the order of the random draws.

        Args:
            timestep: the first one, ``[1]``; noise is mixed with the video there if ``strength`` is below 1.
            dtype: of the result.
            first_latents: ``[batch, 1, 16, h, w]``, of the window before, in place of the encoded first frame.
            noise, masked_latents: ``[batch, latent frames, 16, h, w]`` instead of a draw, and of the masked video's.
        """
        return prepare_window(
            self.vae,
            self.scheduler,
            pixels,
            batch_size,
            settings,
            timestep,
            device=self._execution_device,
            dtype=dtype,
            first_latents=first_latents,
            noise=noise,
            masked_latents=masked_latents,
            patch_size=self.transformer.config.patch_size,
        )

    def choose_pool_tokens(
        self,
        window: WindowLatents,
        next_mask: torch.Tensor,
        prompt_embeds: torch.Tensor,
        settings: PipelineSettings,
    ) -> torch.Tensor:
        """Positions, int64 ``[kept]``, of the tokens that the next window can use.

        next_mask: its network mask, bool ``[videos, 1, frames, height, width]``.
        """
        patch_size = self.transformer.config.patch_size
        next_mask = sample_mask(next_mask, self.vae_scale_factor_spatial)
        next_mask = repeat_mask(next_mask, len(window.mask), window.mask.device, window.mask.dtype)
        return tokens_to_keep(
            sequence_mask_for(prompt_embeds, window.mask, patch_size),
            sequence_mask_for(prompt_embeds, next_mask, patch_size),
            settings,
        )

    def denoise_window(
        self,
        window: WindowLatents,
        prompt_embeds: torch.Tensor,
        timesteps: torch.Tensor,
        settings: PipelineSettings,
        id_pool: IDPool | None = None,
        collect_tokens: torch.Tensor | None = None,
        progress_bar: Any = None,
    ) -> tuple[torch.Tensor, IDPool | None]:
        """The denoising loop of one window.

        Args:
            prompt_embeds: ``[batch, tokens, width]``, or twice that with guidance: negative ones first.
            id_pool: of the window before.
            collect_tokens: int64 positions of the tokens whose states in the last step are kept for the next one.
            progress_bar: something with `update`, which is called after every step.

        Returns:
            Latents ``[batch, latent frames, 16, h, w]``, and the pool for the next window, None if it was not
            asked for or the call was interrupted.
        """
        if is_known(self, window, settings, collect_tokens):
            return pass_known_window(
                self, window, prompt_embeds, timesteps, settings, collect_tokens, progress_bar
            )
        latents, dtype, last = window.latents, window.latents.dtype, len(timesteps) - 1
        timesteps, on_device = timesteps.cpu(), timesteps.to(latents.device)
        patch_size = self.transformer.config.patch_size
        token_mask = sequence_mask_for(prompt_embeds, window.mask, patch_size)
        rotary = self._prepare_rotary_positional_embeddings(
            settings.height, settings.width, latents.shape[1], latents.device
        )
        step_kwargs = self.prepare_extra_step_kwargs(settings.generator, settings.eta)
        previous_original, states = None, None
        if id_pool is not None and not self.pool_on_host:
            id_pool = id_pool.to(latents.device)
        zero_keys = denoise.zero_keys_of(patch_size, window, prompt_embeds, rotary, settings, id_pool)
        cached = self.transformer.is_cache_enabled
        if cached:
            self.transformer._reset_stateful_cache()
        scale = settings.guidance_scale  # callbacks may change it
        guidance = denoise.Guidance(settings, len(timesteps))

        for i, t in enumerate(timesteps):
            if self.interrupt:
                break
            self._current_timestep, self.step_on_host = on_device[i], int(t)

            # 1. Predict the noise
            collect = collect_tokens if i == last else None
            if cached and collect is not None:
                self.transformer._reset_stateful_cache()  # a skipped block has no states to collect
            pool_mask = None
            if id_pool is not None and settings.policy.pool_masked_by_present_window and i > 0:
                pool_mask = sequence_mask_for(prompt_embeds, window.mask, patch_size)
            alone = guidance.is_alone(i, collect is not None)
            model_input = denoise.double_batch(latents, settings.guided and not alone)
            noise_pred, states = denoise.predict_noise(
                self.transformer,
                self.branch,
                self.scheduler.scale_model_input(model_input, t),
                on_device[i],
                window,
                prompt_embeds,
                rotary,
                settings,
                id_pool=id_pool,
                pool_mask=pool_mask,
                collect_tokens=collect,
                collect_into=to_host if self.pool_on_host else None,
                zero_keys=zero_keys,
                alone=alone,
            )

            # 2. Guide it
            if settings.use_dynamic_cfg:
                self._guidance_scale = denoise.dynamic_guidance_scale(t, scale, len(timesteps))
            noise_pred = guidance(noise_pred, self.guidance_scale, alone)

            # 3. Take the step, and put back what is known
            latents, previous_original = denoise.scheduler_step(
                self.scheduler, noise_pred, latents, timesteps, i, previous_original, step_kwargs
            )
            latents = latents.to(dtype)
            if settings.replace_gt:
                latents = denoise.put_back_known(self.scheduler, latents, window, timesteps, i)

            # 4. Call back
            if settings.callback_on_step_end is not None:
                mask, shown = window.mask, self.guidance_scale
                latents, window, prompt_embeds = denoise.call_back(
                    self, i, on_device[i], latents, window, prompt_embeds, settings
                )
                if window.mask is not mask:
                    zero_keys = denoise.zero_keys_of(
                        patch_size, window, prompt_embeds, rotary, settings, id_pool
                    )
                scale += round(self.guidance_scale - shown, 9)
            if progress_bar is not None:
                progress_bar.update()
        self._current_timestep, self._guidance_scale = None, scale
        if states is None:
            return latents, None
        kept_text = int((collect_tokens < prompt_embeds.shape[1]).sum())
        return latents, IDPool(states, collect_tokens, token_mask, kept_text)

    # --- a call -------------------------------------------------------------------------------------------------

    def stream(
        self, video: Any, masks: Any, *, resume: StreamState | None = None, **arguments: Any
    ) -> Iterator[Any]:
        """Takes the arguments of `__call__` and yields finished parts of the video in order.

        Each part is what ``frames`` of the output would be, for the frames that no later window changes: lists
        of PIL images, arrays or tensors, each with a batch dimension. Memory does not grow with the video.

        After each window `stream_state` says how far it has come. Given as ``resume`` with the same arguments, perhaps
        to another pipeline with the same weights, the call goes on from there.
        """
        # 1. Check inputs. Raise an error if they are not correct
        for name in ("transformer", "branch", "vae"):
            if getattr(self, name) is None:
                raise ValueError(f"This pipeline was made without `{name}`; it can only encode prompts.")
        settings = PipelineSettings(**in_own_words(arguments, self.transformer.config.sample_frames))
        settings = settings.completed(self.transformer.config, self.vae_scale_factor_spatial)
        video = VideoInput(video)
        masks = MaskInput(masks, len(video))

        # 2. Lay windows over the video
        plan = plan_windows(len(video), settings.window, settings.overlap, settings.policy)
        self.check_inputs(settings, video, masks, plan)
        return self._stream(video, masks, settings, plan, resume)

    @torch.no_grad()
    def _stream(
        self,
        video: VideoInput,
        masks: MaskInput,
        settings: PipelineSettings,
        plan: WindowPlan,
        resume: StreamState | None,
    ) -> Iterator[Any]:
        self._interrupt, self.stream_state = False, resume
        device = self._execution_device

        # 3. Encode the prompt
        prompt_embeds = self.prepare_prompt_embeds(settings, device)
        batch_size = prompt_embeds.shape[0] // (2 if settings.guided else 1)
        dtype = prompt_embeds.dtype

        # 4. Prepare timesteps
        timesteps = self.prepare_timesteps(settings, CPU)

        generators = settings.generator if isinstance(settings.generator, list) else [settings.generator]
        generators = [generator for generator in generators if generator is not None]
        needed = plan.decoded_latents
        if not settings.decode_known and plan.fixed_end:
            needed = latents_to_decode(last_repainted(masks, settings, plan), plan)

        def read(frames: range) -> torch.Tensor:
            return video.window(frames, self.video_processor, settings.height, settings.width)

        if resume is None:
            blender, decoder, decode = LatentBlender(plan, settings.policy.average_overlaps), None, None
            if settings.output_type != "latent":
                decoder = StreamingDecoder(self.vae, needed)
                decode = partial(self.decode_latents, decoder=decoder)
            cutter, id_pool, first_latents, begin = OutputCutter(plan, decode, needed, read), None, None, 0
        else:
            blender, cutter, decoder = copy(resume.blender), copy(resume.cutter), copy(resume.decoder)
            id_pool, first_latents, begin = resume.id_pool, resume.first_latents, resume.number
            for generator, state in zip(generators, resume.generators):
                generator.set_state(state)
            cutter.read = read
            if decoder is not None:
                decoder.vae = self.vae
                cutter.decode = partial(self.decode_latents, decoder=decoder)
        try:
            with self.progress_bar(total=plan.count * len(timesteps)) as progress_bar:
                for number in range(begin, plan.count):
                    last = number == plan.count - 1
                    if number > 0:  # another stream of this pipeline may have set the scheduler since
                        timesteps = self.prepare_timesteps(settings, CPU)
                    self._show(settings, plan, number, len(timesteps))

                    # 5. Read the window's frames, and prepare its latents
                    window = self.prepare_latents(
                        read_window(number, video, masks, settings, plan, self.video_processor),
                        batch_size,
                        settings,
                        timesteps[:1],
                        dtype,
                        first_latents=first_latents,
                        noise=settings.latents_of(number),
                        masked_latents=settings.masked_latents_of(number),
                    )

                    # 6. Choose the tokens that the next window will attend to
                    collect_tokens = None
                    if not last and settings.prev_clip_weight > 0:
                        collect_tokens = self.choose_pool_tokens(
                            window, read_holes(number + 1, masks, settings, plan)[1], prompt_embeds, settings
                        )

                    # 7. Denoise
                    latents, id_pool = self.denoise_window(
                        window,
                        prompt_embeds,
                        timesteps,
                        settings,
                        id_pool=id_pool,
                        collect_tokens=collect_tokens,
                        progress_bar=progress_bar,
                    )
                    if id_pool is not None:
                        id_pool = id_pool.to(CPU)  # until the next window is denoised
                    last = last or self.interrupt
                    first_latents = latents[:, latents.shape[1] - plan.shared :][:, :1]

                    # 8. Blend with the window before, decode, and give out what is final
                    part = cutter.push(blender.push(latents, last), last)
                    part = None if part is None else self.postprocess(part, settings.output_type)
                    self.stream_state = StreamState(
                        number + 1,
                        copy(blender),
                        cutter.parked(),
                        copy(decoder),
                        id_pool,
                        first_latents,
                        tuple(generator.get_state() for generator in generators),
                    )
                    del latents, window
                    if part is not None:
                        yield part
                    part = None
                    if last:
                        break
        finally:
            # 9. Offload all models
            self.maybe_free_model_hooks()

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
        masked_video_latents: torch.Tensor | list[torch.Tensor] | None = None,
        guidance_stop: float = 1.0,
        decode_known: bool = True,
        num_frames: int | None = None,
        stride: int | None = None,
        id_pool_resample_learnable: bool | None = None,
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
                the first step, any window and overlap are taken, and masks are resized as pictures are (Lanczos, cut
                at a half).
            masked_video_latents: what the branch reads, scaled, instead of the encoded masked video: like ``latents``.
            guidance_stop: 0 to 1; from this share of the steps on only the prompt's row is predicted, and the last
                difference that guidance made is taken over.
            decode_known: decode also the end of a video after its last hole; otherwise frames there are the video's
                own, for callers who put back what is outside the hole. True with ``match_reference``.
            num_frames, stride, id_pool_resample_learnable: the published code's words for ``window``, for ``window``
                less ``overlap``, and for ``id_pool``. A ``stride`` of a whole window shares one frame, unless
                ``match_reference``.

        Returns:
            `CogVideoXPipelineOutput` with ``frames``, or a tuple of them.
        """
        arguments = {name: value for name, value in locals().items() if name not in NOT_STREAMED}
        parts = list(self.stream(video, masks, **arguments))
        if isinstance(parts[0], np.ndarray):
            frames = np.concatenate(parts, axis=1)
        elif isinstance(parts[0], torch.Tensor):
            frames = torch.cat(parts, dim=1)
        else:
            frames = [sum(one, []) for one in zip(*parts)]
        return CogVideoXPipelineOutput(frames=frames) if return_dict else (frames,)

    # --- helpers --------------------------------------------------------------------------------------------

    def _show(self, settings: PipelineSettings, plan: WindowPlan, number: int, steps: int) -> None:
        """Set what callbacks read from the pipeline to the window in work."""
        self._guidance_scale, self._attention_kwargs = settings.guidance_scale, settings.attention_kwargs
        self._num_windows, self._current_window = plan.count, number
        self._num_timesteps, self._current_timestep = steps, None
