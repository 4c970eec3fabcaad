"""From a pool of composed pictures to what one training step sees: clicks, previous masks, cues and targets."""

from pathlib import Path

import cv2
import numpy as np

from videopainter.segmentation.clicks.training.network import CANDIDATES, HINTS

DISC = 5  # radius of a click in pixels of the network's picture
PART, OBJECT, GROUP = range(CANDIDATES)


class Pool:
    """The finished pictures of a folder, each time round those of all finished files.

    Args:
        folder: What `compose.write_pool` filled; it may still grow.
        seed: Chooses the order.
        most: Pictures of one round, after which the folder is looked at again.
    """

    def __init__(self, folder: Path, seed: int = 0, most: int = 1500):
        self.folder, self.rng, self.most = Path(folder), np.random.default_rng(seed), most
        self.files, self.order = {}, []
        self.refresh()

    def refresh(self) -> None:
        """Take in what was finished since."""
        for done in sorted(self.folder.glob("*.done")):
            if done.stem not in self.files:
                names = [self.folder / f"{done.stem}-{kind}.npy" for kind in ("image", "ids", "table")]
                self.files[done.stem] = [np.load(name, mmap_mode="r") for name in names]

    def __len__(self) -> int:
        return sum(len(file[2]) for file in self.files.values())

    def next(self):
        """`(image, ids, table)` of one picture."""
        if not self.order:
            self.refresh()
            if not self.files:
                raise ValueError(f"There are no pictures to train on in {self.folder}.")
            whole = [(name, k) for name, file in self.files.items() for k in range(len(file[2]))]
            self.order = [whole[k] for k in self.rng.permutation(len(whole))[: self.most]]
        name, k = self.order.pop()
        return tuple(part[k] for part in self.files[name])


def inner_click(mask: np.ndarray, rng, careful: bool = True) -> tuple[int, int]:
    """A pixel `(x, y)` of the mask: near its middle, or anywhere."""
    distance = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    most = distance.max()
    least = most * rng.uniform(0.5, 0.95) if careful else min(most, rng.uniform(1, 4))
    ys, xs = np.where(distance >= least)
    k = rng.integers(len(ys))
    return int(xs[k]), int(ys[k])


def disc(hints: np.ndarray, x: float, y: float, radius: int = DISC) -> None:
    """Draw a click into one plane of the hints."""
    cv2.circle(hints, (int(x), int(y)), radius, 1.0, -1)


def carried(mask: np.ndarray, rng) -> np.ndarray:
    """The mask, damaged like one that optical flow carried from another frame; float32 0..1."""
    height, width = mask.shape
    out = mask.astype(np.float32)
    extent = max(float(np.sqrt(mask.sum())), 4)
    bend = cv2.GaussianBlur(
        rng.standard_normal((height, width, 2), dtype=np.float32), (0, 0), rng.uniform(6, 24)
    )
    bend *= extent * rng.uniform(0, 0.14) / (np.abs(bend).max() + 1e-6)
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    shift = rng.normal(0, extent * 0.04, 2).astype(np.float32)
    out = cv2.remap(out, xx + bend[..., 0] + shift[0], yy + bend[..., 1] + shift[1], cv2.INTER_LINEAR)
    grow = int(rng.integers(-2, 4))
    if grow:
        kernel = np.ones((2 * abs(grow) - 1,) * 2, np.uint8)
        out = (cv2.dilate if grow > 0 else cv2.erode)(out, kernel)
    if rng.random() < 0.3:  # a piece missing, or a piece of something else
        x, y = inner_click(mask, rng, False)
        centre = (x + int(rng.normal(0, extent * 0.3)), y + int(rng.normal(0, extent * 0.3)))
        cv2.circle(out, centre, int(extent * rng.uniform(0.08, 0.35)), 0.0 if rng.random() < 0.6 else 1.0, -1)
    if rng.random() < 0.5:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 2.5))
    return out if out.sum() > 20 else mask.astype(np.float32)


