"""Fill pixels that no frame ever showed with structure and texture, starting from a smooth fill.

The method looks for a few translations ("shifts") under which the surroundings of the hole resemble
themselves: copying along such a shift continues edges and repeats texture. How far a copy is trusted is
measured around the hole, mostly on pixels that took no part in choosing the shift; where nothing is trusted
only fine detail is taken over, with an amplitude that keeps the expected squared error close to that of the
smooth fill.
"""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.harmonic import masked_mean
from videopainter.ops.resize import resize

_SELECT = 5  # px around the hole on which shifts are chosen
_JUDGE = 14  # px around the hole on which they are judged
_SEARCH_SIDE = 96  # px, longest side at which shifts are searched
_CELLS = 9  # parts of the border with shifts of their own, at most about
_COVER = (0.25, 0.7)  # of each part one shift is taken that fills at least this share of the hole
_ERROR_SCALE = 0.4  # squared error of the smooth fill / squared change over the same distance
_DISSENT = 0.6  # weight of the differences between copies in the judgement on them
_MARCHING = 0.75  # weight of the fast-marching fill between areas that are quite plain
_MARCHING_SLOPE = 1.2  # how fast that weight falls as the surroundings get rougher
_MARCHING_MOST = 0.2  # and its upper limit
_TEXTURE_GAIN = 0.75  # at most this share of the strength of any detail
_TEXTURE_COST = 0.02  # share of the expected squared error that texture may add


