"""VideoPainter as an engine of the spine: weights loaded once, frames given out window by window."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline
from PIL import Image
from transformers import T5EncoderModel, T5Tokenizer

from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.first_frame import fits, paint_first_frame
from videopainter.diffusion.memory import (
    CACHES,
    choose_mode,
    free_memory,
    lower,
    place,
    release,
    speed_up,
    visiting,
)
from videopainter.diffusion.needs import Unmet, find, find_device
from videopainter.diffusion.pipeline import VideoPainterPipeline
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel
from videopainter.diffusion.windows import plan_windows
from videopainter.engine import EngineError
from videopainter.steps.region import resize

log = logging.getLogger("videopainter")


class VideoPainterEngine:
    """Repaints holes after a prompt, with CogVideoX-5b-I2V, VideoPainter's branch and, if wanted, its ID adapter.

    Nothing is loaded before the first video; then the weights stay for the next one. Weights are looked for in the
    weights folder (`videopainter.weights`) unless told otherwise.

    Args:
        model_path, branch: folders of the base model and of the branch.
        id_adapter: file or folder of the ID adapter, True for the one in the weights folder; switches the ID pool
            on (section 3.3). None: not used.
        num_inference_steps, guidance_scale: denoising steps, 1 or more; CFG, 0 or more.
        window: frames that the network sees at once: 5, 9, ... up to the base model's number, which None stands for.
        overlap: frames that two windows share: 1, 5, 9, ...
        prev_clip_weight: 0 to 1, how much a window attends to the one before (section 3.3).
        conditioning_scale: strength of the branch (section 3.2), or one for each of its layers.
        memory: "auto", "fast", "balanced" or "low"; see `memory.py`.
        compile: compile the transformer's blocks, which pays after the first steps of a long video. Not in "low".
        cache: "first_block" leaves blocks out in steps that change little; "none" computes all.
        first_frame: "flux" paints the first frame with FLUX Fill, "propagation" takes the one that the caller
            passes in, "none" leaves it to VideoPainter, "auto" takes FLUX where its weights are there and fit.
        first_frame_prompt: what the first frame shows; None: the prompt.
        first_frame_model: folder of FLUX Fill.
        device: "cuda", "cuda:1", ..., "cpu"; None: the environment's VIDEOPAINTER_DEVICE, else the first GPU.

    Raises EngineError, one sentence, for weights that are not there or not whole, and for values out of range.
    """

    name = "videopainter"
    takes_region = True
    unit = "step"  # of progress

    def __init__(
        self,
        model_path: str | os.PathLike | None = None,
        branch: str | os.PathLike | None = None,
        id_adapter: str | os.PathLike | bool | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        window: int | None = None,
        overlap: int = 1,
        prev_clip_weight: float = 0.0,
        conditioning_scale: float | list[float] = 1.0,
        memory: str = "auto",
        compile: bool = False,
        cache: str = "none",
        first_frame: str = "auto",
        first_frame_prompt: str | None = None,
        first_frame_model: str | os.PathLike | None = None,
        device: str | None = None,
    ):
        try:
            self._places = find(model_path, branch, id_adapter, first_frame, first_frame_model)
            self.device = find_device(device)
        except Unmet as reason:
            raise EngineError(f"The engine 'videopainter' cannot be used: {reason}.") from None
        transformer = self._config("transformer")
        cell = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        self.preferred_size = (transformer["sample_height"] * cell, transformer["sample_width"] * cell)
        self._longest: int = transformer["sample_frames"]
        self.window: int = self._longest if window is None else window
        self.overlap = overlap
        self.first_frame_prompt = first_frame_prompt
        self.compile, self.cache = compile, cache
        self._text_tokens: int = transformer["max_text_seq_length"]
        self._arguments = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "window": self.window,
            "overlap": overlap,
            "prev_clip_weight": prev_clip_weight,
            "conditioning_scale": conditioning_scale,
            "id_pool": self._places.id_adapter is not None,
        }
        self._check()
        try:
            self.memory, why = choose_mode(memory, free_memory(self.device))
        except ValueError as error:
            raise EngineError(str(error)) from None
        log.info("Memory mode: %s (%s).", self.memory, why)
        self.first_frame = self._first_frame_mode(first_frame)
        self._pipe: VideoPainterPipeline | None = None
        self._embeds: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def wants_first_frame(self) -> bool:
        """Whether the caller is asked for a finished first frame."""
        return self.first_frame == "propagation"

    @property
    def settings(self) -> dict:
        """What it works with, defaults and choices included, for the report of a run."""
        chosen = {"memory": self.memory, "first_frame": self.first_frame, "device": str(self.device)}
        return {**self._arguments, **chosen, "compile": self.compile, "cache": self.cache}

    def __call__(
        self,
        source,
        masks,
        prompt: str | None = None,
        generator: np.random.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
        first_frame: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield `len(source)` frames, uint8 (height, width, 3), at the source's size.

        The network sees them at `preferred_size`. Frames come in parts, while the next window is not begun yet.

        Args:
            source, masks: see `videopainter.engine.Engine`.
            prompt: what should be there; required.
            generator: the seed is drawn from it; seed 0 without it.
            progress: called as progress(denoising steps done, steps in all).
            first_frame: uint8 (height, width, 3), finished; see `wants_first_frame`.

        Raises EngineError for a missing prompt, weights that do not fit, or memory that is not enough even in
        the next lower mode than the one begun with.
        """
        if not prompt:
            raise EngineError("The engine 'videopainter' needs a prompt that says what should be there.")
        seed = 0 if generator is None else int(generator.integers(2**63))
        return self._frames(source, masks, prompt, seed, progress, first_frame)

    def _frames(self, source, masks, prompt, seed, progress, image) -> Iterator[np.ndarray]:
        done, mode = 0, self.memory
        while True:
            try:
                if image is None:
                    image = self._paint_first_frame(source, masks, prompt, seed)
                # After a second start with the same seed what has been given out already is left out.
                for frame in islice(self._attempt(source, masks, prompt, seed, progress, image), done, None):
                    yield frame
                    done += 1
                return
            except torch.OutOfMemoryError:
                pass  # the networks can go only when the error, which holds on to them, is gone
            self.unload()
            following = lower(self.memory)
            if following is None or self.memory != mode:
                raise EngineError(
                    f"The GPU's memory is not enough in the mode '{self.memory}'; free some, or take another GPU."
                )
            log.warning("Out of GPU memory in the mode %s; starting again in %s.", self.memory, following)
            self.memory = following

    def _attempt(self, source, masks, prompt, seed, progress, image) -> Iterator[np.ndarray]:
        positive, negative = self._encode(prompt)
        pipe = self._load()
        steps = self._arguments["num_inference_steps"]

        def on_step(pipe, step, timestep, tensors):
            if progress is not None:
                progress(pipe.current_window * steps + step + 1, pipe.num_windows * steps)
            return {}

        parts = pipe.stream(
            source,
            masks,
            image=None if image is None else Image.fromarray(image),
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            max_sequence_length=self._text_tokens,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            callback_on_step_end=on_step,
            **self._arguments,
        )
        for part in parts:
            for frame in np.rint(part[0] * 255).astype(np.uint8):
                yield resize(frame, source.size)

    def unload(self) -> None:
        """Let go of the networks; the next video loads them again."""
        self._pipe = None
        release(self.device)

    # --- the parts ------------------------------------------------------------------------------------------

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def _load(self) -> VideoPainterPipeline:
        """The pipeline on the device, without its text encoder."""
        if self._pipe is not None:
            if self.memory == "fast":
                self._pipe.to(self.device)
            return self._pipe
        log.info("Loading VideoPainter.")
        model, kind = self._places.model, {"dtype": self._dtype, "local_files_only": True}
        with _told(self._places.branch):
            branch = VideoPainterBranchModel.from_pretrained(self._places.branch, **kind)
        with _told(model):
            pipe = VideoPainterPipeline(
                tokenizer=None,
                text_encoder=None,
                vae=AutoencoderKLCogVideoX.from_pretrained(model / "vae", **kind),
                transformer=VideoPainterTransformer3DModel.from_pretrained(model / "transformer", **kind),
                scheduler=CogVideoXDPMScheduler.from_pretrained(model / "scheduler", local_files_only=True),
                branch=branch,
            )
        pipe.set_progress_bar_config(disable=True)
        if self._places.id_adapter is not None:
            with _told(self._places.id_adapter):
                pipe.load_lora_weights(
                    self._places.id_adapter.parent,
                    weight_name=self._places.id_adapter.name,
                    local_files_only=True,
                )
        place(pipe, self.memory, self.device)
        if self.compile and self.memory == "low":
            log.info("Nothing is compiled in the memory mode low, where weights come and go.")
        speed_up(pipe, self.compile and self.memory != "low", self.cache)
        self._pipe = pipe
        return pipe

    def _encode(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the prompt and of none, on the CPU; the text encoder is gone afterwards."""
        if prompt not in self._embeds:
            log.info("Reading the prompt.")
            folder = self._places.model
            with _told(folder / "text_encoder"):
                encoder, info = T5EncoderModel.from_pretrained(
                    folder / "text_encoder",
                    dtype=self._dtype,
                    local_files_only=True,
                    output_loading_info=True,
                )
                if info["missing_keys"]:  # they are random then, with no more than a warning
                    raise ValueError(f"{len(info['missing_keys'])} tensors are missing")
                tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            reader = CogVideoXImageToVideoPipeline(tokenizer, encoder, None, None, None)
            with torch.no_grad(), visiting(encoder, self.memory, self.device):
                embeds = reader.encode_prompt(
                    prompt, "", True, max_sequence_length=self._text_tokens, device=self.device
                )
            self._embeds = {prompt: tuple(tensor.cpu() for tensor in embeds)}
            del reader, encoder
            release(self.device)
        return self._embeds[prompt]

    def _paint_first_frame(self, source, masks, prompt: str, seed: int) -> np.ndarray | None:
        """FLUX Fill's first frame; None where that is not wanted, or there is nothing to paint."""
        if self.first_frame != "flux" or not masks[0].any():
            return None
        log.info("Painting the first frame with FLUX Fill.")
        if self._pipe is not None and self.memory == "fast":
            self._pipe.to("cpu")
            release(self.device)
        with _told(self._places.flux):
            return paint_first_frame(
                self._places.flux,
                source[0],
                masks[0],
                self.first_frame_prompt or prompt,
                self.preferred_size,
                torch.Generator().manual_seed(seed),
                self.device,
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
            config = json.loads(path.read_text(encoding="utf-8"))
            return {name: config[name] for name in wanted}
        except (ValueError, KeyError, TypeError):
            raise EngineError(f"'{path}' is not the configuration of CogVideoX-5b-I2V.") from None

    def _check(self) -> None:
        """Raises EngineError for values that the pipeline would refuse after minutes of loading."""
        steps, guidance = self._arguments["num_inference_steps"], self._arguments["guidance_scale"]
        weight = self._arguments["prev_clip_weight"]
        if steps < 1:
            raise EngineError(f"The number of inference steps must be 1 or more, not {steps}.")
        if not 0 <= guidance < float("inf"):
            raise EngineError(f"The guidance scale must be 0 or more, not {guidance}.")
        if not 0 <= weight <= 1:
            raise EngineError(f"The weight of the previous clip must be from 0 to 1, not {weight}.")
        if self.cache not in CACHES:
            raise EngineError(f"The cache is {' or '.join(CACHES)}, not '{self.cache}'.")
        if self.window > self._longest:
            raise EngineError(f"The network sees {self._longest} frames at once at most, not {self.window}.")
        try:
            plan_windows(1, self.window, self.overlap)
        except ValueError as error:
            raise EngineError(str(error)) from None


@contextmanager
def _told(place) -> Iterator[None]:
    """Whatever goes wrong in reading weights, as one EngineError that says where; except for too little memory."""
    try:
        yield
    except (EngineError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EngineError(f"The weights in '{place}' cannot be used: {reason}.") from error
