"""The settings of a run, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from videopainter.engines.base import EngineError, EngineSpec
from videopainter.masks import MaskError
from videopainter.segmentation.finders import EVERY
from videopainter.steps.effects import check_effects
from videopainter.utils.default import DEFAULT, Default
from videopainter.video import VideoError

REGIONS = ("auto", "frame")


@dataclass(frozen=True)
class InpaintSettings:
    """Everything about a run but its video, its masks or clicks, its output, and the options of its engine.

    See `videopainter.inpaint_video` for what each of them means. Raises VideoError, MaskError or EngineError, one
    sentence, for values that make no sense.
    """

    prompt: str | None = None
    mask_id: int | None = None
    invert_mask: bool = False
    dilate_size: float | Literal[Default.DEFAULT] = DEFAULT
    seed: int = 42
    target_fps: float | str | None | Literal[Default.DEFAULT] = DEFAULT
    max_seconds: float | None | Literal[Default.DEFAULT] = DEFAULT
    mask_only: bool = False
    segmenter: str = "auto"
    sam2_size: str = "auto"
    extent: str | None = None
    select: str | None = None
    select_area: tuple[float, float, float, float] | None = None
    select_every: int = EVERY
    region: str = "auto"
    effects: str | float = "auto"
    codec: str | None = None
    quality: float | None = None
    export: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.region not in REGIONS:
            raise EngineError(f"The region is {' or '.join(REGIONS)}, not '{self.region}'.")
        check_effects(self.effects)
        if isinstance(self.target_fps, str) and self.target_fps != "source":
            raise VideoError(f"The frames a second are a number or 'source', not '{self.target_fps}'.")
        if self.dilate_size is not DEFAULT and not 0 <= self.dilate_size < float("inf"):
            raise MaskError(f"The dilation must be 0 or more pixels, not {self.dilate_size}.")
        if self.seed < 0:
            raise EngineError(f"The seed must be 0 or more, not {self.seed}.")

    def for_engine(self, spec: EngineSpec) -> SettledSettings:
        """The same with the engine's own values in the place of `DEFAULT`."""
        ours = {
            name: getattr(spec, name)
            for name in ("dilate_size", "target_fps", "max_seconds")
            if getattr(self, name) is DEFAULT
        }
        return SettledSettings(**{**vars(self), **ours})


@dataclass(frozen=True)
class SettledSettings(InpaintSettings):
    """Settings for one engine: nothing is left to its defaults."""

    dilate_size: float = 0.0
    target_fps: float | str | None = None
    max_seconds: float | None = None
