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
RESTLESS = (
    0.3  # of what is usual that it needs to be more to be wide: restless surroundings differ more, the nearer
)
ABOVE = 0.2  # of a ring around the strokes that is so, beyond what is usual further out: there is an outline
MIXED, OFF = (
    0.4,
    0.25,
)  # of the text's colour in that of a smoothed edge; how far that may be off, of the contrast
CLEAR = 25.0  # levels between text and background from which a mixture of them can be told
REACH, BEYOND = (
    0.35,
    0.8,
)  # of the height of a line: from known strokes to new ones; beyond the detector's box
COMMON = 0.2  # more of what is beside strokes than of what is further away is of an outline's colour
THICK = 1.5  # times as thick as the known strokes nothing else is one


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
            other = (
                np.percentile(apart[core], 75) > UNLIKE
            )  # than what is behind; gaps between letters are not
            readings.append((worth, (response > STROKE * contrast) & region & alike, colour, other))
    if not readings:
        return np.zeros_like(region), np.zeros_like(region)
    # The fill of letters and their outline are two such readings, one beside the other.
    readings.sort(key=lambda one: -one[0])
    best, first, colour, _ = readings[0]
    others = [one[1:3] for one in readings[1:] if one[0] >= SECOND * best and one[3]]
    for other, its in others:  # the same text may stand out by lightness here and by hue there
        if np.linalg.norm(its - colour) <= 2 * SPREAD:
            first = first | other
    found, near = first, dilate(first, BESIDE * height)
    for other, _ in others:
        found = found | (other & near)
    return first, found


def completed(picture: np.ndarray, known: np.ndarray, region: np.ndarray, height: float) -> np.ndarray:
    """bool (h, w): strokes of the `known` colour that are missing beside the known ones.

    Thin strokes have smoothed edges only, mixtures of the text's colour and the background's; and the detector's box
    may leave out a letter at either end. Arguments as in `strokes`.
    """
    if not known.any():
        return np.zeros_like(known)
    lab = _lab(picture)
    behind, _ = _background(lab, ~dilate(known, EDGE), height)
    apart = np.linalg.norm(lab - behind, axis=2)
    colour = np.median(lab[known & (apart >= np.percentile(apart[known], 60))], axis=0)
    step = colour - behind
    contrast = np.linalg.norm(step, axis=2)
    share = ((lab - behind) * step).sum(axis=2) / np.maximum(contrast, 1) ** 2
    off = np.linalg.norm(lab - behind - share[..., None] * step, axis=2)
    like = (share > MIXED) & (share < 2 - MIXED) & (off < OFF * contrast + 4) & (contrast > CLEAR)
    wide = np.ones((1, 2 * round(BEYOND * height) + 1), np.uint8)
    like &= cv2.dilate(region.astype(np.uint8), wide) > 0
    count, parts = cv2.connectedComponents((like | known).astype(np.uint8))
    thickness = cv2.distanceTransform((like | known).astype(np.uint8), cv2.DIST_L2, 5)
    thickest = np.zeros(count, np.float32)
    np.maximum.at(thickest, parts, thickness)
    taken = thickest <= max(THICK * float(np.percentile(thickness[known], 90)), 2)
    taken &= np.bincount(parts[dilate(known, REACH * height)], minlength=count) > 0
    taken[0] = False
    return like & taken[parts]


def outlined(picture: np.ndarray, known: np.ndarray, height: float) -> np.ndarray:
    """bool (h, w): an outline of one colour around the `known` strokes, by how often that colour is beside them."""
    nothing = np.zeros_like(known)
    away = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5)
    reach = max(2.0, FURTHEST_OUTLINE * height)
    beside, further = (away > 0) & (away <= 2.5), (away > 1.5 * reach) & (away <= 4 * reach)
    if not beside.any() or not further.any():
        return nothing
    lab = _lab(picture)
    text, near, far = np.median(lab[known], axis=0), lab[beside], lab[further]
    best, colour = COMMON, None
    for part in (5, 30, 60, 95):  # dark and light ones, and what lies between
        level = np.percentile(near[:, 0], part)
        middle = np.median(near[np.abs(near[:, 0] - level) <= SPREAD], axis=0)
        for _ in range(3):
            middle = np.median(near[np.linalg.norm(near - middle, axis=1) <= 2 * SPREAD], axis=0)
        more = np.subtract(*(np.mean(np.linalg.norm(x - middle, axis=1) <= 2 * SPREAD) for x in (near, far)))
        if more > best and np.linalg.norm(middle - text) > 4 * SPREAD:
            best, colour = float(more), middle
    if colour is None:
        return nothing
    like = (np.linalg.norm(lab - colour, axis=2) <= 3 * SPREAD) & (away <= reach)
    _, parts = cv2.connectedComponents((like | known).astype(np.uint8))
    return like & np.isin(parts, np.unique(parts[known]))


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
    usual = float(differs[beyond & (away <= 2 * reach)].mean())
    more = max(other) - usual
    if more < ABOVE:
        return 0
    if more < ABOVE + RESTLESS * usual:
        return 1
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
