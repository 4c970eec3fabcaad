"""The spine: read -> select -> inpaint -> composite -> write."""

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videopainter.engine import ENGINES, Engine, EngineError, EngineInfo, choose_engine
from videopainter.masks import MaskError, MaskTrack
from videopainter.steps.composition import composite
from videopainter.steps.inpainting import check_region, paint
from videopainter.steps.output import Outputs
from videopainter.steps.selection import prompt_of, read, select
from videopainter.utils.report import Bars, Stopwatch
from videopainter.video import VideoError
from videopainter.video.subset import second_reader

log = logging.getLogger("videopainter")

GUIDE_HEIGHT = 480  # lines of the frame that the guide measures in
KNOWN_OPTIONS = {option for info in ENGINES.values() for option in info.options}
FEATHER = 0.25  # of the dilation: the fade never reaches the object itself


@dataclass
class InpaintResult:
    """What came of a run. `masks`: the object, not dilated; `lost`: the frames at which it was lost."""

    engine: str
    masks: MaskTrack
    lost: list[int]
    fps: float
    files: list[Path] = field(default_factory=list)
    frames: np.ndarray | None = None  # uint8 (n, height, width, 3), if no output was asked for
    seconds: dict[str, float] = field(default_factory=dict)  # a stage
    warnings: list[str] = field(default_factory=list)  # what was wrong with the video


def inpaint_video(
    video,
    masks=None,
    *,
    clicks=None,
    prompt: str | None = None,
    output: str | os.PathLike | None = None,
    output_dir: str | os.PathLike | None = None,
    engine: str | Engine = "auto",
    mask_id: int | None = None,
    invert_mask: bool = False,
    dilate_size: float | None = None,
    seed: int = 42,
    target_fps: float | str | None = None,
    max_seconds: float | None = None,
    mask_only: bool = False,
    segmenter: str = "auto",
    region: str = "auto",
    progress: bool = False,
    **options,
) -> InpaintResult:
    """Take something out of a video, or put something else in its place.

    Args:
        video: a path (file or folder of images), uint8 frames (n, height, width, 3) RGB, or a `VideoSource`.
        masks: a path (see `load_masks`), an array (n, height, width) or (height, width), or a `MaskTrack`.
        clicks: instead of masks; `(x, y)`, `(x, y, frame)`, `ClickPrompt` or `BoxPrompt`, in pixels of the
            video, frames counted from 0.
        prompt: what should be there; engines without text leave it aside.
        output: a file for the result alone.
        output_dir: a folder for `result.mp4`, `result_vis.mp4`, `frame0_with_mask.png`,
            `frame0_original.png`, `mask0.png` and `run.json`; made if it is not there. With
            neither, the frames are returned.
        engine: a name of `ENGINES`, "auto" for the best that can run here, or an `Engine`.
        mask_id: the label to repaint, where masks are maps of labels. invert_mask: repaint everything else.
        dilate_size: how much thicker and taller the masks get, half of it on each side, in pixels of the
            height that the engine works at, or of 480 lines where it works at any. None: the engine's
            own default.
        seed: the same seed gives the same video.
        target_fps, max_seconds: work on fewer frames a second, or on the beginning only. None: the engine's
            own default, which for engines that are not diffusion is everything. With a target_fps of "source"
            every frame comes back: the engine paints at its default rate, and optical flow carries that on.
        mask_only: stop after the masks; `output_dir` then gets `masks.npz` and `masks_vis.mp4`.
        segmenter: what follows clicked objects: "sam2", "classical", which needs no weights, or "auto", sam2 where
            its weights and a GPU are there.
        region: what an engine that works at one size of picture gets to see: "auto" the hole and its
            surroundings, in true proportions, "frame" the whole picture, squeezed into its size.
        progress: draw progress bars on stderr.
        options: for engines that take them, such as `num_inference_steps`; see `VideoPainterEngine`.

    Raises VideoError, MaskError or EngineError (each a ValueError), one sentence, for what cannot be done.
    On an error or Ctrl-C no half-written file is left.
    """
    check_region(region)
    if isinstance(target_fps, str) and target_fps != "source":
        raise VideoError(f"The frames a second are a number or 'source', not '{target_fps}'.")
    painter, info = _engine(engine, prompt, mask_only, options)
    dilate_size = info.dilate_size if dilate_size is None else dilate_size
    if not 0 <= dilate_size < float("inf"):
        raise MaskError(f"The dilation must be 0 or more pixels, not {dilate_size}.")
    settings = {
        "engine": info.name,
        "prompt": prompt,
        "mask_id": mask_id,
        "invert_mask": invert_mask,
        "mask_only": mask_only,
        "segmenter": segmenter,
        "region": region,
        "dilate_size": dilate_size,
        "target_fps": info.target_fps if target_fps is None else target_fps,
        "max_seconds": info.max_seconds if max_seconds is None else max_seconds,
        "seed": seed,
        **options,
    }
    rates = (None, info.target_fps) if target_fps == "source" else (settings["target_fps"], None)
    prompts = [prompt_of(click) for click in clicks or ()]
    generator = _generator(seed)
    clock, out = Stopwatch(), Outputs(output, output_dir)
    with Bars(progress) as bars, out, ExitStack() as stack:
        with clock("read"):
            whole = stack.enter_context(read(video, settings["max_seconds"]))
            said = len(whole.warnings)
            _warn(whole.warnings)
        with clock("select"):
            source, object_masks, lost = select(
                whole,
                masks,
                prompts,
                rates[0],
                mask_id,
                invert_mask,
                bars("select"),
                segmenter,
            )
            _say_lost(lost)
        with clock("write"):
            out.write_masks(source, object_masks, prompts, mask_only, bars("draw masks"))
        if not mask_only:
            radius = dilation_radius(dilate_size, painter, source.height)
            holes = object_masks.dilate(radius)
            painted = paint(
                painter,
                source,
                holes,
                prompt=prompt,
                generator=generator,
                region=region,
                rate=rates[1],
                progress=bars("inpaint", getattr(painter, "unit", "frame")),
            )
            reader = second_reader(source)
            stack.callback(reader.close)
            originals, painted = clock.each("read", reader), clock.each("inpaint", painted)
            frames = clock.each("composite", composite(originals, holes, painted, FEATHER * radius))
            with clock("write"):
                out.write_result(source, object_masks, holes, frames)
        _warn(source.warnings[said:])
        inputs = {"video": _name(video), "masks": _name(masks), "clicks": prompts}
        settings |= getattr(painter, "settings", {})
        out.write_report({**inputs, **settings}, source, lost, clock.seconds)
    return InpaintResult(
        engine=info.name,
        masks=object_masks,
        lost=lost,
        fps=float(source.fps),
        files=out.files,
        frames=out.frames,
        seconds=clock.seconds,
        warnings=list(source.warnings),
    )


