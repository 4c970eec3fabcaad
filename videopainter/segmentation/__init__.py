"""From a click, a box, a brush stroke, a polygon or a mask to a mask in every frame."""

from videopainter.segmentation.base import (
    FOUND,
    OUT_OF_SIGHT,
    Candidate,
    Segmenter,
    TrackedFrame,
    TrackResult,
    collect,
)
from videopainter.segmentation.prompts import BoxPrompt, ClickPrompt, MaskPrompt, PolygonPrompt, Prompt
from videopainter.segmentation.table import SEGMENTERS, SegmenterSpec, choose_segmenter

__all__ = [
    "FOUND",
    "OUT_OF_SIGHT",
    "SEGMENTERS",
    "BoxPrompt",
    "Candidate",
    "ClickPrompt",
    "MaskPrompt",
    "PolygonPrompt",
    "Prompt",
    "Segmenter",
    "SegmenterSpec",
    "TrackResult",
    "TrackedFrame",
    "choose_segmenter",
    "collect",
    "track",
]


def track(source, prompts, progress=None, segmenter: str = "auto", extent: str | None = None) -> TrackResult:
    """Masks of the objects that the prompts point at, in every frame of `source`, a `VideoSource`.

    Args:
        prompts: see `ClickPrompt` and its neighbours; at least one of them positive. Each object is followed by
            itself, and their masks are united.
        progress: called as progress("select", done, total).
        segmenter: a name of `SEGMENTERS`, or "auto" for the best that can run here.
        extent: see `Segmenter.track`.

    Raises MaskError for prompts that cannot be used or a name that is not known, WeightsError for weights that are
    missing.
    """
    chosen = choose_segmenter(segmenter)[0].kind(source)
    return collect(chosen.track(prompts, progress, extent=extent), source)
