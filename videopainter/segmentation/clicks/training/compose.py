"""Composed pictures whose parts, things and groups are known: what the click network learns from."""

from pathlib import Path

import cv2
import numpy as np

from videopainter.segmentation.clicks.training import bank, sources

SIZE = 256
MOST_PARTS = 250
FIGURES = 0.1  # share of the things that are painted figures
CLOSE_UPS = 0.2  # share of the pictures in which one thing is so near that the frame cuts it off


class Composer:
    """Puts things before photographs.

    Args:
        folder: The folder that `sources.fetch` filled.
        things: What `bank.read` gave.
        seed: Chooses everything.
        size: Height and width of the pictures.
    """

    def __init__(self, folder: Path, things: list, seed: int, size: int = SIZE):
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.photographs = sources.backgrounds(folder)
        self.stamps = sources.stamps(folder)
        self.figures = sources.figures(folder)
        self.clips = sources.clip_art(folder)
        self.bank = things

    # -- material ---------------------------------------------------------------------------------------------

    def patch(self, size: int) -> np.ndarray:
        """float32 `(size, size, 3)` BGR: a piece of a photograph."""
        rng, photograph = self.rng, self.photographs[self.rng.integers(len(self.photographs))]
        h, w = photograph.shape[:2]
        side = max(size * rng.uniform(0.5, 1), np.exp(rng.uniform(np.log(size * 0.6), np.log(min(h, w) + 1))))
        side = int(min(h, w, side))
        y, x = rng.integers(0, h - side + 1), rng.integers(0, w - side + 1)
        how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        piece = cv2.resize(photograph[y : y + side, x : x + side], (size, size), interpolation=how)
        return (piece[:, ::-1] if rng.random() < 0.5 else piece).astype(np.float32)

    def colour(self, image: np.ndarray, amount: float = 1.0) -> np.ndarray:
        """Other brightness, contrast, tint, saturation."""
        rng = self.rng
        gain = np.float32(np.exp(rng.normal(0, 0.12 * amount, 3) + rng.normal(0, 0.25 * amount)))
        mean = image.mean((0, 1), keepdims=True)
        if rng.random() < 0.35:
            image = image + (image.mean(2, keepdims=True) - image) * np.float32(rng.uniform(0, 0.9))
        if rng.random() < 0.1:
            image = image[..., rng.permutation(3)]
        contrast = np.float32(np.exp(rng.normal(0, 0.2)))
        return np.clip(
            ((image - mean) * contrast + mean) * gain + np.float32(rng.normal(0, 10 * amount)), 0, 255
        )

    def _ramp(self, shape, soft: float) -> np.ndarray:
        h, w = shape
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        angle, (cx, cy) = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.25, 0.75, 2)
        side = (xx / w - cx) * np.cos(angle) + (yy / h - cy) * np.sin(angle)
        return 1 / (1 + np.exp(np.clip(-side / soft, -30, 30)))

    def thing(self):
        """float32 BGR, alpha 0..1, parts uint8 (1..), how many of the first parts are a thing of their own (0: all)."""
        rng, draw = self.rng, self.rng.random()
        if FIGURES <= draw < 0.74 and self.bank:
            picture, parts, first, _ = self.bank[rng.integers(len(self.bank))]
            colour, alpha = picture[..., :3].astype(np.float32), picture[..., 3].astype(np.float32) / 255
            if rng.random() < 0.5:
                colour = self.colour(colour, 0.7)
            # Texture: plain surfaces are not a mark of rendered things, and edges within them not the end of them.
            strength = rng.choice([0, rng.uniform(0.05, 0.3), rng.uniform(0.3, 1)], p=[0.3, 0.35, 0.35])
            if strength:
                texture = cv2.resize(self.patch(256), alpha.shape[::-1])
                if rng.random() < 0.5:
                    texture = texture.mean(2, keepdims=True)
                colour = np.clip(colour + (texture - texture.mean()) * np.float32(strength), 0, 255)
            return colour, alpha, parts, first
        painted = draw < FIGURES
        drawer = self.figures if painted else self.stamps if draw < 0.9 else self.clips
        picture = drawer[rng.integers(len(drawer))]
        colour, alpha = picture[..., :3].astype(np.float32), picture[..., 3].astype(np.float32) / 255
        parts = np.ones(alpha.shape, np.uint8)
        if draw > 0.95:  # a silhouette filled with photographs
            side = max(alpha.shape)
            fill = self.patch(side)[: alpha.shape[0], : alpha.shape[1]]
            colour = np.clip(fill if rng.random() < 0.5 else fill * 0.6 + colour * 0.4, 0, 255)
        else:
            colour = self.colour(colour)
        # Parts of other colours; a painted figure has its own.
        for k in range(0 if painted else int(rng.choice([0, 1, 2, 3], p=[0.5, 0.25, 0.15, 0.1]))):
            ramp = self._ramp(alpha.shape, rng.uniform(0.004, 0.03))
            if rng.random() < 0.4:  # a band, a spot
                ramp = ramp * self._ramp(alpha.shape, rng.uniform(0.004, 0.03))
            other = self.colour(colour, 2.0)
            if rng.random() < 0.5:
                plain = rng.uniform(0, 220) * np.exp(rng.normal(0, 0.25, 3))
                other = np.clip(other * 0.3 + plain.astype(np.float32) * 0.7, 0, 255)
            colour = colour * (1 - ramp[..., None]) + other * ramp[..., None]
            parts[ramp > 0.5] = k + 2
        return colour.astype(np.float32), alpha, np.where(alpha > 0.4, parts, 0).astype(np.uint8), 0

    # -- one picture --------------------------------------------------------------------------------------------

    def _close_up(self, alpha) -> tuple[float, float, float]:
        """Size and centre of a thing of which a part fills the picture, as a portrait shows a person."""
        rng, side = self.rng, self.size
        size = side * float(np.exp(rng.uniform(np.log(0.7), np.log(1.6))))
        rows, columns = np.nonzero(alpha > 0.5)
        k = min(rng.integers(len(rows), size=2))  # rather its upper part
        scale = size / np.sqrt(max(float(alpha.sum()), 1))
        away = (np.array([columns[k], rows[k]]) - np.array(alpha.shape[::-1]) / 2) * scale
        cx, cy = side / 2 - away + rng.normal(0, 0.12 * side, 2)
        return size, float(cx), float(cy)

    def _place(self, colour, alpha, parts, size: float, cx: float, cy: float):
        rng, side = self.rng, self.size
        h, w = alpha.shape
        scale = size / np.sqrt(max(float(alpha.sum()), 1))
        stretch, flip = np.exp(rng.normal(0, 0.08)), -1 if rng.random() < 0.5 else 1
        turn = rng.normal(0, 0.15) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        premultiplied = colour * alpha[..., None]
        if scale < 0.6:  # against aliasing
            small = (max(8, int(w * scale / 0.6)), max(8, int(h * scale / 0.6)))
            premultiplied = cv2.resize(premultiplied, small, interpolation=cv2.INTER_AREA)
            alpha = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
            parts = cv2.resize(parts, small, interpolation=cv2.INTER_NEAREST)
            factor_x, factor_y = w / small[0], h / small[1]
            h, w = alpha.shape
        else:
            factor_x = factor_y = 1.0
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.float32(
            [[cos * stretch * flip * factor_x, -sin / stretch * factor_y, 0],
             [sin * stretch * flip * factor_x, cos / stretch * factor_y, 0]]
        )  # fmt: skip
        matrix[:, 2] = np.float32([cx, cy]) - matrix[:, :2] @ np.float32([w / 2, h / 2])
        target = (side, side)
        moved = cv2.warpAffine(premultiplied, matrix, target, flags=cv2.INTER_LINEAR)
        cover = np.clip(cv2.warpAffine(alpha, matrix, target, flags=cv2.INTER_LINEAR), 0, 1)
        return moved, cover, cv2.warpAffine(parts, matrix, target, flags=cv2.INTER_NEAREST)

    def _ground(self, near: bool = False) -> np.ndarray:
        """A photograph with walls, floors and panels; out of focus where what is before it is `near`."""
        rng, side = self.rng, self.size
        image = self.colour(self.patch(side), 0.6)
        for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.5, 0.25, 0.15, 0.1]))):  # walls, floors, panels
            other = self.colour(self.patch(side), 0.8)
            if rng.random() < 0.3:
                other = other * 0.2 + np.float32(rng.uniform(0, 255, 3)) * 0.8
            if rng.random() < 0.6:
                mask = self._ramp((side, side), rng.uniform(0.002, 0.02))[..., None]
            else:
                mask = np.zeros((side, side, 1), np.float32)
                x, y, w, h = (rng.uniform(-0.2, 0.8, 4) * side).astype(int)
                mask[max(0, y) : max(0, y) + abs(h) + 8, max(0, x) : max(0, x) + abs(w) + 8] = 1
            image = image * (1 - mask) + other * mask
        if rng.random() < (0.6 if near else 0.3):
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 9 if near else 4))
        return image.astype(np.float32)

    def _bars(self, image, ids):
        """Something thin before everything: bars, a lattice, a post, branches."""
        rng, side = self.rng, self.size
        mask = np.zeros((side, side), np.uint8)
        kind, thick = rng.random(), int(rng.integers(1, 7) if rng.random() < 0.7 else rng.integers(6, 18))
        if kind < 0.7:
            angle = rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, np.pi)
            gap = rng.uniform(12, 60) if rng.random() < 0.6 else rng.uniform(40, 130)
            gap, angle = max(gap, 3 * thick), angle + (np.pi / 2 if rng.random() < 0.3 else 0)
            for turn in (0, np.pi / 2)[: 1 if rng.random() < 0.7 else 2]:
                direction = np.array([np.cos(angle + turn), np.sin(angle + turn)])
                for offset in np.arange(-side, side, gap):
                    centre = np.array([side / 2, side / 2]) + offset * direction
                    along = np.array([-direction[1], direction[0]]) * side
                    a, b = (centre - along).astype(int), (centre + along).astype(int)
                    cv2.line(mask, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 255, thick, cv2.LINE_AA)
        else:
            for _ in range(int(rng.integers(1, 7))):
                points = np.cumsum(rng.normal(0, side / 6, (6, 2)), 0) + rng.uniform(0, side, 2)
                cv2.polylines(mask, [points.astype(np.int32)], False, 255, thick, cv2.LINE_AA)
        cover = mask[..., None].astype(np.float32) / 255
        fill = self.patch(side)
        if rng.random() < 0.6:
            fill = np.float32(rng.uniform(0, 80, 3) if rng.random() < 0.4 else rng.uniform(0, 255, 3))
        ids[mask > 127] = 0
        return image * (1 - cover) + fill * cover

    def _spoil(self, image):
        """The camera and the codec."""
        rng, side = self.rng, self.size
        if rng.random() < 0.4:
            scale = rng.uniform(0.35, 0.9)
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.35:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
        if rng.random() < 0.12:
            kernel = np.zeros((9, 9), np.float32)
            cv2.line(kernel, tuple(int(v) for v in rng.integers(0, 9, 2)), (4, 4), 1)
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
        image = image * np.float32(np.exp(rng.normal(0, 0.2))) + np.float32(rng.normal(0, 8))
        if rng.random() < 0.06:
            image = np.repeat(image.mean(2, keepdims=True), 3, 2)
        if rng.random() < 0.5:
            image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 9))
        image = np.clip(image, 0, 255).astype(np.uint8)
        if rng.random() < 0.6:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 95))]
            image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
        return image

    def picture(self):
        """One composed picture.

        Returns:
            `(image, ids, table)`: uint8 `(size, size, 3)` RGB; uint8 `(size, size)`, the part in each pixel, 0 = none;
            uint8 `(256, 2)`, for each part its thing and its group (0 = none).
        """
        rng, side = self.rng, self.size
        while True:
            near = rng.random() < CLOSE_UPS
            image, ids = self._ground(near), np.zeros((side, side), np.uint8)
            table, numbers = np.zeros((256, 2), np.uint8), {"part": 0, "thing": 0, "group": 0}
            count = int(rng.choice([1, 2, 3, 4, 6, 10], p=[0.17, 0.25, 0.22, 0.16, 0.1, 0.1]))
            main = np.exp(rng.uniform(np.log(0.10), np.log(0.85))) * side
            last = None
            for number in range(count):
                held = last is not None and rng.random() < 0.2
                copy = last is not None and not held and rng.random() < 0.2
                colour, alpha, parts, first = last["made"] if copy else self.thing()
                size = float(np.clip(main * np.exp(rng.normal(0, 0.45)), 14, 1.1 * side))
                cx, cy = rng.uniform(0.05, 0.95, 2) * side
                group = 0
                if held:  # a smaller thing at the edge of the last one
                    size = float(last["size"] * rng.uniform(0.2, 0.6))
                    edge = np.argwhere(
                        cv2.morphologyEx(
                            (last["cover"] > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))
                        )
                    )
                    if len(edge):
                        cy, cx = edge[rng.integers(len(edge))]
                    group = last["group"]
                elif copy and rng.random() < 0.6:
                    cx, cy = np.array(last["centre"]) + rng.normal(0, last["size"], 2)
                    size, group = last["size"] * rng.uniform(0.8, 1.2), last["group"]
                if near and number == 0:
                    size, cx, cy = self._close_up(alpha)
                moved, cover, placed = self._place(colour, alpha, parts, size, cx, cy)
                if (cover > 0.5).sum() < 60:
                    continue
                if not group:
                    numbers["group"] += 1
                    group = numbers["group"]
                image = self._blend(image, moved, cover)
                made = {
                    "made": (colour, alpha, parts, first),
                    "size": size,
                    "cover": cover,
                    "centre": (cx, cy),
                }
                last = made | {"group": group}
                self._write(ids, table, numbers, cover, placed, first, group)
            if rng.random() < 0.28:
                image = self._bars(image, ids)
            present = np.bincount(table[ids, 0].ravel(), minlength=1)
            if (
                (present[1:] > 150).any()
                and (ids == 0).mean() > (0.03 if near else 0.08)
                and numbers["part"] < MOST_PARTS
            ):
                break
        return np.ascontiguousarray(self._spoil(np.clip(image, 0, 255))[..., ::-1]), ids, table

    def _blend(self, image, moved, cover):
        rng, side = self.rng, self.size
        if rng.random() < 0.5:  # nearer to what lies behind it
            weight = cover[..., None]
            mine, behind = (moved.sum((0, 1)) / cover.sum()), (image * weight).sum((0, 1)) / cover.sum()
            moved = np.clip(
                moved + np.float32(rng.uniform(0, 0.75)) * (behind - mine) * weight, 0, 255 * weight
            )
        if rng.random() < 0.35:  # a cast shadow
            matrix = np.float32([[1, rng.normal(0, 0.4), 0], [0, rng.uniform(0.3, 1), 0]])
            centre = np.float32([side / 2, side / 2])
            matrix[:, 2] = centre - matrix[:, :2] @ centre + rng.normal(0, 0.06 * side, 2)
            shadow = cv2.GaussianBlur(
                cv2.warpAffine(cover, matrix, (side, side)), (0, 0), rng.uniform(0.7, 7)
            )
            image = image * (1 - shadow[..., None] * np.float32(rng.uniform(0.2, 0.7)))
        if rng.random() < 0.4:
            sigma = rng.uniform(0.4, 1.3)
            moved, cover = cv2.GaussianBlur(moved, (0, 0), sigma), cv2.GaussianBlur(cover, (0, 0), sigma)
        return image * (1 - cover[..., None]) + moved

    @staticmethod
    def _write(ids, table, numbers, cover, placed, first, group):
        inside = cover > 0.5
        local = np.bincount(placed[inside], minlength=256)
        local[0] = 0
        total = max(int(local.sum()), 1)
        owners = {}
        for part in np.flatnonzero(local):
            key = "a" if first and part <= first else "b"
            if key not in owners:
                numbers["thing"] += 1
                owners[key] = [numbers["thing"], None]
            if local[part] < 0.015 * total and owners[key][1]:
                number = owners[key][1]
            else:
                if numbers["part"] >= MOST_PARTS:
                    return
                numbers["part"] += 1
                number = owners[key][1] = numbers["part"]
                table[number] = owners[key][0], group
            ids[inside & (placed == part)] = number
        if owners:  # the rim, where no part was left
            rim = inside & (placed == 0)
            ids[rim] = next(iter(owners.values()))[1]


