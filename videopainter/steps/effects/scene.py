"""A shot as the search for effects sees it: small frames in one place and one light, and the clean plate.

The plate is what each place looks like when the object, its shadow and whatever else passes by are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.ops.harmonic import masked_mean
from videopainter.ops.light import Light
from videopainter.ops.motion import Motion
from videopainter.ops.resize import resize

_AREA = 240 * 180  # pixels at which is looked: shadows are large and soft
_PIECE = 100  # frames that share a plate; half as many more where the clip ends
_SOFT = 1.5  # px, sigma
_SAMPLES = 15  # frames that tell the usual exposure
_OTHER_LIGHT = 1.4  # times the usual exposure, or less than that part of it
_SOFT_LIGHT = 6.0  # px, sigma
_SAME = 1.5  # grey levels by which most of a fixed camera's picture changes at most in its detail
_DECIDED = 1.1  # a cell votes when one explanation is this much better
_LIMIT = 6.0  # grey levels; what moves must not outvote the rest
_CELLS = (8, 8)  # that vote on whether the camera moves
_UNSTIRRED = 0.8  # of all that the object ever covers is covered throughout
FEWEST = 12  # frames with the object in a piece; fewer tell a shadow from nothing
_AROUND = 0.5  # of the object's size: how far from it a place is taken to be out of its shadow
_LIT = 0.9  # of the frames that show a plain place are no brighter than it is in the light
_ALIKE = 0.03  # of a place's light by which frames differ that show the same
_TEXTURE = 0.012  # of the light, standard deviation, of what is called plain
_CALM = 0.01  # of the light from frame to frame
_KNOWN = 0.25  # of the object's surroundings have a plate, or nothing is judged
_WHITE = 250  # grey levels, from which on more light is not told from less
DIM = 24.0  # grey levels; a darker plate tells no shadow
_RESTLESS = 2.5  # grey levels from frame to frame in the middle
_BROAD = 0.06  # of the object's size, sigma: what is softer than noise and misplaced detail
_BROADEST = (1.2, 3.5)  # px
_EDGE = 0.2  # of the object's size over which a shadow fades at most
_WIDEST_EDGE = (3, 14)  # px


def small_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, (_AREA / (size[0] * size[1])) ** 0.5)
    return max(8, round(size[0] * scale)), max(8, round(size[1] * scale))


@dataclass
class Piece:
    """Neighbouring frames of one shot, shrunk and softened."""

    frames: list[np.ndarray]  # uint8 (h, w, 3)
    objects: list[np.ndarray]  # bool (h, w)
    cameras: list[np.ndarray]  # from each frame to the next; one less than frames


@dataclass
class Scene:
    """A piece in one place and one light, with its plate."""

    frames: list[np.ndarray]  # uint8 (h, w, 3)
    objects: list[np.ndarray]  # bool (h, w)
    outside: list[np.ndarray]  # bool (h, w), True where the frame does not reach
    plate: np.ndarray  # float32 (h, w, 3), 0 where unknown
    restless: np.ndarray  # float32 (h, w), grey levels
    size: float  # of the object, px
    plain: bool  # most of it has no texture and hardly changes

    @cached_property
    def busy(self) -> np.ndarray:
        """bool (h, w): where something moves most of the time, so that nobody knows the light there."""
        usual = float(np.median(self.restless))
        return cv2.blur(self.restless, (3, 3)) > max(_RESTLESS, 5 * usual)

    @property
    def broad(self) -> float:
        """Sigma of what counts as soft, px."""
        return float(np.clip(_BROAD * self.size, *_BROADEST))

    @property
    def edge(self) -> int:
        """Over how many pixels a shadow fades at most."""
        return int(np.clip(_EDGE * self.size, *_WIDEST_EDGE))

    @cached_property
    def centres(self) -> list[np.ndarray | None]:
        """(y, x) of the object's middle in each frame; None where it is not seen."""
        return [np.argwhere(hidden).mean(0) if hidden.any() else None for hidden in self.objects]


@dataclass
class Look:
    """What of a frame is darker than the plate."""

    dark: np.ndarray  # bool (h, w)
    sure: np.ndarray  # float32 (h, w), the part of its light that is missing at least, softened
    lack: np.ndarray  # float32 (h, w), the part of its light that is missing, softened
    blind: np.ndarray  # bool (h, w), nothing is known: the object, other things, outside


def pieces(source, objects, size, progress) -> Iterator[Piece]:
    motion, piece, last = Motion(precise=True), Piece([], [], []), None
    for i, (frame, mask) in enumerate(zip(source, objects)):
        progress(i, len(source))
        small = cv2.GaussianBlur(resize(np.ascontiguousarray(frame), size, "area"), (0, 0), _SOFT)
        hidden = resize(mask.astype(np.float32), size, "area") > 0.05
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        camera = np.eye(3) if last is None else motion.camera(last[0], grey, ~(last[1] | hidden))
        # A short rest would tell nothing alone: it stays with what is before it.
        full = len(piece.frames) >= _PIECE and len(source) - i >= _PIECE // 2
        if piece.frames and (camera is None or full):
            yield piece
            piece = Piece([], [], [])
        elif piece.frames:
            piece.cameras.append(camera)
        piece.frames.append(small)
        piece.objects.append(hidden)
        last = (grey, hidden)
    yield piece


