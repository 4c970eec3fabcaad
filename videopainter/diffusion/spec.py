"""What the engine `videopainter` is and takes; imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from videopainter.engines.base import EngineSpec, option


@dataclass(frozen=True)
class VideoPainterOptions:
    """Options of `VideoPainterEngine`; weights are looked for in the weights folder unless told otherwise."""

    num_inference_steps: int = option(50, "denoising steps, 1 or more: time for quality", metavar="N")
    guidance_scale: float = option(6.0, "how closely to follow the prompt, 0 or more", metavar="SCALE")
    first_frame: str = option(
        "auto",
        "what inpaints the first frame, which the others follow: flux, propagation, none, or auto: flux where its "
        "weights are there and fit, else propagation",
        choices=("auto", "flux", "propagation", "none"),
    )
    first_frame_prompt: str | None = option(
        None, "what flux is to show in the first frame", default_text="the prompt", metavar="TEXT"
    )
    conditioning_scale: float | list[float] = option(
        1.0, "strength of the context branch, or one for each of its layers", metavar="SCALE", type=float
    )
    window: int | None = option(
        None,
        "frames that the network sees at once: 5, 9, ...",
        default_text="as many as it can, 49",
        aliases=("inpainting_frames",),
        metavar="FRAMES",
    )
    overlap: int = option(
        1,
        "frames that two windows of a long video share: 1, 5, 9, ...; 0 counts as 1",
        aliases=("overlap_frames",),
        metavar="FRAMES",
    )
    id_adapter: str | os.PathLike | bool | None = option(
        None,
        "keep an object's identity over windows with VideoPainterID and its ID pool; without PATH that of the weights "
        "folder",
        default_text="not used",
        aliases=("id_adapter_resample_learnable_path", "id_pool_resample_learnable_path"),
        metavar="PATH",
        type=str,
        const=True,
    )
    prev_clip_weight: float = option(
        0.0, "0 to 1: how much a window looks at the one before", metavar="WEIGHT"
    )
    memory: str = option(
        "auto",
        "fast: all on the GPU; balanced: network by network; low: block by block, weights in 8 bits; minimum: less "
        "at once; or auto, by what is free, the hole and the length",
        choices=("auto", "fast", "balanced", "low", "minimum"),
    )
    offload_folder: str | os.PathLike | None = option(
        None,
        "where the modes low and minimum keep the transformer's blocks, on a fast disk, to spare the host's memory",
        default_text="in the host's memory",
        metavar="FOLDER",
    )
    first_frame_gt: bool | None = option(
        None,
        "the first frame is finished as it is given, so nothing of it is inpainted",
        default_text="yes, where flux or propagation has made one",
    )
    replace_gt: bool = option(True, "put what is known back after every step", default_text="yes")
    mask_add: bool = option(True, "the branch works outside the hole only", default_text="yes")
    add_first: bool = option(False, "the branch works on the transformer's first blocks only")
    lora_path: str | os.PathLike | None = option(
        None,
        "one more adapter (LoRA) of the transformer, such as one for fewer steps",
        default_text="none",
        aliases=("lora",),
        metavar="PATH",
        type=str,
    )
    lora_rank: int | None = option(
        None, "the rank that adapters have to have", default_text="any", metavar="RANK"
    )
    dtype: str = option(
        "auto",
        "what it computes in: auto is bfloat16 on a GPU, float32 on a CPU",
        choices=("auto", "bfloat16", "float16", "float32"),
    )
    compile: bool = option(False, "compile the transformer's blocks; pays on long videos; not in low memory")
    cache: str = option(
        "none",
        "first_block: leave blocks out in steps that change little; broadcast, taylor: take attention over from the "
        "step before, or foretell it; none: compute all",
        choices=("none", "first_block", "broadcast", "taylor"),
    )
    guidance_stop: float = option(
        1.0, "0 to 1: from this share of the steps on guidance is taken over, not computed", metavar="SHARE"
    )
    device: str | None = option(None, "where it runs: cuda, cuda:1, ..., cpu", default_text="the first GPU")
    model_path: str | os.PathLike | None = option(
        None, "the base model", default_text="CogVideoX-5b-I2V in the weights folder", metavar="FOLDER"
    )
    branch: str | os.PathLike | None = option(
        None,
        "the context branch",
        default_text="VideoPainter/checkpoints/branch in the weights folder",
        aliases=("inpainting_branch",),
        metavar="FOLDER",
    )
    first_frame_model: str | os.PathLike | None = option(
        None,
        "FLUX Fill",
        default_text="flux_inp in the weights folder",
        aliases=("img_inpainting_model",),
        metavar="FOLDER",
    )


def missing(**options: Any) -> str | None:
    """See `videopainter.diffusion.requirements.missing`."""
    from videopainter.diffusion.requirements import missing

    return missing(**options)


SPEC = EngineSpec(
    name="videopainter",
    location="videopainter.diffusion.engine:VideoPainterEngine",
    summary="prompted replacement with CogVideoX-5b-I2V, a context branch and an ID LoRA",
    needs="a GPU and 22 GB of weights",
    options=VideoPainterOptions,
    missing=missing,
    working_size=(480, 720),
    dilate_size=32,
    target_fps=8,
    max_seconds=6.0,
    takes_prompt=True,
    takes_region=True,
    unit="step",
)
