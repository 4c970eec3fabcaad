"""ProPainter as an engine of the spine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from videopainter.engines.base import Confidence, EngineError
from videopainter.engines.crop import (
    CONTEXT,
    WORTH_CROPPING,
    Box,
    CropEngine,
    SourceClip,
    put_back,
    size_of,
    union_box,
    untouched,
    wider,
)
from videopainter.ops.resize import resize
from videopainter.propainter import convert, memory
from videopainter.propainter.configuration import check_options
from videopainter.propainter.frames import process_size
from videopainter.propainter.modeling import ProPainterModel
from videopainter.propainter.optical_flow import SMALLEST as SMALLEST_FLOW
from videopainter.propainter.spec import SPEC, ProPainterOptions
from videopainter.propainter.streaming import SMALLEST


class ProPainterEngine(CropEngine):
    """Removes things with ProPainter, in memory that does not grow with the video's length.

    Only the region around the holes is worked on, and where no frame near has a hole nothing is. Deterministic;
    a prompt has no meaning here.

    Args:
        weights: a converted folder or one with the three released files; None: `ckpt/propainter`.
        model: a loaded model instead; it is moved to the device and cast.
        crop: False works on the whole picture.
        options: see `ProPainterOptions`.

    Raises EngineError for weights that cannot be loaded and options that cannot be used.
    """

    title, smallest = "ProPainter", SMALLEST

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        model: ProPainterModel | None = None,
        *,
        crop: bool = True,
        **options,
    ):
        chosen = ProPainterOptions(**options)
        super().__init__(SPEC, chosen, crop)
        try:
            length = chosen.subvideo_length or memory.LONGEST
            check_options(chosen.neighbor_length, chosen.ref_stride, length, chosen.raft_iter)
            if model is None:
                model = convert.load(weights)
        except ValueError as error:
            raise EngineError(str(error)) from error
        self.model = model.to(self.device)
        if self.options.fp16:
            # Optical flow stays in float32.
            self.model.flow_completion_net.half()
            self.model.inpaint_generator.half()

    def frames(
        self, source, masks, beat: Callable[[], None], confidence: Confidence | None = None
    ) -> Iterator[np.ndarray]:
        """The finished frames, in order."""
        options, free = self.options, memory.free_bytes(self.device)
        box, working = self._region(masks, tuple(source.size), free, beat)
        if box is None:
            return tell(untouched(source), masks, (slice(0), slice(0)), {}, confidence)
        clip = _Clip(source, masks, box, working, options.mask_dilation)
        left: dict[int, np.ndarray] = {}  # of a frame, what flow found nowhere; uint8 at the working size

        def watch(name: str, i: int, value) -> None:
            if name == "filled":
                left[i] = value[3, : working[0], : working[1]].byte().cpu().numpy()

        inpainted = self.model.paint(
            clip,
            subvideo_length=options.subvideo_length or memory.subvideo_length(*working, free),
            ref_stride=options.ref_stride,
            neighbor_length=options.neighbor_length,
            raft_iter=options.raft_iter,
            **({} if confidence is None else {"watch": watch}),
        )
        return tell(put_back(source, masks, box, inpainted), masks, box, left, confidence)

    def _region(self, masks, size: tuple[int, int], free: int, beat: Callable[[], None] = lambda: None):
        """What is worked on, (rows, columns) or None if there is no hole at all, and its size for the networks."""
        box = union_box(masks, beat)
        if box is None:
            return None, size
        whole = slice(0, size[0]), slice(0, size[1])
        ratio = self.options.resize_ratio or memory.resize_ratio(*size, free)
        if self.crop:
            margin = round(CONTEXT / ratio) + self.options.mask_dilation
            cropped = tuple(wider(s, margin, n, SMALLEST_FLOW / ratio) for s, n in zip(box, size))
            # With a smaller region the size may fit that did not fit the whole picture.
            if self.options.resize_ratio is None and ratio < 1:
                ratio = memory.resize_ratio(*size_of(cropped), free)
            if np.prod(size_of(cropped)) <= (1 - WORTH_CROPPING) * np.prod(size):
                return cropped, _working(size_of(cropped), ratio)
        return whole, _working(size, ratio)


def tell(frames, masks, box: Box, left: dict[int, np.ndarray], confidence: Confidence | None):
    """`frames`; before each `confidence` hears of it: 0 where `left` is not 0 in the region, else 255."""
    with closing(frames):
        for i, frame in enumerate(frames):
            if confidence is not None:
                sure = np.full(frame.shape[:2], 255, np.uint8)
                if (missing := left.pop(i, None)) is not None:
                    hole = np.asarray(masks[i], bool)[box]
                    sure[box][hole & (resize(missing, hole.shape, "nearest") > 0)] = 0
                confidence(i, sure)
            yield frame


class _Clip(SourceClip):
    flow_hole = SourceClip.hole


def _working(size: tuple[int, int], ratio: float) -> tuple[int, int]:
    """What `size` comes down to at `ratio`: the networks' own rounding, but never under the smallest picture."""
    if ratio == 1:
        return size  # the networks continue pictures to multiples of 8 by themselves
    height, width = process_size(int(ratio * size[0]), int(ratio * size[1]))
    return max(SMALLEST, height), max(SMALLEST, width)
