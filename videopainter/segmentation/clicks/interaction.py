"""Clicks in one frame become a mask: a look at the whole frame, one zoomed on what was found, and corrections."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.segmentation.clicks.network import EXTENTS, Box, ClickNetwork, Point

PART, OBJECT, GROUP = range(len(EXTENTS))
SURE = 0.5  # a pixel belongs to the mask from this probability on
AREA = 256 * 256  # pixels of the network's pictures
NOT_MUCH_LARGER = 2.5  # times the area of the smaller reading
ALONG = 1.8  # times the area without motion from which what goes along is something else, too
ALIKE = 0.93  # IoU of readings that are shown as one
SETTLED = 0.95  # IoU of two looks after which a third would change nothing
NEARBY = 0.6  # of the frame's longer side: what a look at the click's surroundings sees
SMALL = 0.12  # share of those surroundings that a small thing takes at most
STRICT, GENEROUS = 0.7, 0.3  # least probability of a smaller and of a larger reading where no other was found
DOUBTFUL = 0.2  # a pixel of at least this probability may belong to the thing
LEAST_LARGER, MOST_LARGER = 1.1, 4.0  # times the area of the object that a group may have
CERTAIN = 0.65  # a pixel of at least this probability was surely in the mask
SAME_COLOUR = 28.0  # distance in Lab, lightness weighed down
ELSEWHERE = 0.25  # times the area of the change at the click that one elsewhere may have
NECK = 0.25  # share of its width at the click by which a change has to hang together with it
DEEP = 3.0  # times the clicked pixel's distance from the outline that a change may reach
BETTER = 0.06  # by which the network has to expect more of a look that is told nothing but the clicks
SPECK = 0.15  # a piece without a click that is smaller than this share of the main one is dropped


@dataclass(frozen=True)
class Candidate:
    """One reading of the clicks.

    Attributes:
        extent: "part", "object" or "group".
        mask: bool `(height, width)`.
        probability: float32 `(height, width)` in 0..1; its pixels of at least 0.5 are the mask.
        score: The IoU with what was meant that the network expects, 0..1.
    """

    extent: str
    mask: np.ndarray
    probability: np.ndarray
    score: float


@dataclass(frozen=True)
class Cues:
    """What other frames tell about this one; either may be missing.

    Attributes:
        motion: float32 `(height, width)` in -1..1: 1 = moves like the clicked spot, 0 = nobody knows.
        background: float32 `(height, width)` in -1..1: 1 = differs from the background that other frames show.
    """

    motion: np.ndarray | None = None
    background: np.ndarray | None = None


def first_look(
    network: ClickNetwork, frame: np.ndarray, points: list[Point], cues: Cues | None = None
) -> list[Candidate]:
    """The readings of one or more clicks where no mask is known yet.

    The whole frame is looked at, plain and mirrored; then what was found, zoomed. The larger of two readings is the
    object, as people mean the whole more often than the network does. The surroundings of the click are looked at by
    themselves, too; what is small there is the object where the network expects more of it and other frames tell
    nothing. Where no look finds more, the group is what the object would become with one more click, in the largest
    place of which the network is in doubt.

    Args:
        network: The click network.
        frame: uint8 `(height, width, 3)` RGB.
        points: At least one of them positive.
        cues: What other frames tell.

    Returns:
        One to three candidates in the order of their area; `best` tells which of them to show first.
    """
    cues = cues or Cues()
    found = _readings(network, frame, points, cues)
    shown = best(found)
    alone = None if cues.motion is None else _alone(network, frame, points, shown.mask)
    if alone is None or not _larger(shown.mask, alone, ALONG):
        return found
    # What goes along need not belong to it: where motion makes something much larger of it, that is a group.
    still = _readings(network, frame, points, Cues())
    if not _larger(shown.mask, best(still).mask, ALONG):
        return found
    return [
        *(one for one in still if one.extent != "group"),
        Candidate("group", shown.mask, shown.probability, shown.score),
    ]


def _larger(mask: np.ndarray, than: np.ndarray, times: float) -> bool:
    return np.count_nonzero(mask) > times * np.count_nonzero(than)


def _alone(network, frame, points, mask) -> np.ndarray:
    """What one look at the surroundings of a mask gives without what other frames tell, bool `(height, width)`."""
    probability, _ = _object(network, frame, around(mask, points), points, None, Cues())
    return with_points(without_specks(probability, points), points) >= SURE


def _readings(network, frame, points, cues) -> list[Candidate]:
    """The candidates of `first_look` with these cues."""
    told = cues.motion is not None or cues.background is not None
    height, width = frame.shape[:2]
    masks, _ = _look(network, frame, Box(0, 0, width, height), points, None, cues, mirrored=True)
    rough = [without_specks(mask, points) for mask in masks]

    def zoomed(around_what, previous, box=None):
        box = box or around(around_what >= SURE, points)
        probability, score = _object(network, frame, box, points, previous, cues)
        return with_points(without_specks(probability, points), points), score

    less, more = zoomed(rough[OBJECT], rough[OBJECT]), zoomed(rough[GROUP], rough[GROUP])
    if iou(more[0] >= SURE, rough[GROUP] >= SURE) <= SETTLED:
        more = zoomed(more[0], more[0])
    square = _surroundings(frame, points)
    near, _ = zoomed(None, None, square)
    small = np.count_nonzero(near >= SURE) < SMALL * (square.right - square.left) * (
        square.bottom - square.top
    )
    near = zoomed(near, near)
    much = _larger(more[0] >= SURE, less[0] >= SURE, NOT_MUCH_LARGER)
    shown, second = (less, more) if much else (more, less)
    others = [second, near]
    if small and not told and near[1] > shown[1]:
        shown, others = near, [shown, second]
    readings = {"object": shown}
    for one in others:
        extent = "group" if np.count_nonzero(one[0] >= SURE) > np.count_nonzero(shown[0] >= SURE) else "part"
        if extent not in readings and iou(one[0] >= SURE, shown[0] >= SURE) < ALIKE:
            readings[extent] = one
    if "part" not in readings:
        readings["part"] = zoomed(rough[PART], rough[PART])
    if "group" not in readings:
        larger = _with_doubtful(
            network, frame, points, shown[0], np.maximum(rough[OBJECT], rough[GROUP]), cues
        )
        if larger is not None:
            readings["group"] = larger
    found = []
    for extent, (probability, score) in readings.items():
        mask = probability >= SURE
        if mask.any() and not any(iou(mask, other.mask) > ALIKE for other in found):
            found.append(Candidate(extent, mask, probability, score))
    found = _filled(found, shown[0], more[0], points)
    return sorted(found, key=lambda one: int(one.mask.sum()))


def _filled(found: list[Candidate], shown: np.ndarray, more: np.ndarray, points) -> list[Candidate]:
    """Three readings where there were fewer: what is surest and hangs together, and all that is likely at all."""
    (object_,) = (one for one in found if one.extent == "object")
    for extent, probability, level in (("part", shown, STRICT), ("group", more, GENEROUS)):
        if any(one.extent == extent for one in found):
            continue
        mask = probability >= level
        if extent == "part":
            mask = _touching(mask, _marked(mask.shape, points))
        smaller, larger = (mask, object_.mask) if extent == "part" else (object_.mask, mask)
        alike = any(iou(mask, other.mask) > ALIKE for other in found)
        if alike or np.count_nonzero(smaller) >= np.count_nonzero(larger) or not mask.any():
            continue
        moved = np.where(mask, np.maximum(probability, SURE), np.minimum(probability, SURE - 0.01))
        moved = with_points(moved.astype(np.float32), points)
        found.append(Candidate(extent, moved >= SURE, moved, 0.9 * object_.score))
    return found


def _surroundings(frame: np.ndarray, points) -> Box:
    """A square around the first positive click, as much of it as is in the frame."""
    height, width = frame.shape[:2]
    side = max(48, round(NEARBY * max(height, width)))
    click = next(point for point in points if point.positive)
    left = int(np.clip(click.x - side / 2, 0, max(0, width - side)))
    top = int(np.clip(click.y - side / 2, 0, max(0, height - side)))
    return Box(left, top, min(width, left + side), min(height, top + side))


def _marked(shape, points) -> np.ndarray:
    """The pixels of positive clicks, bool."""
    marks = np.zeros(shape, bool)
    for point in points:
        marks[int(point.y), int(point.x)] |= point.positive
    return marks


def _look(network, frame, box, points, previous, cues, area: int = AREA, mirrored: bool = False):
    """What the network says of a cut; `mirrored`: the mean of that and of what it says of the mirrored cut."""
    masks, scores = network.predict(frame, box, points, previous, cues.motion, cues.background, area)
    if not mirrored:
        return masks, scores
    rows, columns = box.slices

    def flipped(plane):
        return None if plane is None else np.ascontiguousarray(plane[rows, columns][:, ::-1])

    inside = [p for p in points if box.left <= p.x < box.right and box.top <= p.y < box.bottom]
    there = [Point(box.right - 1 - p.x, p.y - box.top, p.positive) for p in inside]
    whole = Box(0, 0, box.right - box.left, box.bottom - box.top)
    planes = map(flipped, (previous, cues.motion, cues.background))
    again, other = network.predict(flipped(frame), whole, there, *planes, area)
    return (masks + again[:, :, ::-1]) / 2, (scores + other) / 2


def _object(network, frame, box, points, previous, cues, area: int = AREA, mirrored: bool = False):
    """The object's probability in the whole frame, 0 outside of the cut, float32 `(height, width)`; its score."""
    masks, scores = _look(network, frame, box, points, previous, cues, area, mirrored)
    probability = np.zeros(frame.shape[:2], np.float32)
    probability[box.slices] = masks[OBJECT]
    return probability, float(scores[OBJECT])


