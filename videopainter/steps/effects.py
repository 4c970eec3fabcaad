"""Effects: shadows that an object casts, found from what the same places look like when it is elsewhere.

A place lies in the object's shadow where it is darker than the clean plate by one factor for all colours, with no
texture of its own, near the object, in one piece with it, and moving with it. An object that never moves has no clean
plate, and nothing is found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.engines.base import EngineError
from videopainter.masks import MaskTrack
from videopainter.ops.channels import average, largest
from videopainter.ops.light import Light
from videopainter.ops.motion import Motion
from videopainter.ops.resize import resize

log = logging.getLogger("videopainter")

AUTO_LIMIT = 15.0  # per cent of the picture

_AREA = 240 * 180  # pixels at which is looked: shadows are large and soft
_PIECE = 100  # frames that share a plate
_SOFT = 1.5  # px, sigma
_SAMPLES = 15  # frames that tell the usual exposure
_SOFT_LIGHT = 6.0  # px, sigma
_SAME = 1.5  # grey levels by which most of a fixed camera's picture changes at most in its detail
_FEWEST = 12  # frames with the object in a piece; fewer tell a shadow from nothing
_LIT = 0.9  # of the frames that show a place are no brighter than its plate
_DARKER = 0.025  # the least part of its light that a place in the shadow lacks
_DARKEST = 0.6  # and the most
_TINT = 0.09  # by which the colours' factors differ at most; the sky lights shadows a little bluer
_DIM = 24.0  # grey levels; a darker plate tells no shadow
_UNEVEN = 0.07  # standard deviation of the factor over a few pixels; another thing has a texture of its own
_REACH = 1.2  # of the object's size
_CLOSE = 0.5  # of the object's size
_RATHER = 4  # times as often a place close to the object is darker than one far away
_TOUCH_SIZE = 0.4  # and of the object's size
_TOUCH = 0.1  # of the picture's height between the object and its shadow at most
_OTHER = 25.0  # grey levels from the plate: another thing
_OTHER_SIZE = 0.1  # of the object's area; what is smaller may be a part of it that its mask misses
_STEADY = 4  # frames on either side over which a shadow moves with its object
_AGREE = 0.5  # of them show it
_USUAL = 0.4  # of all frames show it in the same place, seen from the object
_OFTEN = 0.3  # of the frames with the object show some shadow, or none is believed
_EDGE = 2  # px of a soft edge
_SMALLEST = 0.0004  # of the picture
_UNSTIRRED = 0.8  # of all that the object ever covers is covered throughout
_LARGEST_OBJECT = 0.6  # of the picture; around a larger one there is nothing to compare


def check_effects(effects: str | float) -> None:
    """Raise EngineError unless ``effects`` is "auto", "off" or a limit in per cent of the picture."""
    number = isinstance(effects, int | float) and math.isfinite(effects) and 0 <= effects <= 100
    if not number and effects not in ("auto", "off"):
        raise EngineError(f"The effects are auto, off or 0 to 100 per cent of the picture, not '{effects}'.")


def find_effects(
    source, objects: MaskTrack, effects: str | float = "auto", check: Callable[[], None] = lambda: None
) -> MaskTrack | None:
    """Shadows of the objects in each frame, without the objects themselves; None if there are none.

    Args:
        source: a `VideoSource`.
        objects: masks of its length and size.
        effects: "auto": at most `AUTO_LIMIT` per cent of the picture, what lies nearest to the object first; a
            number: that limit; "off": nothing is looked for.
        check: called before each frame; it may raise to end the search.
    """
    check_effects(effects)
    limit = AUTO_LIMIT if effects == "auto" else effects
    if effects == "off" or limit == 0 or not objects.any():
        return None
    found: list[np.ndarray] = []  # packed bits
    size = _small(source.size)
    shares = []
    for piece in _pieces(source, objects, size, check):
        check()
        for shadow in _shadows(piece, limit / 100):
            shares.append(float(shadow.mean()))
            found.append(np.packbits(shadow))
        del piece  # or it would stay while the next one is read
    if not any(shares):
        return None
    seen = [share for share in shares if share]
    log.info(
        "Effects: shadows of the object, %.1f %% of the picture on average in %d of %d frames, go with it.",
        100 * sum(seen) / len(seen),
        len(seen),
        len(shares),
    )

    def full() -> Iterator[np.ndarray]:
        for bits, mask in zip(found, objects):
            check()
            shadow = np.unpackbits(bits, count=size[0] * size[1]).reshape(size)
            yield (resize(shadow * np.uint8(255), source.size, "linear") > 96) & ~mask

    return MaskTrack.build(full())


def with_effects(objects: MaskTrack, effects: MaskTrack) -> MaskTrack:
    """Both in one."""
    return MaskTrack.build(mask | shadow for mask, shadow in zip(objects, effects))


def _small(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, (_AREA / (size[0] * size[1])) ** 0.5)
    return max(8, round(size[0] * scale)), max(8, round(size[1] * scale))


@dataclass
class _Piece:
    """Neighbouring frames of one shot, shrunk and softened."""

    frames: list[np.ndarray]  # uint8 (h, w, 3)
    objects: list[np.ndarray]  # bool (h, w)
    cameras: list[np.ndarray]  # from each frame to the next; one less than frames


def _pieces(source, objects, size, check) -> Iterator[_Piece]:
    motion, piece, last = Motion(precise=True), _Piece([], [], []), None
    for frame, mask in zip(source, objects):
        check()
        small = cv2.GaussianBlur(resize(np.ascontiguousarray(frame), size, "area"), (0, 0), _SOFT)
        hidden = resize(mask.astype(np.float32), size, "area") > 0.05
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        camera = np.eye(3) if last is None else motion.camera(last[0], grey, ~(last[1] | hidden))
        if piece.frames and (camera is None or len(piece.frames) == _PIECE):
            yield piece
            piece = _Piece([], [], [])
        elif piece.frames:
            piece.cameras.append(camera)
        piece.frames.append(small)
        piece.objects.append(hidden)
        last = (grey, hidden)
    yield piece


def _shadows(piece: _Piece, limit: float) -> list[np.ndarray]:
    """bool (h, w) for each frame."""
    nothing = [np.zeros_like(hidden) for hidden in piece.objects]
    there = [i for i, hidden in enumerate(piece.objects) if hidden.any()]
    if len(there) < _FEWEST or np.mean([piece.objects[i].mean() for i in there]) > _LARGEST_OBJECT:
        return nothing
    if _overlay(piece.objects):
        return nothing
    size = float(np.median([piece.objects[i].sum() ** 0.5 for i in there]))
    frames, objects, outside, poses = _aligned(piece)
    plate, jitter = _plate(frames, objects, outside)
    darkened = [_darkened(frame, plate, jitter) for frame in frames]
    dark = [d & ~(hidden | blind) for (d, _), hidden, blind in zip(darkened, objects, outside)]
    if not _stands_out(dark, objects, outside, size):
        return nothing
    evidence = [
        _near(d, hidden, size) if hidden.any() else np.zeros_like(d) for d, hidden in zip(dark, objects)
    ]
    evidence = [
        e & (_distance(h) <= _distance(_others(f, plate, d | h | b, size)))
        for e, f, d, h, b in zip(evidence, frames, dark, objects, outside)
    ]
    steady = _moving_along(evidence, objects)
    if sum(e.any() for e in steady) < _OFTEN * len(there):
        return nothing
    factors = [lack for _, lack in darkened]
    least = _SMALLEST * frames[0][..., 0].size
    result = []
    for i, shadow in enumerate(steady):
        shadow = _whole(shadow, factors[i], objects[i], outside[i], size)
        if shadow.sum() < least:
            shadow = np.zeros_like(shadow)
        back = _pulled(shadow.view(np.uint8), np.linalg.inv(poses[i]), cv2.INTER_NEAREST).view(bool)
        result.append(_limited(back, piece.objects[i], limit))
    return result


def _overlay(objects) -> bool:
    """Whether the object never stirs in the picture: a caption or a logo, or nothing that could be told apart."""
    always = np.logical_and.reduce(objects).sum()
    return always > _UNSTIRRED * np.logical_or.reduce(objects).sum()


def _aligned(piece: _Piece):
    """(frames, objects, what lies outside of them, poses) in the place and the light of the piece's middle frame."""
    n, (h, w) = len(piece.frames), piece.objects[0].shape
    middle = n // 2
    poses = [np.eye(3)] * n  # from the middle frame to each
    for i in range(middle + 1, n):
        poses[i] = piece.cameras[i - 1] @ poses[i - 1]
    for i in range(middle - 1, -1, -1):
        poses[i] = np.linalg.inv(piece.cameras[i]) @ poses[i + 1]
    if _stands(piece):
        poses = [np.eye(3)] * n
    else:
        poses = [_refined(piece, middle, i, pose) for i, pose in enumerate(poses)]
    frames, objects, outside = [], [], []
    for frame, hidden, pose in zip(piece.frames, piece.objects, poses):
        frames.append(_pulled(frame, pose, cv2.INTER_LINEAR))
        objects.append(_pulled(hidden.view(np.uint8), pose, cv2.INTER_NEAREST).view(bool))
        outside.append(_pulled(np.ones((h, w), np.uint8), pose, cv2.INTER_NEAREST) == 0)
    return _in_one_light(frames, objects, outside), objects, outside, poses


