"""What a segmenter is: from what a user points at to a mask in every frame.

To add one: derive a class from `Segmenter`, say what it makes of one object's prompts in one frame
(`_candidates`) and how it follows one object (`_follow`), and add a row to `SEGMENTERS`. Several objects, their
numbers, progress and masks that are known already are handled here; `tests/segmentation/test_contract.py` runs over
the table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from videopainter.masks import MaskError, MaskTrack, pack, unpack
from videopainter.segmentation.grouping import by_object
from videopainter.segmentation.prompts import ClickPrompt, MaskPrompt, Prompt, checked, is_positive, pixel

EXTENTS = ("part", "object", "group")
FOUND, OUT_OF_SIGHT = "found", "out of sight"
AGREED = 0.95  # IoU from which a new mask says what the known one said

Progress = Callable[[str, int, int], None]  # called as progress(stage, done, total)


@dataclass(frozen=True)
class Candidate:
    """One reading of the prompts of a frame: `mask` bool (height, width), `score` 0..1, `extent` of `EXTENTS`."""

    mask: np.ndarray
    score: float
    extent: str = "object"


class Step(NamedTuple):
    """One object in one frame: `mask` bool (height, width), all False where it is out of sight; confidence 0..1."""

    frame: int
    mask: np.ndarray
    confidence: float


@dataclass(frozen=True)
class TrackedFrame:
    """All objects in one frame.

    `mask`: bool (height, width), the objects united; `confidence`: 0..1, of the least certain object in sight;
    `state`: "found", or "out of sight" where no object is seen; `objects`: number -> bool (height, width).
    """

    frame: int
    mask: np.ndarray
    confidence: float
    state: str = FOUND
    objects: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass
class TrackResult:
    """A whole track.

    `masks`: one bool (height, width) a frame. `lost`: the first frame of each stretch in which no object is in
    sight. `objects`: number -> its masks. `confidence`: float32, one a frame.
    """

    masks: MaskTrack
    lost: list[int] = field(default_factory=list)
    objects: dict[int, MaskTrack] = field(default_factory=dict)
    confidence: np.ndarray | None = None


class Segmenter(ABC):
    """Finds the objects that prompts point at in the frames of `source`, a `VideoSource` (uint8 RGB slices)."""

    name: str

    def __init__(self, source):
        self.source = source

    def preview(self, frame: int, prompts: Sequence[Prompt], extent: str | None = None) -> list[Candidate]:
        """What the prompts of one frame mean, the best first; at once, so other frames are not looked at
        but for what is there from before.

        Args:
            prompts: those of other frames are left aside.
            extent: only readings of this extent ("part", "object", "group"), where there are any.

        Several objects give one candidate, their best masks united.
        Raises MaskError for prompts that cannot be used, or none on this frame.
        """
        check_extent(extent)
        prompts = checked(self.source, [p for p in prompts if p.frame == frame])
        objects = by_object(prompts, self.source, lambda one: self._candidates(frame, [one])[0].mask)
        found = [_chosen(self._candidates(frame, own), extent) for own in objects.values()]
        if len(found) == 1:
            return found[0]
        best = [candidates[0] for candidates in found]
        united = np.logical_or.reduce([one.mask for one in best])
        return [Candidate(united, min(one.score for one in best), best[0].extent)]

    def prepare(self, frame: int) -> None:
        """Load and read ahead what `preview` of that frame will need, at least the frame."""
        _ = self.source[frame]

    def track(
        self,
        prompts: Sequence[Prompt],
        progress: Progress | None = None,
        start: int | None = None,
        known: MaskTrack | Mapping[int, MaskTrack] | None = None,
        extent: str | None = None,
    ) -> Iterator[TrackedFrame]:
        """Every frame with the objects in it, forwards and backwards from where they are pointed at.

        Frames come in the order in which they are worked on. One may come again when more is known of it; then the
        last counts. Prompts of a later frame correct the mask that was followed to there, or start the object again
        where it was out of sight. `collect` makes a `TrackResult` of them.

        Args:
            progress: called as progress("select", done, total).
            start, known: masks found before (of each object, by number, where there are several) and the frame
                with prompts that correct them. Only what depends on that is followed again and comes out: from
                `start` on up to the next frame with a prompt of that object, and back as far as the new masks
                differ from the known ones.
            extent: start each object with its best reading of this extent ("part", "object", "group") in the frame
                where it is pointed at first, if there is one; None: as the segmenter reads the prompts.

        Raises MaskError for prompts that cannot be used.
        """
        check_extent(extent)
        prompts = checked(self.source, prompts)
        if (start is None) != (known is None):
            raise MaskError(
                "A track goes on from a frame and the masks that are known; one of them is missing."
            )
        return self._tracked(prompts, progress or (lambda *step: None), start, known, extent)

    def things(self, prompts: Sequence[Prompt]) -> dict[int, list[Prompt]]:
        """Object number -> its prompts. Raises MaskError for an object with nothing positive."""
        return by_object(prompts, self.source, self._touched)

    @abstractmethod
    def _candidates(self, frame: int, prompts: Sequence[Prompt]) -> list[Candidate]:
        """The readings of one object's prompts (clicks, boxes, masks) of one frame, the best first; at least one."""

    @abstractmethod
    def _follow(
        self, prompts: Sequence[Prompt], start: int | None, known: MaskTrack | None
    ) -> Iterator[Step]:
        """One object's frames in the order in which they are worked on; without `start` each comes at least once.

        `start`, `known`: see `track`; `stretch` says between which frames, and `agrees` when to stop going back.
        """

    def _touched(self, prompt: Prompt) -> np.ndarray:
        """bool (height, width): what one positive prompt stands for, to tell whether two are on one thing."""
        return self._candidates(prompt.frame, [prompt])[0].mask

    def _tracked(self, prompts, progress, start, known, extent) -> Iterator[TrackedFrame]:
        objects = self.things(prompts)
        if extent is not None:
            objects = {number: self._as_far_as(extent, own) for number, own in objects.items()}
        masks = _known(known, objects, self.source)
        if start is not None:
            objects = {n: own for n, own in objects.items() if any(p.frame == start for p in own)}
            if not objects:
                raise MaskError(f"There is no prompt on frame {start}, from which the track is to go on.")
        walks = {number: self._follow(own, start, masks.get(number)) for number, own in objects.items()}
        found: dict[int, dict[int, tuple[bytes, float]]] = {number: {} for number in objects}
        others = {number: track for number, track in masks.items() if number not in objects}
        total = len(self.source) * len(objects)
        while walks:
            # In turns, so that objects clicked in one frame share what has been computed of each frame.
            for number in list(walks):
                step = next(walks[number], None)
                if step is None:
                    del walks[number]
                    continue
                found[number][step.frame] = pack(step.mask), step.confidence
                progress("select", sum(map(len, found.values())), total)
                here = self._here(step.frame, found, masks if start is not None else {}, others)
                if here is not None:
                    yield here
        progress("select", total, total)

    def _as_far_as(self, extent: str, prompts: list[Prompt]) -> list[Prompt]:
        """One object's prompts, those of the first frame with a positive one made its reading of that extent."""
        frame = min(p.frame for p in prompts if is_positive(p))
        here = [p for p in prompts if p.frame == frame]
        chosen = _chosen(self._candidates(frame, here), extent)[0]
        if chosen.extent != extent or not chosen.mask.any():
            return prompts
        whole = MaskPrompt(chosen.mask, frame, "is", prompts[0].object_id)
        return [whole, *(p for p in prompts if p.frame != frame)]

    def _here(self, i: int, found, known, others) -> TrackedFrame | None:
        """Frame `i` with all objects; None while one of them has not come there."""
        size = (self.source.height, self.source.width)
        seen, sure = {n: track[i] for n, track in others.items()}, []
        for number, frames in found.items():
            if i in frames:
                packed, confidence = frames[i]
                seen[number] = unpack(packed, size)
                sure += [confidence] if seen[number].any() else []
            elif number in known:
                seen[number] = known[number][i]
            else:
                return None
        united = np.logical_or.reduce(list(seen.values()))
        state = FOUND if united.any() else OUT_OF_SIGHT
        return TrackedFrame(i, united, min(sure, default=float(state == FOUND)), state, seen)


