"""What goes along with the object: dark in the same place as seen from it, wherever it is."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.steps.effects.scene import Scene, disc, grown

DARKEST = 0.6  # of its light that a place in the shadow lacks at most
FADED = 0.012  # where less is missing the shadow ends
_STEADY = 4  # frames on either side over which a shadow moves with its object
_AGREE = 0.5  # of them show it
_USUAL = 0.4  # of all frames show it in about the same place, seen from the object
_SPOT = 0.35  # of the object's size; nearer places count as one
_SPOTS = 20  # along the object's way at most
_ELSEWHERE = 0.5  # of the object's size: spots so far away confirm what is dark
_DOUBT = 0.25  # of the spots are added to those that do not confirm it
_PART = 0.25  # of a piece of shadow that is, so that all of it is believed
_EXPLAINED = 0.6  # of what is missing follows from the place as seen from the object
_EXPLAINED_ALONE = 0.7  # if nothing else tells it
_AS_MUCH = 0.05  # by which the place in the picture may explain more: the object hardly moves
_BY_FAR = 0.15
_ABOUT = 0.12  # of the object's size
_SOFT_EDGE = 0.2  # of the object's size over which a shadow fades at most
_OUTER = 0.2  # of what is missing inside of a shadow is missing where it ends


def moves_along(scene: Scene, looks, found, clear: bool) -> bool:
    """Whether what is missing is the same from frame to frame seen from the object, and more so than in its place.

    Where it is not ``clear`` that it is darker around the object than elsewhere, it has to be so by far.
    """
    moving, still = (_explained(scene, looks, found, follow) for follow in (True, False))
    if clear:
        return moving > _EXPLAINED and moving > still - _AS_MUCH
    return moving > _EXPLAINED_ALONE and moving > still + _BY_FAR


def _explained(scene: Scene, looks, evidence, follow: bool) -> float:
    """The share of what is missing that its mean over the frames explains, seen from the object or in place."""
    h, w = evidence[0].shape
    count, sums, squares, used = np.zeros((4, 2 * h, 2 * w), np.float32)
    for look, found, centre in zip(looks, evidence, _centres(scene)):
        if centre is None:
            continue
        pose = shift(centre if follow else (h // 2, w // 2), (h, w))
        lack = np.where(look.blind, 0, np.clip(look.lack, 0, DARKEST))
        planes = np.stack([np.float32(~look.blind), lack, lack * lack, np.float32(found)], -1)
        planes = cv2.warpAffine(planes, pose, (2 * w, 2 * h), flags=cv2.INTER_NEAREST)
        for total, plane in zip((count, sums, squares, used), np.moveaxis(planes, -1, 0)):
            total += plane
    place = (used > 0.3 * count) & (count > 4)
    if not place.any():
        return 0.0
    left = squares[place] - sums[place] ** 2 / count[place]
    return 1 - float(left.sum() / max(squares[place].sum(), 1e-6))


def _centres(scene: Scene) -> list[np.ndarray | None]:
    return [np.argwhere(o).mean(0) if o.any() else None for o in scene.objects]


def moving_along(scene: Scene, looks, evidence) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What of the evidence goes along with the object, and how far that may reach, each bool (h, w) for each frame.

    The frames around show it as well, moved as the object moves, and so do those in which it is elsewhere.
    """
    centres = _centres(scene)
    h, w = evidence[0].shape
    loose = [grown(e, 1).astype(np.float32) for e in evidence]
    edge = np.ones((2 * soft_edge(scene) + 1,) * 2, np.uint8)
    confirmed = _confirmed(scene, looks, evidence)
    result, likely = [], []
    for t, centre in enumerate(centres):
        if centre is None:
            result.append(np.zeros_like(evidence[t]))
            likely.append(np.zeros_like(evidence[t]))
            continue
        votes, voters = np.zeros((h, w), np.float32), 0
        for i in range(max(0, t - _STEADY), min(len(evidence), t + _STEADY + 1)):
            if centres[i] is not None:
                votes += cv2.warpAffine(loose[i], shift(centres[i], centre), (w, h))
                voters += 1
        often, lack = (cv2.warpAffine(plane, shift((h, w), centre), (w, h)) for plane in confirmed[t])
        agreed = (votes >= _AGREE * voters) & (often >= _USUAL) & (voters > 2)
        likely.append(lack > np.maximum(FADED, _OUTER * cv2.dilate(np.where(agreed, lack, 0), edge)))
        _, labels = cv2.connectedComponents(evidence[t].view(np.uint8))
        share = np.bincount(labels.ravel(), agreed.ravel()) / np.bincount(labels.ravel())
        share[0] = 0
        reached = grown(agreed, edge.shape[0] // 2) & likely[t]
        result.append((agreed | (share > _PART)[labels] & reached) & ~scene.objects[t])
    return result, likely


def _confirmed(scene: Scene, looks, evidence) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each frame with the object what the frames tell in which it is elsewhere, float32 (2 h, 2 w) around it.

    How often it is dark in about that place, and how much of the light is missing there on average. What the plate
    has wrong in one place of the picture is dark only as long as the object is close to it, a shadow goes along.
    Frames with the object in one spot share one vote; those that do not know have none. A plain wall's plate has
    nothing wrong: there all frames count, for an arm that swings hardly leaves its place.
    """
    h, w = evidence[0].shape
    centres = {t: centre for t, centre in enumerate(_centres(scene)) if centre is not None}
    if not centres:
        return {}
    about = max(1, round(_ABOUT * scene.size))
    cell = max(_SPOT * scene.size, np.ptp(list(centres.values()), axis=0).max() / _SPOTS)
    spots: dict[tuple, list[int]] = {}
    for t, centre in centres.items():
        spots.setdefault(tuple((centre // cell).astype(int)), []).append(t)
    planes = np.zeros((len(spots), 2 * h, 2 * w, 4), np.float32)  # dark, known; missing, seen
    for total, frames in zip(planes, spots.values()):
        for t in frames:
            near, seen = grown(evidence[t], about), ~looks[t].blind
            missing = np.where(seen, np.clip(looks[t].lack, 0, DARKEST), 0)
            each = np.stack([near, near | seen, missing, seen], -1).astype(np.float32) / len(frames)
            total += cv2.warpAffine(each, shift(centres[t], (h, w)), (2 * w, 2 * h))
    middles = np.array([np.mean([centres[t] for t in frames], axis=0) for frames in spots.values()])
    result = {}
    for middle, frames in zip(middles, spots.values()):
        far = np.linalg.norm(middles - middle, axis=1) > _ELSEWHERE * scene.size
        doubt = _DOUBT * far.sum()
        if scene.plain:
            far[:], doubt = True, 0
        dark, known, missing, seen = np.moveaxis(np.tensordot(far.astype(np.float32), planes, 1), -1, 0)
        often = dark / np.maximum(known + doubt, 1e-3)
        lack = np.where(seen > doubt, missing / np.maximum(seen, 1e-3), 0)
        for t in frames:
            result[t] = often, cv2.dilate(lack, disc(about))
    return result


def shift(start, end) -> np.ndarray:
    """2 x 3, whole pixels, from one (y, x) to another."""
    (y0, x0), (y1, x1) = start, end
    return np.float32([[1, 0, np.rint(x1 - x0)], [0, 1, np.rint(y1 - y0)]])


def soft_edge(scene: Scene) -> int:
    """Over how many pixels a shadow fades at most."""
    return int(np.clip(_SOFT_EDGE * scene.size, 3, 14))
