"""Frames that are wholly hidden for a while: made of what is seen before and after them."""

from __future__ import annotations

import numpy as np

from videopainter.ops.motion import Motion
from videopainter.propagation.hole_view import HoleView

_SMALLEST = 16  # sides of a picture in which flow finds something
_ERROR = 9.0  # squared grey levels that a bridged pixel is taken to be wrong by
_LIMIT = 30.0  # working pixels; what seems to move further beside the camera is not the same thing


def bridge(
    view: HoleView, motion: Motion, before: int | None, after: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The view from both sides: each brought here by the camera's path and by what moves beside it, then blended.

    What moves is taken to move evenly between the two (Jiang et al. 2018, "Super SloMo", equation 4); each side weighs
    the more the nearer it is in time.

    Args:
        before, after: the last frame seen before it and the first one after; None where there is none.

    Returns float32 ``(h, w, 3)``, and its expected squared error, inf where neither side shows anything.
    """
    sides = [i for i in (before, after) if i is not None]
    flows = [np.zeros(view.grey[0].shape + (2,), np.float32)] * len(sides)
    time = 0.5
    if len(sides) == 2:
        time = (view.t - before) / (after - before)
        flows = _flows(view, motion, before, after, time)
    total = np.zeros(view.size, np.float32)
    blended = np.zeros(view.size + (3,), np.float32)
    points = view.points(np.ones(view.size, bool))
    for i, flow, weight in zip(sides, flows, (1 - time, time)):
        colour, valid = view.sample(i, flow, points)
        part = np.float32(weight) * valid.reshape(view.size)
        blended += part[..., None] * colour.reshape(blended.shape)
        total += part
    known = total > 0
    blended /= np.maximum(total, 1e-6)[..., None]
    return blended, np.where(known, np.float32(_ERROR), np.float32(np.inf))


def _flows(view: HoleView, motion: Motion, before: int, after: int, time: float) -> list[np.ndarray]:
    """Motion beside the camera's from frame ``t`` to each side, float32 ``(h, w, 2)`` in working pixels."""
    (first, _), (last, _) = view.grey_of(before), view.grey_of(after)
    if min(first.shape) < _SMALLEST:
        return [np.zeros(first.shape + (2,), np.float32)] * 2
    light = view.store.light(before, after)
    if light is not None:
        last = light.grey.apply(last)
    there, back = (np.clip(motion.fine(*pair), -_LIMIT, _LIMIT) for pair in ((first, last), (last, first)))
    to_first = time * (time * back - (1 - time) * there)
    to_last = (1 - time) * ((1 - time) * there - time * back)
    return [to_first.astype(np.float32), to_last.astype(np.float32)]
