"""What the engine `propainter` is and takes; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videopainter.engines.base import EngineSpec, option
from videopainter.engines.crop_options import CropOptions


@dataclass(frozen=True)
class ProPainterOptions(CropOptions):
    """Options of `ProPainterEngine`; the first three as in `ProPainterConfig`."""

    ref_stride: int = option(10, "frames between references", metavar="N")
    neighbor_length: int = option(10, "frames of a window", metavar="N")
    raft_iter: int = option(20, "steps of the optical flow", metavar="N")
    subvideo_length: int | None = option(
        None, "frames of a piece", default_text="10 to 80, as memory allows", metavar="N"
    )


def missing(**options: Any) -> str | None:
    """See `videopainter.propainter.weights.missing`."""
    from videopainter.propainter.weights import missing

    return missing(**options)


SPEC = EngineSpec(
    name="propainter",
    location="videopainter.propainter.engine:ProPainterEngine",
    summary="flow-guided removal and outpainting",
    needs="a small GPU and 200 MB of weights",
    options=ProPainterOptions,
    missing=missing,
    # Its material, too, is what other frames show: no more hole than hides the object.
    dilate_size=24,
    wants_gpu=True,
    tells_confidence=True,
)
