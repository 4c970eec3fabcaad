"""What goes along with the object: dark in the same place as seen from it, wherever it is."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from videopainter.steps.effects.scene import Look, Scene, disc, grown

DARKEST = 0.6  # of its light that a place in the shadow lacks at most
FADED = 0.012  # where less is missing the shadow ends
_STEADY = 4  # frames on either side over which a shadow moves with its object
_VOTERS = 3  # of them at least have the object
_AGREE = 0.5  # of those show it
_USUAL = 0.4  # of all frames show it in about the same place, seen from the object
_SPOT = 0.35  # of the object's size; nearer places count as one
_SPOTS = 20  # along the object's way at most
_ELSEWHERE = 0.5  # of the object's size: spots so far away confirm what is dark
_DOUBT = 0.25  # of the spots are added to those that do not confirm it
_ALIKE = 0.45  # of what is missing is missing in all frames alike, seen from the object; what stirs is brighter, too
_PART = 0.25  # of a piece of shadow that is, so that all of it is believed
_EXPLAINED = 0.6  # of what is missing follows from the place as seen from the object
_EXPLAINED_ALONE = 0.7  # if nothing else tells it
_AS_MUCH = 0.05  # by which the place in the picture may explain more: the object hardly moves
_BY_FAR = 0.15
_ABOUT = 0.12  # of the object's size
_OUTER = 0.2  # of what is missing inside of a shadow is missing where it ends
_SOFT = 1.5  # px, sigma
_SEEN = 0.3  # of the frames that know a place show a shadow there, if that is judged
_FEWEST = 4  # frames that know it


class _Told(NamedTuple):
    """What some frames tell of each place as seen from the object; float32 of one size."""

    often: np.ndarray  # 0..1, how often it is dark in about that place
    lack: np.ndarray  # the part of the light that is missing on average, the most of any place close by
    alike: np.ndarray  # 0..1, the share of what is missing that is missing in all of them


def moves_along(scene: Scene, looks: list[Look], shadows: list[np.ndarray], clear: bool) -> bool:
    """Whether what is missing is the same from frame to frame seen from the object, and more so than in its place.

    Where it is not ``clear`` that it is darker around the object than elsewhere, it has to be so by far.
    """
    moving, still = (_explained(scene, looks, shadows, follow) for follow in (True, False))
    if clear:
        return moving > _EXPLAINED and moving > still - _AS_MUCH
    return moving > _EXPLAINED_ALONE and moving > still + _BY_FAR


def _explained(scene: Scene, looks: list[Look], shadows: list[np.ndarray], follow: bool) -> float:
    """The share of what is missing that its mean over the frames explains, seen from the object or in its place."""
    h, w = shadows[0].shape
    count, sums, squares, used = np.zeros((4, 2 * h, 2 * w), np.float32)
    for look, shadow, centre in zip(looks, shadows, scene.centres):
        if centre is None:
            continue
        pose = _shift(centre if follow else (h // 2, w // 2), (h, w))
        lack = np.where(look.blind, 0, np.clip(look.lack, 0, DARKEST))
        planes = np.stack([np.float32(~look.blind), lack, lack * lack, np.float32(shadow)], -1)
        planes = cv2.warpAffine(planes, pose, (2 * w, 2 * h), flags=cv2.INTER_NEAREST)
        for total, plane in zip((count, sums, squares, used), np.moveaxis(planes, -1, 0)):
            total += plane
    place = (used > _SEEN * count) & (count > _FEWEST)
    if not place.any():
        return 0.0
    left = squares[place] - sums[place] ** 2 / count[place]
    return 1 - float(left.sum() / max(squares[place].sum(), 1e-6))


def confirmed(
    scene: Scene, looks: list[Look], evidence: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What of the evidence goes along with the object, and how far that may reach, each bool (h, w) for each frame.

    The frames around show it as well, moved as the object moves, and so do those in which it is elsewhere.
    """
    nothing = np.zeros_like(evidence[0])
    loose = [grown(e, 1).astype(np.float32) for e in evidence]
    told = _told_elsewhere(scene, looks, evidence)
    result, likely = [], []
    for t, (hidden, elsewhere) in enumerate(zip(scene.objects, told)):
        if elsewhere is None:
            result.append(nothing)
            likely.append(nothing)
            continue
        often, lack, alike = elsewhere
        agreed = _agreed_around(scene, loose, t) & (often >= _USUAL) & (alike >= _ALIKE)
        deepest = cv2.dilate(np.where(agreed, lack, 0), np.ones((2 * scene.edge + 1,) * 2, np.uint8))
        likely.append(lack > np.maximum(FADED, _OUTER * deepest))
        # A piece of the evidence is believed as a whole, but not far from what is agreed on.
        _, labels = cv2.connectedComponents(evidence[t].view(np.uint8))
        share = np.bincount(labels.ravel(), agreed.ravel()) / np.bincount(labels.ravel())
        share[0] = 0
        reached = grown(agreed, scene.edge) & likely[t]
        result.append((agreed | (share > _PART)[labels] & reached) & ~hidden)
    return result, likely


