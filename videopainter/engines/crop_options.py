"""The options that all engines have which work on the surroundings of the holes; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from videopainter.engines.base import option


@dataclass(frozen=True)
class CropOptions:
    """Options of every `CropEngine`."""

    mask_dilation: int = option(
        0,
        "rounds by which holes grow to their four neighbours for the networks, beyond the dilation of the masks",
        metavar="PIXELS",
    )
    resize_ratio: float | None = option(
        None, "size it works at, over 0", default_text="1, or what memory allows", metavar="R"
    )
    fp16: bool | None = option(None, "half precision, on a GPU only", default_text="yes on a GPU")
    device: str | None = option(None, "where it runs: cuda, cuda:1, ..., cpu", default_text="the first GPU")