def _with_doubtful(network, frame, points, probability, doubtful, cues):
    """The reading with one more click where the first look was in doubt; None if it is no larger, or another thing."""
    mask = probability >= SURE
    beside = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    rest = (doubtful >= DOUBTFUL) & beside
    if not rest.any():
        return None
    depth = _depth(rest)
    y, x = np.unravel_index((depth * (0.3 + doubtful)).argmax(), depth.shape)
    found = _corrected(network, frame, [*points, Point(int(x), int(y))], probability, cues)
    area = np.count_nonzero(mask)
    if not LEAST_LARGER * area < np.count_nonzero(found.mask) < MOST_LARGER * area:
        return None
    return found.probability, found.score


def correct(
    network: ClickNetwork,
    frame: np.ndarray,
    points: list[Point],
    previous: np.ndarray,
    cues: Cues | None = None,
) -> Candidate:
    """The mask after one more click.

    What is changed lies around the new click. Where the whole is wrong that would take many clicks; so the clicks are
    read anew, too, as if nothing were known, and where the network expects clearly more of that, it is the mask.

    Args:
        network: The click network.
        frame: uint8 `(height, width, 3)` RGB.
        points: All clicks so far, the new one last.
        previous: float `(height, width)` in 0..1, the mask before that click.
        cues: What other frames tell.

    Returns:
        The mask, changed around the new click or new altogether.
    """
    cues = cues or Cues()
    changed = _corrected(network, frame, points, previous, cues)
    if not any(point.positive for point in points):
        return changed
    anew = _anew(network, frame, points, changed.mask | (previous >= SURE), cues)
    said = all(anew.mask[int(p.y), int(p.x)] == p.positive for p in points)
    return anew if said and anew.score > changed.score + BETTER else changed


