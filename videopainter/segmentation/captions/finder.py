"""All text of a video: lines are found in some frames, followed to where they appear and vanish, and masked."""

from __future__ import annotations

from collections import deque

import numpy as np

from videopainter.masks import MaskTrack
from videopainter.segmentation.base import Progress, TrackResult
from videopainter.segmentation.captions.detector import Detection, TextDetector
from videopainter.segmentation.captions.line import Line, cut, padded
from videopainter.segmentation.captions.strokes import strokes

EVERY, SECONDS = 4, 1 / 6  # frames from one in which lines are looked for to the next, at most; and seconds
BACK = 12  # frames back to which a new line is followed: it may have faded in
AGAIN = 2.0  # seconds after which a line that was gone counts as another
NEW = 0.25  # of a line's strokes that no known line has
WORD, OWN = 1.0, 0.85  # of its height: length of a short word; of its strokes that no known line has
KNOWN = 0.7  # of the letters of a part of a line that other lines have, which makes it no other line
REST = 0.06  # the same where the known line had not come into the picture altogether
CERTAIN, BRIEF = 0.7, 10  # score and frames of a line that is believed though it was found only once
# What fills more of its line than strokes do is leaves or a grille, unless the detector is surer than that.
SOLID, SURE = 0.7, 0.82
BLOCK = 8  # frames decoded at a time
STILL, MOVING = 1, 2  # numbers of the objects