def dilation_radius(dilate_size: float, engine: Engine, height: int) -> float:
    """Pixels by which masks of a video of `height` lines grow on each side; see `dilate_size` above."""
    working_height = engine.preferred_size[0] if engine.preferred_size else GUIDE_HEIGHT
    return dilate_size / 2 * height / working_height


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise EngineError(f"The seed must be 0 or more, not {seed}.")
    return np.random.default_rng(seed)


def _engine(engine, prompt: str | None, mask_only: bool, options: dict) -> tuple[Engine | None, EngineInfo]:
    """The engine, ready, and its line in the table; tells the user about the choice."""
    if unknown := set(options) - KNOWN_OPTIONS:
        raise TypeError(f"inpaint_video() got an unexpected keyword argument '{sorted(unknown)[0]}'")
    if not isinstance(engine, str):
        return engine, ENGINES.get(engine.name, EngineInfo(engine.name, None, "", dilate_size=24))
    info, why = choose_engine(engine, bool(prompt), **options)
    if mask_only:
        return None, info
    if info.takes_prompt and not prompt and info.available(**options)[0]:
        raise EngineError(f"The engine '{info.name}' needs a prompt that says what should be there.")
    log.info("Engine: %s (%s).", info.name, why)
    painter = info.load(**options)
    if prompt and not info.takes_prompt:
        log.info("The engine %s works without text and leaves the prompt aside.", info.name)
    for name in sorted(set(options) - set(info.options)):
        log.info("The engine %s has no use for %s.", info.name, name)
    return painter, info


def _say_lost(lost: list[int]) -> None:
    for frame in lost:
        log.warning(
            "The object was lost at frame %d; click it again there, with --click X,Y,%d.", frame, frame
        )


def _warn(warnings: list[str]) -> None:
    for sentence in warnings:
        log.warning("%s", sentence)


def _name(value) -> str | None:
    """A path as it was given; of an array or a source only what it is."""
    if value is None or isinstance(value, str | os.PathLike):
        return None if value is None else os.fspath(value)
    return getattr(value, "path", None) or type(value).__name__