def _cue(inside: np.ndarray, rng) -> np.ndarray:
    """A cue as a video gives it: about right inside, loose at the rim, silent in places; float32 -1..1."""
    height, width = inside.shape
    cue = inside.astype(np.float32) * 2 - 1
    cue = cv2.GaussianBlur(cue, (0, 0), rng.uniform(1, 7))
    noise = cv2.GaussianBlur(
        rng.standard_normal((height, width), dtype=np.float32), (0, 0), rng.uniform(2, 20)
    )
    noise /= np.abs(noise).max() + 1e-6
    return np.clip(cue * rng.uniform(0.5, 1.2) + noise * rng.uniform(0, 1.2), -1, 1)


def cues(ids: np.ndarray, things: np.ndarray, target: np.ndarray, hints: np.ndarray, rng) -> None:
    """Fill the planes of motion and background, often with nothing at all."""
    draw = rng.random()
    if draw > 0.35:
        return
    others = [t for t in np.unique(things) if t and rng.random() < 0.5]
    moving = target | np.isin(things, others)
    if rng.random() < 0.15:  # it stands still: the cue says nothing about it
        moving = np.isin(things, others) & ~target
    if draw < 0.25:
        same = target | np.isin(things, [t for t in others if rng.random() < 0.25])
        hints[3] = _cue(same if (moving & target).any() else same | (rng.random() < 0.7), rng)
    if draw > 0.1:
        hints[4] = _cue(moving, rng)


def view(picture, rng, size: int):
    """One picture seen with a click or a carried mask.

    Returns:
        `(image, masks, valid, hints, intended)`: uint8 `(size, size, 3)` RGB; bool `(3, size, size)` for part, object
        and group; bool `(3,)`, which of them are known; float32 `(5, size, size)`; the extent that further clicks
        will ask for.
    """
    image, ids, table = (np.array(part) for part in picture)
    if len(ids) != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        ids = cv2.resize(ids, (size, size), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        image, ids = image[:, ::-1], ids[:, ::-1]
    things = table[ids, 0]
    area = np.bincount(things.ravel(), minlength=2)
    area[0] = 0
    chosen = np.flatnonzero(area > min(120, area.max() - 1))
    weights = np.sqrt(area[chosen]).astype(np.float64)
    thing = int(rng.choice(chosen, p=weights / weights.sum()))
    if rng.random() < 0.45:  # another zoom, as the second look has it
        image, ids = _zoomed(image, ids, things == thing, rng, size)
        things = table[ids, 0]
    image = np.ascontiguousarray(image)
    curve = (
        (np.arange(256)[:, None] / 255.0) ** np.exp(rng.normal(0, 0.15))
        * 255
        * np.exp(rng.normal(0, 0.08, 3))
    )
    curve = np.clip(curve + rng.normal(0, 5), 0, 255).astype(np.uint8)
    image = np.stack([curve[:, c][image[..., c]] for c in range(3)], -1)
    if rng.random() < 0.08:
        caption(image, rng)

    target = things == thing
    x, y = inner_click(target, rng, rng.random() < 0.5)
    part = ids == ids[y, x]
    _, pieces = cv2.connectedComponents(part.astype(np.uint8))
    part = pieces == pieces[y, x]
    group_number = table[ids[y, x], 1]
    group = table[ids, 1] == group_number
    masks = np.stack((part, target, group))
    share = part.sum() / target.sum()
    valid = np.array([0.05 < share and part.sum() > 60, True, True])
    if share > 0.9:
        masks[PART] = target
    hints = np.zeros((HINTS, size, size), np.float32)
    cues(ids, things, target, hints, rng)
    intended = OBJECT
    draw = rng.random()
    if draw < 0.14 and valid[PART] and share < 0.9:
        intended = PART
    elif draw < 0.3 and group.sum() > 1.05 * target.sum():
        intended = GROUP
    if rng.random() < 0.2:
        hints[0] = carried(masks[intended], rng)
        if rng.random() < 0.3:
            disc(hints[1], *inner_click(masks[intended], rng))
        masks, valid = np.stack([masks[intended]] * CANDIDATES), np.ones(CANDIDATES, bool)
    else:
        jitter = rng.normal(0, 1.5, 2) if rng.random() < 0.1 else (0, 0)
        disc(hints[1], x + jitter[0], y + jitter[1])
    return image, masks, valid, hints, intended


def _zoomed(image, ids, target, rng, size):
    ys, xs = np.where(target)
    centre = np.array([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2])
    zoom = np.clip(rng.uniform(0.4, 0.85) * size / max(np.ptp(xs), np.ptp(ys), 1), 0.6, 3.2)
    shift = size / 2 - zoom * centre + rng.normal(0, 0.07 * size, 2)
    matrix = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    moved = cv2.warpAffine(np.ascontiguousarray(ids), matrix, (size, size), flags=cv2.INTER_NEAREST)
    if np.isin(moved, ids[target]).sum() > 150:
        border = cv2.BORDER_REFLECT_101
        seen = cv2.warpAffine(
            np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border
        )
        return seen, moved
    return image, ids


def caption(image: np.ndarray, rng) -> None:
    """Letters over the picture, which belong to whatever they lie on."""
    height, width = image.shape[:2]
    words = "".join(chr(int(c)) for c in rng.integers(97, 123, int(rng.integers(4, 18))))
    spot = (int(rng.uniform(-0.1, 0.5) * width), int(rng.uniform(0.1, 0.95) * height))
    shade = (255, 255, 255) if rng.random() < 0.7 else tuple(int(c) for c in rng.integers(0, 255, 3))
    font, size = int(rng.integers(0, 8)), float(rng.uniform(0.5, 1.6))
    cv2.putText(image, words, spot, font, size, shade, int(rng.integers(1, 4)), cv2.LINE_AA)


def correct(probability: np.ndarray, target: np.ndarray, hints: np.ndarray, rng):
    """Add the click that the largest error asks for; the prediction becomes the previous mask.

    Returns:
        The error's columns and rows, `(left, top, right, bottom)`; None where there is no error worth a click.
    """
    error = (probability > 0.5) ^ target
    hints[0] = probability
    _, labels, stats, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8))
    if len(stats) < 2 or stats[1:, 4].max() < 20:
        return None
    # Mostly the largest error; people take the one that they see first.
    order = np.argsort(-stats[1:, 4])
    place = int(rng.integers(3)) if rng.random() < 0.15 else 0
    k = (
        1 + int(order[place])
        if place < len(order) and stats[1 + order[place], 4] >= 20
        else 1 + int(order[0])
    )
    x, y = inner_click(labels == k, rng, rng.random() < 0.7)
    disc(hints[1 if target[y, x] else 2], x, y)
    left, top, wide, high = (int(v) for v in stats[k, :4])
    return left, top, left + wide, top + high


