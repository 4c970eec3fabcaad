"""Frames in a dissolve: each of the two shots is carried on into it, and both are mixed as the frame mixes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.dissolve import Dissolve
from videopainter.ops.motion import Motion, misfit, partly
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import HoleView, remap
from videopainter.propagation.references import expected_of_one, ring_error

_DRIFT = 4  # frames before or after a dissolve over which the camera's motion is measured
_COUNTS = 0.08  # share of a shot from which on it has to be known
_FOUND = 0.3  # share of a shot from which on its place is looked for
_BETTER = 0.98  # of the misfit, that a place found has at most

Plate = Callable[[FrameStore, int], tuple[np.ndarray, np.ndarray]]


def mixed(view: HoleView, motion: Motion, dissolve: Dissolve, plate: Plate) -> tuple[np.ndarray, np.ndarray]:
    """What both shots show, mixed: float32 ``(h, w, 3)``, and its expected squared error, inf where one is unknown.

    ``plate(store, i)``: frame ``i`` without its hole, uint8 ``(height, width, 3)``, and what of it is unknown all the
    same, uint8 ``(height, width)``, 255 or 0.
    """
    share = dissolve.share(view.t)
    ends = {i: view.store.once(dissolve, i, partial(plate, i=i)) for i in (dissolve.before, dissolve.after)}
    paths = view.store.once(dissolve, "paths", lambda store: _paths(store, motion, dissolve, ends))
    fetched = np.zeros((*view.size, 3), np.float32)
    known = np.ones(view.size, bool)
    for i, part in ((dissolve.before, 1 - share), (dissolve.after, share)):
        picture, unknown = ends[i]
        x, y = view.source_places(paths[view.t, i])
        fetched += np.float32(part) * remap(picture, x, y, cv2.INTER_CUBIC)
        if part > _COUNTS:
            known &= remap(unknown, x, y, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 255) == 0
    away = average(np.abs(view.frame - fetched))
    error = expected_of_one(ring_error(away, view.hole, known & ~view.hole), view.noise)
    return fetched, np.where(known, error, np.float32(np.inf))


def _paths(store: FrameStore, motion: Motion, dissolve: Dissolve, ends: dict) -> dict:
    """Homographies ``(3, 3)`` in working pixels from each frame t of a dissolve to its end i, by (t, i).

    The camera of either shot is taken to move on as it did, then looked for in what a frame holds besides the other
    shot: in turns, each knowing better from where the other one is.
    """
    no_hole = np.zeros((store.height, store.width), bool)
    greys = {
        i: store.shrunk(picture, no_hole, store.working_size, store.noise(i))[0]
        for i, (picture, _) in ends.items()
    }
    times = range(dissolve.before + 1, dissolve.after)
    steps = {i: _step(store, i, i == dissolve.before) for i in greys}
    paths = {(t, i): np.linalg.matrix_power(steps[i], abs(i - t)) for t in times for i in greys}
    for end, other in 2 * [(dissolve.before, dissolve.after), (dissolve.after, dissolve.before)]:
        so_far = np.eye(3)
        for t in sorted(times, key=lambda t: abs(t - end)):
            share = dissolve.share(t)
            part = 1 - share if end == dissolve.before else share
            so_far = so_far @ steps[end]
            if part >= _FOUND:
                beside = _pulled(greys[other], paths[t, other])
                so_far = _found(store, motion, t, greys[end], beside, so_far, part)
            paths[t, end] = so_far
    return paths


def _found(
    store: FrameStore,
    motion: Motion,
    t: int,
    grey: np.ndarray,
    beside: np.ndarray,
    guess: np.ndarray,
    part: float,
) -> np.ndarray:
    """Where ``grey`` is in frame ``t``, which holds such a ``part`` of it and else ``beside``."""
    here, hole = store.grey(t)
    alone = np.clip(np.rint((here - (1 - part) * beside.astype(np.float32)) / part), 0, 255).astype(np.uint8)
    there = _pulled(grey, guess)
    rest = motion.camera(alone, there, ~hole)
    if rest is None:
        return guess
    found = guess @ rest
    whole = np.ones(grey.shape, bool)
    before, after = (misfit(alone, grey, ~hole, whole, camera) for camera in (guess, found))
    return found if after < _BETTER * before else guess


def _pulled(grey: np.ndarray, camera: np.ndarray) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(grey, camera, grey.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _step(store: FrameStore, end: int, is_first: bool) -> np.ndarray:
    """By how much a frame further into a dissolve is off the one nearer to its ``end``, at that end."""
    for frames in range(_DRIFT, 0, -1):
        other = end - frames if is_first else end + frames
        camera = store.camera(end, other) if other in store else None
        if camera is not None:
            return partly(camera, 1 / frames, store.working_size)
    return np.eye(3)
