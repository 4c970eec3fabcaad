"""Fill pixels that no frame ever showed with structure and texture, starting from a smooth fill.

The method looks for a few translations ("shifts") under which the surroundings of the hole resemble themselves:
copying along such a shift continues edges and repeats texture. How far a copy is trusted is measured outside the
hole, on pixels that took no part in choosing the shift; where nothing is trusted only fine detail is taken over, with
an amplitude that keeps the expected squared error close to that of the smooth fill.
"""

from __future__ import annotations

import cv2
import numpy as np

_SELECT = 5  # px around the hole on which shifts are chosen
_JUDGE = 14  # px around the hole on which they are judged
_SEARCH_SIDE = 96  # px, longest side at which shifts are searched
_CELLS = 9  # parts of the border with shifts of their own, at most about
_PER_CELL = 2  # shifts taken per part
_ERROR_SCALE = (
    0.4  # squared error of the smooth fill, as a share of the squared change over the same distance
)
_TEXTURE_COST = 0.03  # share of the expected squared error that texture may add


def synthesize(
    frame: np.ndarray,
    hole: np.ndarray,
    base: np.ndarray,
    valid: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Fill ``hole`` with plausible structure and texture.

    frame: uint8 (h, w, 3); what it holds inside the hole is never read.
    hole: bool (h, w), True = pixel to fill.
    base: float32 (h, w, 3), 0..255, a smooth (harmonic) fill of the same hole.
    valid: bool (h, w), True = pixel may be copied from; pixels of the hole never are. Default: all others.
    seed: the same seed gives the same result.

    Returns float32 (h, w, 3), 0..255: ``frame`` outside the hole. With an empty hole, or nothing to copy from,
    inside the hole it is ``base``.
    """
    hole = np.asarray(hole, bool)
    if frame.ndim != 3 or frame.shape[:2] != hole.shape or base.shape != frame.shape:
        raise ValueError(f"shapes do not match: frame {frame.shape}, hole {hole.shape}, base {base.shape}")
    known = ~hole if valid is None else np.asarray(valid, bool) & ~hole
    if known.shape != hole.shape:
        raise ValueError(f"shapes do not match: valid {known.shape}, hole {hole.shape}")
    out = frame.astype(np.float32)
    out[hole] = base[hole]
    if not hole.any() or not known.any():
        return out
    rng = np.random.default_rng(seed)
    near = cv2.dilate(hole.astype(np.uint8), np.ones((17, 17), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(near)
    labels = cv2.connectedComponents(near)[1]
    for i in range(1, count):
        x, y, w, h = stats[i, :4]
        margin = int(np.clip(0.75 * min(w, h), 24, 96))
        rows = slice(max(y - margin, 0), y + h + margin)
        cols = slice(max(x - margin, 0), x + w + margin)
        part = hole[rows, cols] & (labels[rows, cols] == i)
        _fill(out[rows, cols], part, hole[rows, cols], known[rows, cols], base[rows, cols], rng)
    return out


def _fill(out, part, hole, known, base, rng):
    """Fill the pixels ``part`` of the crop ``out`` in place."""
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 3)
    select = known & (outside <= _SELECT) & ~part
    judge = known & (outside <= _JUDGE) & ~part
    if select.sum() < 24:
        return
    smooth = np.where(hole[..., None], base, out).astype(np.float32)
    fair = _blend_telea(out, part, hole, smooth, depth)
    shifts = _find_shifts(smooth, part, known, select)
    expected = _expected_error(smooth, known, judge, depth)
    if len(shifts):
        soft, hard, trust, filled = _copy(smooth, part, known, select, judge, shifts, expected, depth)
        structure = fair + _limited(soft - fair, expected, trust)
        texture = _texture(hard - structure, part & filled, part, expected, trust)
        fair = structure + texture
    out[part] = np.clip(fair[part], 0, 255)


def _blend_telea(out, part, hole, smooth, depth):
    """The smooth fill averaged with a fast-marching fill, whose errors are different ones, deep in the hole."""
    u8 = np.clip(smooth + 0.5, 0, 255).astype(np.uint8)
    telea = cv2.inpaint(u8, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32)
    thickness = float(depth[part].mean())
    weight = np.float32(0.35 * np.clip((thickness - 2) / 8, 0, 1))
    return smooth + weight * (telea - smooth)


def _find_shifts(image, part, known, select):
    """Translations (dy, dx) under which parts of the border agree best with other known pixels: int (k, 2)."""
    scale = max(1, int(np.ceil(max(part.shape) / _SEARCH_SIDE)))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    h, w = (s // scale for s in part.shape)
    if min(h, w) < 4:
        return np.zeros((0, 2), int)

    def shrink(a):
        return cv2.resize(a.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)

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
    usable = (cover > 0.25) & (far >= 6)
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
        for _ in range(_PER_CELL):
            i, j = np.unravel_index(np.argmin(error), size)
            if not np.isfinite(error[i, j]):
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
    """Extend values (h, w, c) known where weight (h, w) > 0 over the whole plane, smoothly: float32 (h, w, c)."""
    h, w = weight.shape
    if min(h, w) <= 2 or not (weight <= 0).any():
        total = max(float(weight.sum()), 1e-6)
        mean = (values * weight[..., None]).sum((0, 1)) / total
        return np.where(weight[..., None] > 0, values, mean).astype(np.float32)
    size = ((w + 1) // 2, (h + 1) // 2)
    less = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(
        size[1], size[0], -1
    )
    coarse = _spread(sums / np.maximum(less, 1e-6)[..., None], less)
    coarse = cv2.blur(coarse, (3, 3)).reshape(coarse.shape)
    up = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1)
    part = np.minimum(weight, 1)[..., None]
    return part * values + (1 - part) * up


def _spread_coarse(values, weight, step):
    """As _spread, worked out at 1/step and without keeping the values themselves: a smooth field."""
    h, w = weight.shape
    size = (max(1, -(-w // step)), max(1, -(-h // step)))
    less = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(
        size[1], size[0], -1
    )
    coarse = _spread(sums / np.maximum(less, 1e-6)[..., None], (less > 0.05).astype(np.float32))
    coarse = cv2.blur(coarse, (3, 3)).reshape(coarse.shape)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1)


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

    Returns soft (h, w, 3), their weighted mean; hard (h, w, 3), the best single copy of each pixel; trust (h, w),
    0..1, how far the mean is to be believed; filled (h, w), where any copy exists.
    """
    h, w = part.shape
    total = np.zeros((h, w), np.float32)
    mean = np.zeros((h, w, 3), np.float32)
    hard = image.copy()
    lowest = np.full((h, w), np.inf, np.float32)
    rest = judge & ~select
    for dy, dx in shifts:
        moved, there = _moved(image, known, int(dy), int(dx))
        pair = select & there
        if not pair.any():
            continue
        gap = moved - image
        data = np.dstack([gap, np.mean(gap * gap, 2)])
        field = _spread_coarse(data, pair.astype(np.float32), 4)
        error = np.maximum(field[..., 3], 0) + 4
        copy = moved - field[..., :3]
        weight = np.where(there, 1 / (error * error), 0).astype(np.float32)
        total += weight
        mean += weight[..., None] * copy
        better = there & (error < lowest)
        lowest[better] = error[better]
        hard[better] = copy[better]
    filled = total > 0
    soft = np.where(filled[..., None], mean / np.maximum(total, 1e-20)[..., None], image)
    checked = rest & filled
    trust = np.zeros((h, w), np.float32)
    if checked.sum() >= 24:
        miss = np.mean((soft - image) ** 2, 2)[..., None]
        wrong = _spread_coarse(miss, checked.astype(np.float32), 4)[..., 0]
        wrong *= 1 + depth / _JUDGE
        # Errors of the copy and of the smooth fill share the texture neither can know.
        trust = np.clip(1 - wrong / (2 * np.maximum(expected, 1e-3)), 0, 1)
        trust[~filled] = 0
    return soft, hard, cv2.blur(trust, (5, 5)) * filled, filled


def _limited(change, expected, trust):
    """change weighted by trust, and less where it is far larger than the error that the smooth fill can have."""
    size = cv2.blur(np.mean(change * change, 2), (9, 9))
    limit = 1 / (1 + size * (1 - trust) / (4 * expected + 1))
    return (trust * limit)[..., None] * change


def _expected_error(image, known, near, depth):
    """Expected squared error of the smooth fill (h, w), from how fast pixels change with distance around there."""
    h, w = known.shape
    lags = [d for d in (2, 6, 16, 40) if d < 2 * depth.max() + 2]
    maps, steps = [np.zeros((h, w), np.float32)], [0.0]
    for d in lags:
        change = np.zeros((h, w), np.float32)
        pairs = np.zeros((h, w), np.float32)
        for dy, dx in ((d, 0), (-d, 0), (0, d), (0, -d)):
            moved, there = _moved(image, known, dy, dx)
            both = there & near
            gap = np.mean((moved - image) ** 2, 2)
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
    return _ERROR_SCALE * result


def _texture(detail, area, part, expected, trust):
    """The fine part of ``detail``, weakened so that its energy stays a small share of the expected error."""
    known = area.astype(np.float32)
    budget = _TEXTURE_COST * float(expected[part].mean())
    result = np.zeros_like(detail)
    current = detail * known[..., None]
    for sigma in (0.8, 1.6, 3.2):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        low = cv2.GaussianBlur(current, (0, 0), sigma) / np.maximum(weight, 1e-3)[..., None]
        band = (current - low) * known[..., None]
        current = low * known[..., None]
        energy = float(np.mean(band[part] ** 2))
        gain = min(1.0, np.sqrt(max(budget, 0) / max(energy, 1e-6)))
        result += np.float32(gain) * band
        budget -= gain * gain * energy
        if budget <= 0:
            break
    return result
