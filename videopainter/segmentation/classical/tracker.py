"""Click to mask without weights: follow a thing through a video by its motion and its looks.

Each frame's mask comes from log-odds per pixel: where the flow and a rigid motion carry the last mask, what
differs from the background that other frames show there, and which colours and textures the object had. One
total variation cut makes a clean outline of them. NumPy and OpenCV only; a video of any length is read in small
slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from videopainter.masks import MaskTrack, pack, unpack
from videopainter.segmentation.base import Candidate, Segmenter, Step, agrees, stretch, with_strokes
from videopainter.segmentation.classical.follow import Follower, region
from videopainter.segmentation.classical.motion import Clip, background_difference
from videopainter.segmentation.classical.search import Looks
from videopainter.segmentation.classical.select import Hints, contrast, parts_with, select
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, Prompt, clipped

SETTLE = 30  # frames followed there and back before the mask of a clicked frame stands
NEARBY = 6  # frames for which something out of sight is looked for only where it would have gone
SEARCH_EVERY = 3  # frames; how often something out of sight is looked for
# Distances of the frames that may show a mask's place without the object.
EARLIER = (5, 9, 13, 18, 24, 30, 35)
SHOWN_BY = 2  # of these frames have to show it
SHOWN = 0.7  # share of the mask that they have to show
SAME = 0.85  # share of that which has to look the same


class ClassicalSegmenter(Segmenter):
    """Follows things by motion and looks; needs no weights."""

    name = "classical"

    def __init__(self, source):
        super().__init__(source)
        self.clip = Clip(source)
        self._first_masks: dict[tuple, np.ndarray] = {}

    def _candidates(self, frame: int, prompts: Sequence[Prompt]) -> list[Candidate]:
        hints = self._hints(prompts)
        mask = select(self.clip, frame, hints, alone=not self.clip.knows_around(frame))
        score = contrast(self.clip.lab(frame), mask)
        return [Candidate(with_strokes(self.enlarged(mask), prompts), score)]

    def _touched(self, prompt: Prompt) -> np.ndarray:
        # The track looks at the frames around anyway, and starts with this mask if it is the thing's only click.
        return self.enlarged(self.first_mask(prompt.frame, self._hints([prompt])))

    def _follow(
        self, prompts: Sequence[Prompt], start: int | None, known: MaskTrack | None
    ) -> Iterator[Step]:
        by_frame: dict[int, list[Prompt]] = {}
        for p in prompts:
            by_frame.setdefault(int(p.frame), []).append(p)
        walk = Walk(self, {f: self._hints(own) for f, own in by_frame.items()})
        if start is None:
            steps = walk.all()
        else:
            steps = walk.renew(start, known, *stretch(prompts, start, self.clip.length))
        for i, mask, confidence in steps:
            full = self.enlarged(walk.get(i) if mask is None else mask)
            yield Step(i, with_strokes(full, by_frame.get(i, ())), confidence)

    def first_mask(self, frame: int, hints: Hints) -> np.ndarray:
        """`select` without a prior, remembered; bool in working pixels."""
        painted = [None if m is None else m.tobytes() for m in (hints.added, hints.erased, hints.whole)]
        key = (frame, *map(tuple, (hints.positive, hints.negative, hints.boxes)), *painted)
        if key not in self._first_masks:
            self._first_masks[key] = select(self.clip, frame, hints)
        return self._first_masks[key]

    def shrunk(self, mask: np.ndarray) -> np.ndarray:
        """A bool mask of the source's size in working pixels."""
        size = (self.clip.width, self.clip.height)
        if mask.shape == size[::-1]:
            return mask
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5

    def enlarged(self, mask: np.ndarray) -> np.ndarray:
        """A bool mask of working pixels in the source's size."""
        return enlarge(mask, (self.source.height, self.source.width))

    def _hints(self, prompts: Sequence[Prompt]) -> Hints:
        """One object's prompts of one frame in working pixels."""
        scale = self.clip.scale
        positive, negative, boxes, painted = [], [], [], {}
        for p in prompts:
            if isinstance(p, BoxPrompt):
                boxes.append([v * scale for v in clipped(p, self.source)])
            elif isinstance(p, MaskPrompt):
                mask = self.shrunk(p.mask)
                painted[p.mode] = mask | painted[p.mode] if p.mode in painted else mask
            else:
                place = ((p.x + 0.5) * scale - 0.5, (p.y + 0.5) * scale - 0.5)
                (positive if p.positive else negative).append(place)
        return Hints(positive, negative, boxes, *map(painted.get, ("add", "erase", "is")))


