"""How the spine sets an engine to work: which frames it paints, of which part of the picture, from what beginning."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from videopainter.engine import ENGINES, Engine, EngineError
from videopainter.masks import MaskTrack
from videopainter.steps.interpolation import carry, with_last
from videopainter.steps.region import RegionSource, place_back, plan_region, region_masks
from videopainter.video import VideoSource
from videopainter.video.subset import Excerpt, at_rate, second_reader

log = logging.getLogger("videopainter")

REGIONS = ("auto", "frame")


def check_region(region: str) -> None:
    """Raises EngineError if there is no such region."""
    if region not in REGIONS:
        raise EngineError(f"The region is {' or '.join(REGIONS)}, not '{region}'.")


def paint(
    engine: Engine,
    source: VideoSource,
    holes: MaskTrack,
    *,
    prompt: str | None,
    generator: np.random.Generator,
    region: str = "auto",
    rate: float | None = None,
    progress=None,
) -> Iterator[np.ndarray]:
    """Yield every frame of `source` painted, uint8 (height, width, 3); only what is in its hole has a meaning.

    Args:
        holes: what to paint, True, in frames of the source's number and size.
        region: "auto" shows an engine that `takes_region` the hole and its surroundings, "frame" the whole
            picture; see `plan_region`.
        rate: frames a second that the engine paints; the rest follows by optical flow. None: all of them.
    """
    with ExitStack() as stack:
        seen, seen_holes, numbers = source, holes, None
        thinned = at_rate(source, rate)
        if thinned is not source:
            numbers = with_last(thinned.indices, len(source))
            # Through a decoder of its own: the engine reads far ahead of where frames are finished.
            seen = Excerpt(second_reader(source), numbers, thinned.fps)
            stack.callback(seen.close)
            seen_holes = holes.select(numbers)
        if region == "auto" and getattr(engine, "takes_region", False):
            frames = _in_region(engine, seen, seen_holes, prompt, generator, progress)
        else:
            frames = _painted(engine, seen, seen_holes, prompt, generator, progress)
        yield from frames if numbers is None else carry(source, holes, numbers, frames)


def _in_region(engine, source, holes, prompt, generator, progress) -> Iterator[np.ndarray]:
    size = engine.preferred_size
    region = plan_region(holes, source.size, size, source.fps)
    (height, width), (rows, columns) = region.size, source.size
    log.info(
        "Region: %d x %d of %d x %d pixels%s, painted at %d x %d.",
        *(width, height, columns, rows),
        ", following the hole" if region.moves else "",
        *(size[1], size[0]),
    )
    small, small_holes = RegionSource(source, region, size), region_masks(holes, region, size)
    painted = _painted(
        engine,
        small,
        small_holes,
        prompt,
        generator,
        progress,
        first=lambda: region.cut(_first_frame(source, holes), 0, size),
    )
    return place_back(painted, region, source.size)


def _painted(engine, source, holes, prompt, generator, progress, first=None) -> Iterator[np.ndarray]:
    beginning = {}
    if getattr(engine, "wants_first_frame", False):
        beginning["first_frame"] = first() if first else _first_frame(source, holes)
    return iter(engine(source, holes, prompt=prompt, generator=generator, progress=progress, **beginning))


def _first_frame(source: VideoSource, holes: MaskTrack) -> np.ndarray:
    """The first frame as the propagation engine finishes it, uint8 (height, width, 3), at the source's size."""
    if not holes[0].any():
        return source[0]
    reader = second_reader(source)
    frames = ENGINES["propagation"].load()(reader, holes)
    try:
        return next(frames)
    finally:
        frames.close()
        if reader is not source:
            reader.close()