def closer(image: np.ndarray, target: np.ndarray, hints: np.ndarray, error, rng):
    """What a look at the surroundings of an error shows, as a correction has it.

    Args:
        image: uint8 `(size, size, 3)`.
        target: bool `(size, size)`.
        hints: float32 `(5, size, size)`.
        error: What `correct` returned.

    Returns:
        The same three of a cut, as large as before; the cut is the whole where the error fills it.
    """
    size = len(image)
    left, top, right, bottom = error
    side = max(right - left, bottom - top) * rng.uniform(1.4, 2.4) + rng.uniform(10, 50)
    side = max(side, size * rng.uniform(0.25, 0.45))
    if side > 0.85 * size:
        return image, target, hints
    zoom = size / side
    centre = np.array([left + right, top + bottom]) / 2 + rng.normal(0, 0.06 * side, 2)
    centre = np.clip(centre, side / 2, size - side / 2)
    shift = size / 2 - zoom * centre
    matrix = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])

    def seen(plane):
        plane = np.ascontiguousarray(plane)
        return cv2.warpAffine(
            plane, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )

    there = np.zeros_like(hints)
    for k in (0, 3, 4):
        if hints[k].any():
            there[k] = seen(hints[k])
    for k in (1, 2):
        count, _, _, middles = cv2.connectedComponentsWithStats((hints[k] > 0.5).astype(np.uint8))
        for x, y in middles[1:count] * zoom + shift:
            if 0 <= x < size and 0 <= y < size:
                disc(there[k], x, y)
    return seen(image), seen(target.astype(np.float32)) > 0.5, there
