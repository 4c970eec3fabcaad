"""The first frame, inpainted by FLUX.1 Fill, an image model; VideoPainter carries it on."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxFillPipeline
from PIL import Image

from videopainter.diffusion.loading import check_configs
from videopainter.diffusion.memory import GIB, free_memory, release
from videopainter.engines.base import listening
from videopainter.utils.sentences import first_line

log = logging.getLogger("videopainter")

GUIDANCE_SCALE, NUM_INFERENCE_STEPS = 30.0, 50  # as FLUX.1 Fill is published, and VideoPainter's code runs it
# Its transformer, whole on the GPU (22.2 GiB), and what it works with: by `benchmarks/full_size.py --engine flux`.
FREE_MEMORY_NEEDED = 23 * GIB


def fits(device: torch.device) -> bool:
    """Whether FLUX Fill's largest network finds room on the device."""
    free = free_memory(device)
    return free is None or free >= FREE_MEMORY_NEEDED


def inpaint_first_frame(
    folder: Path,
    frame: np.ndarray,
    hole: np.ndarray,
    prompt: str,
    size: tuple[int, int],
    generator: torch.Generator,
    device: torch.device,
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    beat: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The frame with its hole inpainted after a prompt, uint8 (height, width, 3).

    Args:
        folder: FLUX.1-Fill-dev as diffusers keeps it. It is loaded for this one picture and gone afterwards.
        frame, hole: uint8 (height, width, 3), bool (height, width).
        size: (height, width) at which FLUX works; it rounds them down to multiples of 16.
        device: in whose memory the networks come and go: one at a time, or layer by layer where that is not enough,
            or has turned out not to be.
        beat: called several times a second while the networks work; what it raises ends that.

    Raises ValueError if the folder's weights cannot be used.
    """
    state = generator.get_state()
    for whole in [True, False] if fits(device) else [False]:
        try:
            inpainted = _call(
                folder, frame, hole, prompt, size, generator, device, num_inference_steps, beat, whole
            )
            break
        except torch.OutOfMemoryError:
            if not whole:
                raise
        release(device)  # not before the error, which holds on to the networks, is gone
        log.warning("Out of GPU memory in FLUX Fill; inpainting the first frame layer by layer.")
        generator.set_state(state)
    release(device)
    inpainted = inpainted.resize(frame.shape[1::-1], Image.Resampling.LANCZOS)
    return np.where(hole[..., None], np.asarray(inpainted), frame)


def _call(
    folder, frame, hole, prompt, size, generator, device, num_inference_steps, beat, whole: bool
) -> Image.Image:
    pipe = load(folder, device, whole)
    beat()
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    with torch.no_grad(), listening(networks, beat):
        inpainted = pipe(
            prompt=prompt,
            image=Image.fromarray(frame),
            mask_image=Image.fromarray(hole.astype(np.uint8) * 255),
            height=size[0],
            width=size[1],
            guidance_scale=GUIDANCE_SCALE,
            num_inference_steps=num_inference_steps,
            generator=generator,
            output_type="pil",
        ).images[0]
    pipe.remove_all_hooks()
    return inpainted


def load(folder: Path, device: torch.device, whole: bool = True) -> FluxFillPipeline:
    """The pipeline, in bfloat16 and offloaded to the CPU; float32 where there is no GPU.

    whole: whether networks come to the GPU one at a time, or else layer by layer.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        check_configs(*(place for place in folder.iterdir() if place.is_dir()))
        pipe = FluxFillPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except Exception as error:
        reason = first_line(error)
        raise ValueError(f"FLUX Fill cannot be loaded from '{folder}': {reason}") from error
    pipe.set_progress_bar_config(disable=True)
    if device.type == "cuda":
        pipe.vae.enable_slicing()
        if whole:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
    return pipe
