"""The first mask: which pixels belong to the thing that was clicked on."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.classical import appearance, motion
from videopainter.segmentation.classical.motion import Clip

CLICK_RADIUS = 5  # pixels around a click taken to be of the same thing
RADII = (16, 26, 40, 60, 90, 130)  # sizes tried for a thing that does not move
NEVER = 30.0  # log-odds that nothing can outweigh


class Hints:
    """Clicks, boxes and painted pixels of one frame in working pixels.

    `added`, `erased`: bool (height, width), brush strokes; `whole`: bool, the object's mask as the user gave it.
    """

    def __init__(self, positive=(), negative=(), boxes=(), added=None, erased=None, whole=None):
        self.positive = [(float(x), float(y)) for x, y in positive]
        self.negative = [(float(x), float(y)) for x, y in negative]
        self.boxes = [tuple(map(float, b)) for b in boxes]
        self.added, self.erased, self.whole = added, erased, whole

    @property
    def any_positive(self) -> bool:
        """Whether something says where the object is."""
        return bool(self.positive or self.boxes) or self.added is not None or self.whole is not None

    @property
    def corrects(self) -> bool:
        """Whether there is more than a whole mask."""
        return bool(self.positive or self.negative or self.boxes) or not (self.added is self.erased is None)

    def cropped(self, here: tuple[slice, slice]) -> Hints:
        """The same hints in (rows, columns) of the picture."""
        dx, dy = here[1].start, here[0].start
        shift = [[(x - dx, y - dy) for x, y in points] for points in (self.positive, self.negative)]
        boxes = [(x0 - dx, y0 - dy, x1 - dx, y1 - dy) for x0, y0, x1, y1 in self.boxes]
        painted = [None if m is None else m[here] for m in (self.added, self.erased, self.whole)]
        return Hints(*shift, boxes, *painted)

    def beside(self, shape) -> np.ndarray:
        """bool (h, w): pixels that surely do not belong to the object."""
        beside = self.discs(shape, self.negative)
        return beside if self.erased is None else beside | self.erased

    def discs(self, shape, points, radius=CLICK_RADIUS) -> np.ndarray:
        """bool (h, w): True within `radius` of one of the points."""
        drawn = np.zeros(shape, np.uint8)
        for x, y in points:
            cv2.circle(drawn, (round(x), round(y)), radius, 1, -1)
        return drawn > 0

    def outside_boxes(self, shape) -> np.ndarray:
        """bool (h, w): True outside all boxes; False everywhere if there is none."""
        if not self.boxes:
            return np.zeros(shape, bool)
        drawn = np.ones(shape, bool)
        for x0, y0, x1, y1 in self.boxes:
            drawn[max(0, round(y0)) : max(0, round(y1) + 1), max(0, round(x0)) : max(0, round(x1) + 1)] = (
                False
            )
        return drawn

    def seeds(self, shape) -> np.ndarray:
        """bool (h, w): pixels that surely belong to the object."""
        seeds = self.discs(shape, self.positive)
        if self.added is not None:
            seeds |= self.added
        elif not self.positive:
            for x0, y0, x1, y1 in self.boxes:
                cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 5, (y1 - y0) / 5
                y, x = np.mgrid[: shape[0], : shape[1]]
                seeds |= ((x - cx) / max(rx, 1)) ** 2 + ((y - cy) / max(ry, 1)) ** 2 <= 1
        seeds &= ~self.discs(shape, self.negative, 3)
        return seeds if self.erased is None else seeds & ~self.erased

    def force(self, odds: np.ndarray) -> np.ndarray:
        """Log-odds float32 (h, w) with what the user said written over them."""
        odds = odds.copy()
        odds[self.outside_boxes(odds.shape)] = -NEVER
        odds[self.seeds(odds.shape)] = NEVER
        odds[self.beside(odds.shape)] = -NEVER
        return odds


def select(
    clip: Clip, i: int, hints: Hints, prior: np.ndarray | None = None, alone: bool = False
) -> np.ndarray:
    """Mask bool (height, width) of the object that `hints` point at in frame `i`.

    `prior` is the mask that tracking expected there, if any; clicks then correct it, as they do a mask that the
    user gave. `alone`: look at no other frame.
    """
    if hints.whole is not None:
        if not hints.corrects:
            return hints.whole.copy()
        prior = hints.whole
    if prior is not None and prior.any():
        return _correct(clip, i, hints, prior)
    seeds = hints.seeds((clip.height, clip.width))
    if seeds.any() and not alone:
        mask = _moving(clip, i, hints, seeds)
        if mask is not None:
            return mask
    return _still(clip, i, hints)


def _finish(odds, lab, hints, seeds, smallest=8) -> np.ndarray:
    mask = appearance.cut(hints.force(odds), lab) > 0.5
    mask = (
        appearance.parts_touching(mask, seeds, smallest) if not mask[seeds].any() else parts_with(mask, seeds)
    )
    return appearance.fill_holes(mask | seeds, 0.15 * max(mask.sum(), 100))


def parts_with(mask, seeds) -> np.ndarray:
    """The connected parts of bool (h, w) that hold one of the seeds."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return mask & np.isin(labels, np.unique(labels[seeds & mask]))


