"""From one frame's mask to the next one's."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.classical import appearance, motion
from videopainter.segmentation.classical.motion import Clip

MARGIN = 34  # pixels around the expected mask that are looked at
JUMP = 48  # pixels within which a thing is looked for that flow has not followed
LEAST_JUMP = 8  # pixels; by less than that flow is not wrong for long
JUMP_ADVANTAGE = 2.0  # how many times better it has to fit there
SMALLEST_TO_JUMP = 40  # pixels; less than that looks like many things
UNLIKE_COUNTS = 2.0  # by what looks like the surroundings of a clicked frame is less likely the object
PATIENCE = 45  # frames for which a lost object is looked for


class Follower:
    """Follows an object in one direction, one neighbouring frame after the other.

    Args:
        mask: bool (height, width), the object in frame `i`.
        growth: by how much the area may exceed its recent median.
        split: keep only the main part when the object falls into parts that walk away from each other.
        known: known(j) -> bool (height, width), the mask of frame j, all False where not known.
    """

    def __init__(self, clip: Clip, i: int, mask: np.ndarray, known, growth: float = 1.25, split: bool = True):
        self.clip, self.known = clip, known
        self.growth, self.split = growth, split
        self.paths: list[np.ndarray] = []
        self.areas: list[float] = []
        self.banks: list[appearance.Bank] = []
        self.at, self.mask = i, mask
        self.over, self.confidence = False, 1.0
        self.accept(i, mask)
        self.learn(i, mask)

    def accept(self, i: int, mask: np.ndarray) -> None:
        """Take `mask` as the object in frame `i`."""
        self.at, self.mask, self.missing = i, mask, 0
        self.areas = [*self.areas[-14:], float(mask.sum())]

    def learn(self, i: int, mask: np.ndarray) -> None:
        """Keep the looks of the object and of what is around it in frame `i` for good."""
        bank = self._bank(appearance.features(self.clip.lab(i)), mask)
        if bank is not None:
            self.banks = [*self.banks[-2:], bank]

    @staticmethod
    def _bank(feature, mask, position=0.0):
        inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if inside.sum() < 30:
            inside = mask
        near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
        outside = near & (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
        bank = appearance.Bank(feature, inside, outside, position=position)
        return bank if bank.usable else None

    def step(self, i: int, direction: int) -> np.ndarray | None:
        """The mask bool (height, width) in frame `i`, the neighbour of the last one; None if not found."""
        if self.over or self.clip.cut_between(i - direction, i):
            self.over = True
            return None
        if self.missing:
            return self._search(i, direction)
        prior = self._prior(i, direction)
        if prior is None or prior.sum() < 8:
            self.over = True
            return None
        mask = self._segment(i, direction, prior)
        self.confidence = float(np.minimum(prior, mask).sum() / max(np.maximum(prior, mask).sum(), 1))
        if mask.sum() < max(8, 0.12 * np.median(self.areas)):
            self.missing = 1
            return None
        self.accept(i, mask)
        return mask

    def _search(self, i, direction):
        """Look for the lost object where its last motion would have taken it, by its first looks."""
        clip = self.clip
        self.missing += 1
        camera = clip.cameras_from(i - direction, direction, 1)[0].copy()
        camera[:2, 2] += np.mean(self.paths, axis=0) if self.paths else 0
        moved = cv2.warpPerspective(self.mask.astype(np.uint8), camera, (clip.width, clip.height)) > 0
        usual = float(np.median(self.areas))
        if self.missing > PATIENCE or moved.sum() < 0.2 * usual or not self.banks:
            self.over = True
            return None
        self.mask = moved
        roi = region(moved, min(MARGIN // 2 + 3 * self.missing, 80), clip)
        x0, y0, x1, y1 = roi
        lab = clip.lab(i)[y0:y1, x0:x1]
        difference, _ = motion.background_difference(clip, i, roi, {})
        threshold = 2 * float(np.median(difference)) + 5
        feature = appearance.features(lab)
        looks = np.mean([b.log_odds(feature, (x0, y0)) for b in self.banks], axis=0)
        odds = looks - 0.5 + np.clip(3 * np.log((difference + 1) / (threshold + 1)), -2, 1)
        found = appearance.cut(odds.astype(np.float32), lab) > 0.5
        count, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
        for k in sorted(range(1, count), key=lambda k: -stats[k, cv2.CC_STAT_AREA]):
            part = labels == k
            if 0.45 * usual < part.sum() < 1.8 * usual and looks[part].mean() > 0.5:
                result = np.zeros_like(moved)
                result[y0:y1, x0:x1] = part
                self.accept(i, result)
                self.confidence = 0.5
                return result
        return None

    def _prior(self, i, direction):
        """Where the last mask is expected, float32 (height, width) in 0..1: dense and rigid motion,
        averaged.
        """
        last = i - direction
        back, ahead = self.clip.flow(i, last), self.clip.flow(last, i)
        soft = self.mask.astype(np.float32)
        dense = motion.warp(soft, back, cv2.BORDER_CONSTANT)
        y, x = np.nonzero(self.mask)
        points = np.stack([x, y], -1).astype(np.float32)[:: max(1, len(x) // 800)]
        moved = points + ahead[points[:, 1].astype(int), points[:, 0].astype(int)]
        again = motion.warp(back, ahead)[points[:, 1].astype(int), points[:, 0].astype(int)]
        good = np.linalg.norm(moved - points + again, axis=1) < 1.5
        self.rigid = np.float64([[1, 0, 0], [0, 1, 0]])
        if good.sum() >= 12:
            cv2.setRNGSeed(1)
            found, inliers = cv2.estimateAffinePartial2D(points[good], moved[good], ransacReprojThreshold=2.0)
            if found is not None and 0.85 < np.hypot(*found[:2, 0]) < 1.18 and inliers.mean() > 0.3:
                self.rigid = found
            else:
                self.rigid[:, 2] = np.median((moved - points)[good], axis=0)
        size = (self.clip.width, self.clip.height)
        jump = self._jump(last, i)
        if jump is not None:
            self.rigid = np.float64([[1, 0, jump[0]], [0, 1, jump[1]]])
            return cv2.warpAffine(soft, self.rigid, size, flags=cv2.INTER_LINEAR)
        stiff = cv2.warpAffine(soft, self.rigid, size, flags=cv2.INTER_LINEAR)
        return 0.5 * dense + 0.5 * stiff

    def _jump(self, last, i):
        """(x, y) by which the object went further than optical flow reaches; None where flow explains it as well.

        The last picture of the object is compared with all places around: where it fits much better than where the
        flow has taken it, it has jumped there.
        """
        x0, y0, x1, y1 = region(self.mask, 1, self.clip)
        wide = region(self.mask, JUMP, self.clip)
        seen = self.mask[y0:y1, x0:x1]
        if seen.sum() < SMALLEST_TO_JUMP:
            return None
        step = max(1, round(np.sqrt(seen.sum()) / 24))  # of large things a coarser picture will do
        there = self.clip.lab_bytes(i)[wide[1] : wide[3] : step, wide[0] : wide[2] : step]
        look = self.clip.lab_bytes(last)[y0:y1:step, x0:x1:step]
        weight = seen[::step, ::step].astype(np.float32)
        if min(a - b for a, b in zip(there.shape[:2], look.shape[:2])) < 1:
            return None
        error = cv2.matchTemplate(
            there.astype(np.float32), look.astype(np.float32), cv2.TM_SQDIFF, mask=np.dstack([weight] * 3)
        )
        error = np.sqrt(np.maximum(error, 0) / (3 * weight.sum()))  # levels a pixel
        y, x = np.unravel_index(error.argmin(), error.shape)
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0])
        moved = self.rigid @ centre - centre[:2]
        expected = (np.array([x0, y0]) + moved - wide[:2]) / step
        column, row = (int(np.clip(round(v), 0, n - 1)) for v, n in zip(expected, error.shape[::-1]))
        near = error[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].min()
        found = np.array([x, y]) * step + wide[:2] - [x0, y0]
        if np.linalg.norm(found - moved) < LEAST_JUMP or near < JUMP_ADVANTAGE * error.min() + 3:
            return None
        return found

    def _segment(self, i, direction, prior):
        clip = self.clip
        expected = prior > 0.45
        if not expected.any():
            return expected
        roi = region(expected, MARGIN, clip)
        x0, y0, x1, y1 = roi
        here = (slice(y0, y1), slice(x0, x1))
        lab = clip.lab(i)[here]
        feature = appearance.features(lab)
        shape_odds = self._shape_odds(prior[here])
        inside = cv2.erode((prior[here] > 0.6).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        outside = cv2.dilate((prior[here] > 0.2).astype(np.uint8), np.ones((11, 11), np.uint8)) == 0
        masks = {j: m for j in range(i - motion.LOOK, i + motion.LOOK + 1) if (m := self.known(j)).any()}
        difference, _ = motion.background_difference(clip, i, roi, masks)
        difference = cv2.GaussianBlur(difference, (0, 0), 0.8)
        odds = shape_odds + appearance.learned_ratio(difference, inside, outside, 90.0)
        last = i - direction
        camera = clip.cameras_from(last, direction, 1)[0]
        self._note_motion(camera)
        alike = self._likeness(i, direction, roi)
        if outside.any():
            # a thing that has moved on leaves no trail: what looks like the background is not part of it;
            # what does not, and walks along with it, is: limbs may look like nothing seen of it before
            threshold = 2 * float(np.median(difference[outside])) + 5
            novel = 3 * np.log((difference + 1) / (threshold + 1))
            walked = np.clip(self.moved / 12 - 0.5, 0, 1)
            odds += walked * np.clip(novel, -2.0, 0)
            odds += walked * np.clip(novel, 0, 2.0) * np.clip(alike + 0.5, 0, 1)
        odds += appearance.learned_ratio(alike + 1, inside, outside, 2.0, limit=1.0)
        bank = self._bank(appearance.features(clip.lab(last)), self.mask, position=0.7)
        if bank is not None:
            odds += 0.5 * bank.log_odds(feature, (x0, y0), (self.rigid, camera[:2]))
        if self.banks:
            looks = np.mean([b.log_odds(feature, (x0, y0)) for b in self.banks], axis=0)
            odds += np.where(looks < 0, UNLIKE_COUNTS * looks, looks)
        mask = self._cut(odds.astype(np.float32), lab, prior[here])
        mask = appearance.parts_touching(mask, expected[here], 8)
        if self.split:
            mask = appearance.together(mask, expected[here])
        mask = appearance.fill_holes(mask, 0.1 * max(mask.sum(), 60))
        result = np.zeros((clip.height, clip.width), bool)
        result[here] = mask
        return result

    def _note_motion(self, camera):
        """Keep how far the object went against the camera, summed over the last frames, in `moved`."""
        y, x = np.nonzero(self.mask)
        centre = np.array([x.mean(), y.mean(), 1.0])
        ground = camera @ centre
        self.paths = [*self.paths[-11:], self.rigid @ centre - ground[:2] / ground[2]]
        self.moved = float(np.linalg.norm(np.sum(self.paths, axis=0)))

    def _cut(self, odds, lab, prior):
        """Cut, harder or softer until the area is believable: sudden growth is a leak, sudden loss a hole."""
        usual = np.median(self.areas)
        low, high = 0.8 * min(usual, prior.sum()), self.growth * max(usual, min(prior.sum(), 1.1 * usual))
        u, bias = prior, 0.0
        for change in (0.8, 0.8, 0.8, 0.8):
            u = appearance.cut(odds + np.float32(bias), lab, u)
            area = u.sum()
            if low <= area <= high:
                break
            bias += change if area < low else -change
        return u > 0.5

    def _likeness(self, i, direction, roi):
        """How much each pixel of the roi moves like the object rather than like the background, in -1..1.

        The lower of both directions in time: what the object is about to cover or has just uncovered has no
        true
        motion in one of them, and takes on the object's.
        """
        x0, y0, x1, y1 = roi
        x, y = motion.grid(y1 - y0, x1 - x0)
        x, y = x + x0, y + y0
        both = []
        for step, rigid in ((-direction, cv2.invertAffineTransform(self.rigid)), (direction, self.rigid)):
            cameras = self.clip.cameras_from(i, step, 1)
            if cameras:
                ground = motion.ground_motion(cameras[0], x, y)
                mine = motion.ground_motion(np.vstack([rigid, [0, 0, 1]]), x, y)
                both.append(
                    motion.likeness(self.clip.flow(i, i + step)[y0:y1, x0:x1] - ground, mine - ground)
                )
        return np.min(both, axis=0)

    @staticmethod
    def _shape_odds(prior):
        """Log-odds float32 from the distance to the outline of the expected mask."""
        expected = prior > 0.5
        to_out = cv2.distanceTransform(expected.astype(np.uint8), cv2.DIST_L2, 3)
        to_in = cv2.distanceTransform((~expected).astype(np.uint8), cv2.DIST_L2, 3)
        size = np.clip(np.sqrt(expected.sum()) / 40, 0.3, 1)  # small things move and change by less
        to_out, to_in = to_out / size, to_in / size
        odds = np.clip(to_out, 0, 8) / 4 - np.clip(to_in, 0, 12) / 4 - np.clip(to_in - 12, 0, 20) / 5
        return odds.astype(np.float32)


def region(mask: np.ndarray, margin: int, clip: Clip) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1) around bool (height, width), grown by `margin` within the frame."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return (
        max(x - margin, 0),
        max(y - margin, 0),
        min(x + w + margin, clip.width),
        min(y + h + margin, clip.height),
    )
