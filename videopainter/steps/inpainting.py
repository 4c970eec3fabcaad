"""How the spine sets an engine to work: which frames it gets, of which part of the picture, from what beginning."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing

import numpy as np

from videopainter.engine import ENGINES
from videopainter.engines.base import Confidence, Engine, EngineError, spec_of
from videopainter.masks import MaskTrack
from videopainter.steps.interpolation import carry, with_last
from videopainter.steps.listener import CheckedSource, Listener
from videopainter.steps.region import RegionSource, place_back, plan_region, region_masks
from videopainter.video import VideoSource
from videopainter.video.subset import SubsetSource, at_rate, second_reader

log = logging.getLogger("videopainter")


def inpaint(
    engine: Engine,
    source: VideoSource,
    holes: MaskTrack,
    *,
    prompt: str | None,
    generator: np.random.Generator,
    region: str = "auto",
    rate: float | None = None,
    listener: Listener | None = None,
    confidence: Confidence | None = None,
    first_frame: np.ndarray | None = None,
) -> Generator[np.ndarray, None, None]:
    """Yield every frame of `source` inpainted, uint8 (height, width, 3); only what is in its hole has a meaning.

    Args:
        holes: what to inpaint, True, in frames of the source's number and size.
        region: "auto" shows an engine that takes one the hole and its surroundings, "frame" the whole picture; see
            `plan_region`.
        rate: frames a second that the engine inpaints; the rest follows by optical flow. None: all of them.
        listener: told of progress, and asked before every frame that is read.
        confidence: for an engine that tells it, see `Confidence`.
        first_frame: finished, uint8 (height, width, 3), for an engine that wants one; None: made here if it does.
    """
    listener = listener or Listener()
    with ExitStack() as stack:
        seen, seen_holes, numbers = source, holes, None
        thinned = at_rate(source, rate)
        if thinned is not source:
            numbers = with_last(thinned.indices, len(source))
            # Through a decoder of its own: the engine reads far ahead of where frames are finished.
            seen = SubsetSource(second_reader(source), numbers, thinned.fps)
            stack.callback(seen.close)
            seen_holes = holes.select(numbers)
        in_region = region == "auto" and spec_of(engine).takes_region
        run = _in_region if in_region else _called
        more = {}
        if spec_of(engine).tells_confidence and confidence is not None:
            more["confidence"] = confidence
        if spec_of(engine).wants_first_frame:
            more["first_frame"] = (
                _first_frame(source, holes, listener) if first_frame is None else first_frame
            )
        frames = stack.enter_context(
            closing(run(engine, seen, seen_holes, prompt, generator, listener, more))
        )
        yield from frames if numbers is None else carry(source, holes, numbers, frames)


def _in_region(engine, source, holes, prompt, generator, listener: Listener, more) -> Iterator[np.ndarray]:
    size = spec_of(engine).working_size
    region = plan_region(listener.each(holes), source.size, size, source.fps)
    (height, width), (rows, columns) = region.size, source.size
    log.info(
        "Region: %d x %d of %d x %d pixels%s, inpainted at %d x %d.",
        *(width, height, columns, rows),
        ", following the hole" if region.moves else "",
        *(size[1], size[0]),
    )
    small = RegionSource(source, region, size)
    small_holes = region_masks(listener.each(holes), region, size)
    if "first_frame" in more:
        more = {**more, "first_frame": region.cut(more["first_frame"], 0, size)}
    frames = _called(engine, small, small_holes, prompt, generator, listener, more)
    with closing(frames):
        yield from place_back(frames, region, source.size)


def _called(engine, source, holes, prompt, generator, listener: Listener, more) -> Iterator[np.ndarray]:
    """The engine's frames, as many as there are of the source. ``more``: what it is called with besides."""
    checked = CheckedSource(source, listener)
    frames = iter(engine(checked, holes, prompt=prompt, generator=generator, progress=listener, **more))
    count = 0
    try:
        for frame in frames:
            if count == len(source):
                raise EngineError("The engine made more frames than the video has.")
            yield frame
            count += 1
        if count < len(source):
            raise EngineError(f"The engine stopped after {count} frames, before the end of the video.")
    finally:
        if hasattr(frames, "close"):
            frames.close()


def _first_frame(source: VideoSource, holes: MaskTrack, listener: Listener) -> np.ndarray:
    """The first frame as the propagation engine finishes it, uint8 (height, width, 3), at the source's size."""
    if not holes[0].any():
        return source[0]
    reader = second_reader(source)
    engine = ENGINES["propagation"].load()
    try:
        with closing(engine(CheckedSource(reader, listener), holes, progress=listener.check)) as frames:
            return next(frames)
    finally:
        engine.close()
        if reader is not source:
            reader.close()