class CaptionFinder:
    """Finds the lines of text of `source`, a `VideoSource`: those that stay in place are object 1, others object 2.

    `objects`: which of the two are wanted. `detector`: called with a frame, returns its `Detection`s.

    Raises MaskError if what it needs is not installed.
    """

    def __init__(self, source, objects=(STILL, MOVING), detector=None):
        self.source, self.objects = source, tuple(objects)
        self._detect = detector or TextDetector()
        self._every = min(max(round(SECONDS * float(source.fps)), 1), EVERY)
        self._lines: list[Line] = []
        self._alive: list[Line] = []
        self._ended: list[Line] = []  # a while ago: they may come again

    def find(self, progress: Progress | None = None) -> TrackResult:
        """Their masks, strokes and outlines, in every frame. `progress`: called as progress("select", done, total)."""
        before: deque[tuple[int, np.ndarray]] = deque(maxlen=BACK)
        count = len(self.source)
        for start in range(0, count, BLOCK):
            for i, frame in enumerate(self.source[start : start + BLOCK], start):
                self._step(i, frame, before)
                before.append((i, frame))
                if progress is not None:
                    progress("select", i + 1, count)
        return self._result()

    def _step(self, i: int, frame: np.ndarray, before) -> None:
        for line in list(self._alive):
            line.follow(frame, i)
            if line.gone:
                frames = {**dict(before), i: frame}
                line.compare(frames, 1)
                if (part := self._left(line, frames)) is not None:
                    for later in range(min(part.places) + 1, i + 1):
                        part.follow(frames[later], later)
                    self._alive.append(part)
        went = [line for line in self._alive if line.gone]
        self._ended += went
        self._alive = [line for line in self._alive if not line.gone]
        self._close(i)
        # Where a line goes another often comes, maybe only until the next look.
        if i % self._every and i != len(self.source) - 1 and not went:
            return
        for seen in self._detect(frame):
            if not self._is_new(frame, seen, i):
                continue
            line = Line(frame, i, seen)
            self._lines.append(line)
            self._walk_back(line, i, frame, list(before))
            line.turn(frame, i)
            self._alive.append(line)

    def _walk_back(self, line: Line, first: int, frame: np.ndarray, before: list) -> None:
        for i, earlier in reversed(before):
            line.follow(earlier, i)
            if line.gone:
                break
        frames = {**dict(before), first: frame}
        line.compare(frames, -1)
        if (part := self._left(line, frames)) is not None:
            number = min(part.places)
            self._walk_back(part, number, frames[number], [one for one in before if one[0] < number])
            self._ended.append(part)

    def _left(self, line: Line, frames: dict[int, np.ndarray]) -> Line | None:
        """A line that is a part of one that was seen to change, if it is of no other line and the detector sees it."""
        rest = line.take_rest()
        if rest is None or rest[0] not in frames:
            return None
        number, seen = rest
        part = Line(frames[number], number, seen)
        known = np.zeros_like(part.text)
        for other in [*self._alive, *self._ended]:
            if number in other.places:
                known |= other.explains(part.text, part.place, number)
        if not part.text.any() or known.sum() > KNOWN * part.text.sum():
            return None
        if not self._sees(frames[number], part):
            return None
        part.part_of = line
        self._lines.append(part)
        return part

    def _sees(self, frame: np.ndarray, part: Line) -> bool:
        """Whether there is text for the detector where most of the letters of a new line are."""
        found = np.zeros(frame.shape[:2], bool)
        for seen in self._detect(frame):
            found[seen.rows, seen.columns] |= seen.region
        picture, _ = cut(found, part.place, part.text.shape)
        return picture[part.text].mean() > KNOWN

    def _is_new(self, frame: np.ndarray, seen: Detection, i: int) -> bool:
        """Whether a part of what was detected belongs to no known line; those that are seen in it are noted."""
        region, place = padded(seen)
        picture, _ = cut(frame, place, region.shape)
        _, found = strokes(picture, region, seen.height)
        rest, lines = found.copy(), []
        for line in [*self._alive, *self._ended]:
            explained = line.explains(rest, place)
            if explained.sum() < 0.1 * found.sum():
                continue
            if line not in self._alive:
                if not line.there(frame):
                    continue
                last = max(line.places)
                line.missed = i - last - 1
                if not line.follow(frame, i):
                    continue
                self._alive.append(line)
                self._ended.remove(line)
            rest &= ~explained
            lines.append(line)
            line.seen += 1
            line.score = max(line.score, seen.score)
        new = REST if any(line.cut for line in lines) else NEW
        return not lines or rest.sum() > new * found.sum() or _has_new_word(found, rest, seen.height)

    def _close(self, i: int | None = None) -> None:
        """Be done with the lines that are gone for good in frame `i`, or with all: of them only masks are kept."""
        patience = AGAIN * float(self.source.fps)
        closed = [line for line in self._ended if i is None or i - max(line.places) > patience]
        if i is None:
            closed += self._alive
        for line in closed:
            line.finish(len(self.source))
        for line in closed:
            line.settle(o for o in self._lines if o is not line and line.meets(o) and self._believed(o))
        self._ended = [line for line in self._ended if line not in closed]

    def _result(self) -> TrackResult:
        self._close()
        lines = [line for line in self._lines if self._believed(line)]
        shown: dict[int, list[Line]] = {}
        for line in lines:
            if (MOVING if line.moves else STILL) in self.objects:
                for i in line.places:
                    shown.setdefault(i, []).append(line)
        size = (self.source.height, self.source.width)
        tracks = {
            number: MaskTrack.build(
                _drawn(shown.get(i, ()), number, i, size) for i in range(len(self.source))
            )
            for number in self.objects
        }
        objects = {number: track for number, track in tracks.items() if track.any()}
        if not objects:
            return TrackResult(MaskTrack.empty(len(self.source), size))
        masks = MaskTrack.build(np.logical_or.reduce(both) for both in zip(*objects.values()))
        return TrackResult(masks, [], objects)

    def _believed(self, line: Line) -> bool:
        if line.part_of is not None:
            return self._believed(line.part_of)
        if line.seen > 1:
            return line.score >= SURE or line.filled < SOLID
        return line.told or (line.score >= CERTAIN and len(line.places) <= BRIEF)


def _has_new_word(found: np.ndarray, rest: np.ndarray, height: float) -> bool:
    """Whether for a short word along a line the strokes `found` are a `rest` that no known line has, bool (h, w)."""
    along = int(np.ptp(np.argwhere(found), axis=0).argmax()) if found.any() else 0
    all_of_it, unknown = found.sum(axis=1 - along), rest.sum(axis=1 - along)
    wide = np.ones(max(round(WORD * height), 1))
    most, new = np.convolve(all_of_it, wide, "valid"), np.convolve(unknown, wide, "valid")
    usual = all_of_it.sum() * len(wide) / max(np.count_nonzero(all_of_it), 1)
    return bool(((new > OWN * most) & (most > usual / 2)).any())


def _drawn(lines, number: int, i: int, size) -> np.ndarray:
    mask = np.zeros(size, bool)
    for line in lines:
        if (MOVING if line.moves else STILL) == number:
            line.draw(mask, i)
    return mask