def _agreed_around(scene: Scene, loose: list[np.ndarray], t: int) -> np.ndarray:
    """bool (h, w): what most frames around ``t`` show, moved as the object moves."""
    h, w = loose[t].shape
    votes, voters = np.zeros((h, w), np.float32), 0
    for i in range(max(0, t - _STEADY), min(len(loose), t + _STEADY + 1)):
        if scene.centres[i] is not None:
            votes += cv2.warpAffine(loose[i], _shift(scene.centres[i], scene.centres[t]), (w, h))
            voters += 1
    return votes >= _AGREE * voters if voters >= _VOTERS else np.zeros((h, w), bool)


def _told_elsewhere(scene: Scene, looks: list[Look], evidence: list[np.ndarray]) -> list[_Told | None]:
    """For each frame with the object what the frames tell in which it is elsewhere, (h, w) in its place.

    What the plate has wrong in one place of the picture is dark only as long as the object is close to it, a shadow
    goes along. Frames with the object in one spot share one vote; those that do not know have none. A plain wall's
    plate has nothing wrong: there all frames count, for an arm that swings hardly leaves its place.
    """
    h, w = evidence[0].shape
    centres, spots = scene.centres, _spots(scene)
    about = max(1, round(_ABOUT * scene.size))
    planes = np.zeros((len(spots), 2 * h, 2 * w, 5), np.float32)  # dark, known; missing, its square, seen
    for total, frames in zip(planes, spots):
        for t in frames:
            near, seen = grown(evidence[t], about), ~looks[t].blind
            missing = np.where(seen, np.clip(looks[t].lack, -DARKEST, DARKEST), 0)
            each = np.stack([near, near | seen, missing, missing**2, seen], -1).astype(np.float32)
            total += cv2.warpAffine(each / len(frames), _shift(centres[t], (h, w)), (2 * w, 2 * h))
    middles = np.array([np.mean([centres[t] for t in frames], axis=0) for frames in spots])
    result: list[_Told | None] = [None] * len(evidence)
    for middle, frames in zip(middles, spots):
        use = np.linalg.norm(middles - middle, axis=1) > _ELSEWHERE * scene.size
        doubt = _DOUBT * use.sum()
        if scene.plain:
            use[:], doubt = True, 0
        dark, known, missing, squares, seen = np.moveaxis(np.tensordot(np.float32(use), planes, 1), -1, 0)
        often = dark / np.maximum(known + doubt, 1e-3)
        lack = np.where(seen > doubt, missing / np.maximum(seen, 1e-3), 0)
        soft = [cv2.GaussianBlur(plane, (0, 0), _SOFT) for plane in (missing, squares, seen)]
        alike = np.maximum(soft[0], 0) ** 2 / np.maximum(soft[1] * soft[2], 1e-9)
        if scene.plain:  # the shadow of what turns there is a shadow all the same
            alike[:] = 1
        told = _Told(often, cv2.dilate(lack, disc(about)), alike)
        for t in frames:
            pose = _shift((h, w), centres[t])
            result[t] = _Told(*(cv2.warpAffine(plane, pose, (w, h)) for plane in told))
    return result


def _spots(scene: Scene) -> list[list[int]]:
    """The frames with the object, those together in which it is in about one place."""
    centres = {t: centre for t, centre in enumerate(scene.centres) if centre is not None}
    if not centres:
        return []
    cell = max(_SPOT * scene.size, np.ptp(list(centres.values()), axis=0).max() / _SPOTS)
    spots: dict[tuple[int, ...], list[int]] = {}
    for t, centre in centres.items():
        spots.setdefault(tuple((centre // cell).astype(int)), []).append(t)
    return list(spots.values())


def _shift(start, end) -> np.ndarray:
    """2 x 3, whole pixels, from one (y, x) to another."""
    (y0, x0), (y1, x1) = start, end
    return np.float32([[1, 0, np.rint(x1 - x0)], [0, 1, np.rint(y1 - y0)]])
