"""What was generated put beside what was seen: in its colours, with its grain, and faded into it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.masks import bounding_box
from videopainter.ops.channels import largest
from videopainter.ops.grain import Grain, missing_share, newly_drawn, noise_level
from videopainter.ops.harmonic import extend_smoothly
from videopainter.ops.light import match_light
from videopainter.ops.motion import Motion
from videopainter.ops.resize import resize, resize_mask

_RING = 10.0  # px in a picture of 480 lines, around what is generated, where both results can be compared
_FADE = 4.0  # px in a picture of 480 lines over which they fade into each other
_OTHER = 60.0  # grey levels; what differs by more is another thing, not another colour
_CELL = 8  # px over which differences are averaged before they are carried inwards
_LOOK_AREA = 432 * 240  # pixels at which noise is told from texture
_VISIBLE = 1.5  # grey levels; smaller differences of colour are not seen, and are mostly misplaced detail


def compared(part: np.ndarray) -> np.ndarray:
    """The hole that the engine which generates is given for bool `part` (height, width): that and a ring around it."""
    side = 2 * max(3, round(_RING * part.shape[0] / 480)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.dilate(part.view(np.uint8), kernel).view(bool)


class Seams:
    """Puts generated parts into frames, one after the other.

    Args:
        seed: of the grain; None: none is added.
    """

    def __init__(self, seed: int | None):
        self._grain = None if seed is None else Grain(seed)
        self._motion = Motion()
        self._before: tuple[int, np.ndarray, np.ndarray] | None = None

    def join(
        self, i: int, base: np.ndarray, generated: np.ndarray, part: np.ndarray, hole: np.ndarray
    ) -> np.ndarray:
        """Frame `i`: `base` with `generated` in `part`, every pixel outside of which stays as it is.

        base, generated: uint8 (height, width, 3). part, hole: bool (height, width); what is generated, and all that
        is not the source's.
        """
        noise = self._noise(i, base, hole)
        if not part.any():
            return base
        ring = compared(part)
        box = bounding_box(ring, 2 * _CELL)
        here, there, inside, ring = base[box], generated[box], part[box], ring[box] & ~part[box]
        matched = in_colours_of(here, there, ring)
        if noise and self._grain is not None and self._grain.known:
            strength = self._grain.strength(matched)
            missing = missing_share(here.astype(np.float32), matched, ring, strength)
            matched += missing**0.5 * strength * self._grain.field(i, part.shape, *box)
        # They fade into each other where both are known: towards what was fetched, not towards the source's own pixels.
        fetched = hole[box] & ~inside
        depth = cv2.distanceTransform((~fetched).view(np.uint8), cv2.DIST_L2, 5)
        share = np.minimum(depth / (max(2.0, _FADE * part.shape[0] / 480) + 1), 1)[..., None]
        mixed = here + share * (np.clip(matched, 0, 255) - here)
        out = base.copy()
        out[box][inside] = np.rint(mixed[inside])
        return out

    def _noise(self, i: int, frame: np.ndarray, hole: np.ndarray) -> float:
        """How noisy the frame is, in grey levels, 0 where it is not; the grain is learned on the way."""
        if self._grain is None:
            return 0.0
        level = noise_level(frame, hole)
        before, self._before = self._before, None
        if not level:
            return 0.0
        scale = min(1.0, (_LOOK_AREA / hole.size) ** 0.5)
        size = tuple(max(8, round(side * scale)) for side in hole.shape)
        grey = resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, "area")
        hidden = resize_mask(hole, size, "half")
        self._before = i, grey, hidden
        if before is None or before[0] != i - 1:
            # Nothing tells noise from texture in the first frame of a span, but what was found before.
            return level if self._grain.known else 0.0
        if not newly_drawn(self._motion, grey, before[1], ~(hidden | before[2])):
            return 0.0
        self._grain.measure(i, frame, hole)
        return level


def in_colours_of(here: np.ndarray, there: np.ndarray, both: np.ndarray) -> np.ndarray:
    """`there`, uint8 (h, w, 3), in the colours of `here` as far as they show where `both`; float32.

    A gain and an offset of each channel, robust, and what is left of the difference as a smooth field of offsets.
    """
    light = match_light(here, there, both)
    out = (there if light is None else light.apply(there)).astype(np.float32)
    difference = here.astype(np.float32) - out
    use = both & (largest(np.abs(difference)) < _OTHER)
    if use.sum() < 16:
        return out
    field = extend_smoothly(difference, use, cell=_CELL, least=0.1, sweeps=10, blur=3)
    if field is None:
        return out
    size = field * field
    return out + field * (size / (size + _VISIBLE**2))