def overlay(objects) -> bool:
    """Whether the object never stirs in the picture: a caption or a logo, or nothing that could be told apart."""
    always = np.logical_and.reduce(objects).sum()
    return always > _UNSTIRRED * np.logical_or.reduce(objects).sum()


def aligned(piece: Piece):
    """(frames, objects, what lies outside of them, poses) in the place and the light of the piece's middle frame."""
    n, (h, w) = len(piece.frames), piece.objects[0].shape
    middle = n // 2
    poses = [np.eye(3)] * n  # from the middle frame to each
    for i in range(middle + 1, n):
        poses[i] = piece.cameras[i - 1] @ poses[i - 1]
    for i in range(middle - 1, -1, -1):
        poses[i] = np.linalg.inv(piece.cameras[i]) @ poses[i + 1]
    still = [np.eye(3)] * n
    poses = [_refined(piece, middle, i, pose) for i, pose in enumerate(poses)]
    if _stands(piece, middle, poses):
        poses = still
    frames, objects, outside = [], [], []
    for frame, hidden, pose in zip(piece.frames, piece.objects, poses):
        frames.append(pulled(frame, pose, cv2.INTER_LINEAR))
        objects.append(pulled(hidden.view(np.uint8), pose, cv2.INTER_NEAREST).view(bool))
        outside.append(pulled(np.ones((h, w), np.uint8), pose, cv2.INTER_NEAREST) == 0)
    gains = _gains(frames, objects, outside)
    for gain, blind in zip(gains, outside):
        # A fade, or a dissolve: there is no factor by which all of it is darker.
        blind |= not 1 / _OTHER_LIGHT < average(gain) < _OTHER_LIGHT
    return _in_one_light(frames, gains), objects, outside, poses


