"""Boxes that were found by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SURE = 0.35  # score from which a box counts, as in the authors' demonstration of GroundingDINO
SAME = 0.7  # IoU from which two boxes of one phrase are one thing


@dataclass(frozen=True)
class Found:
    """`box`: x0, y0, x1, y1 in pixels of the frame; `phrase`: the number of what it shows; `score`: 0..1."""

    box: tuple[float, float, float, float]
    phrase: int
    score: float


def thinned(boxes: np.ndarray, scores: np.ndarray) -> list[Found]:
    """Boxes (n, 4) whose best phrase is sure enough, the surest first, but for those that show a thing again.

    `scores`: (n, phrases), 0..1.
    """
    kept: list[Found] = []
    for k in np.argsort(-scores.max(1), kind="stable"):
        phrase = int(scores[k].argmax())
        if scores[k, phrase] < SURE:
            break
        box = tuple(float(v) for v in boxes[k])
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            continue
        if not any(one.phrase == phrase and box_iou(one.box, box) > SAME for one in kept):
            kept.append(Found(box, phrase, float(scores[k, phrase])))
    return kept


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes (x0, y0, x1, y1), corners included."""
    inner = [min(a[2 + k], b[2 + k]) - max(a[k], b[k]) + 1 for k in (0, 1)]
    shared = max(inner[0], 0) * max(inner[1], 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)
