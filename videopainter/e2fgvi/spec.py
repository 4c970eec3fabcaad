"""What the engine `e2fgvi` is and takes; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videopainter.engines.base import EngineSpec, option
from videopainter.engines.crop_options import CropOptions


@dataclass(frozen=True)
class E2FGVIOptions(CropOptions):
    """Options of `E2FGVIEngine`; strides and references as in `videopainter.e2fgvi.schedule.windows`."""

    variant: str | None = option(
        None,
        "hq, or base, which works at 432 x 240",
        default_text="hq, or what is there",
        choices=("hq", "base"),
    )
    neighbor_stride: int = option(
        5, "frames of a window to each side, and from one window to the next", metavar="N"
    )
    ref_stride: int = option(10, "frames between references", metavar="N")
    num_ref: int | None = option(
        None,
        "references of a window; -1: all there are, with memory that grows with the video",
        default_text="the 8 nearest",
        metavar="N",
    )


def missing(**options: Any) -> str | None:
    """See `videopainter.e2fgvi.weights.missing`."""
    from videopainter.e2fgvi.weights import missing

    return missing(**options)


SPEC = EngineSpec(
    name="e2fgvi",
    location="videopainter.e2fgvi.engine:E2FGVIEngine",
    summary="fast flow-guided removal",
    needs="a small GPU and 160 MB of weights",
    options=E2FGVIOptions,
    missing=missing,
    dilate_size=24,  # as for ProPainter
    wants_gpu=True,
)
