"""E2FGVI as an engine of the spine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import numpy as np

from videopainter.e2fgvi.configuration import FIXED_SIZE
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.spec import SPEC, E2FGVIOptions
from videopainter.e2fgvi.streaming import SMALLEST, Settings
from videopainter.engines.base import EngineError
from videopainter.engines.crop import (
    CONTEXT,
    WORTH_CROPPING,
    CropEngine,
    SourceClip,
    put_back,
    size_of,
    union_box,
    untouched,
    wider,
)
from videopainter.ops.memory import free_bytes

log = logging.getLogger("videopainter")

# What a window takes for every pixel of a frame, float32 on a CPU, rounded up (benchmarks/results/e2fgvi.md).
_WINDOW_BYTES = 6000
_SHARE = 0.5  # of the free memory that is planned with: estimates err, and others need memory too


class E2FGVIEngine(CropEngine):
    """Removes things with E2FGVI, in memory that does not grow with the video's length.

    Only the region around the holes is worked on, and where no frame near has a hole nothing is. Deterministic;
    a prompt has no meaning here.

    Args:
        weights: a released file, or a folder with one or with a saved model; None: `ckpt/e2fgvi`.
        model: a loaded model instead; it is moved to the device and cast.
        crop: False works on the whole picture.
        options: see `E2FGVIOptions`.

    Raises EngineError for weights that cannot be loaded and options that cannot be used.
    """

    title, smallest = "E2FGVI", SMALLEST

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        model: E2FGVIModel | None = None,
        *,
        crop: bool = True,
        **options,
    ):
        chosen = E2FGVIOptions(**options)
        super().__init__(SPEC, chosen, crop)
        try:
            self._schedule = Settings(chosen.neighbor_stride, chosen.ref_stride, chosen.num_ref)
            if model is None:
                model = E2FGVIModel.from_pretrained(weights, chosen.variant)
        except ValueError as error:
            raise EngineError(str(error)) from error
        self.model = model.eval().to(self.device)
        if self.options.fp16:
            for name, part in self.model.named_children():
                if name != "update_spynet":  # flow loses whole pixels in half precision
                    part.half()

    def frames(self, source, masks, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        """The finished frames, in order."""
        region = self._region(masks, tuple(source.size), beat)
        if region is None:
            return untouched(source)
        box, working = region
        self._log_size(size_of(box), working)
        clip = SourceClip(source, masks, box, working, self.options.mask_dilation)
        return put_back(source, masks, box, self.model.paint_video(clip, self._schedule))

    def _region(self, masks, size: tuple[int, int], beat: Callable[[], None] = lambda: None):
        """What is worked on, (rows, columns), and its size for the network; None if there is no hole at all."""
        box = union_box(masks, beat)
        if box is None:
            return None
        whole = slice(0, size[0]), slice(0, size[1])
        if not self.crop:
            return whole, self._working(size)
        ratio = self.options.resize_ratio or 1
        margin = round(CONTEXT / ratio) + self.options.mask_dilation
        cropped = tuple(wider(s, margin, n, m / ratio) for s, n, m in zip(box, size, FIXED_SIZE))
        if self.model.config.variant == "base":  # in its proportions, where there is room
            height, width = size_of(cropped)
            across = max(width, height * FIXED_SIZE[1] / FIXED_SIZE[0])
            least = across * FIXED_SIZE[0] / FIXED_SIZE[1], across
            cropped = tuple(wider(s, 0, n, m) for s, n, m in zip(cropped, size, least))
        if np.prod(size_of(cropped)) > (1 - WORTH_CROPPING) * np.prod(size):
            return whole, self._working(size)
        return cropped, self._working(size_of(cropped))

    def _working(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) at which the network works on a region of ``size``."""
        if self.model.config.variant == "base":
            return FIXED_SIZE
        ratio = self.options.resize_ratio or _largest_ratio(*size, free_bytes(self.device))
        height, width = (max(SMALLEST, round(ratio * n)) for n in size)
        return height, width

    def _log_size(self, size: tuple[int, int], working: tuple[int, int]) -> None:
        if self.model.config.variant == "base" and size != working:
            log.warning(
                "E2FGVI's base variant works at %d x %d only: %d x %d pixels are resized to that and back.",
                *(working[1], working[0], size[1], size[0]),
            )
        elif size != working:
            log.info("E2FGVI works on %d x %d pixels at %d x %d.", size[1], size[0], working[1], working[0])


def _largest_ratio(height: int, width: int, free: int) -> float:
    """The largest of 1, 0.9, 0.8, ... 0.1 at which a window fits into ``free`` bytes."""
    fits = _SHARE * free / (_WINDOW_BYTES * height * width)
    return next((tenths / 10 for tenths in range(10, 1, -1) if (tenths / 10) ** 2 <= fits), 0.1)
