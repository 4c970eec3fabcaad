"""A fixed validation set, what the network reaches on it and what the others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.dstt.align import PreparedFrame
from videopainter.dstt.stream import DSTTStream
from videopainter.dstt.training.data import Sources, draw_sequence
from videopainter.dstt.training.masks_random import moving_masks
from videopainter.metrics import psnr

_SEED = 20_26
_HOLES = (("figure", "travelling"), ("rectangle", "fixed"))


@dataclass
class Case:
    """``frames``: uint8 ``(n, h, w, 3)``. ``masks``: bool ``(n, h, w)``. ``kind``: of hole, in a word."""

    frames: np.ndarray
    masks: np.ndarray
    kind: str


def validation_set(sources: Sources, size: tuple[int, int], count: int = 4, frames: int = 16) -> list[Case]:
    """``count`` scenes with a travelling and a fixed hole each: the same ones whenever it is asked."""
    out = []
    for i in range(count):
        rng = np.random.default_rng((_SEED, i))
        video = draw_sequence(rng, sources, frames, size, footage_share=float(i % 2))
        for shape, motion in _HOLES:
            out.append(Case(video, moving_masks(rng, frames, size, shape, motion), motion))
    return out


class WithoutPrevious(DSTTStream):
    """A stream for comparisons, whose network is never shown its previous output; its tokens remain."""

    def _align(self, i: int, now: PreparedFrame) -> None:
        super()._align(i, now)


def streamed(model, case: Case, use_previous: bool = True) -> np.ndarray:
    """What a stream makes of it, uint8 ``(n, h, w, 3)``; the truth in the hole is painted over first."""
    stream = (DSTTStream if use_previous else WithoutPrevious)(model)
    return np.stack([stream(f, m) for f, m in zip(hidden(case), case.masks)])


def hidden(case: Case) -> np.ndarray:
    """The frames with magenta holes, so that a leak would show in the score."""
    frames = case.frames.copy()
    frames[case.masks] = (255, 0, 255)
    return frames


def telea(case: Case) -> np.ndarray:
    """OpenCV's inpainting of each frame by itself."""
    holes = case.masks.view(np.uint8)
    return np.stack([cv2.inpaint(f, m, 3, cv2.INPAINT_TELEA) for f, m in zip(hidden(case), holes)])


def mean_psnr(results: Sequence[np.ndarray], cases: Sequence[Case]) -> dict[str, float]:
    """Kind of hole -> mean over its cases of the PSNR in the hole, pooled over frames, in dB."""
    found: dict[str, list[float]] = {}
    for result, case in zip(results, cases):
        found.setdefault(case.kind, []).append(psnr(result, case.frames, case.masks)[0])
    return {kind: float(np.mean(values)) for kind, values in found.items()}