def _moving(clip, i, hints, seeds):
    """The mask of something that moves against the camera, or None if nothing does at the clicks.

    Start from what both differs from the background and moves like the clicked spot; learn its colours;
    decide
    the rest by all three. What other moving things uncover later differs too, but does not move here and now.
    """
    lab, everywhere = clip.lab(i), (0, 0, clip.width, clip.height)
    difference, support = motion.background_difference(clip, i, everywhere, {}, motion.FAR_OFFSETS, 0.3)
    difference = cv2.GaussianBlur(difference, (0, 0), 1.0)
    paths = motion.trajectories(clip, i)
    at_click = [np.median(p[seeds], axis=0) for p in paths]
    noise = float(np.median(difference))
    step = float(np.median(difference[seeds]))
    moves = any(
        np.linalg.norm(c) > 1.5 + 2 * np.median(np.linalg.norm(p, axis=-1)) for c, p in zip(at_click, paths)
    )
    differs = step > max(12.0, 2.5 * noise + 4) and support.max() >= 2
    if not (moves or differs):
        return None
    # thing and background are about equally far, in ratio, from the threshold
    threshold = float(np.sqrt(max(noise, 3.0) * np.clip(step, 20.0, 60.0)))
    odds = np.clip(3.0 * np.log((difference + 1) / (threshold + 1)), -3, 3).astype(np.float32)
    alike = np.zeros_like(odds)
    if moves:
        alike = np.mean([motion.likeness(p, c) for p, c in zip(paths, at_click)], axis=0)
        odds = np.minimum(np.where(support > 0, odds, 3.0), 3.0 * alike + 0.5) + 0.5 * alike
    odds = odds.astype(np.float32)
    feature = appearance.features(lab)
    cues = {"difference": difference, "alike": alike, "feature": feature, "lab": lab}
    best, best_score = None, -np.inf
    for aspect in (1.0, 1.8):
        distance = _distance(seeds, aspect)
        for radius in RADII if hints.boxes == [] else RADII[-1:]:
            limit = np.clip(6 * (distance / radius - 0.85), 0, NEVER).astype(np.float32)
            mask = _refine(odds, limit, cues, hints, seeds)
            if mask is None:
                continue
            score = _outline_score(mask, cues)
            if score > best_score:
                best, best_score = mask, score
    return best


