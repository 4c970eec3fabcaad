"""The segmenter `clicks`: a network says what is clicked, the classical follower carries it, the network refines it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from videopainter.masks import MaskTrack
from videopainter.segmentation.base import Candidate, Step, stretch, with_strokes
from videopainter.segmentation.classical.follow import Follower
from videopainter.segmentation.classical.motion import BLOCK
from videopainter.segmentation.classical.search import Looks
from videopainter.segmentation.classical.tracker import ClassicalSegmenter, Walk
from videopainter.segmentation.clicks import interaction
from videopainter.segmentation.clicks.anchor import Anchor
from videopainter.segmentation.clicks.cues import background_of, before_background, motion_cue, of_clicked
from videopainter.segmentation.clicks.network import ClickNetwork, Point
from videopainter.segmentation.prompts import BoxPrompt, ClickPrompt, MaskPrompt, Prompt, clipped, pixel

AGREE = 0.72  # IoU with what was carried from which the network's outline is taken
NEAR = 3  # frames before and after a clicked one whose motion is looked at
FAR = (6, 10, 14, 18, 22, 26, 30)  # frames before and after it that show what is behind the thing
ALIKE_COUNTS, UNLIKE_COUNTS = 0.1, 0.5  # trust in the motion: a hand moves like what it holds
KEPT = 48 * 2**20  # bytes of what was found
CHECKED = 0.45  # IoU that the network must expect of its own mask to be believed in a later frame


class ClicksSegmenter(ClassicalSegmenter):
    """Finds what is clicked by a network that ships with the package; needs no weights and no GPU.

    Args:
        source: a `VideoSource`.
        network: by default the one that ships with the package, loaded when it is first needed.
    """

    name = "clicks"

    def __init__(self, source, network: ClickNetwork | None = None):
        super().__init__(source)
        self._network = network
        self._found = _Recent()
        self._backgrounds: dict[int, tuple | None] = {}  # of the block that was asked for last
        self._frame: tuple[int, np.ndarray] | None = None
        self._told: tuple[tuple, interaction.Cues] | None = None  # what cues were asked for last, and they

    @property
    def network(self) -> ClickNetwork:
        """The click network."""
        if self._network is None:
            self._network = ClickNetwork()
        return self._network

    def full(self, i: int) -> np.ndarray:
        """Frame `i` of the source, uint8 RGB; the last one is kept."""
        if self._frame is None or self._frame[0] != i:
            block = i // BLOCK * BLOCK
            # Through the whole block, so that going back costs no seek for each frame.
            for j in range(block, min(block + BLOCK, len(self.source))):
                frame = self.source[j : j + 1][0]
                if j == i:
                    self._frame = (i, np.ascontiguousarray(frame))
        return self._frame[1]

    def prepare(self, frame: int) -> None:
        middle = Point(self.source.width / 2, self.source.height / 2)
        self._cues(frame, self.full(frame), [middle], False)  # decodes the frames around it
        self._network = self.network  # loaded

    def _candidates(self, frame: int, prompts: Sequence[Prompt]) -> list[Candidate]:
        found = self.readings(frame, prompts)
        shown = interaction.best(found)
        ordered = [shown, *(one for one in found if one is not shown)]
        score = 1.0  # the best comes first, whatever it promises
        out = []
        for one in ordered:
            score = min(score, one.score)
            out.append(Candidate(with_strokes(one.mask, prompts), score, one.extent))
        return out

    def _touched(self, prompt: Prompt) -> np.ndarray:
        return self._candidates(prompt.frame, [prompt])[0].mask

    def readings(
        self,
        frame: int,
        prompts: Sequence[Prompt],
        previous: np.ndarray | None = None,
        around: bool = False,
    ) -> list[interaction.Candidate]:
        """The network's readings of one object's prompts in one frame, by area.

        Args:
            frame: The frame's number.
            prompts: Clicks, boxes and masks of that frame.
            previous: float (height, width), what is known of the object there already.
            around: Whether frames all around may be read for it.
        """
        key = (frame, around, *(_key(p) for p in prompts)) if previous is None else None
        if key in self._found:
            return self._found[key]
        rgb, points = self.full(frame), []
        size = rgb.shape[:2]
        for p in prompts:
            if isinstance(p, BoxPrompt):
                previous = _united(previous, _box_mask(p, self.source, size))
            elif isinstance(p, MaskPrompt) and p.mode == "is":
                previous = p.mask.astype(np.float32)
            elif isinstance(p, MaskPrompt) and p.mode == "add":
                points += [Point(x, y) for x, y in _along(p.mask)]
            elif isinstance(p, ClickPrompt):
                row, column = pixel(p, size)
                points.append(Point(column, row, p.positive))
        whole = [p for p in prompts if isinstance(p, MaskPrompt) and p.mode == "is"]
        if whole and not points:
            found = [_exactly(whole[-1].mask)]
        elif previous is not None:
            found = [self._corrected(rgb, points, previous)]
        else:
            found = self._by_clicks(frame, rgb, points, around)
        if key is not None:
            self._found[key] = found
        return found

    def _by_clicks(
        self, frame: int, rgb: np.ndarray, points: list[Point], around: bool
    ) -> list[interaction.Candidate]:
        """The first positive click is read, all others correct what was found."""
        first = next(p for p in points if p.positive)
        others = [p for p in points if p is not first]
        key = (frame, around, first)
        found = self._found.get(key)
        if found is None:
            cues = self._cues(frame, rgb, [first], around)
            found = interaction.first_look(self.network, rgb, [first], cues)
            self._found[key] = found
        if not others:
            return found

        shown = interaction.best(found)
        probability, so_far = shown.probability, [first]
        for point in others:
            so_far.append(point)
            if (probability[int(point.y), int(point.x)] >= interaction.SURE) == point.positive:
                continue
            step = (frame, around, *so_far)  # as it came to be with the click before this one
            if step not in self._found:
                cues = self._cues(frame, rgb, [first], around)
                self._found[step] = [interaction.correct(self.network, rgb, so_far, probability, cues)]
            (shown,) = self._found[step]
            probability = shown.probability
        return [interaction.Candidate("object", probability >= interaction.SURE, probability, shown.score)]

    def _corrected(self, rgb, points, previous) -> interaction.Candidate:
        if not points:
            probability, score = interaction.refine(self.network, rgb, previous, area=256 * 256)
            return interaction.Candidate("object", probability >= interaction.SURE, probability, score)
        shown, so_far = None, []
        for point in points:
            so_far.append(point)
            shown = interaction.correct(self.network, rgb, so_far, previous)
            previous = shown.probability
        return shown

    def _cues(self, frame: int, rgb: np.ndarray, points: list[Point], around: bool) -> interaction.Cues:
        """What other frames tell: those `around` if they may be read, else those decoded along with the clicked one.

        The background that a camera which stands still has seen behind the thing tells most; else motion tells a bit.
        """
        around = around or self.clip.knows_around(frame)
        key = (frame, around, *points)
        if self._told is None or self._told[0] != key:
            self._told = key, self._cues_anew(frame, rgb, points, around)
        return self._told[1]

    def _cues_anew(self, frame, rgb, points, around) -> interaction.Cues:
        here, size = self.clip.rgb(frame), rgb.shape[1::-1]
        if around:
            cues = self.background(frame, size)
            if cues.background is not None and _stands_out(cues.background, points):
                return interaction.Cues(background=of_clicked(cues.background, points))
        block = frame // BLOCK * BLOCK
        last = min(block + BLOCK, len(self.source)) - 1
        near = sorted({max(block, frame - NEAR), min(last, frame + NEAR)} - {frame})
        scale = here.shape[1] / rgb.shape[1]
        right, bottom = here.shape[1] - 1, here.shape[0] - 1
        moved = [Point(min(p.x * scale, right), min(p.y * scale, bottom)) for p in points]
        cue = motion_cue(here, [self.clip.rgb(i) for i in near], moved)
        if cue is None:
            return interaction.Cues()
        cue = np.where(cue > 0, ALIKE_COUNTS * cue, UNLIKE_COUNTS * cue).astype(np.float32)
        return interaction.Cues(motion=cv2.resize(cue, size, interpolation=cv2.INTER_LINEAR))

    def background(self, i: int, size: tuple[int, int]) -> interaction.Cues:
        """What stands out in frame `i` before what frames around it show, if the camera stands still.

        `size`: width and height of the cue.
        """
        block = i // BLOCK
        if block not in self._backgrounds:
            last = self.clip.length - 1
            f = min(block * BLOCK + BLOCK // 2, last)
            far = [self.clip.rgb(j) for k in FAR for j in (f - k, f + k) if 0 <= j <= last]
            self._backgrounds = {block: background_of(self.clip.rgb(f), far)}
        known = self._backgrounds[block]
        if known is None:
            return interaction.Cues()
        cue = before_background(self.clip.rgb(i), known)
        return interaction.Cues(background=cv2.resize(cue, size, interpolation=cv2.INTER_LINEAR))

    def first(self, f: int, prompts: Sequence[Prompt]) -> np.ndarray:
        """The mask of a clicked frame that a track begins with."""
        return interaction.best(self.readings(f, prompts, around=True)).mask

    def refined(self, i: int, carried: np.ndarray) -> tuple[np.ndarray, float]:
        """What the network makes of a bool mask carried to frame `i`, and the IoU that it expects of it."""
        rgb = self.full(i)
        cues = self.background(i, rgb.shape[1::-1])
        probability, score = interaction.refine(self.network, rgb, carried.astype(np.float32), cues)
        return probability >= interaction.SURE, score

    def _follow(
        self, prompts: Sequence[Prompt], start: int | None, known: MaskTrack | None
    ) -> Iterator[Step]:
        by_frame: dict[int, list[Prompt]] = {}
        for p in prompts:
            by_frame.setdefault(int(p.frame), []).append(p)
        walk = _Walk(self, {f: self._hints(own) for f, own in by_frame.items()}, by_frame)
        if start is None:
            steps = walk.all()
        else:
            steps = walk.renew(start, known, *stretch(prompts, start, self.clip.length))
        for i, mask, confidence in steps:
            full = walk.outline(i, walk.get(i) if mask is None else mask)
            yield Step(i, with_strokes(full, by_frame.get(i, ())), confidence)


class _Recent(OrderedDict[tuple, list[interaction.Candidate]]):
    """What was found last, in at most `KEPT` bytes; the newest stays, however large."""

    def __setitem__(self, key: tuple, found: list[interaction.Candidate]) -> None:
        super().__setitem__(key, found)
        self.move_to_end(key)
        while len(self) > 1 and sum(map(_bytes, self.values())) > KEPT:
            self.popitem(last=False)


def _bytes(found: list[interaction.Candidate]) -> int:
    return sum(one.mask.nbytes + one.probability.nbytes for one in found)


class _Walk(Walk):
    """A classical walk whose clicked frames come from the network, and whose outlines it refines."""

    def __init__(self, segmenter: ClicksSegmenter, hints, prompts: dict[int, list[Prompt]]):
        super().__init__(segmenter, hints)
        self.prompts = prompts
        self.fine: dict[int, np.ndarray] = {}  # the frame that was found last, in pixels of the source
        self.clicked: dict[int, np.ndarray] = {}  # the masks of frames with prompts, in pixels of the source
        self.anchors: dict[tuple[int, int], Anchor] = {}  # by clicked frame and direction

    def start(self, f: int, hints):
        expected = None
        if f > 0 and self.packed.get(f - 1) and not self.clip.cut_between(f - 1, f):
            expected = self.step(self.follower, f, 1)
        if expected is None and not hints.any_positive:
            return self.put(f, None)
        mask = self.corrected(f, expected)
        if expected is not None:
            self.follower.accept(f, mask)
            self.follower.learn(f, mask)
        else:
            self.follower = Follower(self.clip, f, mask, self.get)
        self.looks = Looks.of(self.clip, f, mask)
        return self.put(f, mask, 1.0)

    def corrected(self, f: int, expected: np.ndarray | None) -> np.ndarray:
        """The clicked frame's mask, with what was `expected` there, bool in working pixels."""
        if expected is None:
            full = self.segmenter.first(f, self.prompts[f])
        else:
            known = self.known is not None and f < len(self.known)
            previous = (self.known[f] if known else self.outline(f, expected)).astype(np.float32)
            full = interaction.best(self.segmenter.readings(f, self.prompts[f], previous)).mask
        self.fine, self.clicked[f] = {f: full}, full
        return self.segmenter.shrunk(full)

    def step(self, follower: Follower, i: int, direction: int) -> np.ndarray | None:
        kept = self.kept(i, direction)
        if kept is not None:
            mask = self.segmenter.shrunk(kept)
            follower.accept(i, mask)
            follower.confidence = 1.0
            self.fine = {i: kept}
            return mask
        mask = super().step(follower, i, direction)
        if mask is None:
            return None
        carried = self.segmenter.enlarged(mask)
        refined, score = self.segmenter.refined(i, carried)
        if score >= CHECKED and interaction.iou(refined, carried) >= AGREE:
            self.fine = {i: refined}
            mask = self.segmenter.shrunk(refined)
            follower.mask = mask
        return mask

    def kept(self, i: int, direction: int) -> np.ndarray | None:
        """The last clicked frame's mask in frame `i`, bool (height, width) in pixels of the source.

        None where its thing did more than move along with the camera.
        """
        behind = [f for f in self.clicked if (i - f) * direction > 0]
        if not behind:
            return None
        f = min(behind, key=lambda f: abs(i - f))
        if (f, direction) not in self.anchors:
            full = self.clicked[f]
            self.anchors[f, direction] = Anchor(self.clip, f, full, self.segmenter.shrunk(full))
        return self.anchors[f, direction].mask_in(i)

    def outline(self, i: int, mask: np.ndarray) -> np.ndarray:
        """bool (height, width) in pixels of the source."""
        return self.fine[i] if i in self.fine else self.segmenter.enlarged(mask)


