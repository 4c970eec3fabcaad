"""What the engine `propagation` is and takes; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from videopainter.engines.base import EngineSpec, option

GRAINS = ("auto", "off")


@dataclass(frozen=True)
class PropagationOptions:
    """Options of `PropagationEngine`."""

    radius: int = option(60, "frames looked back and ahead, 1 or more", metavar="FRAMES")
    workers: int | None = option(
        None, "threads, 1 or more; the result is the same", default_text="one a core", metavar="N"
    )
    grain: str = option(
        "auto", "noise for what is filled: auto, as much as around it, or off", choices=GRAINS
    )


SPEC = EngineSpec(
    name="propagation",
    location="videopainter.propagation.engine:PropagationEngine",
    summary="camera motion, optical flow, one resampling, blending, texture synthesis",
    needs="only a CPU",
    options=PropagationOptions,
    # Known pixels are its material, so it wants no more hole than hides the object: 12 px all around in a 480-line
    # picture, 6 px in one of 240, where click tracks were measured to be covered.
    dilate_size=24,
    tells_confidence=True,
)
