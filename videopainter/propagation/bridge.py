"""Frames that are wholly hidden for a while: made of what is seen before and after them."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.light import Light
from videopainter.ops.motion import Motion, project
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import HoleView

_SMALLEST = 16  # sides of a picture in which flow finds something
_ERROR = 9.0  # squared grey levels that a bridged pixel is taken to be wrong by
_TOLD = 4  # frames in a row, by which at least a camera's unrest is told
_GROWS = 1.5  # power of the frames by which it grows: a hand's path is less rough than a random walk
_MOST_ASTRAY = 1.5  # working pixels; more would be nearer to the truth still, but looks out of focus
_BLUR_SHOWS = 0.3  # px
_ANOTHER_LIGHT = 25.0  # grey levels
_DARKEST = 0.05  # share of the light that one side has of the other's at least
_LIMIT = 30.0  # working pixels; what seems to move further beside the camera is not the same thing


def bridge(
    view: HoleView, motion: Motion, before: int | None, after: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The view from both sides: each brought here by the camera's path and by what moves beside it, then blended.

    What moves is taken to move evenly between the two (Jiang et al. 2018, "Super SloMo", equation 4); each side weighs
    the more the nearer it is in time. Where the camera was restless before and after, nobody knows its place to the
    pixel: the mean over all places where it may be is nearer to the truth than any of them.

    Args:
        before, after: the last frame seen before it and the first one after; None where there is none.

    Returns float32 ``(h, w, 3)``, and its expected squared error, inf where neither side shows anything.
    """
    sides = [i for i in (before, after) if i is not None]
    flows = [np.zeros(view.grey[0].shape + (2,), np.float32)] * len(sides)
    time, blur = 0.5, 0.0
    if len(sides) == 2:
        time = (view.t - before) / (after - before)
        flows = _flows(view, motion, before, after, time)
        blur = astray(view.store, before, after) * 2 * np.sqrt(time * (1 - time)) / view.store.scale
    total = np.zeros(view.size, np.float32)
    blended = np.zeros(view.size + (3,), np.float32)
    points = view.points(np.ones(view.size, bool))
    sampled = [view.sample(i, flow, points) for i, flow in zip(sides, flows)]
    if len(sides) == 2:
        sampled = _each_in_its_light(view.store, sides, sampled)
    for (colour, valid), weight in zip(sampled, (1 - time, time)):
        part = np.float32(weight) * valid.reshape(view.size)
        blended += part[..., None] * colour.reshape(blended.shape)
        total += part
    known = total > 0
    blended /= np.maximum(total, 1e-6)[..., None]
    if blur > _BLUR_SHOWS:
        share = np.maximum(cv2.GaussianBlur(known.astype(np.float32), (0, 0), blur), 1e-3)
        blended = cv2.GaussianBlur(blended, (0, 0), blur) / share[..., None]
    return blended, np.where(known, np.float32(_ERROR), np.float32(np.inf))


def _each_in_its_light(store: FrameStore, sides: list[int], sampled: list) -> list:
    """The samples of two sides; what one alone knows the other one shows, too, as it would look in its light.

    Over a fade the one side's brightness would stand out from where both are blended.
    """
    out = []
    for k, (colour, valid) in enumerate(sampled):
        other, known = sampled[1 - k]
        light, alone = store.light(sides[k], sides[1 - k]), known & ~valid
        back = store.light(sides[1 - k], sides[k])
        if back is not None and (light is None or back.gain.mean() < light.gain.mean()):
            # It is measured best from the brighter one to the darker one.
            gain = np.maximum(back.gain, _DARKEST)
            light = Light(1 / gain, -back.offset / gain)
        if light is not None and alone.any():
            colour, valid = colour.copy(), valid | alone
            colour[alone] = light.apply(other[alone][None])[0]
        out.append((colour, valid))
    return out


def astray(store: FrameStore, before: int, after: int) -> float:
    """How far the camera may be from an even path halfway between two frames, in working pixels.

    A standard deviation of either axis, told by its path before the first of them and after the second one.
    """
    variances = []
    for end, step in ((before, -1), (after, 1)):
        path = _path(store, end, step, after - before)
        if len(path) > _TOLD:
            at = np.linspace(0, 1, len(path))[1:-1, None, None]
            off = path[1:-1] - (1 - at) * path[0] - at * path[-1]
            halfway = float((off**2 / (4 * at * (1 - at))).mean())
            variances.append(halfway * ((after - before) / (len(path) - 1)) ** (2 * _GROWS))
    return min(float(np.sqrt(np.mean(variances))), _MOST_ASTRAY) if variances else 0.0


def _path(store: FrameStore, end: int, step: int, most: int) -> np.ndarray:
    """Where some points of frame ``end`` are in up to ``most`` frames from there on: float64 ``(n, 4, 2)``."""
    h, w = store.working_size
    points = np.array([(x * w, y * h) for x in (0.25, 0.75) for y in (0.25, 0.75)])
    path = [points]
    for i in range(end + step, end + (most + 1) * step, step):
        camera = store.camera(end, i) if i in store and store.shows(i) else None
        if camera is None:
            break
        path.append(project(camera, points))
    return np.stack(path)


def _flows(view: HoleView, motion: Motion, before: int, after: int, time: float) -> list[np.ndarray]:
    """Motion beside the camera's from frame ``t`` to each side, float32 ``(h, w, 2)`` in working pixels."""
    (first, _), (last, _) = view.grey_of(before), view.grey_of(after)
    if min(first.shape) < _SMALLEST:
        return [np.zeros(first.shape + (2,), np.float32)] * 2
    light = view.store.light(before, after)
    if light is not None and np.abs(light.offset).max() > _ANOTHER_LIGHT:
        # One of them is so dark that contrasts could not be compared: no flow is better than what is found there.
        return [np.zeros(first.shape + (2,), np.float32)] * 2
    if light is not None:
        last = light.grey.apply(last)
    there, back = (np.clip(motion.fine(*pair), -_LIMIT, _LIMIT) for pair in ((first, last), (last, first)))
    to_first = time * (time * back - (1 - time) * there)
    to_last = (1 - time) * ((1 - time) * there - time * back)
    return [to_first.astype(np.float32), to_last.astype(np.float32)]
