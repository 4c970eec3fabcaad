"""The strokes of a line of text, with their outline or shadow, in a picture of it."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.masks import dilate

WIDEST_STROKE = 0.55  # of the height of a line
FURTHEST_OUTLINE = 0.16  # of the height of a line
EDGE, CORNER = 1.2, 0.3  # pixels beyond: smoothed edges, and what a codec smears
STROKE = 0.5  # of the usual contrast of strokes with their surroundings, from which a pixel is of one
FAINTEST = 8.0  # levels that this must be
SPREAD = 12.0  # levels by which colours of one text differ anyway
BESIDE = 0.1  # of the height of a line: from an outline to the middle of a stroke
SECOND = 0.1  # of the worth of the best reading that another needs
UNLIKE = 14.0  # levels by which a colour is another than the background's
ABOVE = 0.2  # of a ring around the strokes that is so, beyond what is usual further out: there is an outline


def strokes(picture: np.ndarray, region: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Two of bool (h, w): pixels of the one colour that tells the text best from its surroundings, and with them
    those of another colour beside, which make up the letters.

    Args:
        picture: RGB (h, w, 3), 0..255, a line with some surroundings.
        region: bool (h, w), where in it the line is.
        height: of the line, in pixels.
    """
    side = max(3, round(WIDEST_STROKE * height) | 1)
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    columns = np.flatnonzero(region.any(axis=0))
    slices = np.array_split(columns, min(len(columns), max(2, round(len(columns) / (2 * height)))))
    lab = _lab(picture)
    behind, _ = _background(lab, ~region, height)
    apart = np.linalg.norm(lab - behind, axis=2)
    readings = []
    for channel in cv2.split(lab):
        # Thin things that are lighter, or darker, than what is on both sides of them.
        for way in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            response = cv2.morphologyEx(channel, way, shape)
            # Text has strokes all along, what is behind it only here and there.
            tops = [np.percentile(response[:, c][region[:, c]], 92) for c in slices]
            contrast = float(np.percentile(tops, 30))
            if contrast < FAINTEST:
                continue
            core = np.zeros_like(region)
            for c, top in zip(slices, tops):
                core[:, c] = (response[:, c] >= max(0.9 * top, contrast)) & region[:, c]
            # And all of one colour, which is not that of the background.
            colour = np.median(lab[core], axis=0)
            spread = float(np.median(np.linalg.norm(lab[core] - colour, axis=1)))
            worth = float(np.median(apart[core])) / (spread + SPREAD)
            alike = np.linalg.norm(lab - colour, axis=2) <= 2 * spread + 3 * SPREAD
            readings.append((worth, (response > STROKE * contrast) & region & alike, colour))
    if not readings:
        return np.zeros_like(region), np.zeros_like(region)
    # The fill of letters and their outline are two such readings, one beside the other.
    readings.sort(key=lambda one: -one[0])
    best, first, colour = readings[0]
    others = [one for one in readings[1:] if one[0] >= SECOND * best]
    for _, other, its in others:  # the same text may stand out by lightness here and by hue there
        if np.linalg.norm(its - colour) <= 2 * SPREAD:
            first = first | other
    found, near = first, dilate(first, BESIDE * height)
    for _, other, _ in others:
        found = found | (other & near)
    return first, found


def whole_text(picture: np.ndarray, found: np.ndarray, height: float, more: float = 0) -> np.ndarray:
    """bool (h, w): the letters that were `found`, what is left of an outline or a shadow around them, `more` pixels."""
    width = outline(picture, found, height)
    whole = dilate(found, width + EDGE + more)
    # Of thin letters the corners of the pixels are much; of those only what is of another colour than the background.
    lab = _lab(picture)
    behind, amount = _background(lab, ~dilate(found, width + 3 * EDGE), height)
    differs = (np.linalg.norm(lab - behind, axis=2) > UNLIKE) & (amount > 0.01)
    return whole | (dilate(found, width + EDGE + CORNER + more) & differs)


def outline(picture: np.ndarray, found: np.ndarray, height: float) -> int:
    """Pixels around the strokes as far as the colours are other than those of the background."""
    reach = max(2, round(FURTHEST_OUTLINE * height))
    away = cv2.distanceTransform((~found).astype(np.uint8), cv2.DIST_L2, 5)
    beyond = away > reach
    if not found.any() or beyond.sum() < 20:
        return 1
    lab = _lab(picture)
    behind, amount = _background(lab, beyond, height)
    differs = (np.linalg.norm(lab - behind, axis=2) > UNLIKE) & (amount > 0.01)
    rings = [(away > d - 0.5) & (away <= d + 0.5) for d in range(1, reach + 1)]
    other = [float(differs[ring].mean()) if ring.any() else 0.0 for ring in rings]
    usual = float(differs[(away > reach) & (away <= 2 * reach)].mean())
    if max(other) - usual < ABOVE:
        return 0
    return 1 + max(d for d, share in enumerate(other) if share > (max(other) + usual) / 2)


def _background(lab: np.ndarray, known: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """(colours around, smoothed from where they are `known`, how much of that is near)."""
    weight, spread = known.astype(np.float32), 0.5 * height + 2
    amount = cv2.GaussianBlur(weight, (0, 0), spread)
    colours = cv2.GaussianBlur(lab * weight[..., None], (0, 0), spread)
    return colours / np.maximum(amount, 1e-3)[..., None], amount


def _lab(picture: np.ndarray) -> np.ndarray:
    """float32 L*a*b*, all three in about 0..255 or so."""
    lab = cv2.cvtColor(np.ascontiguousarray(picture, np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab * np.float32([2.55, 1, 1])
