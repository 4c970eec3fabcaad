"""Everything in a video that words name, each thing an object of its own.

With GroundingDINO, things are looked for in every so many frames, and a segmenter follows those that are new, both
ways. SAM 3 looks and follows by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from videopainter.masks import MaskTrack, bounding_box
from videopainter.segmentation.base import Progress, Segmenter, TrackResult, collect
from videopainter.segmentation.prompts import BoxPrompt
from videopainter.segmentation.table import choose_segmenter
from videopainter.segmentation.words.boxes import box_iou
from videopainter.segmentation.words.phrases import phrases
from videopainter.weights import WeightsError, complete_set, weights_folder, why_missing

MOST = 255  # objects have numbers up to this
SAME_BOX = 0.4  # IoU of a box and that of a mask from which both are one thing
INSIDE, FILLED = 0.8, 0.2  # or: shares of the mask in the box, and of the box that the mask fills
SAME_TRACK = 0.5  # mean IoU from which two tracks are one thing's


class WordFinder:
    """Finds what `text` names in `source`, a `VideoSource`.

    Args:
        text: things, separated by commas: "the red car, a dog".
        every: frames from one in which new things are looked for to the next (SAM 3 looks in each).
        segmenter, size: what follows them, see `choose_segmenter`.
        detector: called with a frame, returns its `Found`s, in the place of the networks.

    Raises MaskError for a text that names nothing, WeightsError if there are no weights for words.
    """

    def __init__(
        self,
        source,
        text: str,
        every: int = 30,
        segmenter: str = "auto",
        size: str = "auto",
        detector: Callable | None = None,
    ):
        self.source, self.words, self.every = source, phrases(text), every
        self._spec, self._size = choose_segmenter(segmenter, size)[0], size
        self._detector = detector

    def find(self, progress: Progress | None = None) -> TrackResult:
        """Their masks in every frame. `progress`: called as progress("select", done, total)."""
        told = progress or (lambda *step: None)
        if self._detector is None and (name := choose_network()) == "sam3":
            tracks = self._with_sam3(weights_folder() / name, told)
        else:
            tracks = self._with_boxes(told)
        count = len(self.source)
        told("select", count, count)
        objects = {k: track for k, track in enumerate(tracks, 1) if track.any()}
        if not objects:
            return TrackResult(MaskTrack.empty(count, self.source.size))
        masks = MaskTrack.build(np.logical_or.reduce(here) for here in zip(*objects.values()))
        return TrackResult(masks, [], objects)

    def _with_sam3(self, folder, told: Progress) -> list[MaskTrack]:
        from videopainter.segmentation.words.sam3 import Sam3

        count, size = len(self.source), self.source.size
        tracks: dict[int, MaskTrack] = {}
        for t, masks in Sam3(folder, self.words).masks(self.source):
            for number, mask in masks.items():
                if number in tracks or len(tracks) < MOST:
                    tracks.setdefault(number, MaskTrack.empty(count, size)).put(t, mask)
            told("select", t + 1, count)
        # Without the package `kernels` transformers keeps what was found twice.
        distinct: list[MaskTrack] = []
        for track in tracks.values():
            _add(distinct, track)
        return distinct

    def _with_boxes(self, told: Progress) -> list[MaskTrack]:
        detect = self._detector or self._dino()
        segmenter = self._spec.open(self.source, self._size)
        tracks: list[MaskTrack] = []
        count = len(self.source)
        for t in range(0, count, self.every):
            told("select", t, count)
            boxes = [found.box for found in detect(self.source[t])]
            here = [track[t] for track in tracks]
            new = [box for box in boxes if not any(_is_there(box, mask) for mask in here)]
            if new:
                # The listener hears of every frame that is followed, so that it can stop that too.
                followed = self._followed(segmenter, t, new[: MOST - len(tracks)], told)
                for track in followed:
                    _add(tracks, track)
        return tracks

    def _followed(self, segmenter: Segmenter, t: int, boxes: Sequence, told: Progress) -> list[MaskTrack]:
        prompts = [BoxPrompt(*box, t, number) for number, box in enumerate(boxes, 1)]
        count = len(self.source)
        walk = segmenter.track(prompts, lambda *step: told("select", t, count)) if prompts else ()
        found = collect(walk, self.source)
        return [track for track in found.objects.values() if track.any()]

    def _dino(self):
        from videopainter.segmentation.words.dino import Dino

        return Dino(weights_folder() / choose_network(), self.words)


def choose_network() -> str:
    """The part of the weights that finds things by words: on a GPU the best that is there, elsewhere the quickest.

    Raises WeightsError if there is none.
    """
    from videopainter.utils.devices import has_gpu

    quick = ("grounding-dino-tiny", "grounding-dino-base", "sam3")
    for part in reversed(quick) if has_gpu() else quick:
        if complete_set(part):
            return part
    raise WeightsError(f"Words cannot be looked for: {why_missing('words')}.")


def _is_there(box: Sequence[float], mask: np.ndarray) -> bool:
    """Whether a mask is of the thing in a box."""
    if not mask.any():
        return False
    rows, columns = bounding_box(mask, 0)
    if box_iou(box, (columns.start, rows.start, columns.stop - 1, rows.stop - 1)) >= SAME_BOX:
        return True
    x0, y0, x1, y1 = (round(v) for v in box)
    shared = mask[y0 : y1 + 1, x0 : x1 + 1].sum()
    return shared >= INSIDE * mask.sum() and shared >= FILLED * (x1 - x0 + 1) * (y1 - y0 + 1)


def _add(tracks: list[MaskTrack], new: MaskTrack) -> None:
    """Another track; where it goes the way of a known one, which was out of sight where it was found, one with that."""
    for track in tracks:
        both = [(a, b) for a, b in zip(track, new) if a.any() and b.any()]
        if both and np.mean([(a & b).sum() / (a | b).sum() for a, b in both]) >= SAME_TRACK:
            for i, mask in enumerate(new):
                if mask.any():
                    track.put(i, track[i] | mask)
            return
    tracks.append(new)
