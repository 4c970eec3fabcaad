"""Which prompts speak of the same thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from videopainter.masks import MaskError, touching
from videopainter.segmentation.prompts import (
    BoxPrompt,
    ClickPrompt,
    MaskPrompt,
    Prompt,
    corners,
    is_positive,
    pixel,
)

Touched = Callable[[Prompt], np.ndarray]  # bool (height, width): what one prompt stands for


def by_object(prompts: Sequence[Prompt], source, touched: Touched) -> dict[int, list[Prompt]]:
    """Object number -> its prompts, in the order of the numbers.

    Prompts with a number are as numbered. Of those without, the ones on one frame are together if one lies in the
    box, in the painted pixels or in the mask of the other, or their masks touch; a later frame's go to the thing
    that looks most like it. Negative ones without a number concern every thing without a number, or every object if
    there is none.

    Raises MaskError for an object with nothing positive.
    """
    numbered: dict[int, list[Prompt]] = {}
    for p in prompts:
        if p.object_id is not None:
            numbered.setdefault(p.object_id, []).append(p)
    free = [p for p in prompts if p.object_id is None]
    things = _things([p for p in free if is_positive(p)], source, touched)
    for number in (n for n in range(1, 256) if n not in numbered):
        if not things:
            break
        numbered[number] = things.pop(0)
    beside = [p for p in free if not is_positive(p)]
    unnumbered = [own for own in numbered.values() if any(p.object_id is None for p in own)]
    for own in unnumbered or numbered.values():
        own.extend(beside)
    for number, own in numbered.items():
        if not any(is_positive(p) for p in own):
            raise MaskError(f"Object {number} has neither a positive click nor a box.")
    order = {id(p): i for i, p in enumerate(prompts)}
    return {n: sorted(own, key=lambda p: order[id(p)]) for n, own in sorted(numbered.items())}


def _things(prompts: list[Prompt], source, touched: Touched) -> list[list[Prompt]]:
    """The positive prompts without a number, by thing."""
    masks: dict[int, np.ndarray] = {}

    def mask(p: Prompt) -> np.ndarray:
        if id(p) not in masks:
            masks[id(p)] = p.mask if isinstance(p, MaskPrompt) else touched(p)
        return masks[id(p)]

    things: list[list[Prompt]] = []
    for frame in sorted({p.frame for p in prompts}):
        clusters = _clusters([p for p in prompts if p.frame == frame], mask)
        if not things:
            things = clusters
            continue
        taken: set[int] = set()
        for cluster in clusters:
            left = [k for k in range(len(things)) if k not in taken]
            if not left:
                things.append(cluster)
                continue
            best = left[0]
            if len(things) > 1 or len(clusters) > 1:
                looks = _looks(source, cluster[0], mask)
                best = max(left, key=lambda k: np.minimum(looks, _looks(source, things[k][0], mask)).sum())
            things[best] = things[best] + cluster
            taken.add(best)
    return things


def _clusters(prompts: list[Prompt], mask: Touched) -> list[list[Prompt]]:
    """Prompts of one frame, those on one thing together."""
    clusters: list[list[Prompt]] = []
    for p in prompts:
        near = [c for c in clusters if any(_same(p, other, mask) for other in c)]
        rest = [c for c in clusters if not any(c is n for n in near)]
        clusters = [*rest, [*(q for c in near for q in c), p]]
    return clusters


def _same(a: Prompt, b: Prompt, mask: Touched) -> bool:
    if isinstance(a, BoxPrompt) and isinstance(b, BoxPrompt):
        return False
    for one, other in ((a, b), (b, a)):
        if isinstance(one, BoxPrompt) and isinstance(other, ClickPrompt):
            x0, y0, x1, y1 = corners(one)
            if x0 <= other.x <= x1 and y0 <= other.y <= y1:
                return True
        if isinstance(other, ClickPrompt) and mask(one)[pixel(other, mask(one).shape)]:
            return True
    return touching(mask(a), mask(b))


def _looks(source, p: Prompt, mask: Touched) -> np.ndarray:
    """Share of each of 8 x 8 x 8 colours of Lab in what a prompt stands for, float32."""
    lab = cv2.cvtColor(np.ascontiguousarray(source[p.frame : p.frame + 1][0]), cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], mask(p).astype(np.uint8), [8, 8, 8], [0, 256] * 3)
    return counts / max(counts.sum(), 1)
