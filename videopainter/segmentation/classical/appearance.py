"""What an object looks like: log-odds learned from a rough mask, and the cut that makes a clean one of
them.
"""

from __future__ import annotations

import cv2
import numpy as np

SMOOTHNESS = 2.2  # cost of one pixel of outline in an even area, in log-odds
NEIGHBOURS, OWN = 8, 0.3  # an object's sample of whose nearest ones fewer are the object's is a stray
CONTRAST = 14.0  # colour step at which an outline costs e times less


def features(lab: np.ndarray) -> np.ndarray:
    """Patch features float32 (h, w, 10) of a Lab image float32 (h, w, 3): colour at three scales, texture."""
    fine = cv2.GaussianBlur(lab, (0, 0), 1.0)
    coarse = cv2.GaussianBlur(lab, (0, 0), 3.5)
    light = np.ascontiguousarray(lab[..., 0])
    energy = cv2.GaussianBlur((light - cv2.GaussianBlur(light, (0, 0), 2.5)) ** 2, (0, 0), 2.5)
    return np.concatenate([0.6 * lab, fine, 0.7 * coarse, 1.5 * np.sqrt(energy)[..., None]], -1)


def nearest(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Distance float32 (n,) of each query (n, d) to the nearest row of bank (m, d)."""
    # one product gives q.b - b.b / 2, largest for the nearest row; in slices, it would need 100 MB at once
    wide = np.concatenate([bank, -0.5 * (bank**2).sum(1)[:, None]], 1).T.astype(np.float32)
    squares = (queries**2).sum(1)
    for k in range(0, len(queries), 2048):
        part = queries[k : k + 2048]
        best = (np.concatenate([part, np.ones((len(part), 1), np.float32)], 1) @ wide).max(1)
        squares[k : k + 2048] -= 2 * best
    return np.sqrt(np.maximum(squares, 0))


class Bank:
    """Samples of object and background features; answers with log-odds by comparing nearest neighbours."""

    def __init__(
        self, feature: np.ndarray, inside: np.ndarray, outside: np.ndarray, size=500, position=0.0, seed=0
    ):
        """feature float32 (h, w, d); inside, outside bool (h, w); position = weight of a pixel of
        distance.
        """
        rng = np.random.default_rng(seed)
        self.position = position
        self.samples = []
        for where in (inside, outside):
            y, x = np.nonzero(where)
            pick = rng.permutation(len(y))[:size]
            self.samples.append(
                (feature[y[pick], x[pick]], np.stack([x[pick], y[pick]], -1).astype(np.float32))
            )

    def drop_strays(self) -> None:
        """Without the object's samples that lie among those of the background: no mask is right to the last pixel."""
        (inside, places), (outside, _) = self.samples
        both = np.concatenate((inside, outside))
        distance = (both**2).sum(1) - 2 * inside @ both.T  # but for what is the same for all of a sample
        near = np.argpartition(distance, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]  # itself among them
        kept = (near < len(inside)).sum(1) - 1 >= OWN * NEIGHBOURS
        if kept.mean() > 0.5:
            self.samples[0] = inside[kept], places[kept]

    @property
    def usable(self) -> bool:
        return all(len(f) >= 12 for f, _ in self.samples)

    def log_odds(
        self, feature: np.ndarray, origin=(0, 0), motions=(None, None), stride: int = 2
    ) -> np.ndarray:
        """Log-odds float32 (h, w) that a pixel belongs to the object, in about -3..3.

        Args:
            feature: float32 (h, w, d), its top left pixel at `origin` (x, y) of the frame.
            motions: two affine maps (2, 3) from the sampled frame to this one: object's, background's.
        """
        h, w = feature.shape[:2]
        sparse = feature[::stride, ::stride]
        hs, ws = sparse.shape[:2]
        queries = sparse.reshape(hs * ws, -1)
        y, x = np.mgrid[:hs, :ws].astype(np.float32) * stride
        place = np.stack([x.ravel() + origin[0], y.ravel() + origin[1]], -1) * self.position
        distance = []
        for (bank, at), motion in zip(self.samples, motions):
            if self.position:
                at = at if motion is None else at @ motion[:, :2].T + motion[:, 2]
                bank = np.concatenate([bank, at.astype(np.float32) * self.position], 1)
                distance.append(
                    nearest(np.concatenate([queries, place], 1).astype(np.float32), bank.astype(np.float32))
                )
            else:
                distance.append(nearest(queries, bank))
        inside, outside = distance
        odds = 5.0 * (outside - inside) / (outside + inside + 12.0)
        return cv2.resize(odds.reshape(hs, ws).astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)


def learned_ratio(values, inside, outside, top: float, limit: float = 3.0, bins: int = 24) -> np.ndarray:
    """Log likelihood ratio float32, shaped like `values`, of a scalar cue that grows towards the object.

    The two densities are histograms over the bool masks `inside` and `outside`; the ratio is forced to rise
    with the value, so a cue that says nothing gives zero and one that misleads is not followed.
    """
    if inside.sum() < 20 or outside.sum() < 20:
        return np.zeros(values.shape, np.float32)
    scaled = np.clip(values / top, 0, 1) ** 0.5 * (bins - 1)
    index = np.round(scaled).astype(int)
    ratio, smooth = [], np.array([0.25, 0.5, 0.25])
    weights = []
    for where in (inside, outside):
        count = np.bincount(index[where], minlength=bins).astype(float)
        count = np.convolve(np.pad(count, 1, mode="edge"), smooth, "valid")
        ratio.append((count + 0.5) / (count.sum() + 0.5 * bins))
        weights.append(count)
    table = rising(np.log(ratio[0] / ratio[1]), weights[0] + weights[1] + 1)
    return np.interp(scaled, np.arange(bins), np.clip(table, -limit, limit)).astype(np.float32)


def rising(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rising sequence nearest to `values` in weighted least squares (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            b, a = blocks.pop(), blocks.pop()
            total = a[1] + b[1]
            blocks.append([(a[0] * a[1] + b[0] * b[1]) / total, total, a[2] + b[2]])
    return np.concatenate([[v] * int(n) for v, _, n in blocks])


def cut(odds: np.ndarray, lab: np.ndarray, start: np.ndarray | None = None, rounds: int = 60) -> np.ndarray:
    """The cleanest outline for per-pixel log-odds: weighted total variation, solved by a primal-dual method.

    The convex form of a graph cut (Chan, Esedoglu, Nikolova 2006; Chambolle, Pock 2011): minimises
    sum(-odds u) + SMOOTHNESS sum(contrast |grad u|), u in 0..1. Returns u float32 (h, w).
    """
    h, w = odds.shape
    right = SMOOTHNESS * np.exp(-np.abs(np.diff(lab, axis=1)).sum(-1) / CONTRAST).astype(np.float32)
    down = SMOOTHNESS * np.exp(-np.abs(np.diff(lab, axis=0)).sum(-1) / CONTRAST).astype(np.float32)
    u = (odds > 0).astype(np.float32) if start is None else start.astype(np.float32)
    ahead = u.copy()
    px, py = np.zeros((h, w - 1), np.float32), np.zeros((h - 1, w), np.float32)
    step = np.float32(0.35)
    for _ in range(rounds):
        px += step * (ahead[:, 1:] - ahead[:, :-1])
        py += step * (ahead[1:] - ahead[:-1])
        np.clip(px, -right, right, out=px)
        np.clip(py, -down, down, out=py)
        new = odds.copy()
        new[:, :-1] += px
        new[:, 1:] -= px
        new[:-1] += py
        new[1:] -= py
        new *= step
        new += u
        np.clip(new, 0, 1, out=new)
        ahead = 2 * new - u
        u = new
    return u


def fill_holes(mask: np.ndarray, largest: float) -> np.ndarray:
    """Fill holes of bool (h, w) of at most `largest` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    h, w = mask.shape
    result = mask.copy()
    for k in range(1, count):
        x, y, bw, bh, area = stats[k]
        if area <= largest and x > 0 and y > 0 and x + bw < w and y + bh < h:
            result[labels == k] = True
    return result


def parts_touching(mask: np.ndarray, expected: np.ndarray, smallest: float) -> np.ndarray:
    """The connected parts of bool (h, w) that meet `expected` and have at least `smallest` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    met = np.bincount(labels[expected], minlength=count)
    result = np.zeros_like(mask)
    for k in range(1, count):
        if stats[k, cv2.CC_STAT_AREA] >= smallest and met[k] > 0.15 * stats[k, cv2.CC_STAT_AREA]:
            result |= labels == k
    return result


def together(mask: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The part of bool (h, w) that meets `expected` most, and what lies close to it; the rest walked away."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    met = np.bincount(labels[expected], minlength=count)
    met[0] = 0
    main = labels == met.argmax()
    distance = cv2.distanceTransform((~main).astype(np.uint8), cv2.DIST_L2, 5)
    near = distance <= 2 + 0.12 * np.sqrt(main.sum())
    return mask & np.isin(labels, np.unique(labels[near & mask]))