def _distance(seeds, aspect) -> np.ndarray:
    """Distance float32 (h, w) to the nearest seed, sideways counting `aspect` times."""
    h, w = seeds.shape
    wide = cv2.resize(seeds.astype(np.uint8), (round(w * aspect), h), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(cv2.distanceTransform(1 - wide, cv2.DIST_L2, 5), (w, h))


def _refine(odds, limit, cues, hints, seeds):
    """A mask from log-odds within a limit, its looks learned and the outline drawn again; None if
    hopeless.
    """
    inside = limit < 6
    x, y, w, h = cv2.boundingRect(cv2.dilate(inside.astype(np.uint8), np.ones((41, 41), np.uint8)))
    here = (slice(y, y + h), slice(x, x + w))
    shift = hints.cropped(here)
    limit, lab, near_seeds = limit[here], cues["lab"][here], seeds[here]
    mask = _finish(odds[here] - limit, lab, shift, near_seeds)
    for _ in range(2):
        if mask.sum() < 30 or mask.sum() > 0.5 * seeds.size:
            return None
        near = cv2.dilate(mask.astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
        ring = near & (cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0)
        new = appearance.learned_ratio(cues["difference"][here], mask, ring, 90.0)
        new += appearance.learned_ratio(cues["alike"][here] + 1, mask, ring, 2.0, limit=2.0)
        bank = appearance.Bank(cues["feature"][here], mask, ring, size=300)
        if bank.usable:
            new = new + bank.log_odds(cues["feature"][here], stride=3)
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
        new = new + 0.5 - np.clip(distance / 10, 0, 4)  # grow a little each time, never far
        mask = _finish(new.astype(np.float32), lab, shift, near_seeds)
    result = np.zeros_like(seeds)
    result[here] = mask
    return result


def _outline_score(mask, cues) -> float:
    """How well the outline of a mask lies on edges of colour, of the background difference and of the
    motion.
    """
    outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    inner, outer = cv2.blur(mask.astype(np.float32), (9, 9)), cv2.blur((~mask).astype(np.float32), (9, 9))

    def step(cue):
        within = cv2.blur(cue * mask, (9, 9)) / np.maximum(inner, 1e-3)
        return (within - cv2.blur(cue * ~mask, (9, 9)) / np.maximum(outer, 1e-3))[outline]

    lab = cues["lab"]
    edges = np.sqrt(sum(step(np.ascontiguousarray(lab[..., c])) ** 2 for c in range(3)))
    colour = np.minimum(edges / 40, 1).mean()
    difference = np.clip(step(cues["difference"]) / 30, -1, 1).mean()
    alike = np.clip(step(cues["alike"]), -1, 1).mean()
    # the weights were fitted to composited walkers: among good outlines the larger one misses fewer limbs
    return float(colour + 0.5 * difference + 0.2 * alike + 0.16 * np.log2(mask.sum()))


def _still(clip, i, hints) -> np.ndarray:
    """Try several sizes around the clicks and keep the one whose outline lies best on edges."""
    lab = clip.lab(i)
    shape, seeds = lab.shape[:2], hints.seeds(lab.shape[:2])
    feature = appearance.features(lab)
    distance = cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_L2, 5)
    gradient = _gradient(lab)
    best, best_score = seeds, -1.0
    for radius in RADII if not hints.boxes else (max(shape),):
        outside = (distance > radius) & (distance < 2.5 * radius + 20) | hints.outside_boxes(shape)
        if outside.sum() < 50:
            break
        mask = seeds
        for _ in range(3):
            bank = appearance.Bank(feature, mask, outside)
            if not bank.usable:
                break
            odds = 1.5 * bank.log_odds(feature)
            if not hints.boxes:
                odds -= 2.0 * np.clip(distance / radius, 0, 2) ** 2 - 1.0
                odds[distance > 1.3 * radius] = -NEVER
            mask = _finish(odds.astype(np.float32), lab, hints, seeds)
        outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        at_limit = (mask & (distance > 1.25 * radius)).sum() / max(outline.sum(), 1)
        score = float(np.minimum(gradient, 60)[outline].mean()) * (1 - min(at_limit, 0.9))
        if score > best_score and mask.sum() > seeds.sum() * 1.2:
            best, best_score = mask, score
    return best


def _correct(clip, i, hints, prior) -> np.ndarray:
    """Add and remove what the clicks say around the mask `prior`."""
    lab = clip.lab(i)
    shape = lab.shape[:2]
    feature = appearance.features(lab)
    seeds = hints.seeds(shape)
    bad = hints.beside(shape)
    allowed = prior | seeds
    if (seeds & ~prior).any():
        allowed = prior | _still(
            clip, i, Hints(hints.positive, hints.negative, (), hints.added, hints.erased)
        )
    odds = np.where(allowed, 2.0, -3.0).astype(np.float32)
    if bad.any():
        good = (seeds if seeds.any() else cv2.erode(prior.astype(np.uint8), np.ones((5, 5))) > 0) & ~bad
        bank = appearance.Bank(feature, good if good.sum() >= 12 else prior & ~bad, bad)
        if bank.usable:
            to_bad = cv2.distanceTransform((~bad).astype(np.uint8), cv2.DIST_L2, 5)
            reach = np.exp(-to_bad / 30)
            odds += reach * (2.5 * bank.log_odds(feature) - 2.0)
    mask = appearance.cut(hints.force(odds), lab) > 0.5
    return mask & ~bad


def contrast(lab: np.ndarray, mask: np.ndarray) -> float:
    """0..1: how strong the edges of a Lab picture are along the outline of bool `mask`."""
    outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return float(np.minimum(_gradient(lab), 60)[outline].mean() / 60) if outline.any() else 0.0


def _gradient(lab: np.ndarray) -> np.ndarray:
    """Steps of colour, float32 (h, w), summed over channels and both directions."""
    gradient = sum(np.abs(cv2.Sobel(lab[..., c], cv2.CV_32F, 1, 0)) for c in range(3)) / 8
    return gradient + sum(np.abs(cv2.Sobel(lab[..., c], cv2.CV_32F, 0, 1)) for c in range(3)) / 8
