"""Reflections: below the object, its own picture upside down, mixed into the clean plate by one share."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.steps.effects.scene import DIM, Scene, grown

_SAMPLES = 8  # frames in which the mirror's height is looked for
_OFFSET = 0.15  # of the object's height between its lowest place and the mirror at most
_SHARE = (0.08, 0.95)  # of the light that the ground reflects
_ALIKE = 0.4  # squared correlation of what is there and what the mirror would show, outline included
_PATTERN = 0.2  # and of the pattern inside of the outline alone: a shadow has the outline, but no pattern
_BETTER = 0.1  # than the object the right way up
_OFTEN = 0.5  # of the frames show it
_PART = 0.4  # of the share, from which on a place belongs to the reflection
_SOFT = 2.0  # px, sigma
_EDGE = 3  # px


def find_reflections(scene: Scene) -> list[np.ndarray]:
    """bool (h, w) for each frame, without the object."""
    nothing = [np.zeros_like(hidden) for hidden in scene.objects]
    there = [t for t, hidden in enumerate(scene.objects) if hidden.sum() > 30]
    if not there:
        return nothing
    tall = float(np.median([np.ptp(np.flatnonzero(scene.objects[t].any(1))) + 1 for t in there]))
    some = there[:: -(-len(there) // _SAMPLES)]
    most = max(1, round(_OFFSET * tall))
    best = max(range(-most, most + 1), key=lambda offset: _pooled(scene, some, offset)[0])
    alike, share, pattern = _pooled(scene, there, best)
    if alike < _ALIKE or pattern < _PATTERN or not _SHARE[0] < share < _SHARE[1]:
        return nothing
    if _pooled(scene, some, best, upright=True)[0] > alike - _BETTER:
        return nothing
    found = [_place(scene, t, best, share) if t in there else nothing[t] for t in range(len(nothing))]
    seen = sum(place.any() for place in found)
    return found if seen >= _OFTEN * len(there) else nothing


def _mirrored(scene: Scene, t: int, offset: int, upright: bool = False):
    """(what is there beyond the plate, what the mirror adds at most, where it is bool, where all is known bool)."""
    frame, hidden = scene.frames[t], scene.objects[t]
    h, w = hidden.shape
    bottom = int(np.flatnonzero(hidden.any(1))[-1]) + offset
    top = int(np.flatnonzero(hidden.any(1))[0])
    pose = np.float32([[1, 0, 0], [0, 1, bottom - top + 1] if upright else [0, -1, 2 * bottom + 1]])
    image = cv2.warpAffine(frame, pose, (w, h), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(hidden.view(np.uint8), np.ones((3, 3), np.uint8))
    inside = cv2.warpAffine(inside, pose, (w, h), flags=cv2.INTER_NEAREST).view(bool)
    known = (average(scene.plate) > DIM / 4) & ~scene.outside[t] & ~scene.busy
    known &= ~cv2.dilate(hidden.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    extra = (np.float32(image) - scene.plate) * inside[..., None]
    return np.float32(frame) - scene.plate, extra, inside & known, known


def _pooled(scene: Scene, frames, offset: int, upright: bool = False) -> tuple[float, float, float]:
    """(squared correlation with the outline, share, squared correlation of the pattern) over those frames."""
    sums, inner = np.zeros(3), np.zeros(3)
    for t in frames:
        there, extra, inside, known = _mirrored(scene, t, offset, upright)
        around = cv2.dilate(inside.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool) & known
        if inside.sum() < 30:
            continue
        d, x = there[around], extra[around]
        sums += (d * x).sum(), (d * d).sum(), (x * x).sum()
        d, x = there[inside], extra[inside]
        d, x = d - d.mean(0), x - x.mean(0)
        inner += (d * x).sum(), (d * d).sum(), (x * x).sum()
    alike, pattern = (max(s[0], 0.0) ** 2 / max(s[1] * s[2], 1e-6) for s in (sums, inner))
    return alike, sums[0] / max(sums[2], 1e-6), pattern


def _place(scene: Scene, t: int, offset: int, share: float) -> np.ndarray:
    """Where a frame shows the reflection: a puddle may show only a part of it."""
    there, extra, inside, known = _mirrored(scene, t, offset)
    use = inside.astype(np.float32)
    both = cv2.GaussianBlur((there * extra).sum(-1) * use, (0, 0), _SOFT)
    alone = cv2.GaussianBlur((extra * extra).sum(-1) * use, (0, 0), _SOFT)
    place = inside & (both > _PART * share * alone) & (alone > 0)
    place = cv2.morphologyEx(place.view(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    if place.sum() < 0.2 * use.sum() or place.sum() < 30:
        return np.zeros_like(inside)
    return grown(place.view(bool), _EDGE) & ~scene.objects[t] & ~scene.outside[t]
