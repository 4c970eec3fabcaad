"""One line of text through the frames in which it is shown, still or moving."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from videopainter.masks import dilate
from videopainter.segmentation.captions.change import (
    Change,
    compare,
    is_of,
    is_replaced,
    margins,
    settled,
)
from videopainter.segmentation.captions.detector import Detection
from videopainter.segmentation.captions.strokes import EDGE, completed, outlined, strokes, whole_text

MARGIN = 0.5  # of a line's height, around it
THERE = 0.5  # of a line's correlation with the pattern of its strokes, from which it is in a frame
AGAIN = 0.75  # the same after it was gone: other words may be there now
FAINT = 0.06  # of its contrast that is left while it fades
NEAR = 2  # pixels around where it is expected in which it is looked for first
FAR = 0.06  # of the picture's width: the same for a line that was seen only once
BETTER = 0.03  # correlation by which another place has to be better
STILL = 2.5  # pixels that a line may wander and be still
WHOLE = 0.8  # contrast below which a line fades
FADE, LONGEST_FADE = 3, 12  # frames: looked at for it, and gone on at most
LEARNT = 0.5  # contrast from which it is part of the mean
BLUR = 1.0  # pixels that the mask of a moving line is wider, whose places are whole pixels
FADED = 0.9  # of the contrast that it had, from which a part of it may have vanished
PIECE = 0.8  # of its height: length of the pieces of it that may come and go by themselves
STAYED, WENT = 0.75, 0.5  # of a piece's contrast: left if it is still there, and if it is not
PLAIN = 25.0  # levels by which it has to stand out for that
STIRRED = 0.03  # of a piece that may change if it stays
PATIENCE = 2  # frames without it after which it is gone


class Line:
    """A line of text: what it looks like, on average, and where it is in each frame.

    `cut`: whether the edge of the picture ran through it when it was found.
    Places are (row, column) of the upper left corner of a picture of it, with some surroundings; text that does not
    move keeps one place, so its mask does not flicker.
    """

    def __init__(self, frame: np.ndarray, number: int, seen: Detection):
        self.height, self.score, self.seen = seen.height, seen.score, 1
        self.region, self.place = padded(seen)
        ends = (seen.rows.stop, seen.columns.stop)
        self.cut = 0 in (seen.rows.start, seen.columns.start) or any(map(int.__eq__, ends, frame.shape[:2]))
        self.speed = (0.0, 0.0)
        self.places: dict[int, tuple[int, int]] = {}
        self._contrasts: dict[int, float] = {}
        self.missed = 0
        self.part_of: Line | None = None  # of which this is what came earlier, or stayed longer
        self._possible = np.ones_like(self.region)  # what may be its letters, by what changed
        self._changes: dict[int, Change] = {}  # +1: at its last frame, -1: at its first
        self.told = False  # whether it was seen to come or to go, once it is settled
        self._settled: np.ndarray | None = None  # the mask, with margins around, as what changed has it
        self._latest: deque[tuple[int, np.ndarray]] = deque(maxlen=2)  # it and its surroundings, as looked at
        self._rest: tuple[int, Detection] | None = None  # what is left where a part of it vanished
        self._sum = np.zeros((*self.region.shape, 3), np.float64)
        self._learnt: set[int] = set()  # the frames of which it is the sum
        self._learn(frame, number)
        self._begin(frame, number)

    @property
    def moves(self) -> bool:
        """Whether it wanders over the picture."""
        rows, columns = zip(*self.places.values())
        return max(max(rows) - min(rows), max(columns) - min(columns)) > STILL

    @property
    def filled(self) -> float:
        """The share of it that its letters and their outline fill; above 1 where an outline reaches beyond it."""
        return float(self.text.sum() / max(self.region.sum(), 1))

    @property
    def gone(self) -> bool:
        """Whether it has not been seen for some frames."""
        return self.missed >= PATIENCE

    def follow(self, frame: np.ndarray, number: int) -> bool:
        """Look for it in the next frame, or the one before; whether it is there."""
        way = 1 if number > max(self.places) else -1
        if self._was_gone(frame, number, way):
            self.missed = PATIENCE
            return False
        expected = tuple(round(p + v) for p, v in zip(self.place, self.speed))
        place, alike, contrast = self._best(frame, expected, NEAR)
        if alike < THERE and len(self.places) < 3:
            far = self._far(frame)
            if far is not None:
                place, alike, contrast = self._best(frame, far, NEAR)
        if alike < THERE or contrast < FAINT:
            self.missed += 1
            return False
        if self._vanished(frame, number, way):
            self.missed = PATIENCE
            return False
        gap = 1 + self.missed
        step = tuple((new - old) / gap for new, old in zip(place, self.place))
        self.speed = tuple(0.5 * (a + b) for a, b in zip(self.speed, step)) if any(self.speed) else step
        before = number - gap if number > max(self.places) else number + gap
        for k in range(1, gap):  # frames in which something stood before it
            between = before + (k if number > before else -k)
            self.places[between] = tuple(round(p + s * k) for p, s in zip(self.place, step))
        self.place, self.missed = place, 0
        self._learn(frame, number, contrast)
        self._latest.append((number, self._surroundings(frame)))
        return True

    def turn(self, frame: np.ndarray, number: int) -> None:
        """Begin again in the frame where it was found, after it was followed back, to follow it on."""
        self.place, self.missed = self.places[number], 0
        self.speed = tuple(-v for v in self.speed)
        self._latest.clear()
        self._begin(frame, number)

    def _begin(self, frame: np.ndarray, number: int) -> None:
        self._began, self._at_first = number, self._pattern
        self._latest.append((number, self._surroundings(frame)))

    def there(self, frame: np.ndarray) -> bool:
        """Whether it is in a frame again where it was last, and no other text."""
        _, alike, _ = self._best(frame, self.place, NEAR)
        return alike >= AGAIN

    def explains(self, found: np.ndarray, place: tuple[int, int], number: int | None = None) -> np.ndarray:
        """bool (h, w): which of the strokes that were found in a picture at `place` are this line's.

        `number`: of the frame of the picture, if that is not the last one that was looked at.
        """
        out = np.zeros_like(found)
        own = self.place if number is None else self.places[number]
        _paste(out, self.text, own[0] - place[0], own[1] - place[1])
        return out & found

    def draw(self, mask: np.ndarray, number: int) -> None:
        """Mark its pixels of frame `number` in `mask`, bool (height, width)."""
        top, left = self.places[number]
        if self._settled is None:
            _paste(mask, self.text, top, left)
        else:
            rows, columns = margins(self.height)
            _paste(mask, self._settled, top - rows, left - columns)

    def compare(self, frames: dict[int, np.ndarray], way: int) -> None:
        """Look at what it changed where it ends: `way` 1, its last frame, -1, its first; `frames` by number, around."""
        end = max(self.places) if way == 1 else min(self.places)
        if way in self._changes and self._changes[way].end == end:
            return
        contrasts = {i: self._contrasts[i] for i in frames if i in self._contrasts}
        whole = [i for i, contrast in contrasts.items() if contrast >= WHOLE * max(contrasts.values())]
        without = end + way * (1 + self._faded(end, way))
        if not whole or without not in frames:
            return
        shown = (max if way == 1 else min)(whole)
        gap = shown - without
        pairs = [
            (a, b)
            for a, b in ((without, without - gap), (shown, shown + gap))
            if b in frames and (b in self.places) == (a in self.places)
        ]
        parts = {i: self._surroundings(frames[i]) for i in {without, shown, *sum(pairs, ())}}
        if pairs:
            quiet = [(parts[a], parts[b]) for a, b in pairs]
            self._note_change(end, without, parts[without], parts[shown], quiet, way)

    def _vanished(self, frame: np.ndarray, number: int, way: int) -> bool:
        """Whether it was in the frames looked at before and is not in this one, though its background looks alike."""
        if not self._follows_two(number):
            return False
        (_, earlier), (last, before) = self._latest
        here = self._surroundings(frame)
        return self._fades(before, here) and self._note_change(
            last, number, here, before, [(earlier, before)], way
        )

    def _was_gone(self, frame: np.ndarray, number: int, way: int) -> bool:
        """Whether it was not in the second frame that was looked at, which the third one, `frame`, tells.

        What changes from frame to frame anyway was not known then.
        """
        if not self._follows_two(number) or self._latest[0][0] != self._began:
            return False
        (first, shown), (last, without) = self._latest
        quiet, pattern = [(without, self._surroundings(frame))], self._pattern
        self._pattern = self._at_first  # what was in one of two frames only may be lost in their mean
        if not self._fades(shown, without) or not self._note_change(first, last, without, shown, quiet, way):
            self._pattern = pattern
            return False
        del self.places[last], self._contrasts[last]
        self.place = self.places[first]
        return True

    def _follows_two(self, number: int) -> bool:
        return [abs(number - i) for i, _ in self._latest] == [2, 1] and not self.moves

    def _fades(self, shown: np.ndarray, here: np.ndarray) -> bool:
        """Whether its strokes stand out less in the second of two pictures of its surroundings."""
        before, after = (
            _likeness(self._inner(x)[self.text] @ self._axis, self._pattern[self.text])[1]
            for x in (shown, here)
        )
        return after < FADED * before or any(gone for gone, _ in self._changed_pieces(shown, here))

    def _changed_pieces(self, shown: np.ndarray, here: np.ndarray) -> list[tuple[bool, bool]]:
        """(whether it is gone, whether it is still there) of each of its pieces, in the second of two pictures."""
        out = []
        for piece in self._pieces():
            before, after = (self._stand_out(self._inner(x), piece) for x in (shown, here))
            out.append((before > PLAIN and after < WENT * before, before > PLAIN and after > STAYED * before))
        return out

    def _stand_out(self, picture: np.ndarray, piece: tuple[slice, slice]) -> float:
        """Levels by which strokes and what is between and around them differ in a piece; 0 where it has none."""
        text, strokes_ = self.text[piece], self._pattern[piece] > 0
        around = text & ~strokes_
        if min(strokes_.sum(), around.sum()) < 4:
            return 0.0
        part = picture[piece].astype(np.float32)
        return float(np.linalg.norm(part[strokes_].mean(axis=0) - part[around].mean(axis=0)))

    def _pieces(self) -> list[tuple[slice, slice]]:
        """Rows and columns of pieces of it, from one end to the other."""
        rows, columns = (np.flatnonzero(self.region.any(axis)) for axis in (1, 0))
        long = max(rows, columns, key=len)
        count = max(1, round(len(long) / (PIECE * self.height)))
        cuts = [slice(part[0], part[-1] + 1) for part in np.array_split(long, count) if len(part)]
        whole = slice(0, None)
        return [(one, whole) if long is rows else (whole, one) for one in cuts]

    def take_rest(self) -> tuple[int, Detection] | None:
        """(frame, part of it that was there when another one had vanished, or had not come yet); told once."""
        rest, self._rest = self._rest, None
        return rest

    def _part(self, region: np.ndarray) -> Detection:
        rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
        inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        place = (slice(int(p + x.start), int(p + x.stop)) for p, x in zip(self.place, inner))
        return Detection(*place, region[inner], self.score, self.height)

    def _note_change(self, end, without, picture, shown, quiet, way: int) -> bool:
        """Keep what differs between a picture without it and one with it, if that is this line, or a part of it."""
        changed, known = compare(picture, shown, quiet)
        strokes_ = self._pattern > 0
        gone, stayed = map(np.array, zip(*self._changed_pieces(shown, picture)))
        rest = np.zeros_like(self.region)
        for k, piece in enumerate(
            self._pieces()
        ):  # what was read of letters that vanished may be what is behind them
            stayed[k] &= self._inner(changed)[piece][self.region[piece]].mean() < STIRRED
        if gone.any() and stayed.any():
            near = np.convolve(stayed, [1, 1, 1])[1:-1] > 0
            for piece, its in zip(self._pieces(), near & ~gone):
                rest[piece] = self.region[piece] & its
            strokes_ = strokes_ & ~rest
            rest = dilate(rest, PIECE / 2 * self.height) & self.region  # a word may end within a piece
            known &= ~self._widened(dilate(rest, EDGE))
        of_it = changed, known, picture, shown, self._widened(strokes_), self.height
        other = is_replaced(changed, *of_it[2:])
        if not other and not is_of(*of_it):
            return False
        if other:
            known = known & changed
        changed = changed & known
        self._rest = (without, self._part(rest)) if rest.any() else None
        self._changes[way] = Change(end, without, changed, known)
        self._possible &= self._inner(dilate(changed, EDGE) | ~known)
        if without in self._learnt:  # it was taken for the text
            self._learnt.remove(without)
            self._sum -= self._inner(picture)
        self._read()
        return True

    def _surroundings(self, frame: np.ndarray) -> np.ndarray:
        rows, columns = margins(self.height)
        height, width = self.region.shape
        place = self.place[0] - rows, self.place[1] - columns
        return cut(frame, place, (height + 2 * rows, width + 2 * columns))[0].copy()  # not all of the frame

    def _inner(self, mask: np.ndarray) -> np.ndarray:
        """Its own place in a mask or a picture of its surroundings."""
        rows, columns = margins(self.height)
        return mask[rows:-rows, columns:-columns]

    def _widened(self, mask: np.ndarray) -> np.ndarray:
        rows, columns = margins(self.height)
        return np.pad(mask, ((rows, rows), (columns, columns)))

    def settle(self, others) -> None:
        """Correct the finished mask by what changed where it came and where it went, and keep nothing else.

        What another one of the lines `others` covers in only one of the two frames says nothing.
        """
        if not self.moves and self._changes:
            self._settle(list(others))
        self.told = bool(self._changes)
        self._changes.clear()
        self._latest.clear()
        self._pattern = self._possible = self._at_first = None

    def meets(self, other: Line) -> bool:
        """Whether the other line is there in a frame in which this one was seen to come or to go."""
        return any(i in other.places for one in self._changes.values() for i in (one.without, one.end))

    def _settle(self, others) -> None:
        text, strokes_ = self._widened(self.text), self._widened(self._pattern > 0)
        margin = margins(self.height)
        told = []
        for change in self._changes.values():
            place = self.places[change.end]
            taken = np.zeros(text.shape, bool)
            for other in others:
                both = {change.without, change.end} & other.places.keys()
                for i in both if len(both) == 1 else ():
                    at = other.places[i]
                    _paste(taken, other.text, *(a - p + m for a, p, m in zip(at, place, margin)))
            told.append(settled(change, strokes_, dilate(taken, 2 * EDGE), self.height))
        own, known = (np.logical_or.reduce(some) for some in zip(*told))
        self._settled = dilate(own, EDGE) | (text & ~known)

    def finish(self, count: int) -> None:
        """Make its mask of all that was seen of it, in a video of `count` frames."""
        self._read(BLUR if self.moves else 0)
        self._sum = None
        ends = {1: max(self.places), -1: min(self.places)}
        self._changes = {way: one for way, one in self._changes.items() if one.end == ends[way]}
        for end, way in ((max(self.places), 1), (min(self.places), -1)):
            for k in range(1, self._faded(end, way) + 1):
                if 0 <= end + way * k < count:
                    self.places[end + way * k] = self.places[end]

    def _faded(self, end: int, way: int) -> int:
        """Frames beyond an end in which it is too faint to be seen by itself: the fade goes on as it began."""
        last = [self._contrasts.get(end - way * k) for k in range(FADE + 1)]
        if None in last or last[0] > WHOLE or last[-1] <= last[0]:
            return 0
        return min(int(np.ceil(last[0] * FADE / (last[-1] - last[0]))), LONGEST_FADE)

    def _learn(self, frame: np.ndarray, number: int, contrast: float = 1.0) -> None:
        self.places[number] = self.place
        self._contrasts[number] = contrast
        if contrast < LEARNT:  # while it fades its background would blur it
            return
        picture, valid = cut(frame, self.place, self.region.shape)
        if valid.mean() < 0.98 and self._learnt:
            return
        self._sum += picture
        self._learnt.add(number)
        if len(self._learnt) in (1, 2, 4, 8, 16, 64):
            self._read()

    def _read(self, more: float = 0) -> None:
        picture = (self._sum / len(self._learnt)).astype(np.float32)
        found, letters = (x & self._possible for x in strokes(picture, self.region, self.height))
        letters |= completed(picture, found, self.region, self.height)
        letters |= outlined(picture, letters, self.height)
        letters &= self._possible
        self.text = whole_text(picture, letters, self.height, more)
        around = self.text & ~found
        if found.any() and around.any():
            axis = picture[found].mean(0) - picture[around].mean(0)
        else:
            axis = np.ones(3, np.float32)
        self._axis = axis / max(np.linalg.norm(axis), 1e-3)
        # Strokes against what is around them, whatever that is: a background that stays must not pass for the text.
        self._pattern = np.where(found, 1.0, 0.0).astype(np.float32)
        flat = (picture @ self._axis)[self.text]
        self._alike, self._contrast = _likeness(flat, self._pattern[self.text])

    def _best(self, frame, expected, reach: int):
        """((row, column), correlation, contrast) of the best place around `expected`, which has a start."""
        height, width = self.region.shape
        place = (expected[0] - reach, expected[1] - reach)
        picture, valid = cut(frame, place, (height + 2 * reach, width + 2 * reach))
        flat = picture.astype(np.float32) @ self._axis
        best = None
        for dy, dx in sorted(
            np.ndindex(2 * reach + 1, 2 * reach + 1), key=lambda d: abs(d[0] - reach) + abs(d[1] - reach)
        ):
            inside = self.text & valid[dy : dy + height, dx : dx + width]
            if inside.sum() < 0.4 * self.text.sum():
                continue
            alike, contrast = _likeness(
                flat[dy : dy + height, dx : dx + width][inside], self._pattern[inside]
            )
            alike, contrast = alike / max(self._alike, 0.2), contrast / max(self._contrast, 1e-3)
            if best is None or alike > best[1] + BETTER:
                best = ((place[0] + dy, place[1] + dx), alike, contrast)
        return best or (expected, 0.0, 0.0)

    def _far(self, frame) -> tuple[int, int] | None:
        """Where in the wider surroundings it could be."""
        reach = round(FAR * frame.shape[1])
        height, width = self.region.shape
        place = (self.place[0] - reach, self.place[1] - reach)
        picture, _ = cut(frame, place, (height + 2 * reach, width + 2 * reach))
        flat = (picture.astype(np.float32) @ self._axis).astype(np.float32)
        rows, columns = (slice(*np.flatnonzero(self.region.any(axis))[[0, -1]] + [0, 1]) for axis in (1, 0))
        inner = np.ascontiguousarray(self._pattern[rows, columns])
        likely = cv2.matchTemplate(flat[rows.start :, columns.start :], inner, cv2.TM_CCOEFF_NORMED)
        likely = likely[: 2 * reach + 1, : 2 * reach + 1]
        _, most, _, (x, y) = cv2.minMaxLoc(likely)
        return (place[0] + y, place[1] + x) if most >= THERE * self._alike else None


def _likeness(values: np.ndarray, pattern: np.ndarray) -> tuple[float, float]:
    """(correlation of values with a pattern of 0 and 1, difference of the means where it is 1 and 0); of nothing 0."""
    if not len(values):
        return 0.0, 0.0
    known = pattern - pattern.mean()
    both, power = float((values - values.mean()) @ known), float(known @ known)
    return both / max(np.sqrt(power) * float(values.std()) * np.sqrt(len(values)), 1e-3), both / max(
        power, 1e-3
    )


def padded(seen: Detection) -> tuple[np.ndarray, tuple[int, int]]:
    """(where a line is in a picture of it with its surroundings, where that picture begins)."""
    pad = int(np.ceil(MARGIN * seen.height)) + 2
    return np.pad(seen.region, pad), (seen.rows.start - pad, seen.columns.start - pad)


def cut(frame: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """((h, w, 3), which of it lies within the frame); edges are repeated outside."""
    (top, left), (height, width) = place, size
    if min(place) >= 0 and top + height <= frame.shape[0] and left + width <= frame.shape[1]:
        return frame[top : top + height, left : left + width], np.ones(size, bool)
    rows, columns = (np.arange(start, start + length) for start, length in zip(place, size))
    inside = ((rows >= 0) & (rows < frame.shape[0]))[:, None] & ((columns >= 0) & (columns < frame.shape[1]))
    rows, columns = rows.clip(0, frame.shape[0] - 1), columns.clip(0, frame.shape[1] - 1)
    return frame[np.ix_(rows, columns)], inside


def _paste(mask: np.ndarray, part: np.ndarray, top: int, left: int) -> None:
    height, width = mask.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + part.shape[0], height), min(left + part.shape[1], width)
    if y0 < y1 and x0 < x1:
        mask[y0:y1, x0:x1] |= part[y0 - top : y1 - top, x0 - left : x1 - left]