def collect(
    frames: Iterable[TrackedFrame], source, known: Mapping[int, MaskTrack] | None = None
) -> TrackResult:
    """All of a track, on top of the masks of each object that were `known` before."""
    size, count = (source.height, source.width), len(source)
    objects = {number: track.copy() for number, track in (known or {}).items()}
    confidence = np.ones(count, np.float32)
    for one in frames:
        confidence[one.frame] = one.confidence
        for number, mask in one.objects.items():
            if number not in objects:
                objects[number] = MaskTrack.empty(count, size)
            objects[number].put(one.frame, mask)
    masks = MaskTrack.build(np.logical_or.reduce(found) for found in zip(*objects.values()))
    if len(objects) == 1:
        masks = next(iter(objects.values()))
    there = [mask.any() for mask in masks]
    lost = [i for i in range(count) if not there[i] and (i == 0 or there[i - 1])]
    return TrackResult(masks, lost, objects, confidence)


def check_extent(extent: str | None) -> None:
    """Raises MaskError for a name that is not one of `EXTENTS`; None stands for the best of all."""
    if extent is not None and extent not in EXTENTS:
        raise MaskError(f"There is no extent '{extent}'; the names are {', '.join(EXTENTS)}.")


def stretch(prompts: Sequence[Prompt], start: int, count: int) -> tuple[int, int]:
    """(first, end) of the frames that a correction in frame `start` may change: between the object's other prompts."""
    frames = {p.frame for p in prompts}
    before = max((f for f in frames if f < start), default=-1)
    return before + 1, min((f for f in frames if f > start), default=count)


def agrees(new: np.ndarray, old: np.ndarray) -> bool:
    """Whether two bool masks say the same."""
    union = (new | old).sum()
    return union == 0 or (new & old).sum() >= AGREED * union


def with_strokes(mask: np.ndarray, prompts: Iterable[Prompt]) -> np.ndarray:
    """bool (height, width) with the pixels that brushes and clicks of that frame speak of written over it."""
    mask = mask.copy()
    for p in prompts:
        if isinstance(p, MaskPrompt) and p.mode != "is":
            mask[p.mask] = p.positive
        elif isinstance(p, ClickPrompt):
            mask[pixel(p, mask.shape)] = p.positive
    return mask


def _chosen(candidates: list[Candidate], extent: str | None) -> list[Candidate]:
    ordered = sorted(candidates, key=lambda one: -one.score)
    return [one for one in ordered if one.extent == extent] or ordered


def _known(known, objects: Mapping[int, list], source) -> dict[int, MaskTrack]:
    if known is None:
        return {}
    if isinstance(known, MaskTrack):
        if len(objects) > 1:
            raise MaskError(
                f"There are {len(objects)} objects, so the known masks are needed for each of them."
            )
        known = dict.fromkeys(objects, known)
    for track in known.values():
        if len(track) != len(source) or tuple(track.size) != (source.height, source.width):
            raise MaskError(
                f"The known masks are {len(track)} of {track.size}, but the video has {len(source)} frames of "
                f"{(source.height, source.width)} (height, width)."
            )
    return dict(known)