CHUNK = 500


def write_pool(
    folder: Path, things: Path, pool: Path, seeds, held_out: bool = False, count: int = CHUNK
) -> None:
    """Write `count` pictures for each seed into `pool`: `SEED-image.npy`, `-ids.npy`, `-table.npy`.

    Every tenth file of the bank, stamp, drawing and photograph is seen by `held_out` pictures only.
    """
    pool = Path(pool)
    pool.mkdir(parents=True, exist_ok=True)
    composer = None
    for seed in seeds:
        if (pool / f"{seed:04d}.done").exists():
            continue
        files = bank.read(things, lambda number: (number % 10 == 9) == held_out)
        if composer is None:
            composer = Composer(folder, files, seed)
            for name in ("stamps", "figures", "clips", "photographs"):
                kept = [item for k, item in enumerate(getattr(composer, name)) if (k % 10 == 9) == held_out]
                setattr(composer, name, kept)
        composer.bank, composer.rng = files, np.random.default_rng(seed)
        shape = (count, SIZE, SIZE)
        images = np.lib.format.open_memmap(pool / f"{seed:04d}-image.npy", "w+", np.uint8, (*shape, 3))
        ids = np.lib.format.open_memmap(pool / f"{seed:04d}-ids.npy", "w+", np.uint8, shape)
        tables = np.zeros((count, 256, 2), np.uint8)
        for k in range(count):
            images[k], ids[k], tables[k] = composer.picture()
        np.save(pool / f"{seed:04d}-table.npy", tables)
        (pool / f"{seed:04d}.done").touch()