def _in_one_light(frames, objects, outside) -> list[np.ndarray]:
    """The frames as if the exposure were the same in all: by the median factor of what is known, channel by channel."""
    some = range(0, len(frames), -(-len(frames) // _SAMPLES))
    usual = np.median(np.stack([frames[i][::2, ::2] for i in some]), axis=0)
    result = []
    for frame, hidden, blind in zip(frames, objects, outside):
        known = ~(hidden | blind)[::2, ::2] & (average(usual) > _DIM) & (largest(usual) < 250)
        if known.sum() < 64:
            result.append(frame)
            continue
        gain = np.median(usual[known] / np.maximum(frame[::2, ::2][known], 1), axis=0).astype(np.float32)
        result.append(Light(gain, np.zeros(3, np.float32)).apply(frame))
    return result


def _refined(piece: _Piece, middle: int, i: int, pose: np.ndarray) -> np.ndarray:
    """``pose``, put together from many steps whose errors add up, measured once more against the middle frame."""
    if i == middle:
        return pose
    here, there = (cv2.cvtColor(piece.frames[k], cv2.COLOR_RGB2GRAY) for k in (middle, i))
    unknown = piece.objects[i].view(np.uint8)
    pulled = _pulled(there, pose, cv2.INTER_LINEAR)
    seen = _pulled(1 - unknown, pose, cv2.INTER_NEAREST) > 0
    step = Motion(precise=True).camera(here, pulled, seen & ~piece.objects[middle])
    return pose if step is None else pose @ step


def _stands(piece: _Piece) -> bool:
    """Whether the camera stands still: most of the picture stays what it is, whatever moves in it.

    Before a plain wall the motion that is found between neighbours is that of whatever moves.
    """
    nowhere = [np.zeros_like(hidden) for hidden in piece.objects]
    some = range(0, len(piece.frames), -(-len(piece.frames) // _SAMPLES))
    frames = _in_one_light(*([values[i] for i in some] for values in (piece.frames, piece.objects, nowhere)))
    # Without what is soft: clouds and shadows pass over a picture that stays what it is.
    details = [average(frame) - cv2.GaussianBlur(average(frame), (0, 0), _SOFT_LIGHT) for frame in frames]
    usual = np.median(np.stack(details), axis=0)
    changes = [np.percentile(np.abs(d - usual)[~piece.objects[i]], 70) for d, i in zip(details, some)]
    return float(np.median(changes)) < _SAME


def _pulled(picture: np.ndarray, pose: np.ndarray, how: int) -> np.ndarray:
    if np.array_equal(pose, np.eye(3)):
        return picture
    return cv2.warpPerspective(picture, pose, picture.shape[1::-1], flags=how | cv2.WARP_INVERSE_MAP)


def _plate(frames, objects, outside) -> tuple[np.ndarray, np.ndarray]:
    """(what each place looks like in the light, float32 (h, w, 3), 0 where nobody knows; how restless it is (h, w))."""
    stack = np.stack(frames)
    hidden = np.stack(objects) | np.stack(outside)
    hidden = np.stack([cv2.dilate(h.view(np.uint8), np.ones((5, 5), np.uint8)) for h in hidden]).view(bool)
    enough = (~hidden).sum(0) >= _FEWEST
    plate = np.where(enough[..., None], _quantile(stack, ~hidden, _LIT), 0)
    grey = stack.mean(axis=-1, dtype=np.float32)
    both = ~(hidden[1:] | hidden[:-1])
    steps = np.where(both, np.abs(np.diff(grey, axis=0)), 0)
    return plate.astype(np.float32), 1.05 * _quantile(steps[..., None], both, 0.5)[..., 0]


def _quantile(values: np.ndarray, use: np.ndarray, share: float) -> np.ndarray:
    """Along the first axis, of those in use; 0 where none is. values (n, h, w, c), use (n, h, w)."""
    count = use.sum(0)
    highest = np.array(255, values.dtype) if values.dtype == np.uint8 else np.float32(1e6)
    ranked = np.sort(np.where(use[..., None], values, highest), axis=0)
    place = np.clip((np.maximum(count, 1) - 1) * share, 0, None).astype(int)
    picked = np.take_along_axis(ranked, place[None, ..., None], axis=0)[0]
    return np.where(count[..., None] > 0, picked, 0)


def _distance(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def _darkened(frame: np.ndarray, plate: np.ndarray, jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(where a frame is evenly darker than the plate, bool (h, w); which part of its light is missing, (h, w))."""
    factors = np.float32(frame) / np.maximum(plate, 1)
    factor = average(factors)
    lack = 1 - factor
    known = average(plate) > _DIM
    least = _DARKER + 2 * jitter / np.maximum(average(plate), 1)
    tint = largest(factors) + largest(-factors)
    mean = cv2.blur(factor, (3, 3))
    uneven = np.sqrt(np.maximum(cv2.blur(factor * factor, (3, 3)) - mean * mean, 0))
    dark = known & (lack > least) & (lack < _DARKEST)
    return dark & (tint < _TINT) & (uneven < _UNEVEN), np.where(known & (tint < 2 * _TINT), lack, 0)


def _stands_out(dark, objects, outside, size: float) -> bool:
    """Whether it is darker around the object much more often than elsewhere; else the background itself changes."""
    counts = np.zeros((2, 2))
    for d, hidden, blind in zip(dark, objects, outside):
        if hidden.any():
            away = _distance(hidden)
            for k, place in enumerate((away < _CLOSE * size, away > _REACH * size)):
                place &= ~(hidden | blind)
                counts[k] += (d & place).sum(), place.sum()
    close, elsewhere = counts[:, 0] / np.maximum(counts[:, 1], 1)
    return close > _RATHER * elsewhere + 0.02


def _others(frame: np.ndarray, plate: np.ndarray, explained: np.ndarray, size: float) -> np.ndarray:
    """Other things before the plate, of a size with the object: what is nearest to them is their shadow, not ours."""
    changed = average(np.abs(frame - plate)) > _OTHER
    changed &= (average(plate) > 0) & ~cv2.dilate(explained.view(np.uint8), np.ones((3, 3), np.uint8)).view(
        bool
    )
    count, labels, stats, _ = cv2.connectedComponentsWithStats(changed.view(np.uint8))
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= _OTHER_SIZE * size * size]
    return np.isin(labels, large)


def _near(dark: np.ndarray, hidden: np.ndarray, size: float) -> np.ndarray:
    """What of ``dark`` hangs together and reaches the object."""
    away = _distance(hidden)
    dark = cv2.morphologyEx(
        (dark & (away < _REACH * size)).view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)
    )
    joined = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    touching = np.unique(labels[away <= max(3, min(_TOUCH * dark.shape[0], _TOUCH_SIZE * size))])
    return np.isin(labels, touching[touching > 0]) & ~hidden


def _moving_along(evidence, objects) -> list[np.ndarray]:
    """What of the evidence belongs to the object: the frames around show it as well, moved as the object moves."""
    centres = [np.argwhere(o).mean(0) if o.any() else None for o in objects]
    h, w = evidence[0].shape
    # All evidence, seen from the object: its shadow lies in the same place more often than not.
    usual, count = np.zeros((2 * h, 2 * w), np.float32), 0
    for centre, e in zip(centres, evidence):
        if centre is not None:
            usual += cv2.warpAffine(e.astype(np.float32), _shift(centre, (h, w)), (2 * w, 2 * h))
            count += 1
    result = []
    for t, centre in enumerate(centres):
        if centre is None:
            result.append(np.zeros_like(evidence[t]))
            continue
        votes, voters = np.zeros((h, w), np.float32), 0
        for i in range(max(0, t - _STEADY), min(len(evidence), t + _STEADY + 1)):
            if centres[i] is not None:
                votes += cv2.warpAffine(evidence[i].astype(np.float32), _shift(centres[i], centre), (w, h))
                voters += 1
        here = cv2.warpAffine(usual, _shift((h, w), centre), (w, h))
        result.append((votes >= _AGREE * voters) & (here >= _USUAL * count) & (voters > 2) & ~objects[t])
    return result


def _shift(start, end) -> np.ndarray:
    (y0, x0), (y1, x1) = start, end
    return np.float32([[1, 0, np.rint(x1 - x0)], [0, 1, np.rint(y1 - y0)]])


def _whole(shadow, lack, hidden, outside, size: float) -> np.ndarray:
    """A shadow with its soft edge: grown as long as it is darker than the plate at all, and a little more."""
    if not shadow.any():
        return shadow
    soft = (lack > 0.6 * _DARKER) & (lack < _DARKEST)
    allowed = soft & ~outside & ~hidden & (_distance(hidden) < _REACH * size)
    grown = shadow.view(np.uint8)
    for _ in range(_EDGE):
        grown = cv2.dilate(grown, np.ones((3, 3), np.uint8)) & allowed.view(np.uint8)
        grown |= shadow.view(np.uint8)
    return cv2.dilate(grown, np.ones((3, 3), np.uint8)).view(bool) & ~hidden


def _limited(shadow: np.ndarray, hidden: np.ndarray, limit: float) -> np.ndarray:
    """At most ``limit`` of the picture, the nearest to the object first."""
    most = int(limit * shadow.size)
    if shadow.sum() <= most:
        return shadow
    away = np.where(shadow, _distance(hidden), np.inf)
    return shadow & (away <= np.partition(away, most, axis=None)[most])
