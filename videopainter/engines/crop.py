"""Engines that work on the surroundings of all holes of a video, at a size of their own."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch

from videopainter.engines.base import (
    Confidence,
    EngineError,
    EngineSpec,
    Progress,
    StepReport,
    check_masks,
    listening,
)
from videopainter.engines.crop_options import CropOptions
from videopainter.masks import bounding_box
from videopainter.ops.pictures import dilate, resize_mask
from videopainter.ops.resize import resize

# Around the holes the networks see this much, in pixels they work on: an attention window (60 x 108) and what
# lies around it, and room for things that move.
CONTEXT = 128
# Cropping away less than this share of the picture gains no time worth the context it costs.
WORTH_CROPPING = 0.2

Box = tuple[slice, slice]  # rows, columns


class CropEngine(ABC):
    """The options, the checks and the loop over frames; an engine adds its networks (`model`) and `frames`.

    Args:
        spec: that of the engine.
        options: an instance of `spec.options`, which is a kind of `CropOptions`.
        crop: work on the region around the holes instead of the whole picture.

    Raises EngineError for options that cannot be used.
    """

    title: str  # the network's name, for people
    smallest: int  # pixels in either direction
    model: torch.nn.Module | None

    def __init__(self, spec: EngineSpec, options: CropOptions, crop: bool):
        self.device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if options.fp16 and self.device.type == "cpu":
            raise EngineError("Half precision (fp16) needs a GPU, and this runs on the CPU.")
        if options.mask_dilation < 0:
            raise EngineError(f"mask_dilation must be 0 or more, not {options.mask_dilation}.")
        if options.resize_ratio is not None and not 0 < options.resize_ratio <= 4:
            raise EngineError(f"resize_ratio must be over 0 and at most 4, not {options.resize_ratio}.")
        half = self.device.type != "cpu" if options.fp16 is None else options.fp16
        self.spec, self.crop = spec, crop
        self.options = dataclasses.replace(options, fp16=half, device=str(self.device))

    def __call__(
        self,
        source,
        masks,
        prompt=None,
        generator=None,
        progress: Progress | None = None,
        confidence: Confidence | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's.

        Raises EngineError for masks that do not fit and for frames that are too small.
        """
        if self.model is None:
            raise EngineError(f"The engine '{self.spec.name}' has been closed.")
        check_masks(source, masks)
        size = tuple(source.size)
        if min(size) < self.smallest:
            raise EngineError(
                f"{self.title} needs {self.smallest} pixels in both directions, not {size} (height, width)."
            )
        more = {"confidence": confidence} if self.spec.tells_confidence else {}
        return self._frames(source, masks, StepReport(progress, len(source)), more)

    def _frames(self, source, masks, steps: StepReport, more: dict) -> Iterator[np.ndarray]:
        with (
            listening([self.model], steps.beat),
            closing(self.frames(source, masks, steps.beat, **more)) as frames,
        ):
            steps.reached(0)
            for i, frame in enumerate(frames):
                yield frame
                steps.reached(i + 1)

    @abstractmethod
    def frames(self, source, masks, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        """The finished frames, in order; a generator. `beat` is called between any two longer pieces of work.

        An engine whose spec says that it tells its confidence gets `confidence` besides.
        """

    def close(self) -> None:
        """Let go of the networks and their memory; the engine cannot be called afterwards."""
        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class SourceClip:
    """The region of a source and its masks that the networks see, at the size they work at."""

    def __init__(self, source, masks, box: Box, size: tuple[int, int], mask_dilation: int):
        self.source, self.masks, self.box, self.size = source, masks, box, size
        self.mask_dilation = mask_dilation

    def __len__(self) -> int:
        return len(self.source)

    def frame(self, i: int) -> np.ndarray:
        """uint8 ``(*size, 3)``."""
        # Copied, so that the whole frame does not stay in memory with its region.
        return resize(np.ascontiguousarray(self.source[i : i + 1][0][self.box]), self.size, "pillow-bicubic")

    def hole(self, i: int) -> np.ndarray:
        """bool ``size``, True = repaint."""
        mask = np.asarray(self.masks[i : i + 1][0], bool)[self.box]
        return dilate(resize_mask(mask, self.size), self.mask_dilation)


def union_box(masks, beat: Callable[[], None] = lambda: None) -> Box | None:
    """(rows, columns) that hold every hole of a `MaskTrack`; None if there is none."""
    union = np.zeros(masks.size, bool)
    for i in range(len(masks)):
        union |= masks[i : i + 1][0]
        beat()
    return bounding_box(union)


def size_of(box: Box) -> tuple[int, int]:
    """(height, width)."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def wider(span: slice, margin: int, limit: int, least: float) -> slice:
    """A span of pixels with a margin, at least so long where there is room, inside 0..limit."""
    margin = max(margin, int(np.ceil((least - (span.stop - span.start)) / 2)))
    return slice(max(0, span.start - margin), min(limit, span.stop + margin))


def put_back(source, masks, box: Box, inpainted: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the source's frames with what the region shows in the holes, uint8 ``(height, width, 3)``.

    ``inpainted``: a generator of the region of every frame, uint8 ``(h, w, 3)``, of any size.
    """
    with closing(inpainted):
        for i, region in enumerate(inpainted):
            frame = source[i : i + 1][0]
            inside = np.asarray(masks[i : i + 1][0], bool)[box]
            if inside.any():
                frame[box][inside] = resize(region, inside.shape, "linear")[inside]
            yield frame


def untouched(source) -> Iterator[np.ndarray]:
    """The source's frames as they are."""
    return (source[i : i + 1][0] for i in range(len(source)))
