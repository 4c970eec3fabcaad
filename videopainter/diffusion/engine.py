"""VideoPainter as an engine of the spine: weights loaded once, frames given out window by window."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers import T5EncoderModel, T5Tokenizer
from transformers.utils import logging as transformers_logging

from videopainter.diffusion.adapters import check_rank, find_adapter, load_adapters
from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.first_frame import fits, inpaint_first_frame
from videopainter.diffusion.loading import check_configs, check_numbers
from videopainter.diffusion.memory import (
    CACHES,
    MODES,
    Work,
    choose_mode,
    compile_blocks,
    free_memory,
    fuse_adapter,
    lower_mode,
    place,
    release,
    temporarily_on_device,
)
from videopainter.diffusion.memory.modes import OF_ATTENTION, STREAMED
from videopainter.diffusion.parallel import parallelize_loaded
from videopainter.diffusion.pipeline import VideoPainterPipeline
from videopainter.diffusion.requirements import MissingRequirement, find_device, find_weights
from videopainter.diffusion.spec import SPEC, VideoPainterOptions
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel
from videopainter.diffusion.windows import plan_windows
from videopainter.engines.base import Cancelled, EngineError, Progress, StepReport, check_masks, listening
from videopainter.ops.resize import resize
from videopainter.utils.checks import whole_number, whole_numbers
from videopainter.utils.sentences import first_line
from videopainter.weights import read_config

log = logging.getLogger("videopainter")

DTYPES = ("auto", "bfloat16", "float16", "float32")


class VideoPainterEngine:
    """Repaints holes after a prompt, with CogVideoX-5b-I2V, VideoPainter's branch and, if wanted, its ID adapter.

    Nothing is loaded before the first video; then the weights stay for the next one. Weights are looked for in the
    weights folder (`videopainter.weights`) unless told otherwise.

    Args:
        options: see `VideoPainterOptions`. The ID adapter is a file or folder, or True for the one in the weights
            folder; it switches the ID pool on (section 3.3). "flux" inpaints the first frame with FLUX Fill,
            "propagation" takes the one that the caller passes in, "none" leaves it to VideoPainter. The device
            None is the environment's VIDEOPAINTER_DEVICE, else the first GPU.

    Raises EngineError, one sentence, for weights that are not there or not whole, and for values out of range.
    """

    def __init__(self, **options):
        given = VideoPainterOptions(**options)
        try:
            self._places = find_weights(
                given.model_path, given.branch, given.id_adapter, given.first_frame, given.first_frame_model
            )
            self.device = find_device(given.device)
        except MissingRequirement as reason:
            raise EngineError(f"The engine 'videopainter' cannot be used: {reason}.") from None
        transformer = self._config("transformer")
        cell = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        working_size = (transformer["sample_height"] * cell, transformer["sample_width"] * cell)
        self._longest: int = transformer["sample_frames"]
        self._text_tokens: int = transformer["max_text_seq_length"]
        given = replace(given, window=self._longest if given.window is None else given.window)
        given = replace(given, overlap=1 if given.overlap == 0 else given.overlap)  # as published code counts
        self._check(given)
        lora = find_adapter(given.lora_path)
        self._adapters = {"id": self._places.id_adapter, "lora": lora}
        self._adapters = {name: file for name, file in self._adapters.items() if file is not None}
        check_rank(list(self._adapters.values()), given.lora_rank)
        try:
            memory, why = choose_mode(given.memory, free_memory(self.device))
        except ValueError as error:
            raise EngineError(str(error)) from error
        self._automatic = given.memory == "auto"
        self._highest = MODES[0]  # of the modes that have not run out of memory yet
        log.info("Memory mode: %s (%s).", memory, why)
        self.options = replace(
            given,
            memory=memory,
            first_frame=self._first_frame_mode(given.first_frame),
            device=str(self.device),
        )
        wants_first_frame = self.options.first_frame == "propagation"
        self.spec = replace(SPEC, working_size=working_size, wants_first_frame=wants_first_frame)
        self._pipe: VideoPainterPipeline | None = None
        self._embeds: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(
        self,
        source,
        masks,
        prompt: str | None = None,
        generator: np.random.Generator | None = None,
        progress: Progress | None = None,
        first_frame: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield `len(source)` frames, uint8 (height, width, 3), at the source's size.

        The network sees them at `spec.working_size`. Frames come in parts, while the next window is not begun yet.

        Args:
            source, masks: see `videopainter.engines.base.Engine`.
            prompt: what should be there; required.
            generator: the seed is drawn from it; seed 0 without it.
            progress: called as progress("inpaint", denoising steps done, steps in all).
            first_frame: uint8 (height, width, 3), finished; see `spec.wants_first_frame`.

        Where memory runs out, it goes on with the window in work in the next lower memory mode.

        Raises EngineError for a missing prompt, masks or weights that do not fit, or memory that is not enough even
        in the lowest mode.
        """
        if not prompt:
            raise EngineError("The engine 'videopainter' needs a prompt that says what should be there.")
        check_masks(source, masks)
        options = self.options
        windows = plan_windows(len(source), options.window, options.overlap).count
        seed = 0 if generator is None else int(generator.integers(2**63))
        steps = StepReport(progress, windows * options.num_inference_steps)
        return self._frames(source, masks, prompt, seed, steps, first_frame)

    def _frames(self, source, masks, prompt, seed, steps, image) -> Iterator[np.ndarray]:
        steps.reached(0)
        self._choose_mode(source, masks)
        state, done = None, 0
        if image is None:
            image = self._inpaint_first_frame(source, masks, prompt, seed, steps)
        while True:
            try:
                with closing(self._attempt(source, masks, prompt, seed, steps, image, state)) as frames:
                    # Begun anew with the same seed: what has been given out already is left out.
                    for frame in islice(frames, 0 if state is not None else done, None):
                        yield frame
                        done += 1
                return
            except torch.OutOfMemoryError:
                pass  # the networks can go only when the error, which holds on to them, is gone
            if self._pipe is not None and self._pipe.stream_state is not None:
                state = self._pipe.stream_state
            self.close()
            mode = self.options.memory
            following = lower_mode(mode)
            if following is None:
                raise EngineError(
                    f"The GPU's memory is not enough in the mode '{mode}'; free some, or take another GPU."
                )
            where = "starting again" if state is None else f"going on at window {state.number + 1}"
            log.warning("Out of GPU memory in the mode %s; %s in %s.", mode, where, following)
            self._highest = following
            self.options = replace(self.options, memory=following)

    def _choose_mode(self, source, masks) -> None:
        """Where the mode is up to us, the one for this video's hole and length."""
        if not self._automatic or self.device.type != "cuda":
            return
        options = self.options
        pool = self._places.id_adapter is not None
        work = Work(
            hole=_share_of_tokens(masks, len(source)),
            windows=plan_windows(len(source), options.window, options.overlap).count,
            id_pool=pool,
            carries=options.prev_clip_weight > 0,
            cache=options.cache,
        )
        free = free_memory(self.device)
        if self._pipe is not None:  # its own weights and caches are not in its way
            free += torch.cuda.memory_allocated(self.device)
        mode, why = choose_mode("auto", free, work)
        mode = max(mode, self._highest, key=MODES.index)
        if mode != options.memory:
            self.close()
            self.options = replace(options, memory=mode)
        log.info("Memory mode: %s (%s).", mode, why)

    def _attempt(self, source, masks, prompt, seed, steps: StepReport, image, state) -> Iterator[np.ndarray]:
        options = self.options
        positive, negative = self._encode(prompt, steps.beat)
        pipe = self._load(steps.beat)

        def on_step(pipe, step, timestep, tensors):
            steps.reached(pipe.current_window * options.num_inference_steps + step + 1)
            return {}

        parts = pipe.stream(
            source,
            masks,
            resume=state,
            image=None if image is None else Image.fromarray(image),
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            max_sequence_length=self._text_tokens,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            callback_on_step_end=on_step,
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            guidance_stop=options.guidance_stop,
            window=options.window,
            overlap=options.overlap,
            prev_clip_weight=options.prev_clip_weight,
            conditioning_scale=options.conditioning_scale,
            id_pool=self._places.id_adapter is not None,
            first_frame_gt=options.first_frame_gt,
            replace_gt=options.replace_gt,
            mask_add=options.mask_add,
            add_first=options.add_first,
            decode_known=False,  # the spine puts it back
        )
        with closing(parts), listening([pipe.transformer, pipe.branch, pipe.vae], steps.beat):
            for part in parts:
                for frame in np.rint(part[0] * 255).astype(np.uint8):
                    yield resize(frame, source.size, "area-or-cubic")

    def close(self) -> None:
        """Let go of the networks; the next video loads them again."""
        self._pipe = None
        release(self.device)

    # --- the parts ------------------------------------------------------------------------------------------

    @property
    def _dtype(self) -> torch.dtype:
        if self.options.dtype != "auto":
            return getattr(torch, self.options.dtype)
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def _load(self, beat: Callable[[], None] = lambda: None) -> VideoPainterPipeline:
        """The pipeline on the device, without its text encoder. `beat` is called between its parts."""
        if self._pipe is not None:
            if self.options.memory == "fast":
                self._pipe.to(self.device)
            return self._pipe
        log.info("Loading VideoPainter.")
        model, kind = self._places.model, {"dtype": self._dtype, "local_files_only": True}
        with _weights_in(self._places.branch):
            check_configs(self._places.branch)
            branch = VideoPainterBranchModel.from_pretrained(self._places.branch, **kind)
            check_numbers("branch", branch)
        beat()
        with _weights_in(model):
            check_configs(*(model / name for name in ("vae", "transformer", "scheduler")))
            vae = AutoencoderKLCogVideoX.from_pretrained(model / "vae", **kind)
            check_numbers("vae", vae)
            beat()
            transformer = VideoPainterTransformer3DModel.from_pretrained(model / "transformer", **kind)
            check_numbers("transformer", transformer)
            beat()
            pipe = VideoPainterPipeline(
                tokenizer=None,
                text_encoder=None,
                vae=vae,
                transformer=transformer,
                scheduler=CogVideoXDPMScheduler.from_pretrained(model / "scheduler", local_files_only=True),
                branch=branch,
            )
        pipe.set_progress_bar_config(disable=True)
        with _weights_in("', '".join(map(str, self._adapters.values()))):
            load_adapters(pipe, self._adapters)
        if len(self._adapters) == 1:
            fuse_adapter(pipe)
        memory = self.options.memory
        if memory == "minimum" and self.options.cache in OF_ATTENTION:
            raise EngineError(
                f"The cache '{self.options.cache}' needs more memory than the GPU has; without it it would work."
            )
        place(pipe, memory, self.device, self.options.cache, self.options.offload_folder)
        parallelize_loaded(pipe, self.options.cache)
        if self.options.compile and memory in STREAMED:
            log.info("Nothing is compiled in the memory mode %s, where weights come and go.", memory)
        elif self.options.compile:
            compile_blocks(pipe)
        self._pipe = pipe
        return pipe

    def _encode(self, prompt: str, beat: Callable[[], None]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the prompt and of none, on the CPU; the text encoder is gone afterwards."""
        if prompt not in self._embeds:
            log.info("Reading the prompt.")
            folder = self._places.model
            with _weights_in(folder / "text_encoder"):
                check_configs(folder / "text_encoder", folder / "tokenizer")
                encoder, info = T5EncoderModel.from_pretrained(
                    folder / "text_encoder",
                    dtype=self._dtype,
                    local_files_only=True,
                    output_loading_info=True,
                )
                if info["missing_keys"]:  # they are random then, with no more than a warning
                    raise ValueError(f"{len(info['missing_keys'])} tensors are missing")
                check_numbers("text_encoder", encoder)
                tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            reader = CogVideoXImageToVideoPipeline(tokenizer, encoder, None, None, None)
            beat()
            with (
                torch.no_grad(),
                temporarily_on_device(encoder, self.options.memory, self.device),
                listening([encoder], beat),
            ):
                embeds = reader.encode_prompt(
                    prompt, "", True, max_sequence_length=self._text_tokens, device=self.device
                )
            self._embeds = {prompt: tuple(tensor.cpu() for tensor in embeds)}
            del reader, encoder
            release(self.device)
        return self._embeds[prompt]

    def _inpaint_first_frame(
        self, source, masks, prompt: str, seed: int, steps: StepReport
    ) -> np.ndarray | None:
        """FLUX Fill's first frame; None where that is not wanted, or there is nothing to inpaint."""
        if self.options.first_frame != "flux" or not masks[0].any():
            return None
        log.info("Inpainting the first frame with FLUX Fill.")
        if self._pipe is not None and self.options.memory == "fast":
            self._pipe.to("cpu")
            release(self.device)
        with _weights_in(self._places.flux):
            return inpaint_first_frame(
                self._places.flux,
                source[0],
                masks[0],
                self.options.first_frame_prompt or prompt,
                self.spec.working_size,
                torch.Generator().manual_seed(seed),
                self.device,
                beat=steps.beat,
            )

    def _first_frame_mode(self, asked: str) -> str:
        if asked != "auto":
            return asked
        mode = "flux" if self._places.flux is not None and fits(self.device) else "propagation"
        log.info("First frame: %s.", mode)
        return mode

    def _config(self, network: str) -> dict:
        path = self._places.model / network / "config.json"
        wanted = {
            "transformer": ("sample_height", "sample_width", "sample_frames", "max_text_seq_length"),
            "vae": ("block_out_channels",),
        }[network]
        try:
            config = read_config(path)
            found = {name: config[name] for name in wanted}
            for name, value in found.items():
                (whole_numbers if network == "vae" else whole_number)(name, value)
            return found
        except (ValueError, KeyError, TypeError):
            raise EngineError(f"'{path}' is not the configuration of CogVideoX-5b-I2V.") from None

    def _check(self, options: VideoPainterOptions) -> None:
        """Raises EngineError for values that the pipeline would refuse after minutes of loading."""
        if options.num_inference_steps < 1:
            raise EngineError(
                f"The number of inference steps must be 1 or more, not {options.num_inference_steps}."
            )
        if not 0 <= options.guidance_scale < float("inf"):
            raise EngineError(f"The guidance scale must be 0 or more, not {options.guidance_scale}.")
        if not 0 <= options.prev_clip_weight <= 1:
            raise EngineError(
                f"The weight of the previous clip must be from 0 to 1, not {options.prev_clip_weight}."
            )
        if options.dtype not in DTYPES:
            raise EngineError(
                f"The dtype is {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, not '{options.dtype}'."
            )
        if options.cache not in CACHES:
            raise EngineError(
                f"The cache is {', '.join(CACHES[:-1])} or {CACHES[-1]}, not '{options.cache}'."
            )
        if not 0 < options.guidance_stop <= 1:
            raise EngineError(
                f"Guidance stops at a share of the steps above 0 and at most 1, not {options.guidance_stop}."
            )
        if options.guidance_stop < 1 and options.cache != "none":
            raise EngineError(
                "A cache and a `guidance_stop` below 1 do not go together: it expects both rows."
            )
        if options.window > self._longest:
            raise EngineError(
                f"The network sees {self._longest} frames at once at most, not {options.window}."
            )
        try:
            plan_windows(1, options.window, options.overlap)
        except ValueError as error:
            raise EngineError(str(error)) from error


def _share_of_tokens(masks, count: int) -> float:
    """Share of a window's tokens that are repainted, from up to nine masks spread over the video."""
    shares = []
    for number in sorted({round(i * (count - 1) / 8) for i in range(9)}):
        mask = np.asarray(masks[number], bool)
        rows, columns = mask.any(1), mask.any(0)
        # Tokens are cells of 16 pixels of 480 x 720; a cell counts if any pixel of it is masked.
        cells = mask[: len(rows) // 30 * 30, : len(columns) // 45 * 45]
        if min(cells.shape) == 0:
            shares.append(float(mask.any()))
            continue
        grid = cells.reshape(30, cells.shape[0] // 30, 45, cells.shape[1] // 45)
        shares.append(float(grid.any((1, 3)).mean()))
    return max(shares)


@contextmanager
def _weights_in(place) -> Iterator[None]:
    """Whatever goes wrong in reading weights, as one EngineError that says where; except for too little memory.

    The libraries' own progress bars are off meanwhile.
    """
    drawing = [x for x in (diffusers_logging, transformers_logging) if x.is_progress_bar_enabled()]
    for library in drawing:
        library.disable_progress_bar()
    try:
        yield
    except (EngineError, Cancelled, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise EngineError(f"The weights in '{place}' cannot be used: {first_line(error)}.") from error
    finally:
        for library in drawing:
            library.enable_progress_bar()
