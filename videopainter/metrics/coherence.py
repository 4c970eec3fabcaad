"""Removal coherence of PROVE (Li et al. 2026, arXiv 2605.14534): does the hole look as if nothing had been there?

Neither figure needs the truth. Both compare DINOv2's features of picture patches as distributions: the squared maximum
mean discrepancy (MMD) of two sets of unit vectors under a Gaussian kernel of width 10, times 1000.

- RC-S, of one frame, 0 to 1, higher is better: what is in the hole against what surrounds it, within windows that
  slide over a square about each connected piece of the hole; the mean discrepancy becomes exp(-mean / 3).
- RC-T, of a frame and the next, from 0, lower is better: the part of the hole that both share, in either.

Constants and the order of operations are those of the published code (github.com/xiaomi-research/prove), which gives
the same figures with the same random weights. It uses facebook/dinov2-giant, and at most the first 81 frames.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModel

from videopainter.weights import WeightsError

SIDE = 448  # pixels of the longer side of a crop, as DINOv2 sees it
MARGIN = 1 / 3  # by which a square grows on each side, where the picture goes on
LEAST_AREA = 200  # pixels of a piece of the hole that counts, where there is a larger one
WINDOW, STRIDE, GRID = 16, 8, 64  # of windows, in patches of a grid of 64; of a smaller one accordingly less
LEAST = 5  # patches: RC-S needs more on either side, RC-T so many
WIDTH, SCALE, TEMPERATURE = 10.0, 1000.0, 3.0
FRAMES = 81
MEAN = (0.485, 0.456, 0.406)  # of DINOv2's pictures, 0 to 1
STD = (0.229, 0.224, 0.225)
MODELS = ("dinov2", "dinov2_with_registers")


@dataclass(frozen=True)
class _Seen:
    """Unit features ``(channels, rows, columns)`` of a crop, and which patches hold a masked pixel."""

    features: torch.Tensor
    hole: torch.Tensor


class RemovalCoherence:
    """DINOv2 from a folder or a name of the Hugging Face Hub, such as facebook/dinov2-giant.

    Raises WeightsError, one sentence, if it is not there or another kind of network.
    """

    def __init__(self, model: str | os.PathLike, device: str = "cpu"):
        try:
            self.model = AutoModel.from_pretrained(model).to(device).eval()
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"DINOv2 cannot be loaded from '{model}': {str(error).splitlines()[0]}"
            ) from None
        if self.model.config.model_type not in MODELS:
            raise WeightsError(f"'{model}' is {self.model.config.model_type}, not DINOv2.")
        self.device = device

    def spatial(self, frames: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float | None:
        """RC-S: mean over the first 81 frames, uint8 ``(h, w, 3)`` with bool ``(h, w)``; None where none has one."""
        pairs = zip(frames[:FRAMES], masks[:FRAMES])
        return _mean([self._frame(frame, mask) for frame, mask in pairs])

    def temporal(self, frames: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float | None:
        """RC-T: mean over neighbours among the first 81 frames; None where none share a hole."""
        frames, masks = frames[:FRAMES], masks[:FRAMES]
        return _mean([self._pair(frames[i : i + 2], masks[i : i + 2]) for i in range(len(frames) - 1)])

    def _frame(self, frame: np.ndarray, mask: np.ndarray) -> float | None:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        if count < 2:
            return None
        least = min(LEAST_AREA, int(areas.max()))
        scores = []
        for number in np.flatnonzero(areas >= least) + 1:
            place = _square(labels == number)
            scores.append(self._piece(self._see(frame[place], mask[place])))
        # As published: a piece without a window that can be compared leaves its frame without a figure.
        return None if None in scores else float(np.mean(scores))

    def _piece(self, seen: _Seen) -> float | None:
        background = seen.features[:, ~seen.hole].T
        found = []
        for features, hole in _windows(seen.features, seen.hole):
            inside, outside = int(hole.sum()), int((~hole).sum())
            if inside > LEAST and outside > LEAST:
                found.append(_discrepancy(features[hole], features[~hole]))
            elif inside > LEAST and not outside and len(background):
                found.append(_discrepancy(features[hole], background))
        return math.exp(-max(0.0, float(np.mean(found))) / TEMPERATURE) if found else None

    def _pair(self, frames: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float | None:
        either = masks[0] | masks[1]
        if not either.any():
            return None
        place = _square(either)
        one, other = (self._see(frame[place], mask[place]) for frame, mask in zip(frames, masks))
        shared = one.hole & other.hole
        found = [
            _discrepancy(features[hole], later[hole])
            for (features, hole), (later, _) in zip(
                _windows(one.features, shared), _windows(other.features, shared)
            )
            if int(hole.sum()) >= LEAST
        ]
        return float(np.mean(found)) if found else None

    @torch.no_grad()
    def _see(self, crop: np.ndarray, mask: np.ndarray) -> _Seen:
        patch, scale = self.model.config.patch_size, SIDE / max(crop.shape[:2])
        height, width = (int(n * scale) for n in crop.shape[:2])
        below, right = -height % patch, -width % patch
        picture = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_LINEAR)
        # Padded with the mean colour, as whole numbers.
        colour = tuple(int(255 * n) for n in MEAN)
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=colour)
        pixels = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(one, device=self.device).reshape(1, 3, 1, 1) for one in (MEAN, STD))
        tokens = self.model((pixels - mean) / std).last_hidden_state[0]
        rows, columns = (height + below) // patch, (width + right) // patch
        features = tokens[len(tokens) - rows * columns :].T.reshape(-1, rows, columns)
        hole = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
        hole = np.pad(hole, ((0, below), (0, right)))
        cells = F.max_pool2d(torch.from_numpy(hole)[None, None], patch)[0, 0] > 0
        # The figure is a small difference of numbers near 1.
        return _Seen(F.normalize(features.double(), dim=0), cells.to(self.device))


def _square(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the smallest square about what is masked, grown by `MARGIN` as far as the picture goes.

    All sides grow alike; where one is at the picture's edge, none does.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    ends = ((int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1))
    size = max(end - begin for begin, end in ends)
    starts = [round((begin + end) / 2 - size / 2) for begin, end in ends]
    room = [*starts, *(length - (start + size) for start, length in zip(starts, mask.shape))]
    grow = max(0, min(round(size * MARGIN), size // 2, *room))
    whole = min(size + 2 * grow, *mask.shape)
    found = [max(0, min(max(0, start - grow), length - whole)) for start, length in zip(starts, mask.shape)]
    return slice(found[0], found[0] + whole), slice(found[1], found[1] + whole)


def _windows(features: torch.Tensor, hole: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(features ``(patches, channels)``, which are in the hole) of each window."""
    share = max(hole.shape) / GRID
    size, step = (max(1, int(n * share)) for n in (WINDOW, STRIDE))
    found = []
    for top in range(0, hole.shape[0] - size + 1, step):
        for left in range(0, hole.shape[1] - size + 1, step):
            part = (slice(top, top + size), slice(left, left + size))
            found.append((features[(slice(None), *part)].flatten(1).T, hole[part].flatten()))
    return found


def _discrepancy(one: torch.Tensor, other: torch.Tensor) -> float:
    """Squared MMD of unit vectors ``(n, channels)``, times `SCALE`; pairs of a vector with itself count."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.exp(-torch.cdist(a, b).pow(2) / (2 * WIDTH**2)).mean()

    return float(kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)) * SCALE


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