class Walk:
    """One object's walk through the video: the masks found so far, packed, in working pixels."""

    def __init__(self, segmenter: ClassicalSegmenter, hints: dict[int, Hints]):
        self.segmenter, self.clip, self.hints = segmenter, segmenter.clip, hints
        self.shape = (self.clip.height, self.clip.width)
        self.packed: dict[int, bytes] = {}
        self.known: MaskTrack | None = None
        self.looks: Looks | None = None

    def all(self) -> Iterator[tuple[int, np.ndarray | None, float]]:
        """(frame, mask or None, confidence) of every frame, some more than once."""
        starts = [f for f in sorted(self.hints) if self.hints[f].any_positive]
        frames = sorted(f for f in self.hints if f >= starts[0])
        for k, f in enumerate(frames):
            end = frames[k + 1] if k + 1 < len(frames) else self.clip.length
            yield self.start(f, self.hints[f])
            yield from self.forward(f, end)
        for f in reversed(starts):  # what lies before a prompt and is still without a mask
            yield from self.backward(f)

    def renew(self, f: int, known: MaskTrack, first: int, end: int):
        """The frames from `first` to `end` that change when frame `f` is corrected, of a track that is `known`."""
        self.known = known
        mask = self.corrected(f, self.get(f))
        yield self.put(f, mask, 1.0)
        self.follower = Follower(self.clip, f, mask, self.get)
        self.looks = Looks.of(self.clip, f, mask)
        yield from self.forward(f, end)
        back = Follower(self.clip, f, mask, self.get)
        for i in range(f - 1, first - 1, -1):
            found, before = self.step(back, i, -1), self.get(i)
            if found is None or agrees(found, before):
                break
            yield self.put(i, found, back.confidence)

    def put(self, i: int, mask: np.ndarray | None, confidence: float = 0.0):
        self.packed[i] = b"" if mask is None else pack(mask)
        return i, mask, confidence if mask is not None else 0.0

    def get(self, i: int) -> np.ndarray:
        """bool (height, width) in working pixels; all False where there is none."""
        data = self.packed.get(i)
        if data is None and self.known is not None and 0 <= i < len(self.known):
            return self.segmenter.shrunk(self.known[i])
        return unpack(data, self.shape) if data else np.zeros(self.shape, bool)

    def start(self, f: int, hints: Hints):
        expected = None
        if f > 0 and self.packed.get(f - 1) and not self.clip.cut_between(f - 1, f):
            expected = self.follower.step(f, 1)
        if expected is None and not hints.any_positive:
            return self.put(f, None)
        if expected is not None:
            mask = self.corrected(f, expected)
            self.follower.accept(f, mask)
            self.follower.learn(f, mask)
        else:
            mask = self.segmenter.first_mask(f, hints)
            if hints.whole is None:
                mask = self.settle(f, mask, hints)
            self.follower = Follower(self.clip, f, mask, self.get)
        self.looks = Looks.of(self.clip, f, mask)
        return self.put(f, mask, 1.0)

    def corrected(self, f: int, expected: np.ndarray) -> np.ndarray:
        """The mask of frame `f` after its prompts, where bool `expected` was found without them."""
        return select(self.clip, f, self.hints[f], expected)

    def settle(self, f: int, mask: np.ndarray, hints: Hints) -> np.ndarray:
        """A better mask for the clicked frame `f`: follow the first one for some frames, and back again.

        The clicked frame is the one with the least to go by; motion soon shows what belongs together.
        """
        masks = {f: mask}
        empty = np.zeros_like(mask)
        there = Follower(self.clip, f, mask, lambda j: masks.get(j, empty), 1.5, split=False)
        last = f
        for i in range(f + 1, min(f + 1 + SETTLE, self.clip.length)):
            found = there.step(i, 1)
            if found is None or found.sum() > 1.6 * mask.sum():  # gone, or grown into something else
                break
            masks[i], last = found, i
        if last < f + 6:
            return mask
        back = Follower(self.clip, last, masks[last], lambda j: masks.get(j, empty))
        for i in range(last - 1, f - 1, -1):
            found = back.step(i, -1)
            if found is None:
                return mask
            masks[i] = found
        shape, seeds = mask.shape, hints.seeds(mask.shape)
        if (masks[f] & seeds).sum() < 0.5 * seeds.sum() or masks[f].sum() < 0.2 * mask.sum():
            return mask  # what came back is something else
        better = parts_with(masks[f] | seeds, seeds) & ~hints.outside_boxes(shape)
        return better & ~hints.beside(shape)

    def forward(self, f: int, end: int):
        if self.packed[f] == b"":
            self.follower.over = True
        for i in range(f + 1, end):
            mask = self.step(self.follower, i, 1)
            if mask is not None or not (self.follower.over or self.follower.missing > NEARBY):
                yield self.put(i, mask, self.follower.confidence)
                continue
            found = self.search(i)
            yield self.put(i, found, self.looks.confidence)
            if found is not None:
                self.follower = Follower(self.clip, i, found, self.get)
                yield from self.fill_gap(i)

    def step(self, follower: Follower, i: int, direction: int) -> np.ndarray | None:
        """The follower's mask in frame `i`; None, and no more of them, if that is something else by now."""
        mask = follower.step(i, direction)
        if mask is not None and (self.looks.gone(self.clip, i, mask) or self.stays_behind(i, mask)):
            follower.over = True
            return None
        return mask

    def stays_behind(self, i: int, mask: np.ndarray) -> bool:
        """Whether frames in which the object is known to be elsewhere show at its place what `mask` holds in frame `i`.

        It then lies on what the object has left behind. What stands still is masked there in all of them.
        """
        near = range(i - EARLIER[-1], i + EARLIER[-1] + 1)
        masks = {j: self.get(j) for j in near if j != i and self.packed.get(j) is not None}
        if not masks or not mask.any():
            return False
        roi = region(mask, 6, self.clip)
        difference, seen = background_difference(self.clip, i, roi, masks, EARLIER, only_known=True)
        here = mask[roi[1] : roi[3], roi[0] : roi[2]]
        shown = here & (seen >= SHOWN_BY)
        around = ~here & (seen >= SHOWN_BY)
        if shown.sum() < SHOWN * here.sum() or not around.any():
            return False
        return (difference[shown] < 2 * float(np.median(difference[around])) + 5).mean() > SAME

    def search(self, i: int) -> np.ndarray | None:
        """The object in frame `i`, found by its looks alone, after it was out of sight."""
        if i % SEARCH_EVERY and not self.clip.cut_between(i - 1, i):
            return None
        return self.found_again(i)

    def found_again(self, i: int) -> np.ndarray | None:
        found = self.looks.find(self.clip, i)
        return None if found is None or self.stays_behind(i, found) else found

    def fill_gap(self, f: int):
        """What a search that skips frames has left out before frame `f`."""
        follower = Follower(self.clip, f, self.get(f), self.get)
        for i in range(f - 1, max(f - SEARCH_EVERY, 0), -1):
            if self.packed.get(i) != b"":
                return
            mask = self.step(follower, i, -1)
            if mask is None:
                return
            yield self.put(i, mask, follower.confidence)

    def backward(self, f: int):
        if f == 0 or self.packed.get(f - 1):
            return
        follower = Follower(self.clip, f, self.get(f), self.get)
        for i in range(f - 1, -1, -1):
            if self.packed.get(i):
                break
            mask = self.step(follower, i, -1)
            if mask is None and i in self.packed:
                break
            if mask is None and follower.over and i % SEARCH_EVERY == 0:
                mask = self.found_again(i)
                if mask is not None:
                    follower = Follower(self.clip, i, mask, self.get)
                    follower.confidence = self.looks.confidence
            yield self.put(i, mask, follower.confidence)


def enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring bool (h, w) to `size` = (height, width) with a smooth outline."""
    if mask.shape == tuple(size):
        return mask
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    return cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) > 0.45
