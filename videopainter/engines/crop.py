"""What engines have in common that work on the surroundings of the holes, at a size of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from videopainter.engine import EngineError, Progress, check_masks

# Around the holes the networks see this much, in pixels they work on: an attention window (60 x 108) and what
# lies around it, and room for things that move.
CONTEXT = 128
# Cropping away less than this share of the picture gains no time worth the context it costs.
WORTH_CROPPING = 0.2


class CropEngine(ABC):
    """The options, the checks and the loop over frames; an engine adds its networks and `frames`.

    Args:
        mask_dilation: rounds by which holes grow to their four neighbours for the networks; the spine has
            already dilated them.
        resize_ratio: size that the networks work at, over 0; None: 1, or less where memory is short.
        fp16: half precision, on a GPU only; None: yes on a GPU.
        device: a torch device; None: a GPU if there is one.
        crop: work on the region around the holes instead of the whole picture.

    Raises EngineError for options that cannot be used.
    """

    preferred_size = None
    title: str  # the network's name, for people
    smallest: int  # pixels in either direction

    def __init__(
        self,
        mask_dilation: int,
        resize_ratio: float | None,
        fp16: bool | None,
        device: str | torch.device | None,
        crop: bool,
    ):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if fp16 and self.device.type == "cpu":
            raise EngineError("Half precision (fp16) needs a GPU, and this runs on the CPU.")
        if mask_dilation < 0:
            raise EngineError(f"mask_dilation must be 0 or more, not {mask_dilation}.")
        if resize_ratio is not None and not 0 < resize_ratio <= 4:
            raise EngineError(f"resize_ratio must be over 0 and at most 4, not {resize_ratio}.")
        self.half = self.device.type != "cpu" if fp16 is None else fp16
        self.mask_dilation, self.resize_ratio, self.crop = mask_dilation, resize_ratio, crop

    def __call__(
        self, source, masks, prompt=None, generator=None, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's.

        Raises EngineError for masks that do not fit and for frames that are too small.
        """
        check_masks(source, masks)
        size = tuple(source.size)
        if min(size) < self.smallest:
            raise EngineError(
                f"{self.title} needs {self.smallest} pixels in both directions, not {size} (height, width)."
            )
        for i, frame in enumerate(self.frames(source, masks)):
            yield frame
            if progress is not None:
                progress(i + 1, len(source))

    @abstractmethod
    def frames(self, source, masks) -> Iterator[np.ndarray]:
        """The finished frames, in order."""
