"""What a line of text changed when it came or went: its pixels as they are, where what is behind it keeps still."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.masks import dilate

ASIDE, ABOVE = 8.0, 1.0  # of the height of a line: how much of the picture beside and above it is looked at
LEAST = 10.0  # levels by which text changes a pixel
MORE = 1.5  # times what changes anyway that text changes a pixel at least,
NOISE = 4.0  # and levels beside
RESTLESS, CLEARLY = 12.0, 2.5  # levels of that from which only so many times as much is believed
SMOOTH = 0.7  # pixels: noise of a sensor, and of a codec
FURTHEST = 12.0  # pixels by which what is behind moves in a frame at most
REACH = 0.5  # of the height of a line: from a letter to the next
EXPLAINED = 0.25  # of the strokes that were read have to change, or it did not come or go here
ELSEWHERE = 0.1  # of the surroundings may change as well; more is a cut, a flash, a turn of the camera
ALIKE = 40.0  # levels by which colours of one text may differ
REPLACED = 0.3  # of the strokes that change if there is other text now
ANEW, BESIDE = 0.15, 1.6  # of the strokes: as much is new then; pixels beside them at least
LEFT = 0.5  # of the strokes' contrast that may be left in a frame without them


@dataclass(frozen=True)
class Change:
    """Two of bool (h, w), the picture of a line with `margins(height)` around: what changed, and where that is known.

    `end`: the last frame with the text, or the first. `without`: the frame beside in which it is not.
    """

    end: int
    without: int
    changed: np.ndarray
    known: np.ndarray


def margins(height: float) -> tuple[int, int]:
    """(rows, columns) that are looked at on each side of the picture of a line."""
    return round(ABOVE * height), round(ASIDE * height)


def compare(without: np.ndarray, shown: np.ndarray, quiet) -> tuple[np.ndarray, np.ndarray]:
    """(what differs between two pictures more than pictures do, where that can be told), bool (h, w).

    Args:
        without, shown: uint8 RGB (h, w, 3), without the text and with it.
        quiet: pairs of such pictures, both without the text or both with it, as far apart in time.
    """
    usual = np.max([_difference(*pair) for pair in quiet], axis=0)
    usual = cv2.dilate(usual, np.ones((5, 5), np.uint8))
    differs = _difference(without, shown)
    changed = differs > np.maximum(LEAST, MORE * usual + NOISE)
    changed &= (usual < RESTLESS) | (differs > CLEARLY * usual)
    return changed, changed | (usual < RESTLESS)


def is_of(changed, known, without, shown, strokes, height: float) -> bool:
    """Whether what `compare` says of two pictures is that text with these `strokes`, bool (h, w), is in one only."""
    own = changed & strokes
    beside = known & ~dilate(strokes, 2 * height)
    if own.sum() < EXPLAINED * strokes.sum() or changed[beside].sum() > ELSEWHERE * beside.sum():
        return False
    # Text that only takes another colour stands out before and after.
    behind = known & ~changed & ~strokes
    before, after = (_stands_out(picture, own, behind, height) for picture in (without, shown))
    return before < LEFT * after


def is_replaced(changed, without, shown, strokes, height: float) -> bool:
    """Whether `changed` is from text with these `strokes` to other text of that colour, partly in the same place.

    Where both have strokes nothing changes.
    """
    beside = changed & dilate(strokes, REACH * height) & ~dilate(strokes, BESIDE)
    if not strokes.any() or changed[strokes].mean() < REPLACED:
        return False
    colour = np.median(shown[strokes], axis=0)
    new = np.linalg.norm(without[beside].astype(np.float32) - colour, axis=1) < ALIKE
    return new.sum() > ANEW * strokes.sum()


def settled(change: Change, strokes: np.ndarray, taken: np.ndarray, height: float):
    """(what of `change` is this text, where that is known), bool (h, w).

    Args:
        strokes: bool (h, w), the size of `change`: those that were read.
        taken: bool (h, w), where other text is in one of the two frames, of which nothing is said then.
        height: of the line in pixels.
    """
    known = change.known & ~taken
    changed = change.changed & known
    wide = dilate(changed, REACH * height)
    _, parts = cv2.connectedComponents(wide.astype(np.uint8))
    return changed & np.isin(parts, np.unique(parts[changed & strokes])), known


def _stands_out(picture, own, behind, height: float) -> float:
    """Levels by which the mean of the pixels `own` differs from what is `behind` around them."""
    weight = behind.astype(np.float32)
    amount = cv2.GaussianBlur(weight, (0, 0), 0.3 * height + 1)
    around = cv2.GaussianBlur(picture * weight[..., None], (0, 0), 0.3 * height + 1)
    own = own & (amount > 0.02)
    if not own.any():
        return 0.0
    return float(np.linalg.norm((picture[own] - around[own] / amount[own][:, None]).mean(axis=0)))


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float32 (h, w): by how many levels two pictures differ, in the channel in which they do most.

    Where it makes them more alike, `one` is moved as a camera moved from it to `other`.
    """
    plain = _apart(one, other)
    grey = [cv2.Laplacian(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.CV_32F, ksize=3) for x in (one, other)]
    (x, y), _ = cv2.phaseCorrelate(*grey)
    if not 0.1 < max(abs(x), abs(y)) < FURTHEST:
        return plain
    shift = np.float32([[1, 0, x], [0, 1, y]])
    moved = cv2.warpAffine(one, shift, one.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.minimum(plain, _apart(moved, other))


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(cv2.GaussianBlur(one.astype(np.float32) - other, (0, 0), SMOOTH)).max(axis=2)
