"""Shadows: places that are darker than the clean plate by one factor, near the object, and moving with it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.steps.effects.scene import DIM, distance, quantile

_LIT = 0.016  # the least part of its light that a place in the shadow lacks
_DARKEST = 0.6  # and the most
_FADED = 0.008  # where less is missing the shadow ends
_TINT = 0.09  # by which the colours' factors differ at most; the sky lights shadows a little bluer
_FINEST = 1.2  # px, sigma, of a texture
_ROUGH = 2.5  # grey levels of texture of its own that are not seen as such
_MISPLACED = 0.6  # of the plate's texture that may be out of place
_ERROR = 4.0  # grey levels by which the plate is wrong at most
_PLAIN = 0.08  # standard deviation of the plate's logarithm from which on a factor can be told
_BRIGHTER = 0.12  # than the plate: another thing
_BROAD = 0.06  # of the object's size, sigma: what is softer than noise and misplaced detail
_BROADEST = (1.2, 3.5)  # px
_REACH = 1.5  # of the object's size
_CLOSE = 0.6  # of the object's size
_RATHER = 3  # times as often a place close to the object is darker than one far away
_TOUCH_SIZE = 0.6  # of the object's size
_TOUCH = 0.2  # of the picture's height between the object and its shadow at most
_OTHER_SIZE = 0.1  # of the object's area; what is smaller may be a part of it that its mask misses
_RESTLESS = 2.5  # grey levels from frame to frame in the middle
_HELD = 0.7  # of the frames in which another thing touches the object in the same place: they belong together
_SAME_PLACE = 0.35  # of the object's size
_STEADY = 4  # frames on either side over which a shadow moves with its object
_AGREE = 0.5  # of them show it
_USUAL = 0.4  # of all frames show it in about the same place, seen from the object
_SPOT = 0.35  # of the object's size; nearer places count as one
_ELSEWHERE = 0.5  # of the object's size: spots so far away confirm what is dark
_DOUBT = 0.25  # of the spots are added to those that do not confirm it
_PART = 0.25  # of a piece of shadow that is, so that all of it is believed
_EXPLAINED = 0.6  # of what is missing follows from the place as seen from the object
_EXPLAINED_ALONE = 0.7  # if nothing else tells it
_AS_MUCH = 0.05  # by which the place in the picture may explain more: the object hardly moves
_BY_FAR = 0.15
_ABOUT = 0.12  # of the object's size
_OFTEN = 0.3  # of the frames with the object show some shadow, or none is believed
_OFTEN_ALONE = 0.6  # of them, if nothing else tells it
_GENUINE = 0.25  # of what is dark at the object goes along with it, or none of it is believed
_SOFT_EDGE = 0.2  # of the object's size over which a shadow fades at most
_GAP = 0.1  # of the object's size that is closed between it and its shadow
_OUTER = 0.2  # of what is missing inside of a shadow is missing where it ends
_SMALLEST = 0.0004  # of the picture


@dataclass
class Scene:
    """A piece in one place and one light, with its plate."""

    frames: list[np.ndarray]  # uint8 (h, w, 3)
    objects: list[np.ndarray]  # bool (h, w)
    outside: list[np.ndarray]  # bool (h, w), True where the frame does not reach
    plate: np.ndarray  # float32 (h, w, 3), 0 where unknown
    restless: np.ndarray  # float32 (h, w), grey levels
    size: float  # of the object, px

    @property
    def busy(self) -> np.ndarray:
        """bool (h, w): where something moves most of the time, so that nobody knows the light there."""
        usual = float(np.median(self.restless))
        return cv2.blur(self.restless, (3, 3)) > max(_RESTLESS, 5 * usual)

    @property
    def broad(self) -> float:
        """Sigma of what counts as soft, px."""
        return float(np.clip(_BROAD * self.size, *_BROADEST))


@dataclass
class _Look:
    """What of a frame is darker than the plate."""

    dark: np.ndarray  # bool (h, w)
    sure: np.ndarray  # float32 (h, w), the part of its light that is missing at least, softened
    lack: np.ndarray  # float32 (h, w), the part of its light that is missing, softened
    blind: np.ndarray  # bool (h, w), nothing is known: the object, other things, outside


def find_shadows(scene: Scene) -> list[np.ndarray]:
    """bool (h, w) for each frame, without the object."""
    nothing = [np.zeros_like(hidden) for hidden in scene.objects]
    looks, others = [], []
    for frame, hidden, outside in zip(scene.frames, scene.objects, scene.outside):
        look, other = _look(scene, frame, hidden, outside)
        looks.append(look)
        others.append(other)
    bodies = _bodies(scene, others)
    strangers = [other & ~body for other, body in zip(others, bodies)]
    usual = _usual_lack(scene, looks, bodies, strangers)
    for look in looks:
        look.dark |= look.sure > usual
        look.dark &= look.lack > 0.6 * usual
    evidence = [
        _near(scene, frame, look, body, stranger) if hidden.any() else np.zeros_like(hidden)
        for frame, look, hidden, body, stranger in zip(scene.frames, looks, scene.objects, bodies, strangers)
    ]
    steady, likely = _moving_along(scene, looks, evidence)
    clear = _stands_out(scene, looks, bodies)
    there = sum(hidden.any() for hidden in scene.objects)
    kept = sum((s & e).sum() for s, e in zip(steady, evidence))
    if kept < _GENUINE * sum(e.sum() for e in evidence):
        return nothing
    if sum(e.any() for e in steady) < (_OFTEN if clear else _OFTEN_ALONE) * there:
        return nothing
    if not _moves_along(scene, looks, steady, clear):
        return nothing
    least = _SMALLEST * nothing[0].size
    found = [
        _whole(scene, *each, usual)
        for each in zip(steady, likely, looks, scene.objects, bodies, strangers, scene.outside)
    ]
    return [shadow if shadow.sum() >= least else none for shadow, none in zip(found, nothing)]


def _look(scene: Scene, frame, hidden, outside) -> tuple[_Look, np.ndarray]:
    """(what is darker, other things bool (h, w))."""
    plate = scene.plate
    level = average(plate)
    known = (level > DIM) & ~_grown(hidden, 1) & ~outside
    factors = np.float32(frame) / np.maximum(plate, 1)
    lack = 1 - average(factors)
    noise = scene.restless / np.maximum(level, 1)
    tint = largest(factors) + largest(-factors)
    misfit, rough = _misfit(average(frame), level, known, scene.broad)
    rough_noise = 0.5 * misfit / np.maximum(level, 1)
    alike = (misfit < rough) & (tint < 2 * _TINT + noise)
    plausible = known & ~scene.busy & alike & (lack > -_BRIGHTER) & (lack < _DARKEST)
    odd = cv2.morphologyEx((known & ~plausible).view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    other = _large(odd.view(bool), _OTHER_SIZE * scene.size**2)
    use = plausible & ~_grown(other, 2)
    # Soft shadows, and those on moving or misplaced texture, show only in the mean of many pixels.
    broad, spread = _broad(lack, use, scene.broad)
    sharp = (lack > _LIT + 2 * noise + rough_noise) & (tint < _TINT)
    sure = broad - 1.5 * spread - noise - rough_noise
    return _Look(use & sharp, np.where(use, sure, 0), broad, ~use), other


def _usual_lack(scene: Scene, looks, bodies, strangers) -> np.ndarray:
    """How much may be missing without a shadow, float32 (h, w): as much as it seems to be far from the object."""
    far = [
        (distance(body) > _REACH * scene.size) & ~look.blind & ~_grown(stranger, round(_CLOSE * scene.size))
        for look, body, stranger in zip(looks, bodies, strangers)
    ]
    lacks, far = np.stack([look.lack for look in looks]), np.stack(far)
    here = quantile(lacks[..., None], far, 0.9)[..., 0]
    level = average(scene.plate)
    errors = (lacks * level)[:, ::3, ::3][far[:, ::3, ::3]]
    floor = np.quantile(np.maximum(errors, 0), 0.9) if errors.size else 1.0
    return np.maximum(
        _LIT + min(floor, _ERROR) / np.maximum(level, 1), 1.5 * cv2.blur(here, (5, 5)) + _LIT / 2
    )


def _misfit(grey, level, known, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """(how far a frame's texture is from the plate's, darker or not; how far it may be), grey levels.

    A shadow lets the texture through, a thing hides it.
    """
    weight = known.astype(np.float32)
    fine = max(_FINEST, sigma / 2)  # a shadow's own edge is softer
    mass = np.maximum(_soft(weight, fine), 1e-3)
    low, high = _soft(grey * weight, fine) / mass, _soft(level * weight, fine) / mass
    expected = (level - high) * np.clip(low / np.maximum(high, 1), 0, 2)
    misfit = _soft((grey - low - expected) ** 2 * weight, fine) / mass
    texture = _soft(expected**2 * weight, fine) / mass
    return np.sqrt(misfit), _ROUGH + _MISPLACED * np.sqrt(texture)


def _broad(lack, use, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean of what is missing over a few pixels, its standard error); 0 where little is in use."""
    weight = use.astype(np.float32)
    mass = _soft(weight, sigma)
    enough = mass > 0.2
    mass = np.maximum(mass, 0.2)
    mean = _soft(lack * weight, sigma) / mass
    square = _soft(lack * lack * weight, sigma) / mass
    independent = (
        4 * np.pi * sigma**2 / 12 * np.minimum(mass, 1)
    )  # pixels were softened before: neighbours agree
    error = np.sqrt(np.maximum(square - mean * mean, 0) / np.maximum(independent, 1))
    return np.where(enough, mean, 0), error


