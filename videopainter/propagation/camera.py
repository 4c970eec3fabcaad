"""The camera's motion between two frames, in the same light."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.light import is_brighter, match_light
from videopainter.ops.motion import Motion, misfit
from videopainter.ops.resize import resize

# Pixel centres: coarse x covers working 4 x .. 4 x + 3.
_FROM_COARSE = np.array([[4, 0, 1.5], [0, 4, 1.5], [0, 0, 1]])
_TO_COARSE = np.linalg.inv(_FROM_COARSE)


def camera_between(
    motion: Motion,
    here: np.ndarray,
    hole_here: np.ndarray,
    there: np.ndarray,
    hole_there: np.ndarray,
    guess: np.ndarray | None = None,
) -> np.ndarray | None:
    """`Motion.camera` between two greys with their holes, in the same light: flow takes brightness as constant.

    With a ``guess``, a homography ``(3, 3)``, flow also starts from there, and the better one is taken.
    """
    known = ~(hole_here | hole_there)
    small = tuple(-(-side // 4) for side in here.shape)
    known_there = resize(known.astype(np.float32), small, "area") > 0.9
    coarse, coarse_there = resize(here, small, "area"), resize(there, small, "area")
    light = match_light(coarse, coarse_there, known_there)
    if light is None and is_brighter(coarse, coarse_there, known_there):
        # Motion passed for misfit. Left in, light would pass for standing still.
        pulled = resize(motion.followed(here, there), small, "area")
        light = match_light(coarse, pulled, known_there)
    there = there if light is None else light.apply(there)
    camera = motion.camera(here, there, known)
    if guess is None:
        return camera
    pulled, missing = (
        cv2.warpPerspective(p, guess, here.shape[::-1], flags=how | cv2.WARP_INVERSE_MAP, borderValue=1)
        for p, how in ((there, cv2.INTER_LINEAR), (hole_there.view(np.uint8), cv2.INTER_NEAREST))
    )
    known = ~(hole_here | (missing > 0))
    rest = motion.camera(here, np.where(known, pulled, here), known)
    if rest is None:
        return camera
    tries = [h for h in (camera, guess @ rest) if h is not None]
    return min(tries, key=lambda h: misfit(here, there, ~hole_here, ~hole_there, h))


def coarse_along(
    camera: np.ndarray, coarse: np.ndarray, hole: np.ndarray, hole_here: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of 4 x 4 working pixels of another frame, uint8 ``(h, w, 3)``, brought here, and where both are known.

    Holes are bool ``(h, w)``. ``camera``: homography ``(3, 3)`` from here to there.
    """
    hidden = hole.view(np.uint8)
    if not np.array_equal(camera, np.eye(3)):
        moved, size = _TO_COARSE @ camera @ _FROM_COARSE, coarse.shape[1::-1]
        coarse, hidden = (
            cv2.warpPerspective(p, moved, size, flags=how | cv2.WARP_INVERSE_MAP, borderValue=1)
            for p, how in ((coarse, cv2.INTER_LINEAR), (hidden, cv2.INTER_NEAREST))
        )
    hidden = cv2.dilate(hidden | hole_here.view(np.uint8), np.ones((3, 3), np.uint8))
    return coarse, hidden == 0
