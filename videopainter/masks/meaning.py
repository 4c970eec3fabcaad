"""What the values of masks mean: found from all masks of a track together, never from one alone.

People keep masks in alpha, in palettes, as 0 and 1, as 0 and 255, with soft edges, through codecs. What follows is
told from how often each value occurs, and from whether it fills areas: labels do, noise and soft edges do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from videopainter.masks.picture import Picture

MOST = 65535  # values above share a bin
STEP = 16  # of 255: levels that are nearer to each other belong to one cluster; what differs by less is no contrast
SOLID = 0.5  # of a value's pixels that lie inside of areas of it: then it is a level, not noise nor an edge
AREAS = 0.6  # the same of small numbers that a codec has been at
FLAT = 0.9  # of all pixels: a picture that is all areas
FEW = 0.02  # of the marked pixels may have values that are not solid, in a map of labels
MOST_LABELS = 128  # of 255 grey levels; more are a gradient
GREY = 12  # of 255, by which the channels of a grey may differ
DARK, BRIGHT = 64, 190  # what counts as black and as white in a palette


class Plane(Enum):
    """Where in a picture the mask is."""

    ALPHA = "alpha"
    LEVELS = "levels"
    LABELS = "labels"


@dataclass(frozen=True)
class Meaning:
    """How pictures become labels: in which plane the mask is, and above which value it marks.

    above: None: the plane holds labels, of which 0 keeps.
    """

    plane: Plane
    above: float | None = None

    def __call__(self, picture: Picture) -> np.ndarray:
        """Labels (height, width), bool or integers; 0 keeps."""
        if self.plane is Plane.LABELS:
            values = picture.labels()
        elif self.plane is Plane.LEVELS:
            values = picture.levels()
        elif picture.alpha is not None:
            values = picture.alpha
        else:  # one page without alpha, which is opaque
            return np.ones(picture.size, bool)
        return values if self.above is None else values > self.above


@dataclass
class Levels:
    """How often each value of a plane occurs, and how often inside of an area of itself."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(MOST + 1, np.int64))
    inside: np.ndarray = field(default_factory=lambda: np.zeros(MOST + 1, np.int64))
    lowest: float = 0.0
    highest: float = 0.0
    whole: bool = True  # no fractions
    _fractions: np.ndarray | None = None  # the same counts of value * MOST, where there are fractions

    def add(self, values: np.ndarray) -> None:
        if values.dtype.kind in "if":
            self.lowest = min(self.lowest, float(values.min(initial=0)))
            self.highest = max(self.highest, float(values.max(initial=0)))
        if values.dtype.kind == "f":
            values = values.astype(np.float64)
            self.whole = self.whole and bool((values == np.rint(values)).all())
            if self._fractions is None:
                self._fractions = np.zeros(MOST + 1, np.int64)
            scaled = np.rint(np.clip(values, 0, 1) * MOST).astype(np.uint16)
            self._fractions += np.bincount(scaled.ravel(), minlength=MOST + 1)
            values = np.rint(values)
        if values.dtype.itemsize > 2 or values.dtype.kind in "if":
            values = np.minimum(np.abs(values.astype(np.float64)), MOST).astype(np.uint16)
        elif values.dtype.kind == "b":
            values = values.view(np.uint8)
        top = int(values.max(initial=0)) + 1
        self.counts[:top] += np.bincount(values.ravel(), minlength=top)
        same = values[:-1, :-1] == values[1:, 1:]
        same &= values[:-1, :-1] == values[1:, :-1]
        same &= values[:-1, :-1] == values[:-1, 1:]
        self.inside[:top] += np.bincount(values[:-1, :-1][same], minlength=top)

    def above(self, lossy: bool) -> float | None:
        """The value above which the plane marks; None if it holds labels."""
        if self.lowest < 0 and (self.highest > 0 or not self.whole):
            return 0.0  # what a network gives before its sigmoid; or -1 and 1
        if self.whole or self._fractions is None:
            return threshold(self.counts, self.inside, lossy)
        if self.highest > 1:
            return (self.lowest + self.highest) / 2
        found = threshold(self._fractions, np.zeros_like(self._fractions), lossy, full=MOST)
        return 0.0 if found is None else found / MOST

    @property
    def span(self) -> int:
        present = np.flatnonzero(self.counts)
        return int(present[-1] - present[0]) if len(present) else 0