def _soft(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), sigma)


def _large(mask: np.ndarray, area: float) -> np.ndarray:
    """Its pieces of at least that many pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    keep = stats[:, cv2.CC_STAT_AREA] >= area
    keep[0] = False
    return keep[labels]


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    if radius < 1 or not mask.any():
        return mask
    return cv2.dilate(mask.view(np.uint8), _disc(radius)).view(bool)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def _bodies(scene: Scene, others) -> list[np.ndarray]:
    """The object with what always holds on to it in the same place: the hand that swings a bottle has its shadow."""
    places, touched = [], []
    for hidden, other in zip(scene.objects, others):
        if hidden.any():
            contact = other & _grown(hidden, 4)
            touched.append(contact.sum() > 4)
            if touched[-1]:
                places.append(np.argwhere(contact).mean(0) - np.argwhere(hidden).mean(0))
    held = len(places) and np.mean(touched) >= _HELD
    if not held or np.linalg.norm(np.std(places, axis=0)) > _SAME_PLACE * scene.size:
        return scene.objects
    bodies = []
    for hidden, other in zip(scene.objects, others):
        _, labels = cv2.connectedComponents((other | _grown(hidden, 4)).view(np.uint8))
        bodies.append(hidden | (other & np.isin(labels, np.unique(labels[hidden]))))
    return bodies


def _stands_out(scene: Scene, looks, bodies) -> bool:
    """Whether it is darker around the object much more often than elsewhere; else the background itself changes."""
    counts = np.zeros((2, 2))
    for look, body in zip(looks, bodies):
        if body.any():
            away = distance(body)
            for k, place in enumerate((away < _CLOSE * scene.size, away > _REACH * scene.size)):
                place &= ~look.blind
                counts[k] += (look.dark & place).sum(), place.sum()
    close, elsewhere = counts[:, 0] / np.maximum(counts[:, 1], 1)
    return close > _RATHER * elsewhere + 0.02


def _near(scene: Scene, frame, look: _Look, body, stranger) -> np.ndarray:
    """What is dark, hangs together and reaches the object, and is nearer to it than to other things."""
    away = distance(body)
    dark = look.dark & (away < _REACH * scene.size) & (away <= distance(stranger))
    dark = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    joined = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(joined)
    touching = np.unique(labels[away <= max(3, min(_TOUCH * dark.shape[0], _TOUCH_SIZE * scene.size))])
    shadows = [k for k in touching if k > 0 and _one_factor(scene, frame, (labels == k) & ~look.blind)]
    return np.isin(labels, shadows) & ~look.blind


def _one_factor(scene: Scene, frame, place) -> bool:
    """Whether a dark place is brighter where the plate is; if it is not, there is a thing."""
    if place.sum() < 8:
        return True
    high = np.log(average(scene.plate[place]))
    lack = high - np.log(np.maximum(average(np.float32(frame[place])), 1))
    spread = high.std()
    return spread < _PLAIN or np.cov(high, lack)[0, 1] / spread**2 < 0.5


def _moves_along(scene: Scene, looks, found, clear: bool) -> bool:
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
        lack = np.where(look.blind, 0, np.clip(look.lack, 0, _DARKEST))
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


def _moving_along(scene: Scene, looks, evidence) -> list[np.ndarray]:
    """What of the evidence belongs to the object: the frames around show it as well, moved as the object moves."""
    centres = _centres(scene)
    h, w = evidence[0].shape
    loose = [_grown(e, 1).astype(np.float32) for e in evidence]
    confirmed = _confirmed(scene, looks, evidence)
    edge = _edge(scene)
    result, likely = [], []
    for t, centre in enumerate(centres):
        if centre is None:
            result.append(np.zeros_like(evidence[t]))
            likely.append(result[-1])
            continue
        votes, voters = np.zeros((h, w), np.float32), 0
        for i in range(max(0, t - _STEADY), min(len(evidence), t + _STEADY + 1)):
            if centres[i] is not None:
                votes += cv2.warpAffine(loose[i], shift(centres[i], centre), (w, h))
                voters += 1
        here, mean = (cv2.warpAffine(plane, shift((h, w), centre), (w, h)) for plane in confirmed[t])
        agreed = (votes >= _AGREE * voters) & (here >= _USUAL) & (voters > 2)
        deepest = cv2.dilate(np.where(agreed, mean, 0), np.ones((2 * edge + 1,) * 2, np.uint8))
        likely.append(mean > np.maximum(_FADED, _OUTER * deepest))
        _, labels = cv2.connectedComponents(evidence[t].view(np.uint8))
        share = np.bincount(labels.ravel(), agreed.ravel()) / np.bincount(labels.ravel())
        share[0] = 0
        result.append((agreed | (share > _PART)[labels] & likely[t]) & ~scene.objects[t])
    return result, likely


def _confirmed(scene: Scene, looks, evidence) -> list[np.ndarray | None]:
    """How often it is dark in about a place, seen from the object, while that is elsewhere: float32 (2 h, 2 w) a frame.

    What the plate lacks in one place of the picture is dark only as long as the object is close to it; a shadow goes
    along. Frames with the object in one spot share one vote, and those that do not know have none.
    """
    centres = _centres(scene)
    h, w = evidence[0].shape
    about = max(1, round(_ABOUT * scene.size))
    spots: dict[tuple, list[int]] = {}
    for t, centre in enumerate(centres):
        if centre is not None:
            spots.setdefault(tuple((centre // (_SPOT * scene.size)).astype(int)), []).append(t)
    dark, known, lack, seen = np.zeros((4, len(spots), 2 * h, 2 * w), np.float32)
    for s, frames in enumerate(spots.values()):
        for t in frames:
            near, clear = _grown(evidence[t], about), ~looks[t].blind
            missing = np.where(clear, np.clip(looks[t].lack, 0, _DARKEST), 0)
            planes = np.stack([near, near | clear, missing, clear], -1).astype(np.float32) / len(frames)
            planes = cv2.warpAffine(planes, shift(centres[t], (h, w)), (2 * w, 2 * h))
            for total, plane in zip((dark, known, lack, seen), np.moveaxis(planes, -1, 0)):
                total[s] += plane
    from videopainter.steps.effects.scene import _plain
    PLAIN = _plain(scene.plate, scene.restless)
    middles = np.array([np.mean([centres[t] for t in frames], axis=0) for frames in spots.values()])
    result: list[np.ndarray | None] = [None] * len(evidence)
    for middle, frames in zip(middles, spots.values()):
        far = np.linalg.norm(middles - middle, axis=1) > _ELSEWHERE * scene.size * (0 if PLAIN else 1) - 1e-6
        share = dark[far].sum(0) / np.maximum(known[far].sum(0) + _DOUBT * far.sum(), 1e-3)
        mean = lack[far].sum(0) / np.maximum(seen[far].sum(0), 1e-3)
        mean = cv2.dilate(np.where(seen[far].sum(0) > _DOUBT * far.sum(), mean, 0), _disc(about))
        for t in frames:
            result[t] = share, mean
    return result


def shift(start, end) -> np.ndarray:
    """2 x 3, whole pixels, from one (y, x) to another."""
    (y0, x0), (y1, x1) = start, end
    return np.float32([[1, 0, np.rint(x1 - x0)], [0, 1, np.rint(y1 - y0)]])


def _edge(scene: Scene) -> int:
    return int(np.clip(_SOFT_EDGE * scene.size, 3, 14))


def _whole(scene: Scene, shadow, likely, look: _Look, hidden, body, stranger, outside, usual) -> np.ndarray:
    """A shadow with its soft edge: grown as long as it is darker than the plate at all, and a little more."""
    if not shadow.any():
        return shadow
    away = distance(body)
    edge = _edge(scene)
    depth = np.where(shadow, np.clip(look.lack, 0, _DARKEST), 0)
    deepest = cv2.dilate(depth, np.ones((2 * edge + 1,) * 2, np.uint8))
    faded = look.lack > np.maximum(np.maximum(_FADED, 0.7 * usual), 0.15 * deepest)
    allowed = faded & likely & ~outside & ~hidden & ~stranger
    allowed &= (away < _REACH * scene.size) & (away <= distance(stranger))
    allowed |= shadow
    grown = shadow.view(np.uint8)
    for _ in range(edge):
        grown = cv2.dilate(grown, np.ones((3, 3), np.uint8)) & allowed.view(np.uint8)
    grown = _grown(grown.view(bool), 2)
    # Right at the object a place may never have been in the light.
    gap = max(1, round(_GAP * scene.size))
    both = cv2.copyMakeBorder((grown | hidden).view(np.uint8), *[gap] * 4, cv2.BORDER_REPLICATE)
    joined = cv2.morphologyEx(both, cv2.MORPH_CLOSE, _disc(gap))[gap:-gap, gap:-gap].view(bool)
    # What the object holds stays, its inside, too.
    held = cv2.morphologyEx((body & ~hidden).view(np.uint8), cv2.MORPH_CLOSE, _disc(2 * gap)).view(bool)
    return (grown | (joined & _grown(grown, 2 * gap))) & ~hidden & ~outside & ~held
