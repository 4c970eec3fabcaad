"""Finding a thing again that was out of sight, by its looks alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.segmentation.classical import appearance
from videopainter.segmentation.classical.motion import Clip

BINS = [8, 12, 12]  # of lightness and colour in the histogram of a thing
ALIKE = 0.6  # histogram intersection from which something looks like the thing
OTHER_COLOURS = 0.4  # and below that, if its texture is another as well, it is something else
ANOTHER_TEXTURE = -0.75  # log-odds
LEARNED = 0.1  # share of the colours that each frame brings
MARGIN = 24  # pixels around a find that the outline is drawn in


@dataclass
class Looks:
    """What a thing looked like where a user pointed at it: samples of it and of what was around, its colours and
    its extent; `confidence`, of the last find.
    """

    bank: appearance.Bank
    colours: np.ndarray
    area: float
    aspect: float
    confidence: float = 0.0

    @classmethod
    def of(cls, clip: Clip, i: int, mask: np.ndarray) -> Looks:
        """From bool (height, width), the thing in frame `i`."""
        inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        inside = inside if inside.sum() >= 30 else mask
        outside = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
        bank = appearance.Bank(appearance.features(clip.lab(i)), inside, outside, size=700)
        _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
        return cls(bank, _colours(clip.lab_bytes(i), mask), float(mask.sum()), w / max(h, 1))

    def gone(self, clip: Clip, i: int, mask: np.ndarray) -> bool:
        """Whether what bool `mask` holds in frame `i` is something else: neither its colours nor its texture.

        A mask that stays on the background when the thing has left is found out by that. While the texture is the
        thing's, its colours are learned on, as light changes.
        """
        box = bounding_box(mask)
        if box is None or not self.bank.usable:
            return False
        feature = appearance.features(clip.lab(i)[box])
        odds = float(self.bank.log_odds(feature, stride=3)[mask[box]].mean())
        colours = _colours(clip.lab_bytes(i), mask)
        if odds > 0:
            self.colours = (1 - LEARNED) * self.colours + LEARNED * colours
        return odds < ANOTHER_TEXTURE and np.minimum(colours, self.colours).sum() < OTHER_COLOURS

    def find(self, clip: Clip, i: int) -> np.ndarray | None:
        """bool (height, width) of what looks most like the thing in frame `i`; None if nothing does."""
        self.confidence = 0.0
        if not self.bank.usable:
            return None
        lab = clip.lab(i)
        odds = cv2.GaussianBlur(self.bank.log_odds(appearance.features(lab), stride=4), (0, 0), 1.5)
        there = cv2.morphologyEx((odds > 0.5).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(there, connectivity=8)
        best = None
        for k in range(1, count):
            x, y, w, h, area = stats[k]
            if not 0.3 * self.area < area < 2.5 * self.area:
                continue
            here = (slice(max(y - MARGIN, 0), y + h + MARGIN), slice(max(x - MARGIN, 0), x + w + MARGIN))
            near = (labels[here] == k).astype(np.uint8)
            away = cv2.distanceTransform(1 - near, cv2.DIST_L2, 3)
            part = appearance.cut(1.5 * odds[here] - np.clip(away / 6, 0, 4), lab[here]) > 0.5
            part = appearance.parts_touching(part, near > 0, 8)
            mask = np.zeros(there.shape, bool)
            mask[here] = appearance.fill_holes(part, 0.1 * max(part.sum(), 60))
            alike = self._alike(clip.lab_bytes(i), mask)
            if alike > max(ALIKE, self.confidence):
                best, self.confidence = mask, alike
        return best

    def _alike(self, lab: np.ndarray, mask: np.ndarray) -> float:
        """0..1: how much something of another frame has the colours, the size and the shape of the thing."""
        _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
        if not 0.4 * self.area < mask.sum() < 2 * self.area or not 0.5 < w / max(h, 1) / self.aspect < 2:
            return 0.0
        return float(np.minimum(_colours(lab, mask), self.colours).sum())


def _colours(lab: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share of each colour, blurred by half a bin, in bool `mask` of Lab uint8 (height, width, 3)."""
    counts = cv2.calcHist([lab], [0, 1, 2], mask.astype(np.uint8), BINS, [0, 256] * 3)
    counts = cv2.GaussianBlur(counts.reshape(BINS[0], -1), (0, 0), 0.6)
    return counts / max(counts.sum(), 1)