def _key(p: Prompt) -> tuple:
    return tuple(v.tobytes() if isinstance(v, np.ndarray) else v for v in vars(p).values())


def _united(previous, mask):
    return mask if previous is None else np.maximum(previous, mask)


def _box_mask(box: BoxPrompt, source, size) -> np.ndarray:
    """A box as a rough mask: what is in its middle rather belongs to the object than its corners."""
    x0, y0, x1, y1 = clipped(box, source)
    mask = np.zeros(size, np.float32)
    centre = (round((x0 + x1) / 2), round((y0 + y1) / 2))
    axes = (max(1, round((x1 - x0) / 2)), max(1, round((y1 - y0) / 2)))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 0.8, -1)
    return mask


def _stands_out(cue: np.ndarray, points: list[Point], reach: int = 2) -> bool:
    """Whether the positive clicks lie on what is no background; a thing that stands still all the while is."""
    for p in points:
        rows, columns = (slice(max(0, int(v) - reach), int(v) + reach + 1) for v in (p.y, p.x))
        if p.positive and np.median(cue[rows, columns]) <= 0:
            return False
    return True


def _along(mask: np.ndarray, count: int = 4) -> list[tuple[int, int]]:
    """Some pixels along a brush stroke, (x, y)."""
    ys, xs = np.nonzero(mask)
    order = np.argsort(xs + 1e-4 * ys)
    chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    return [(int(xs[k]), int(ys[k])) for k in chosen]


def _exactly(mask: np.ndarray) -> interaction.Candidate:
    return interaction.Candidate("object", mask > 0, mask.astype(np.float32), 1.0)
