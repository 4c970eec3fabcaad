"""Read and select: a caller's video, masks and clicks, made into what the spine works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from videopainter.masks import MaskCountError, MaskError, MaskTrack, load_masks
from videopainter.segmentation import TrackResult, choose_segmenter, collect
from videopainter.segmentation.finders import EVERY, Area, Following, find, spec_of
from videopainter.segmentation.prompts import ClickPrompt, Prompt
from videopainter.steps.given import given_video
from videopainter.video import VideoError, VideoSource, open_video
from videopainter.video.subset import at_rate, first_seconds, original_numbers

log = logging.getLogger("videopainter")


@dataclass
class Selected:
    """`source`: the frames to work on; `masks`, one for each; `lost`: the first frame of the video of each stretch
    without the object; `objects`: number -> its masks, of all that was selected the one number 1 where nothing
    tells several apart."""

    source: VideoSource
    masks: MaskTrack
    lost: list[int] = field(default_factory=list)
    objects: dict[int, MaskTrack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.objects = self.objects or {1: self.masks}


@contextmanager
def read(video, max_seconds: float | None) -> Iterator[VideoSource]:
    """A VideoSource over a path, frames in memory (see `given_video`) or another source, cut to `max_seconds`.

    What is opened here is closed at the end; a source of the caller's stays open.
    """
    ours = isinstance(video, str | os.PathLike)
    source = open_video(video) if ours else given_video(video)
    try:
        if len(source) == 0:
            raise VideoError("The video has 0 frames.")
        yield first_seconds(source, max_seconds)
    finally:
        if ours:
            source.close()


def select(
    source: VideoSource,
    masks,
    prompts: Sequence[Prompt],
    target_fps: float | None,
    mask_id: int | None,
    invert: bool,
    progress,
    segmenter: str = "auto",
    extent: str | None = None,
    name: str | None = None,
    area: Area | None = None,
    size: str = "auto",
    every: int = EVERY,
) -> Selected:
    """What is to be worked on, and what goes.

    `progress`: called as progress("select", done, total). `segmenter`: a name of `SEGMENTERS`, or "auto".
    `extent`: one of `EXTENTS`, see `Segmenter.track`. `name`, `area`, `every`: what to look for instead of
    prompts, where and how often, see `segmentation.finders`. `size`: of the segmenter, see `choose_segmenter`.
    Raises MaskError, or VideoError, if that cannot be done.
    """
    fewer = at_rate(source, target_fps)
    kept = original_numbers(fewer)
    if masks is not None:
        if prompts:
            raise MaskError("Masks are given, so clicks cannot be used as well.")
        if name is not None:
            raise MaskError(f"Masks are given, so '{name}' cannot be selected as well.")
        return Selected(fewer, _given(masks, source, fewer, kept, mask_id, invert))
    if name is not None and prompts:
        raise MaskError(f"Clicks are given, so '{name}' cannot be selected as well.")
    if area is not None and name is None:
        raise MaskError("An area only limits where something is looked for by its name.")
    if not prompts and name is None:
        raise MaskError("Nothing is selected; a click, a box or masks are needed, or the name of a kind.")
    if mask_id is not None:
        raise MaskError(f"Mask id {mask_id} picks a label of given masks, but there are none.")
    found = (
        select_objects(source, prompts, segmenter, progress, extent, size)
        if name is None
        else find(source, name, progress, area, Following(segmenter, size, every))
    )
    if name is not None and not found.masks.any():
        what = f"Nothing like '{name}' was" if spec_of(name).words else f"No {name} were"
        raise MaskError(f"{what} found in the video.")
    if not found.masks.any():
        raise MaskError("Nothing was found at the clicks; click in the middle of the object, or draw a box.")
    chosen = found.masks.select(kept)
    if invert:
        return Selected(fewer, chosen.invert(), found.lost)
    objects = {number: track.select(kept) for number, track in found.objects.items()}
    return Selected(fewer, chosen, found.lost, objects)


def select_objects(
    source: VideoSource,
    prompts: Sequence[Prompt],
    segmenter: str,
    progress,
    extent: str | None = None,
    size: str = "auto",
) -> TrackResult:
    """What the prompts point at, in every frame of `source`."""
    spec, why = choose_segmenter(segmenter, size)
    found = spec.open(source, size)
    log.info("Segmenter: %s (%s).", spec.name, why)
    return collect(found.track(prompts, progress, extent=extent), source)


def prompt_of(click) -> Prompt:
    """A prompt as it is; (x, y) or (x, y, frame) as a positive click. Raises MaskError for anything else."""
    if isinstance(click, Prompt):
        return click
    try:
        x, y, *frame = click
        return ClickPrompt(float(x), float(y), *(int(f) for f in frame))
    except (TypeError, ValueError):
        raise MaskError(f"A click is (x, y) or (x, y, frame), not {click!r}.") from None


def _given(masks, source, fewer, kept: Sequence[int], mask_id, invert: bool) -> MaskTrack:
    """Masks that fit the whole of the video, what is left after `max_seconds`, or what is left after both."""
    whole = _whole(source)
    fits = [
        (whole, kept),
        (source, _numbers_in(source, fewer)),
        (fewer, range(len(fewer))),
    ]
    first_error = None
    for exact in (True, False):  # only what fits nowhere is made to fit
        for target, numbers in fits:
            try:
                track = load_masks(masks, target, mask_id, invert, exact).select(numbers)
            except MaskCountError as error:
                first_error = first_error or error
                continue
            if not track.any():
                raise MaskError("The masks mark no pixel in any frame that is worked on.")
            if track.share() == 1:
                raise MaskError("The masks mark every pixel of every frame that is worked on.")
            return track
    raise first_error


def _whole(source: VideoSource) -> VideoSource:
    while hasattr(source, "indices"):
        source = source.source
    return source


def _numbers_in(source: VideoSource, fewer: VideoSource) -> Sequence[int]:
    return range(len(fewer)) if fewer is source else fewer.indices