def _corrected(network, frame, points, previous, cues) -> Candidate:
    """The mask changed around the last click."""
    before = previous >= SURE
    box = around(before, points, points[-1])
    probability, score = _object(network, frame, box, points, previous, cues, mirrored=True)
    probability = local_change(previous.astype(np.float32), probability, points, frame)
    probability = with_points(without_specks(probability, points, before), points)
    return Candidate("object", probability >= SURE, probability, score)


def _anew(network, frame, points, mask, cues) -> Candidate:
    """What the clicks alone give in the surroundings of a mask, looked at twice."""
    probability = None
    for _ in range(2):
        box = around(mask, points)
        probability, score = _object(network, frame, box, points, probability, cues, mirrored=True)
        probability = with_points(without_specks(probability, points), points)
        mask = probability >= SURE
    return Candidate("object", mask, probability, score)


def refine(
    network: ClickNetwork,
    frame: np.ndarray,
    carried: np.ndarray,
    cues: Cues | None = None,
    area: int = 224 * 224,
):
    """The mask of this frame from one that was carried here from another; float32 `(height, width)` and a score."""
    cues = cues or Cues()
    if not (carried >= SURE).any():
        return np.zeros(frame.shape[:2], np.float32), 0.0
    box = around(carried >= SURE, (), margin=1.45)
    probability, score = _object(network, frame, box, (), carried, cues, area)
    return without_specks(probability, ()), score


