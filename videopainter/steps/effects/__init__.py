"""Effects: shadows and reflections of an object, found from what the same places look like when it is elsewhere.

A place lies in the object's shadow where it is darker than the clean plate by one factor for all colours, with no
texture of its own, near the object, in one piece with it, and moving with it; in its reflection where the object's own
picture, upside down, is mixed into the plate. An object that never moves has no clean plate, and nothing is found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from videopainter.engines.base import EngineError
from videopainter.masks import MaskTrack
from videopainter.ops.resize import resize
from videopainter.steps.effects.reflections import find_reflections
from videopainter.steps.effects.scene import (
    FEWEST,
    Piece,
    Scene,
    aligned,
    clean_plate,
    distance,
    overlay,
    pieces,
    pulled,
    small_size,
    surroundings,
    surroundings_known,
)
from videopainter.steps.effects.shadows import find_shadows

log = logging.getLogger("videopainter")

AUTO_LIMIT = 15.0  # per cent of the picture

_LARGEST_OBJECT = 0.6  # of the picture; around a larger one there is nothing to compare


def check_effects(effects: str | float) -> None:
    """Raise EngineError unless ``effects`` is "auto", "off" or a limit in per cent of the picture."""
    number = isinstance(effects, int | float) and math.isfinite(effects) and 0 <= effects <= 100
    if not number and effects not in ("auto", "off"):
        raise EngineError(f"The effects are auto, off or 0 to 100 per cent of the picture, not '{effects}'.")


def find_effects(
    source,
    objects: MaskTrack,
    effects: str | float = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaskTrack | None:
    """Shadows and reflections of the objects in each frame, without the objects themselves; None if there are none.

    Args:
        source: a `VideoSource`.
        objects: masks of its length and size.
        effects: "auto": at most `AUTO_LIMIT` per cent of the picture, what lies nearest to the object first; a
            number: that limit; "off": nothing is looked for.
        progress: called as progress(done, total) with numbers of frames before each frame is read or written, some
            more than once; it may raise to end the search.
    """
    check_effects(effects)
    limit = AUTO_LIMIT if effects == "auto" else effects
    if effects == "off" or limit == 0 or not objects.any():
        return None
    found: list[np.ndarray] = []  # packed bits
    size = small_size(source.size)
    shares, still = [], []
    for piece in pieces(source, objects, size, progress):
        progress(len(found), len(source))
        shadows = effects_of(piece, limit / 100)
        still.append(shadows is None)
        for shadow in [np.zeros(size, bool)] * len(piece.frames) if shadows is None else shadows:
            shares.append(float(shadow.mean()))
            found.append(np.packbits(shadow))
        del piece  # or it would stay while the next one is read
    progress(len(source), len(source))
    if not any(shares):
        if any(still):
            log.info(
                "Effects: the object stays in its place or close to it, or the light changes too much, so a shadow"
                " that it casts cannot be told from what is there; if there is one, mark it, too."
            )
        return None
    seen = [share for share in shares if share]
    log.info(
        "Effects: %.1f %% of the picture on average in %d of %d frames go along:"
        " shadows of the object, or its reflection.",
        100 * sum(seen) / len(seen),
        len(seen),
        len(shares),
    )

    def full() -> Iterator[np.ndarray]:
        for bits, mask in zip(found, objects):
            progress(len(source), len(source))
            shadow = np.unpackbits(bits, count=size[0] * size[1]).reshape(size)
            yield (resize(shadow * np.uint8(255), source.size, "linear") > 96) & ~mask

    return MaskTrack.build(full())


def with_effects(objects: MaskTrack, effects: MaskTrack) -> MaskTrack:
    """Both in one."""
    return MaskTrack.build(mask | shadow for mask, shadow in zip(objects, effects))


def effects_of(piece: Piece, limit: float) -> list[np.ndarray] | None:
    """bool (h, w) for each frame, at most ``limit`` of the picture; None: what is behind the object is not known."""
    nothing = [np.zeros_like(hidden) for hidden in piece.objects]
    there = [i for i, hidden in enumerate(piece.objects) if hidden.any()]
    if len(there) < FEWEST or np.mean([piece.objects[i].mean() for i in there]) > _LARGEST_OBJECT:
        return nothing
    if overlay(piece.objects):
        return None
    size = float(np.median([piece.objects[i].sum() ** 0.5 for i in there]))
    frames, objects, outside, poses = aligned(piece)
    around = surroundings(objects, size)
    plate, restless, plain = clean_plate(frames, objects, around, outside)
    if not surroundings_known(plate, around, objects, outside):
        return None
    scene = Scene(frames, objects, outside, plate, restless, size, plain)
    result = []
    both = (a | b for a, b in zip(find_shadows(scene), find_reflections(scene)))
    for shadow, pose, hidden in zip(both, poses, piece.objects):
        back = pulled(shadow.view(np.uint8), np.linalg.inv(pose), cv2.INTER_NEAREST).view(bool)
        result.append(_limited(back & ~hidden, hidden, limit))
    return result


def _limited(shadow: np.ndarray, hidden: np.ndarray, limit: float) -> np.ndarray:
    """At most ``limit`` of the picture, the nearest to the object first."""
    most = int(limit * shadow.size)
    if shadow.sum() <= most:
        return shadow
    away = np.where(shadow, distance(hidden), np.inf)
    return shadow & (away <= np.partition(away, most, axis=None)[most])