def synthesize(frame: np.ndarray, hole: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Fill ``hole`` with plausible structure and texture; nothing here is random.

    Args:
        frame: uint8 ``(h, w, 3)``; what it holds inside the hole is never read.
        hole: bool ``(h, w)``, True = pixel to fill; all other pixels may be copied from.
        base: float32 ``(h, w, 3)``, 0..255, a smooth (harmonic) fill of the same hole.

    Returns float32 ``(h, w, 3)``, 0..255: ``frame`` outside the hole. Where there is nothing to copy from, the
    hole holds ``base``. Raises ValueError when the shapes do not match.
    """
    hole = np.asarray(hole, bool)
    if frame.ndim != 3 or frame.shape[:2] != hole.shape or base.shape != frame.shape:
        raise ValueError(f"shapes do not match: frame {frame.shape}, hole {hole.shape}, base {base.shape}")
    known = ~hole
    out = frame.astype(np.float32)
    out[hole] = base[hole]
    if not hole.any() or not known.any():
        return out
    near = cv2.dilate(hole.astype(np.uint8), np.ones((17, 17), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(near)
    labels = cv2.connectedComponents(near)[1]
    for i in range(1, count):
        x, y, w, h = stats[i, :4]
        margin = int(np.clip(0.75 * min(w, h), 24, 96))
        rows = slice(max(y - margin, 0), y + h + margin)
        cols = slice(max(x - margin, 0), x + w + margin)
        part = hole[rows, cols] & (labels[rows, cols] == i)
        _fill(out[rows, cols], part, hole[rows, cols], known[rows, cols], base[rows, cols])
    return out


def _fill(out, part, hole, known, base):
    """Fill the pixels ``part`` of the crop ``out`` in place."""
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 3)
    select = known & (outside <= _SELECT) & ~part
    judge = known & (outside <= _JUDGE) & ~part
    if select.sum() < 24:
        return
    smooth = np.where(hole[..., None], base, out).astype(np.float32)
    expected, roughness = _expected_error(smooth, judge, depth)
    fair = _with_marching(smooth, part, hole, depth, expected, roughness)
    shifts = _find_shifts(smooth, part, known, select)
    if len(shifts):
        soft, trust, label = _copy(smooth, part, known, select, judge, shifts, expected, depth)
        fair = fair + _limited(soft - fair, expected, trust)
        fair = fair + _texture(smooth, part, known, judge, shifts, label, expected, trust)
    out[part] = np.clip(fair[part], 0, 255)


def _with_marching(smooth, part, hole, depth, expected, roughness):
    """The smooth fill averaged, deep in the hole, with a fast-marching fill, which errs elsewhere.

    Fast marching keeps edges between plain areas but draws streaks from rough ones, so it counts for less there.
    """
    h, w = hole.shape
    thickness = float(depth[part].mean())
    weight = np.clip(_MARCHING - _MARCHING_SLOPE * roughness, 0, _MARCHING_MOST) * np.clip(
        (thickness - 4) / 12, 0, 1
    )
    if weight <= 0 or min(h, w) < 8:
        return smooth
    mean, share = masked_mean(smooth, (~hole).astype(np.float32), ((h + 1) // 2, (w + 1) // 2))
    small = np.clip(mean + 0.5, 0, 255).astype(np.uint8)
    small = cv2.inpaint(small, (share < 0.3).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    change = resize(small, (h, w), "linear").astype(np.float32) - smooth
    power = float(np.mean(change[part] ** 2))
    weight /= 1 + power / (4 * float(expected[part].mean()) + 1)
    return smooth + np.float32(weight) * change


def _find_shifts(image, part, known, select):
    """Translations (dy, dx) under which parts of the border agree best with known pixels: int (k, 2)."""
    scale = max(1, int(np.ceil(max(part.shape) / _SEARCH_SIDE)))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    h, w = (s // scale for s in part.shape)
    if min(h, w) < 4:
        return np.zeros((0, 2), int)

    def shrink(a):
        return resize(a.astype(np.float32), (h, w), "area")

    source = (shrink(known) > 0.99).astype(np.float32)
    ring = (shrink(select) > 0.5).astype(np.float32)
    target = (shrink(part) > 0.5).astype(np.float32)
    small = shrink(grey)
    small -= small.mean()
    reach_y, reach_x = int(0.8 * h), int(0.8 * w)
    size = (cv2.getOptimalDFTSize(h + reach_y), cv2.getOptimalDFTSize(w + reach_x))

    def forward(a):
        return np.fft.rfft2(a, size)

    def backward(a):
        return np.fft.irfft2(a, size)

    f_source, f_one, f_two = forward(source), forward(source * small), forward(source * small * small)
    ys, xs = np.nonzero(ring)
    if len(ys) < 12:
        return np.zeros((0, 2), int)
    step = max(8, int(np.ceil(np.sqrt((np.ptp(ys) + 1) * (np.ptp(xs) + 1) / _CELLS))))
    cell = (ys - ys.min()) // step * 1000 + (xs - xs.min()) // step
    cover = backward(np.conj(forward(target)) * f_source) / max(target.sum(), 1)
    dy = (np.arange(size[0]) + reach_y) % size[0] - reach_y
    dx = (np.arange(size[1]) + reach_x) % size[1] - reach_x
    far = np.hypot(*np.meshgrid(dy, dx, indexing="ij")) * scale
    usable = (cover > _COVER[0]) & (far >= 6)
    usable[dy >= h] = False
    usable[:, dx >= w] = False
    found = []
    for name in [None, *np.unique(cell)]:
        chosen = np.ones(len(ys), bool) if name is None else cell == name
        if chosen.sum() < 8:
            continue
        mask = np.zeros((h, w), np.float32)
        mask[ys[chosen], xs[chosen]] = 1
        f_mask = np.conj(forward(mask))
        f_first = np.conj(forward(mask * small))
        f_square = np.conj(forward(mask * small * small))
        pairs = backward(f_mask * f_source)
        error = backward(f_square * f_source - 2 * f_first * f_one + f_mask * f_two)
        enough = usable & (pairs > 0.6 * chosen.sum())
        # A little is added for distance: of two equal shifts the nearer one is the likelier continuation.
        error = np.where(enough, error / np.maximum(pairs, 1) + 0.02 * far, np.inf)
        for least in _COVER:
            i, j = np.unravel_index(np.argmin(np.where(cover > least, error, np.inf)), size)
            if not np.isfinite(error[i, j]) or cover[i, j] <= least:
                break
            found.append((dy[i] * scale, dx[j] * scale, chosen))
            error[np.ix_((i + np.arange(-2, 3)) % size[0], (j + np.arange(-2, 3)) % size[1])] = np.inf
    refined = [_refine(image, known, ys, xs, sel, y, x, scale) for y, x, sel in found]
    return np.unique(np.array(refined, int).reshape(-1, 2), axis=0)


def _refine(image, known, ys, xs, chosen, dy, dx, scale):
    """Improve a shift found at 1/scale to a whole pixel at full size."""
    if scale == 1:
        return dy, dx
    h, w = known.shape
    y, x = ys[chosen] * scale + scale // 2, xs[chosen] * scale + scale // 2
    # Several pixels of each coarse one, so that fine texture is matched too.
    y = np.concatenate([y, y - scale // 2, y])
    x = np.concatenate([x, x, x - scale // 2])
    keep = known[y, x]
    y, x = y[keep], x[keep]
    if not len(y):
        return dy, dx
    here = image[y, x]
    step = scale
    while step > 1:
        step = (step + 1) // 2 if step > 2 else 1
        best = None
        for ay in (0, -step, step):
            for ax in (0, -step, step):
                sy, sx = y + dy + ay, x + dx + ax
                inside = (sy >= 0) & (sy < h) & (sx >= 0) & (sx < w)
                sy, sx = np.clip(sy, 0, h - 1), np.clip(sx, 0, w - 1)
                good = inside & known[sy, sx]
                if good.sum() < 0.5 * len(y):
                    continue
                error = float(np.mean((image[sy, sx] - here)[good] ** 2))
                if best is None or error < best[0] - 1e-6:
                    best = (error, dy + ay, dx + ax)
        if best is None:
            break
        dy, dx = best[1:]
    return dy, dx


def _spread(values, weight):
    """Extend values (h, w, c), known where weight (h, w) > 0, smoothly over the whole plane.

    Known values of little weight give way to their surroundings, which `harmonic_fill` does not let them.
    """
    h, w = weight.shape
    if min(h, w) <= 2 or not (weight <= 0).any():
        total = max(float(weight.sum()), 1e-6)
        mean = (values * weight[..., None]).sum((0, 1)) / total
        return np.where(weight[..., None] > 0, values, mean).astype(np.float32)
    coarse = _spread(*masked_mean(values, weight, ((h + 1) // 2, (w + 1) // 2)))
    coarse = cv2.blur(coarse, (3, 3)).reshape(coarse.shape)
    up = resize(coarse, (h, w), "linear")
    part = np.minimum(weight, 1)[..., None]
    return part * values + (1 - part) * up


def _spread_coarse(values, weight, step):
    """As `_spread`, at 1/step of the size and without keeping the values themselves: a smooth field."""
    h, w = weight.shape
    mean, mass = masked_mean(values, weight, (-(-h // step), -(-w // step)))
    coarse = _spread(mean, (mass > 0.05).astype(np.float32))
    coarse = cv2.blur(coarse, (3, 3)).reshape(coarse.shape)
    return resize(coarse, (h, w), "linear")


def _power(values):
    """Mean square over the three channels: (h, w, 3) to (h, w)."""
    return cv2.transform(values * values, np.full((1, 3), 1 / 3, np.float32))


def _moved(image, known, dy, dx):
    """image and known looked up at (y + dy, x + dx); outside the crop nothing is known."""
    h, w = known.shape
    moved = np.zeros_like(image)
    there = np.zeros_like(known)
    y0, y1, x0, x1 = max(0, -dy), min(h, h - dy), max(0, -dx), min(w, w - dx)
    if y0 < y1 and x0 < x1:
        moved[y0:y1, x0:x1] = image[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
        there[y0:y1, x0:x1] = known[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
    return moved, there


def _copy(image, part, known, select, judge, shifts, expected, depth):
    """Combine the copies along all shifts.

    Returns soft (h, w, 3), their weighted mean; trust (h, w), 0..1, how far that is to be believed; label
    (h, w), the index of the shift that fits best at each pixel, -1 where none can be used.
    """
    h, w = part.shape
    total = np.zeros((h, w), np.float32)
    mean = np.zeros((h, w, 3), np.float32)
    square = np.zeros((h, w), np.float32)
    label = np.full((h, w), -1, np.int32)
    lowest = np.full((h, w), np.inf, np.float32)
    for i, (dy, dx) in enumerate(shifts):
        moved, there = _moved(image, known, int(dy), int(dx))
        pair = select & there
        if not pair.any():
            continue
        gap = moved - image
        data = np.dstack([gap, _power(gap)])
        field = _spread_coarse(data, pair.astype(np.float32), 4)
        error = np.maximum(field[..., 3], 0) + 4
        weight = np.where(there, 1 / (error * error), 0).astype(np.float32)
        total += weight
        copy = moved - field[..., :3]
        mean += weight[..., None] * copy
        square += weight * _power(copy)
        better = there & (error < lowest)
        lowest[better] = error[better]
        label[better] = i
    filled = total > 0
    soft = np.where(filled[..., None], mean / np.maximum(total, 1e-20)[..., None], image)
    trust = np.zeros((h, w), np.float32)
    checked = judge & filled
    if checked.sum() >= 24:
        miss = _power(soft - image)
        miss[select] *= 1.5  # these pixels had a say in the choice
        wrong = _spread_coarse(miss[..., None], checked.astype(np.float32), 4)[..., 0]
        wrong *= 1 + depth / _JUDGE
        # Where the copies differ, something that is not repeated all around was copied along.
        spread = square / np.maximum(total, 1e-20) - _power(soft)
        wrong += _DISSENT * cv2.blur(np.maximum(spread, 0), (9, 9))
        # Errors of the copy and of the smooth fill share the texture neither can know.
        trust = np.clip(1 - wrong / (2 * np.maximum(expected, 1e-3)), 0, 1)
    return soft, cv2.blur(trust, (5, 5)) * filled, label


def _limited(change, expected, trust):
    """change weighted by trust, and less where it far exceeds the error that the smooth fill can have."""
    size = cv2.blur(_power(change), (9, 9))
    limit = 1 / (1 + size * (1 - trust) / (4 * expected + 1))
    return (trust * limit)[..., None] * change


def _expected_error(image, near, depth):
    """Expected squared error of the smooth fill (h, w), from how fast the surroundings change with distance.

    Also returns how much of that change happens within a few pixels: near 0 for plain areas, 1 for rough.
    """
    h, w = near.shape
    lags = [d for d in (2, 6, 16, 40) if d < 2 * depth.max() + 2]
    maps, steps = [np.zeros((h, w), np.float32)], [0.0]
    for d in lags:
        change = np.zeros((h, w), np.float32)
        pairs = np.zeros((h, w), np.float32)
        for dy, dx in ((d, 0), (-d, 0), (0, d), (0, -d)):
            moved, there = _moved(image, near, dy, dx)
            both = there & near
            gap = _power(moved - image)
            change += np.where(both, gap, 0)
            pairs += both
        if (pairs > 0).sum() < 24:
            continue
        value = (change / np.maximum(pairs, 1))[..., None]
        maps.append(_spread_coarse(value, (pairs > 0).astype(np.float32), 4)[..., 0])
        steps.append(float(d))
    # Along the depth of the hole the maps are joined by straight lines, and level off after the last.
    result = maps[-1].copy()
    for near_map, far_map, d0, d1 in zip(maps[:-1], maps[1:], steps[:-1], steps[1:]):
        here = (depth >= d0) & (depth < d1)
        t = (depth[here] - d0) / (d1 - d0)
        result[here] = (1 - t) * near_map[here] + t * far_map[here]
    roughness = 1.0
    if len(maps) > 3:
        roughness = float(maps[2][near].mean() / max(maps[-1][near].mean(), 1e-3))
    return _ERROR_SCALE * result, roughness


def _texture(image, part, known, judge, shifts, label, expected, trust):
    """Fine detail copied along the shifts, weakened until its energy is a small share of the expected error.

    The finest detail is taken first: it shows most for the squared error it costs. No detail is stronger than
    what is usual around the hole, so that edges of things elsewhere are not repeated.
    """
    ys, xs = np.nonzero(part & (label >= 0))
    result = np.zeros_like(image)
    if not len(ys):
        return result
    move = shifts[label[ys, xs]]
    # The geometric mean: where only a part of the surroundings is lively the error is easily overestimated.
    error = float(np.exp(np.log(expected[part] + 0.1).mean()))
    budget = _TEXTURE_COST * error * part.sum()
    fresh = 1 - trust[ys, xs]  # what is trusted already has its detail
    weight = known.astype(np.float32)
    current = image * weight[..., None]
    for sigma in (0.8, 1.6, 3.2):
        soft = cv2.GaussianBlur(weight, (0, 0), sigma)
        low = cv2.GaussianBlur(current, (0, 0), sigma) / np.maximum(soft, 1e-3)[..., None] * weight[..., None]
        band = current - low
        current = low
        power = _power(band)
        usual = np.sqrt(
            _spread_coarse(
                np.minimum(power, 4 * np.median(power[judge]) + 1)[..., None], judge.astype(np.float32), 4
            )[ys, xs, 0]
        )
        detail = band[ys + move[:, 0], xs + move[:, 1]]
        strong = np.sqrt(np.mean(detail * detail, 1))
        detail *= (fresh * np.minimum(1, 1.2 * usual / np.maximum(strong, 1e-3)))[:, None]
        energy = float(np.sum(np.mean(detail * detail, 1)))
        gain = min(_TEXTURE_GAIN, np.sqrt(budget / max(energy, 1e-6)))
        result[ys, xs] += np.float32(gain) * detail
        budget -= gain * gain * energy
        if budget <= 0:
            break
    return result
