"""Shadows: places that are darker than the clean plate by one factor, near the object, and moving with it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.steps.effects.along import DARKEST, FADED, confirmed, moves_along
from videopainter.steps.effects.scene import DIM, Look, Scene, disc, distance, grown, quantile

_LIT = 0.016  # the least part of its light that a place in the shadow lacks
_TINT = 0.09  # by which the colours' factors differ at most; the sky lights shadows a little bluer
_FINEST = 1.2  # px, sigma, of a texture
_ROUGH = 2.5  # grey levels of texture of its own that are not seen as such
_MISPLACED = 0.6  # of the plate's texture that may be out of place
_ERROR = 4.0  # grey levels by which the plate is wrong at most
_PLAIN = 0.08  # standard deviation of the plate's logarithm from which on a factor can be told
_BRIGHTER = 0.12  # than the plate: another thing
_REACH = 1.5  # of the object's size
_CLOSE = 0.6  # of the object's size
_RATHER = 3  # times as often a place close to the object is darker than one far away
_TOUCH_SIZE = 0.6  # of the object's size
_TOUCH = 0.2  # of the picture's height between the object and its shadow at most
_OTHER_SIZE = 0.1  # of the object's area; what is smaller may be a part of it that its mask misses
_HELD = 0.7  # of the frames in which another thing touches the object in the same place: they belong together
_SAME_PLACE = 0.35  # of the object's size
_OFTEN = 0.3  # of the frames with the object show some shadow, or none is believed
_OFTEN_ALONE = 0.6  # of them, if nothing else tells it
_GENUINE = 0.25  # of what is dark at the object goes along with it, or none of it is believed
_GAP = 0.1  # of the object's size that is closed between it and its shadow
_SMALLEST = 0.0004  # of the picture
_SHARP = 0.6  # of what may be missing without a shadow is missing where something sharp is dark
_FADING = 0.7  # of it, where a shadow that is known ends
_OUTERMOST = 0.15  # of what is missing inside of a shadow is missing where it ends
_FACTOR = 0.5  # of a place's brightness may be made up for by what is missing; a thing has one of its own


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
        look.dark &= look.lack > _SHARP * usual
    evidence = [
        _near(scene, frame, look, body, stranger) if hidden.any() else np.zeros_like(hidden)
        for frame, look, hidden, body, stranger in zip(scene.frames, looks, scene.objects, bodies, strangers)
    ]
    steady, likely = confirmed(scene, looks, evidence)
    clear = _stands_out(scene, looks, bodies)
    there = sum(hidden.any() for hidden in scene.objects)
    kept = sum((s & e).sum() for s, e in zip(steady, evidence))
    if kept < _GENUINE * sum(e.sum() for e in evidence):
        return nothing
    if sum(e.any() for e in steady) < (_OFTEN if clear else _OFTEN_ALONE) * there:
        return nothing
    if not moves_along(scene, looks, steady, clear):
        return nothing
    least = _SMALLEST * nothing[0].size
    found = [
        _whole(scene, *each, usual)
        for each in zip(steady, likely, looks, scene.objects, bodies, strangers, scene.outside)
    ]
    return [shadow if shadow.sum() >= least else none for shadow, none in zip(found, nothing)]


def _look(scene: Scene, frame, hidden, outside) -> tuple[Look, np.ndarray]:
    """(what is darker, other things bool (h, w))."""
    plate = scene.plate
    level = average(plate)
    known = (level > DIM) & ~grown(hidden, 1) & ~outside
    factors = np.float32(frame) / np.maximum(plate, 1)
    lack = 1 - average(factors)
    noise = scene.restless / np.maximum(level, 1)
    tint = largest(factors) + largest(-factors)
    misfit, rough = _misfit(average(frame), level, known, scene.broad)
    rough_noise = 0.5 * misfit / np.maximum(level, 1)
    alike = (misfit < rough) & (tint < 2 * _TINT + noise)
    plausible = known & ~scene.busy & alike & (lack > -_BRIGHTER) & (lack < DARKEST)
    odd = cv2.morphologyEx((known & ~plausible).view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    other = _large(odd.view(bool), _OTHER_SIZE * scene.size**2)
    use = plausible & ~grown(other, 2)
    # Soft shadows, and those on moving or misplaced texture, show only in the mean of many pixels.
    broad, error = _broad(lack, use, scene.broad)
    sharp = (lack > _LIT + 2 * noise + rough_noise) & (tint < _TINT)
    sure = broad - 1.5 * error - noise - rough_noise
    return Look(use & sharp, np.where(use, sure, 0), broad, ~use), other


def _usual_lack(scene: Scene, looks, bodies, strangers) -> np.ndarray:
    """How much may be missing without a shadow, float32 (h, w): as much as it seems to be far from the object."""
    far = [
        (distance(body) > _REACH * scene.size) & ~look.blind & ~grown(stranger, round(_CLOSE * scene.size))
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
    # Pixels were softened before, so that about twelve neighbours tell what one does.
    independent = 4 * np.pi * sigma**2 / 12 * np.minimum(mass, 1)
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


def _bodies(scene: Scene, others) -> list[np.ndarray]:
    """The object with what always holds on to it in the same place: the hand that swings a bottle has its shadow."""
    places, touched = [], []
    for hidden, other in zip(scene.objects, others):
        if hidden.any():
            contact = other & grown(hidden, 4)
            touched.append(contact.sum() > 4)
            if touched[-1]:
                places.append(np.argwhere(contact).mean(0) - np.argwhere(hidden).mean(0))
    held = len(places) and np.mean(touched) >= _HELD
    if not held or np.linalg.norm(np.std(places, axis=0)) > _SAME_PLACE * scene.size:
        return scene.objects
    bodies = []
    for hidden, other in zip(scene.objects, others):
        _, labels = cv2.connectedComponents((other | grown(hidden, 4)).view(np.uint8))
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


def _near(scene: Scene, frame, look: Look, body, stranger) -> np.ndarray:
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
    lack = high - np.log(np.maximum(average(frame[place]), 1))
    spread = high.std()
    return spread < _PLAIN or np.cov(high, lack)[0, 1] / spread**2 < _FACTOR


def _whole(scene: Scene, shadow, likely, look: Look, hidden, body, stranger, outside, usual) -> np.ndarray:
    """A shadow with its soft edge: grown as long as it is darker than the plate at all, and a little more."""
    if not shadow.any():
        return shadow
    away = distance(body)
    depth = np.where(shadow, np.clip(look.lack, 0, DARKEST), 0)
    deepest = cv2.dilate(depth, np.ones((2 * scene.edge + 1,) * 2, np.uint8))
    faded = look.lack > np.maximum(np.maximum(FADED, _FADING * usual), _OUTERMOST * deepest)
    allowed = faded & likely & ~outside & ~hidden & ~stranger
    allowed &= (away < _REACH * scene.size) & (away <= distance(stranger))
    allowed |= shadow
    whole = shadow.view(np.uint8)
    for _ in range(scene.edge):
        whole = cv2.dilate(whole, np.ones((3, 3), np.uint8)) & allowed.view(np.uint8)
    whole = grown(whole.view(bool), 1)
    # Right at the object a place may never have been in the light.
    gap = max(1, round(_GAP * scene.size))
    both = cv2.copyMakeBorder((whole | hidden).view(np.uint8), *[gap] * 4, cv2.BORDER_REPLICATE)
    joined = cv2.morphologyEx(both, cv2.MORPH_CLOSE, disc(gap))[gap:-gap, gap:-gap].view(bool)
    # What the object holds stays, its inside, too.
    held = cv2.morphologyEx((body & ~hidden).view(np.uint8), cv2.MORPH_CLOSE, disc(2 * gap)).view(bool)
    return (whole | (joined & grown(whole, 2 * gap))) & ~hidden & ~outside & ~held