def best(candidates: list[Candidate], extent: str | None = None) -> Candidate:
    """The candidate to show: the one of the asked extent, or the nearest to it.

    Where no extent is asked for, the object.
    """
    wanted = EXTENTS.index(extent or "object")
    return min(candidates, key=lambda c: (abs(EXTENTS.index(c.extent) - wanted), -c.score))


# -- pieces of masks ------------------------------------------------------------------------------------------


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def _hit(labels: np.ndarray, points) -> set[int]:
    height, width = labels.shape
    hit = {
        int(labels[min(max(int(p.y), 0), height - 1), min(max(int(p.x), 0), width - 1)])
        for p in points
        if p.positive
    }
    return hit - {0}


def without_specks(probability: np.ndarray, points, known: np.ndarray | None = None) -> np.ndarray:
    """Pieces that hold no click and are small beside the main one go; what was `known` before stays."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probability >= SURE).astype(np.uint8))
    if count <= 2:
        return probability
    hit = _hit(labels, points)
    areas = stats[:, cv2.CC_STAT_AREA]
    main = max((areas[k] for k in hit), default=areas[1:].max())
    drop = np.array([k > 0 and k not in hit and areas[k] < SPECK * main for k in range(count)])
    if known is not None and drop.any():
        drop[np.bincount(labels[known], minlength=count) > 0.5 * areas] = False
    return np.where(drop[labels], np.minimum(probability, 0.3), probability) if drop.any() else probability


def with_points(probability: np.ndarray, points, radius: int = 2) -> np.ndarray:
    """Clicked pixels are in the mask, or out of it, whatever the network says."""
    out = probability.copy()
    for point in points:
        spot = (int(point.x), int(point.y))
        if point.positive and out[spot[1], spot[0]] < SURE:
            cv2.circle(out, spot, radius, 0.75, -1)
        elif not point.positive and out[spot[1], spot[0]] >= SURE:
            cv2.circle(out, spot, radius, 0.25, -1)
    for point in points:  # where discs overlap, the pixels themselves decide
        x, y = int(point.x), int(point.y)
        out[y, x] = max(out[y, x], 0.75) if point.positive else min(out[y, x], 0.25)
    return out


def around(mask: np.ndarray, points, last: Point | None = None, margin: float = 1.5, least: int = 24) -> Box:
    """The cut for a second look: the mask and the positive clicks with room around, more around the `last` one."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    xs = [xs.min(), xs.max()] if len(xs) else []
    ys = [ys.min(), ys.max()] if len(ys) else []
    xs += [p.x for p in points if p.positive]
    ys += [p.y for p in points if p.positive]
    left, right, top, bottom = min(xs), max(xs) + 1, min(ys), max(ys) + 1
    wide, high = right - left, bottom - top
    w, h = max(wide * margin, high * margin * 0.6, least), max(high * margin, wide * margin * 0.6, least)
    cx, cy = (left + right) / 2, (top + bottom) / 2
    left, right, top, bottom = cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2
    if last is not None:
        room = max(16, 0.25 * max(right - left, bottom - top))
        left, right = min(left, last.x - room), max(right, last.x + room)
        top, bottom = min(top, last.y - room), max(bottom, last.y + room)
    return Box(
        int(max(0, left)),
        int(max(0, top)),
        int(min(width, np.ceil(right))),
        int(min(height, np.ceil(bottom))),
    )