def meaning_of(pictures: Iterable[Picture]) -> Meaning:
    """What all of them, the masks of one track, mean."""
    alpha, levels, labels = Levels(), Levels(), Levels()
    lossy, has_palette, has_colours = False, False, False
    black_and_white, opaque_zero = True, False
    reordered = False
    for picture in pictures:
        lossy |= picture.lossy
        if picture.alpha is not None:
            alpha.add(picture.alpha)
        if picture.palette is None:
            levels.add(picture.levels())
            has_colours = True
            continue
        has_palette = True
        levels.add(picture.levels())
        labels.add(picture.values)
        used = np.flatnonzero(np.bincount(picture.values.ravel()))
        colours = picture.palette[np.minimum(used, len(picture.palette) - 1)].astype(int)
        black_and_white &= bool((colours.max(axis=1) - colours.min(axis=1) <= GREY).all())
        black = (colours.max(axis=1) <= GREY) & (used > 0)
        reordered |= bool(black.any()) and picture.palette[0].max() > DARK
        if picture.alpha is not None:
            opaque_zero |= bool((picture.alpha[picture.values == 0] > 0).any())
    # A palette that was made for the picture has its colours in any order, one of labels has the background first.
    coloured = has_palette and not has_colours and not black_and_white and not reordered
    if (alpha.span >= STEP or (alpha.span and not levels.span)) and not (coloured and not opaque_zero):
        return Meaning(Plane.ALPHA, alpha.above(lossy))
    if has_palette and not has_colours:
        seen = np.flatnonzero(levels.counts)
        extreme = seen[0] <= DARK and seen[-1] >= BRIGHT
        if coloured or (black_and_white and not extreme and labels.span):
            return Meaning(Plane.LABELS)
    return Meaning(Plane.LEVELS, levels.above(lossy))


def threshold(counts: np.ndarray, inside: np.ndarray, lossy: bool, full: int = 0) -> float | None:
    """The value above which a plane marks, by how often each value occurs; None if the values are labels.

    full: white, where that is known.
    """
    values = np.flatnonzero(counts)
    low, high = int(values[0]), int(values[-1])
    if low == high:
        return None
    counts, inside = counts[values], inside[values]
    step = STEP * max(1.0, (full or high) / 255)
    if len(values) == 2 and not (lossy and high - low < step):
        return None if low == 0 else (low + high) / 2
    solid = inside >= SOLID * counts
    if not lossy and low == 0 and _are_labels(counts, solid):
        return None
    if high - low < step:
        level = _small_numbers(values, counts, inside)
        if level is None:  # nothing but noise
            level = high if _median(values, counts) < 128 * step / STEP else low - 1
        return level
    clusters = _clusters(values[solid], counts[solid], step)
    if len(clusters) > 1:
        return (clusters[0] + clusters[1]) / 2
    return _between(values, counts)


def _are_labels(counts: np.ndarray, solid: np.ndarray) -> bool:
    loose = ~solid[1:]
    few = counts[1:][loose].sum() <= FEW * counts[1:].sum()
    return bool(few) and loose.sum() * 4 <= len(loose) and len(counts) <= MOST_LABELS


def _small_numbers(values: np.ndarray, counts: np.ndarray, inside: np.ndarray) -> float | None:
    """The level above 0, of 0 and 1, or of labels, that a codec has left nearly as they were; None for noise.

    These fill areas, and one of them, mostly what is kept, is the lowest or the highest.
    """
    usual = int(np.argmax(counts))
    frequent = np.flatnonzero(counts >= 0.1 * (counts.sum() - counts[usual]))
    areas = (inside[frequent] >= AREAS * counts[frequent]).all() and inside.sum() >= FLAT * counts.sum()
    if not areas or len(frequent) < 2 or usual not in (frequent[0], frequent[-1]):
        return None
    return float(values[frequent[0]]) + 0.5


def _clusters(values: np.ndarray, counts: np.ndarray, step: float) -> list[float]:
    """The middles of groups of values that lie `step` and more apart, lowest first; specks are left out."""
    if not len(values):
        return []
    groups = np.split(np.arange(len(values)), np.flatnonzero(np.diff(values) >= step) + 1)
    weights = [counts[group].sum() for group in groups]
    # The largest is mostly what is kept; an object may be small, but no speck beside all others.
    least = 0.01 * (sum(weights) - max(weights))
    return [
        _median(values[group], counts[group]) for group, weight in zip(groups, weights) if weight >= least
    ]


def _between(values: np.ndarray, counts: np.ndarray) -> float:
    """The middle between what is usual among the dark and among the bright values.

    Where there are black and white it is the middle of the scale, where the edge of something blurred was.
    """
    middle = found = (values[0] + values[-1]) / 2
    edge = STEP / 255 * values[-1]
    white, not_black = values >= values[-1] - edge, values > values[0] + edge
    if values[0] <= edge and counts[white].sum() >= 0.05 * counts[not_black].sum():
        return float(middle)
    for _ in range(50):
        dark = values <= found
        if dark.all() or not dark.any():
            break
        better = (_median(values[dark], counts[dark]) + _median(values[~dark], counts[~dark])) / 2
        if better == found:
            break
        found = better
    near = abs(found - middle) < 0.05 * (values[-1] - values[0])
    return float(middle if near else found)


def _median(values: np.ndarray, counts: np.ndarray) -> float:
    return float(values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])
