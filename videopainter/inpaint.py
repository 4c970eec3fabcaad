"""The spine: open -> select -> inpaint -> composite -> write."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videopainter.engine import Engine, EngineError, EngineSpec, choose_engine, load_engine, option_names
from videopainter.engines.base import Progress, spec_of
from videopainter.masks import MaskTrack
from videopainter.segmentation.finders import EVERY
from videopainter.steps.composition import composite
from videopainter.steps.effects import find_effects, with_effects
from videopainter.steps.export import checked_exports
from videopainter.steps.inpainting import inpaint
from videopainter.steps.listener import Listener, checked
from videopainter.steps.output import RunFiles
from videopainter.steps.seen import SeenRecord
from videopainter.steps.selection import Selected, prompt_of, read
from videopainter.steps.selection import select as select_masks
from videopainter.steps.settings import InpaintSettings
from videopainter.utils.default import DEFAULT, Default
from videopainter.utils.hints import Hint
from videopainter.utils.report import Stopwatch
from videopainter.video import VideoSource
from videopainter.video.subset import first_seconds, original_numbers, second_reader

log = logging.getLogger("videopainter")

GUIDE_HEIGHT = 480  # lines of the frame that the guide measures in
MOSTLY = 0.8  # masks that mark more of the picture may mark what is to be kept
FEATHER = 0.25  # of the dilation: the fade never reaches the object itself


@dataclass
class InpaintResult:
    """What came of a run.

    masks, holes: the object, and what was inpainted, which is that and its shadow, dilated (not dilated where only
    masks were wanted). effects: its shadow and reflection, where found, without the object.
    lost: the frames at which the object was lost. numbers: which frames of the video were worked on.
    """

    engine: str
    masks: MaskTrack
    holes: MaskTrack
    lost: list[int]
    objects: dict[int, MaskTrack]  # number -> the masks of that object alone
    numbers: Sequence[int]
    fps: float
    files: list[Path] = field(default_factory=list)
    frames: np.ndarray | None = None  # uint8 (n, height, width, 3), if no output was asked for
    seconds: dict[str, float] = field(default_factory=dict)  # a stage
    effects: MaskTrack | None = None
    # Of `holes` what no other frame shows, and the share that others do show; None where the engine does not know.
    never_seen: MaskTrack | None = None
    seen_share: float | None = None
    # What was wrong with the video, what of it is not kept, what was done to make masks fit.
    warnings: list[str] = field(default_factory=list)


@dataclass
class Selection:
    """What was selected: `masks`, one for each frame worked on, not dilated; the rest as in `InpaintResult`."""

    masks: MaskTrack
    lost: list[int]
    fps: float
    objects: dict[int, MaskTrack] = field(default_factory=dict)  # number -> the masks of that object alone
    warnings: list[str] = field(default_factory=list)


def inpaint_video(
    video,
    masks=None,
    *,
    clicks=None,
    prompt: str | None = None,
    output: str | os.PathLike | None = None,
    output_dir: str | os.PathLike | None = None,
    save_masks: str | os.PathLike | None = None,
    masks_format: str | None = None,
    engine: str | Engine = "auto",
    mask_id: int | None = None,
    invert_mask: bool = False,
    dilate_size: float | None | Literal[Default.DEFAULT] = DEFAULT,
    seed: int = 42,
    target_fps: float | str | None | Literal[Default.DEFAULT] = DEFAULT,
    max_seconds: float | None | Literal[Default.DEFAULT] = DEFAULT,
    mask_only: bool = False,
    segmenter: str = "auto",
    sam2_size: str = "auto",
    extent: str | None = None,
    select: str | None = None,
    select_area: tuple[float, float, float, float] | None = None,
    select_every: int = EVERY,
    region: str = "auto",
    effects: str | float = "auto",
    codec: str | None = None,
    quality: float | None = None,
    export: str | Sequence[str] = (),
    progress: Progress | bool | None = None,
    cancel: threading.Event | None = None,
    **options: Any,
) -> InpaintResult:
    """Take something out of a video, or put something else in its place.

    Args:
        video: a path (file or folder of images), a `VideoSource`, or frames: an array or a tensor (n, height, width, 3)
            or (n, 3, height, width), uint8 or 0 to 1, or a list of images of Pillow, arrays or tensors. Frames in
            memory count as 25 a second; `ArraySource` takes another rate.
        masks: a path, a `MaskTrack`, an array or a tensor (n, height, width) or (height, width), or a list; see
            `load_masks`.
        clicks: instead of masks; `(x, y)`, `(x, y, frame)`, `ClickPrompt`, `BoxPrompt`, `MaskPrompt` (a brush, or
            the mask of one frame) or `PolygonPrompt`, in pixels of the video, frames counted from 0.
        prompt: what should be there; engines without text leave it aside.
        output: the result alone; its ending says what it is: .mp4, .mov, .mkv, .webm, .avi, .gif, or none for a folder
            of images.
        output_dir: a folder for `result.mp4`, `result_vis.mp4`, `frame0_with_mask.png`,
            `frame0_original.png`, `mask0.png` and `run.json`; made if it is not there. With
            neither, the frames are returned.
        save_masks: where the masks go besides, as `videopainter.masks.save_masks` writes them: .npz, .mp4, or a folder
            for PNGs; each object by itself where the format can. masks_format: "png", "davis", "npz" or "video"
            instead of what the name says.
        engine: a name of `ENGINES`, "auto" for the best that can run here, or an `Engine`.
        mask_id: the label to repaint, where masks are maps of labels. invert_mask: repaint everything else; what the
            masks mark is then kept to its last pixel, so nothing is dilated.
        dilate_size: how much thicker and taller the masks get, half of it on each side, in pixels of the
            height that the engine works at, or of 480 lines where it works at any. `DEFAULT`: the engine's own
            default.
        seed: the same seed gives the same video.
        target_fps, max_seconds: work on fewer frames a second, or on the beginning only. None: no limit, all frames.
            `DEFAULT`: the engine's own default, which for engines that are not diffusion is everything. With a
            target_fps of "source" every frame comes back: the engine inpaints at its default rate, and optical flow
            carries that on.
        mask_only: stop after the masks; `output_dir` then gets `masks.npz` and `masks_vis.mp4`.
        segmenter: what follows clicked objects: a key of `SEGMENTERS`, or "auto", the best that can run here.
        sam2_size: "tiny", "small", "base-plus" or "large", where SAM 2 is wanted; "auto": of what is there the largest
            on a GPU, the smallest elsewhere.
        extent: how much of what is clicked is meant: "part", "object" or "group"; None: the best reading.
        select: instead of clicks, everything that has this name: a key of `segmentation.finders.FINDERS`, or any words,
            such as "the red car, a dog", for which weights are needed.
        select_area: (x0, y0, x1, y1), the box in pixels of the video outside of which that stays.
        select_every: in every so many frames things are looked for that words name and that have come in since.
        region: what an engine that works at one size of picture gets to see: "auto" the hole and its
            surroundings, in true proportions, "frame" the whole picture, squeezed into its size.
        codec, quality: of the result, see `VideoWriter`. None: H.264, or HEVC for a source of more than 8 bits, at a
            quality at which what is not repainted cannot be told from the source.
        export: more files of `output_dir`: "matte", a video that is white where the object is, `matte.mp4`;
            "foreground", the object with alpha, `foreground.mov` (ProRes 4444); "seen", the frames with the hole green
            where other frames show what it hides and red where none does, `seen.mp4`; a list or names with commas.
        effects: "auto" also takes away the shadow and the reflection of the object that are seen to move with it, up to
            15 per cent of the picture; a number sets that limit, "off" leaves shadows where they are.
        progress: called as progress(stage, done, total) with the stages "read", "select", "effects", "inpaint" and
            "write", the last two hand in hand; it ends the run by raising `Cancelled`. True: bars on stderr.
        cancel: an event that another thread sets to end the run; `Cancelled` is raised within a second.
        options: for engines that take them, such as `num_inference_steps`; see the `options` of `ENGINES`.

    Raises VideoError, MaskError or EngineError (each a ValueError), one sentence, for what cannot be done.
    On an error, `Cancelled` or Ctrl-C no half-written file is left, and what was loaded here is let go of.
    """
    if unknown := set(options) - option_names():
        raise TypeError(f"inpaint_video() got an unexpected keyword argument '{sorted(unknown)[0]}'")
    asked = InpaintSettings(
        prompt=prompt,
        mask_id=mask_id,
        invert_mask=invert_mask,
        dilate_size=DEFAULT if dilate_size is None else dilate_size,
        seed=seed,
        target_fps=target_fps,
        max_seconds=max_seconds,
        mask_only=mask_only,
        segmenter=segmenter,
        sam2_size=sam2_size,
        extent=extent,
        select=select,
        select_area=select_area,
        select_every=select_every,
        region=region,
        effects=effects,
        codec=codec,
        quality=quality,
        export=checked_exports(export),
    )
    clock = Stopwatch()
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(progress, cancel))
        listener.check()
        inpainter, spec = _ready(engine, asked, options, stack)
        listener.units["inpaint"] = spec.unit
        settings = asked.for_engine(spec)
        prompts = [prompt_of(click) for click in clicks or ()]
        out = stack.enter_context(
            RunFiles(output, output_dir, codec, quality, settings.export, save_masks, masks_format)
        )

        # 1. Open the video.
        with clock("read"):
            whole = stack.enter_context(_opened(video, settings.max_seconds, listener))
        logged = len(whole.warnings)

        # 2. Select what should go.
        with clock("select"):
            found = _selected(whole, masks, prompts, settings, _rate(settings.target_fps), listener)
            source, object_masks = found.source, found.masks
        with clock("effects"):
            shadows = None
            if not settings.invert_mask:  # everything but the object goes, so its shadow does in any case
                shadows = find_effects(
                    source, object_masks, settings.effects, lambda *frames: listener("effects", *frames)
                )
        with clock("write"):
            out.save_masks(source, found.objects)
            out.write_masks(source, object_masks, shadows, prompts, settings.mask_only, listener)

        holes = object_masks if shadows is None else with_effects(object_masks, shadows)
        seen = None
        if inpainter is not None:
            # 3. Inpaint its hole.
            radius = dilation_radius(settings.dilate_size, inpainter, source.height)
            if not settings.invert_mask:  # a hole around an object would grow into what is to be kept
                holes = holes.dilate(radius)
            seen = SeenRecord(holes) if spec.tells_confidence else None
            inpainted = inpaint(
                inpainter,
                source,
                holes,
                prompt=settings.prompt,
                generator=np.random.default_rng(settings.seed),
                region=settings.region,
                rate=spec.target_fps if settings.target_fps == "source" else None,
                listener=listener,
                confidence=seen,
            )
            stack.enter_context(closing(inpainted))

            # 4. Paste that into the source.
            reader = second_reader(source)
            stack.callback(reader.close)
            originals, filled = clock.each("read", reader), clock.each("inpaint", inpainted)
            finished = composite(originals, listener.each(holes), filled, FEATHER * radius)

            # 5. Write the result.
            with clock("write"):
                out.write_result(
                    source, object_masks, holes, clock.each("composite", finished), reader, listener, seen
                )
            if seen is not None:
                seen.say()
        _log_warnings([*source.warnings[logged:], *out.warnings])
        warnings = [*object_masks.notes, *source.warnings, *out.warnings]
        given = {"video": _name(video), "masks": _name(masks), "clicks": prompts, "engine": spec.name}
        used = asdict(inpainter.options) if inpainter and hasattr(inpainter, "options") else {}
        out.write_report(
            {**given, **asdict(settings), **options, **used},
            source,
            object_masks,
            shadows,
            found.lost,
            clock.seconds,
            seen,
        )
    return InpaintResult(
        engine=spec.name,
        masks=object_masks,
        holes=holes,
        effects=shadows,
        never_seen=seen.never_seen if seen else None,
        seen_share=seen.share if seen and seen.complete else None,
        lost=found.lost,
        objects=found.objects,
        numbers=original_numbers(source),
        fps=float(source.fps),
        files=out.files,
        frames=out.frames,
        seconds=clock.seconds,
        warnings=warnings,
    )


def select_object(
    video,
    masks=None,
    *,
    clicks=None,
    mask_id: int | None = None,
    invert_mask: bool = False,
    target_fps: float | None = None,
    max_seconds: float | None = None,
    segmenter: str = "auto",
    sam2_size: str = "auto",
    extent: str | None = None,
    select: str | None = None,
    select_area: tuple[float, float, float, float] | None = None,
    select_every: int = EVERY,
    progress: Progress | bool | None = None,
    cancel: threading.Event | None = None,
) -> Selection:
    """The masks of an object through a video, without inpainting; no engine is looked for.

    Args are those of `inpaint_video`; without limits all frames get a mask. Raises as it does.
    """
    settings = InpaintSettings(
        mask_id=mask_id,
        invert_mask=invert_mask,
        target_fps=target_fps,
        max_seconds=max_seconds,
        segmenter=segmenter,
        sam2_size=sam2_size,
        extent=extent,
        select=select,
        select_area=select_area,
        select_every=select_every,
    )
    prompts = [prompt_of(click) for click in clicks or ()]
    with Listener(progress, cancel) as listener, _opened(video, max_seconds, listener) as whole:
        found = _selected(whole, masks, prompts, settings, target_fps, listener)
        warnings = [*found.masks.notes, *found.source.warnings]
        return Selection(found.masks, found.lost, float(found.source.fps), found.objects, warnings)


def dilation_radius(dilate_size: float, engine: Engine | EngineSpec, height: int) -> float:
    """Pixels by which masks of a video of `height` lines grow on each side; see `inpaint_video`."""
    working_size = (engine if isinstance(engine, EngineSpec) else spec_of(engine)).working_size
    radius = dilate_size / 2 * height / (working_size[0] if working_size else GUIDE_HEIGHT)
    return min(radius, 1e5)  # farther than any frame reaches


def _ready(
    engine: str | Engine, settings: InpaintSettings, options: dict[str, Any], stack: ExitStack
) -> tuple[Engine | None, EngineSpec]:
    """(the engine, None if only masks are wanted, and its spec). What is loaded here ends with `stack`."""
    if not isinstance(engine, str):
        return None if settings.mask_only else engine, spec_of(engine)
    spec, why = choose_engine(engine, bool(settings.prompt), **options)
    if settings.mask_only:
        return None, spec
    if spec.needs_prompt and not settings.prompt and spec.available(**options)[0]:
        raise EngineError(f"The engine '{spec.name}' needs a prompt that says what should be there.")
    log.info("Engine: %s (%s).", spec.name, why)
    loaded = load_engine(spec, **options)
    if hasattr(loaded, "close"):
        stack.callback(loaded.close)
    if settings.prompt and not spec.takes_prompt:
        log.info("The engine %s works without text and leaves the prompt aside.", spec.name)
    for name in sorted(set(options) - set(spec.known(options))):
        log.info("The engine %s has no use for %s.", spec.name, name)
    return loaded, spec_of(loaded) if hasattr(loaded, "spec") else spec


def _rate(target_fps: float | str | None) -> float | None:
    """Frames a second that are selected: all of them where every frame of the source comes back."""
    return None if isinstance(target_fps, str) else target_fps


@contextmanager
def _opened(video, max_seconds: float | None, listener: Listener) -> Iterator[VideoSource]:
    """The first seconds of a video; what is opened here is closed at the end."""
    listener("read", 0, 1)
    with read(video, None) as source:
        listener("read", 1, 1)
        _log_warnings(source.warnings)
        yield first_seconds(checked(source, listener), max_seconds)


def _selected(
    whole, masks, prompts, settings: InpaintSettings, rate: float | None, listener: Listener
) -> Selected:
    """What to work on; where a clicked object was lost is told."""
    found = select_masks(
        whole,
        masks,
        prompts,
        rate,
        settings.mask_id,
        settings.invert_mask,
        listener,
        settings.segmenter,
        settings.extent,
        settings.select,
        settings.select_area,
        settings.sam2_size,
        settings.select_every,
    )
    listener("select", len(whole), len(whole))
    _log_warnings(found.masks.notes)
    _say_share(found.masks.share(), settings.invert_mask)
    for frame in found.lost:
        hint = Hint("click", {"frame": frame})
        log.warning(
            "The object is out of sight from frame %d on; if it is there, click it.",
            frame,
            extra={"hint": hint},
        )
    return found


def _say_share(share: float, inverted: bool) -> None:
    """How much of the picture the masks mark; a hint where that looks like what is to be kept."""
    text = f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"
    log.info("The masks mark %s of the picture.", text)
    if share > MOSTLY and not inverted:
        log.warning(
            "If the masks mark what is to be kept, they are to be inverted.", extra={"hint": Hint("invert")}
        )


def _log_warnings(warnings: list[str]) -> None:
    for sentence in warnings:
        log.warning("%s", sentence)


def _name(value) -> str | None:
    """A path as it was given; of an array or a source only what it is."""
    if value is None or isinstance(value, str | os.PathLike):
        return None if value is None else os.fspath(value)
    return getattr(value, "path", None) or type(value).__name__