def _gains(frames, objects, outside) -> list[np.ndarray]:
    """How much brighter each frame would be in the usual exposure, float32 (3,): the median of what is known."""
    some = range(0, len(frames), -(-len(frames) // _SAMPLES))
    usual = np.median(np.stack([frames[i][::2, ::2] for i in some]), axis=0)
    result = []
    for frame, hidden, blind in zip(frames, objects, outside):
        known = ~(hidden | blind)[::2, ::2] & (average(usual) > DIM) & (largest(usual) < _WHITE)
        gain = np.ones(3)
        if known.sum() >= 64:
            gain = np.median(usual[known] / np.maximum(frame[::2, ::2][known], 1), axis=0)
        result.append(np.float32(gain))
    return result


def _in_one_light(frames, gains) -> list[np.ndarray]:
    """The frames as if the exposure were the same in all. What was cut off at white is no darker in less light."""
    none = np.zeros(3, np.float32)
    return [
        np.where(frame >= _WHITE, frame, Light(gain, none).apply(frame)) for frame, gain in zip(frames, gains)
    ]


def _refined(piece: Piece, middle: int, i: int, pose: np.ndarray) -> np.ndarray:
    """``pose``, put together from many steps whose errors add up, measured once more against the middle frame."""
    if i == middle:
        return pose
    here, there = (cv2.cvtColor(piece.frames[k], cv2.COLOR_RGB2GRAY) for k in (middle, i))
    unknown = piece.objects[i].view(np.uint8)
    moved = pulled(there, pose, cv2.INTER_LINEAR)
    seen = pulled(1 - unknown, pose, cv2.INTER_NEAREST) > 0
    step = Motion(precise=True).camera(here, moved, seen & ~piece.objects[middle])
    return pose if step is None else pose @ step


def _stands(piece: Piece, middle: int, poses) -> bool:
    """Whether the camera stands still: over the whole piece that explains more of the picture than ``poses`` do.

    Before a plain wall the motion that is found between neighbours is that of whatever moves. Each cell of a grid has
    one vote a frame, however weak its texture: even a wall's shading tells the two apart.
    """
    nowhere = [np.zeros_like(hidden) for hidden in piece.objects]
    some = [*range(0, len(piece.frames), -(-len(piece.frames) // _SAMPLES)), middle]
    frames, objects, nowhere = (
        [values[i] for i in some] for values in (piece.frames, piece.objects, nowhere)
    )
    greys = [average(frame) for frame in _in_one_light(frames, _gains(frames, objects, nowhere))]
    # Without what is soft: clouds and shadows pass over a picture that stays what it is.
    details = [grey - cv2.GaussianBlur(grey, (0, 0), _SOFT_LIGHT) for grey in greys]
    usual = np.median(np.stack(details), axis=0)
    changes = [np.percentile(np.abs(d - usual)[~piece.objects[i]], 70) for d, i in zip(details, some)]
    if np.median(changes) < _SAME:
        return True
    votes = 0
    for i, there in zip(some, greys):
        known = ~(piece.objects[i] | piece.objects[middle])
        (still, one), (moved, two) = (
            masked_mean(
                np.minimum(np.abs(greys[-1] - pulled(there, pose, cv2.INTER_LINEAR)), _LIMIT),
                np.float32(known & (pulled(known.view(np.uint8), pose, cv2.INTER_NEAREST) > 0)),
                _CELLS,
            )
            for pose in (np.eye(3), poses[i])
        )
        told = (one > 0.2) & (two > 0.2)
        votes += int((told & (moved > _DECIDED * still)).sum()) - int(
            (told & (still > _DECIDED * moved)).sum()
        )
    return votes >= 0


def pulled(picture: np.ndarray, pose: np.ndarray, how: int) -> np.ndarray:
    if np.array_equal(pose, np.eye(3)):
        return picture
    return cv2.warpPerspective(picture, pose, picture.shape[1::-1], flags=how | cv2.WARP_INVERSE_MAP)


def surroundings(objects, size: float) -> list[np.ndarray]:
    """bool (h, w) for each frame: the object, and half its size on every side, where its shadow is likely to fall."""
    box = np.ones((2 * max(2, round(_AROUND * size)) + 1,) * 2, np.uint8)
    return [cv2.dilate(hidden.view(np.uint8), box).view(bool) for hidden in objects]


def clean_plate(frames, objects, around, outside) -> tuple[np.ndarray, np.ndarray, bool]:
    """(each place in the light, float32 (h, w, 3), 0 where nobody knows; the spread of its noise (h, w); if plain).

    Only frames count in which the object and its surroundings (``around``) are elsewhere: while it is close to a
    place its shadow may lie there. Before a plain wall all frames that show a place count, the brightest most: a long
    shadow may lie on it wherever the object is, and nothing but shadows changes its brightness.
    """
    stack = np.stack(frames)
    grey = stack.mean(axis=-1, dtype=np.float32)
    hidden = np.stack(objects) | np.stack(outside)
    seen = ~np.stack([cv2.dilate(h.view(np.uint8), np.ones((5, 5), np.uint8)) for h in hidden]).view(bool)
    restless = _restless(grey, seen)
    # The brightest frames tell where the light is, the mean of all that come near to them what it is: noise alone
    # makes the brightest brighter.
    brightest = quantile(grey[..., None], seen, _LIT)[..., 0]
    plate = _mean(stack, seen & (grey >= (1 - _ALIKE) * brightest - 2 * restless))
    plain = _plain(plate, restless)
    if not plain:
        seen = ~(np.stack(around) | np.stack(outside))
        restless = _restless(grey, seen)
        usual = quantile(grey[..., None], seen, 0.5)[..., 0]
        plate = _mean(stack, seen & (np.abs(grey - usual) <= _ALIKE * usual + 2 * restless))
    return np.where((seen.sum(0) >= FEWEST)[..., None], plate, 0), restless, plain


def surroundings_known(plate: np.ndarray, around, objects, outside) -> bool:
    """Whether enough of what lies around the object has a plate."""
    known = plate.any(-1)
    rings = [a & ~o & ~out for a, o, out in zip(around, objects, outside)]
    return sum((ring & known).sum() for ring in rings) > _KNOWN * sum(ring.sum() for ring in rings)


def _mean(stack: np.ndarray, use: np.ndarray) -> np.ndarray:
    total = np.stack([np.where(use, stack[..., c], 0).sum(0, dtype=np.float32) for c in range(3)], -1)
    return total / np.maximum(use.sum(0), 1)[..., None]


def _restless(grey: np.ndarray, use: np.ndarray) -> np.ndarray:
    """What changes from frame to frame in the middle, float32 (h, w), grey levels."""
    both = use[1:] & use[:-1]
    steps = np.where(both, np.abs(np.diff(grey, axis=0)), 0)
    return 1.05 * quantile(steps[..., None], both, 0.5)[..., 0]


def _plain(plate: np.ndarray, restless: np.ndarray) -> bool:
    """Whether most of the picture has no texture and hardly changes."""
    level = np.maximum(average(plate), 1)
    rough = np.log(level)
    rough = (rough - cv2.GaussianBlur(rough, (0, 0), 3)) ** 2
    smooth = cv2.GaussianBlur(rough, (0, 0), 6) < _TEXTURE**2
    calm = cv2.GaussianBlur(restless / level, (0, 0), 3) < _CALM
    return bool((smooth & calm & (level > DIM)).mean() > 0.5)


def quantile(values: np.ndarray, use: np.ndarray, share: float) -> np.ndarray:
    """Along the first axis, of those in use; 0 where none is. values (n, h, w, c), use (n, h, w)."""
    count = use.sum(0)
    highest = np.array(255, values.dtype) if values.dtype == np.uint8 else np.float32(1e6)
    ranked = np.sort(np.where(use[..., None], values, highest), axis=0)
    place = np.clip((np.maximum(count, 1) - 1) * share, 0, None).astype(int)
    picked = np.take_along_axis(ranked, place[None, ..., None], axis=0)[0]
    return np.where(count[..., None] > 0, picked, 0)


def distance(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    if radius < 1 or not mask.any():
        return mask
    return cv2.dilate(mask.view(np.uint8), disc(radius)).view(bool)


def disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