def local_change(
    previous: np.ndarray, proposed: np.ndarray, points, frame: np.ndarray | None = None
) -> np.ndarray:
    """What the last click changes: the pieces of the difference that hold it or touch its surroundings.

    A positive click adds, a negative one takes away; what lies elsewhere changes only where the network is surer of it
    than it was of what it said before, but for the outline, which may move by a few pixels. People click in the middle
    of what is wrong: what lies much further from the outline than the click is not meant. With the `frame` given, a
    negative click leaves what was surely in the mask and has another colour than the clicked spot.
    """
    last = points[-1]
    before, after = previous >= SURE, proposed >= SURE
    gained, lost = after & ~before, before & ~after
    wanted, unwanted = (gained, lost) if last.positive else (lost, gained)
    height, width = before.shape
    seed = np.zeros((height, width), np.uint8)
    reach = max(3, round(0.01 * (height + width)))
    cv2.circle(seed, (int(last.x), int(last.y)), reach, 1, -1)
    if frame is not None and not last.positive:
        wanted = wanted & (_like_spot(frame, last) | (previous < CERTAIN))
    away = _depth(~before if last.positive else before)
    wanted &= away <= DEEP * away[int(last.y), int(last.x)] + 0.5 * reach
    take = _hanging_together(wanted, seed > 0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    rim = cv2.morphologyEx(before.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    core = _touching(cv2.erode(unwanted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, unwanted)
    thin = unwanted & rim & ~cv2.dilate(core.astype(np.uint8), kernel).astype(bool)
    change = take | thin | (wanted & rim)
    same = before == after
    both = (previous + proposed) / 2
    flipped = ((both >= SURE) != before) & ~change
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(flipped.astype(np.uint8))
    # People click the largest of what is wrong: a larger change elsewhere is not what they saw.
    most = ELSEWHERE * max(np.count_nonzero(take), 3 * away[int(last.y), int(last.x)] ** 2)
    taken = stats[:, cv2.CC_STAT_AREA] <= most
    taken[0] = False
    out = np.where(change | same, proposed, previous)
    return np.where(taken[pieces], both, out).astype(np.float32)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Of each pixel of a mask, how far it is from its outline; the frame's border is one. float32."""
    return cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]


def _like_spot(frame: np.ndarray, point: Point) -> np.ndarray:
    """Pixels that have the colour of a clicked spot."""
    lab = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), (0, 0), 1.0).astype(np.float32)
    return np.linalg.norm((lab - lab[int(point.y), int(point.x)]) * [0.6, 1, 1], axis=2) < SAME_COLOUR


def _hanging_together(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The pieces of a mask that touch the seed, cut where they are much narrower than at the seed."""
    piece = _touching(mask, seed)
    distance = _depth(piece)
    near = distance[seed & piece]
    width = float(near.max()) if near.size else 0.0
    radius = NECK * width
    if radius < 1:
        return piece
    core = distance > radius
    core = _touching(core, seed if (core & seed).any() else core)
    return piece & (cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 5) <= radius + 1.5)


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The pieces of a mask that touch the seed."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.unique(labels[seed & mask])
    return np.isin(labels, kept[kept > 0])
