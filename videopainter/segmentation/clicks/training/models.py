"""Vehicles and buildings read from AC3D files, and things made of simple shapes: bottles, cups, chairs, racks."""

import shlex
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from videopainter.segmentation.clicks.training.render import Mesh, ellipsoid, hoop, join, rotation, tube


def _texture(path: Path):
    try:
        image = np.array(Image.open(path).convert("RGBA"))
    except (OSError, ValueError, SyntaxError):
        return None
    side = max(image.shape[:2])
    if side > 512:
        image = cv2.resize(image, None, fx=512 / side, fy=512 / side, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., [2, 1, 0, 3]])


def read_ac3d(path: Path, most_triangles: int = 60_000) -> Mesh | None:
    """The triangles of an AC3D file, one part an object; None where it has none or too many."""
    lines = iter(Path(path).read_text(errors="replace").splitlines())
    colours, meshes, textures = [], [], {}
    count = 0

    def read(turn, shift):
        nonlocal count
        vertices, triangles, uv, owner, texture = [], [], [], [], None
        refs_colour = 0
        for line in lines:
            words = line.split()
            if not words:
                continue
            kind = words[0]
            if kind == "MATERIAL":
                k = words.index("rgb")
                colours.append(np.float32([float(w) * 255 for w in words[k + 1 : k + 4]])[::-1])
            elif kind == "texture" and texture is None:
                name = shlex.split(line)[1]
                if name not in textures:
                    textures[name] = _texture(Path(path).parent / name)
                texture = textures[name]
            elif kind == "loc":
                shift = shift + turn @ np.float32([float(w) for w in words[1:4]])
            elif kind == "rot":
                turn = turn @ np.float32([float(w) for w in words[1:10]]).reshape(3, 3).T
            elif kind == "data":
                next(lines)
            elif kind == "numvert":
                rows = [next(lines).split()[:3] for _ in range(int(words[1]))]
                vertices = np.float32(rows).reshape(-1, 3) @ turn.T + shift
            elif kind == "SURF":
                shape = int(words[1], 16) & 15
            elif kind == "mat":
                refs_colour = int(words[1])
            elif kind == "refs":
                refs = [next(lines).split() for _ in range(int(words[1]))]
                if shape == 0:
                    for k in range(1, len(refs) - 1):
                        chosen = [refs[0], refs[k], refs[k + 1]]
                        triangles.append([int(r[0]) for r in chosen])
                        uv.append([[float(r[1]), float(r[2])] for r in chosen])
                        owner.append(refs_colour)
                elif shape == 4:  # TORCS writes strips
                    for k in range(len(refs) - 2):
                        chosen = refs[k : k + 3]
                        triangles.append([int(r[0]) for r in chosen])
                        uv.append([[float(r[1]), float(r[2])] for r in chosen])
                        owner.append(refs_colour)
            elif kind == "kids":
                if triangles:
                    count += len(triangles)
                    numbers = sorted(set(owner))
                    materials = [texture if texture is not None else colours[n] for n in numbers]
                    parts = np.array([numbers.index(o) for o in owner])
                    meshes.append(Mesh(vertices, np.array(triangles), parts, materials, np.float32(uv)))
                for _ in range(int(words[1])):
                    read(turn, shift)
                return

    try:
        read(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    except (StopIteration, ValueError, IndexError):
        return None
    if not meshes or not 20 <= count <= most_triangles:
        return None
    whole = join(meshes)
    return whole if np.isfinite(whole.vertices).all() else None


def read_obj(path: Path, most_triangles: int = 80_000) -> Mesh | None:
    """The triangles of a Wavefront OBJ file, one part a material; None where it has none or too many.

    Glass, which lets most of the light through, is left out.
    """
    vertices, plan, triangles, uv, owner, looks, names = [], [], [], [], [], {}, []
    current = 0
    try:
        for line in Path(path).read_text(errors="replace").splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                vertices.append([float(w) for w in words[1:4]])
            elif words[0] == "vt":
                plan.append([float(w) for w in words[1:3]])
            elif words[0] == "mtllib":
                looks |= _read_mtl(Path(path).parent / line.split(maxsplit=1)[1].strip())
            elif words[0] == "usemtl":
                if words[-1] not in names:
                    names.append(words[-1])
                current = names.index(words[-1])
            elif words[0] == "f":
                corners = [(word.split("/") + [""])[:2] for word in words[1:]]
                place = [int(a) - 1 if int(a) > 0 else len(vertices) + int(a) for a, _ in corners]
                there = [plan[int(b) - 1 if int(b) > 0 else int(b)] if b else [0, 0] for _, b in corners]
                for k in range(1, len(corners) - 1):
                    triangles.append([place[0], place[k], place[k + 1]])
                    uv.append([there[0], there[k], there[k + 1]])
                    owner.append(current)
    except (ValueError, LookupError, OSError):
        return None
    if (
        not 20 <= len(triangles) <= most_triangles
        or np.max(triangles) >= len(vertices)
        or np.min(triangles) < 0
    ):
        return None
    plain = np.float32([160, 160, 160])
    materials = [looks.get(name, (plain, 1.0)) for name in names] or [(plain, 1.0)]
    kept = np.array([materials[k][1] > 0.3 for k in owner])
    if not kept.any() or len(materials) > 250:
        return None
    mesh = Mesh(
        np.float32(vertices),
        np.array(triangles)[kept],
        np.array(owner)[kept],
        [m for m, _ in materials],
        np.float32(uv)[kept],
    )
    return mesh if np.isfinite(mesh.vertices).all() else None


def _read_mtl(path: Path) -> dict:
    """Of each material its colour or texture, and how opaque it is."""
    looks, name = {}, None
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            name = words[-1]
            looks[name] = (np.float32([160, 160, 160]), 1.0)
        elif words[0] == "Kd" and looks[name][0].ndim == 1:
            looks[name] = (np.float32([float(w) * 255 for w in words[3:0:-1]]), looks[name][1])
        elif words[0] in ("d", "Tr"):
            opaque = float(words[1]) if words[0] == "d" else 1 - float(words[1])
            looks[name] = (looks[name][0], opaque)
        elif words[0] == "map_Kd":
            texture = _texture(path.parent / line.split(maxsplit=1)[1].strip())
            if texture is not None:
                looks[name] = (texture, looks[name][1])
    return looks


def with_wheels(car: Mesh, rng: np.random.Generator) -> Mesh:
    """A car of TORCS stands without its wheels: four where they belong."""
    low, high = car.vertices.min(0), car.vertices.max(0)
    length, height, width = high - low
    radius = height * rng.uniform(0.2, 0.26)
    pieces = [car]
    for x in (low[0] + length * 0.19, high[0] - length * 0.19):
        for side in (-1, 1):
            centre = np.float32(
                [x, low[1] + radius * 0.8, (low[2] + high[2]) / 2 + side * (width / 2 - radius * 0.45)]
            )
            wheel = ellipsoid((0, 0, 0), (radius, radius, radius * 0.35), rng.uniform(10, 50, 3))
            hub = ellipsoid(
                (0, 0, side * radius * 0.2), (radius * 0.6, radius * 0.6, radius * 0.2), (150, 150, 150)
            )
            for piece in (wheel, hub):
                piece.vertices = piece.vertices + centre
                pieces.append(piece)
    return join(pieces)


def repaint(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Another colour, shared by all the textures."""
    swap, tint = rng.permutation(3), np.exp(rng.normal(0, 0.3, 3))
    grey = rng.uniform(0, 0.9) if rng.random() < 0.4 else 0
    out = []
    for material in mesh.materials:
        colour = material[..., :3].astype(np.float32)[..., swap] * tint
        colour = np.clip(colour + grey * (colour.mean(-1, keepdims=True) - colour), 0, 255)
        if material.ndim == 3 and material.shape[2] == 4:
            colour = np.dstack((colour, material[..., 3]))
        out.append(colour.astype(material.dtype))
    return Mesh(mesh.vertices, mesh.triangles, mesh.parts, out, mesh.uv)


def lathe(profile: np.ndarray, materials: list, bounds: list, segments: int = 28) -> Mesh:
    """A body of revolution: `profile` rows (radius, height); a band takes the material whose bound it is under."""
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    points = np.stack(
        (
            np.outer(profile[:, 0], np.cos(angles)),
            np.repeat(profile[:, 1:], segments + 1, 1),
            np.outer(profile[:, 0], np.sin(angles)),
        ),
        -1,
    )
    rows, columns = np.meshgrid(np.arange(len(profile) - 1), np.arange(segments), indexing="ij")
    a = (rows * (segments + 1) + columns).ravel()
    step = segments + 1
    triangles = np.concatenate(
        [np.stack((a, a + 1, a + step), 1), np.stack((a + 1, a + step + 1, a + step), 1)]
    )
    height = (profile[:, 1] - profile[:, 1].min()) / max(np.ptp(profile[:, 1]), 1e-6)
    band = np.searchsorted(bounds, height[:-1], side="right").clip(0, len(materials) - 1)
    parts = np.tile(np.repeat(band, segments), 2)
    plan = np.stack((np.tile(angles / np.pi, len(profile)), np.repeat(height, step)), 1).astype(np.float32)
    return Mesh(points.reshape(-1, 3).astype(np.float32), triangles, parts, materials, plan[triangles])


def vessel(rng: np.random.Generator, cloth) -> Mesh:
    """A bottle, cup, vase or tin; often with a label, a cap or a handle."""
    steps = 26
    y = np.linspace(0, 1, steps)
    kind = rng.random()
    if kind < 0.4:  # bottle
        neck, shoulder = rng.uniform(0.25, 0.5), rng.uniform(0.5, 0.75)
        radius = np.where(
            y < shoulder, 1, neck + (1 - neck) * np.cos((y - shoulder) / (1 - shoulder) * np.pi / 2) ** 2
        )
        tall = rng.uniform(3.5, 7)
    elif kind < 0.7:  # cup, glass, tin
        radius, tall = 1 + (y - 0.5) * rng.uniform(-0.5, 0.8), rng.uniform(1.5, 3)
    else:
        radius = 0.8 + 0.35 * np.sin(y * rng.uniform(2, 7) + rng.uniform(0, 6))
        tall = rng.uniform(1.5, 5)
    profile = np.stack((np.clip(radius, 0.1, None), y * tall), 1)
    profile = np.concatenate(([[0, 0]], profile, [[0, tall]])).astype(np.float32)
    count = int(rng.integers(1, 5))
    bounds = sorted(rng.uniform(0.1, 0.95, count - 1))
    whole = lathe(profile, [cloth() for _ in range(count)], bounds)
    if kind > 0.4 and rng.random() < 0.5:
        ring = hoop((0, 0, 0), tall * 0.28, 0.14, rng.uniform(0, 255, 3))
        ring.vertices = ring.vertices + np.float32([radius.mean() + 0.1, tall / 2, 0])
        whole = join([whole, ring])
    return whole


def box(size, centre, material) -> Mesh:
    """An upright box."""
    signs = np.float32([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for q in quads for t in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])
    uv = np.float32([t for _ in quads for t in ([[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]])])
    vertices = (signs * np.float32(size) / 2 + np.float32(centre)).astype(np.float32)
    corners = vertices[triangles].copy()  # flat shading: no shared corners
    return Mesh(corners.reshape(-1, 3), np.arange(36).reshape(12, 3), np.zeros(12, int), [material], uv)


def furniture(rng: np.random.Generator, cloth) -> Mesh:
    """Thin things: a chair, a table, a ladder, a rack, a sign, a lamp, a barrow."""
    kind = rng.choice(["chair", "ladder", "rack", "sign", "tree"], p=[0.35, 0.15, 0.2, 0.15, 0.15])
    metal, thick = rng.uniform(0, 220, 3), rng.uniform(0.06, 0.3)
    pieces = []
    if kind == "chair":
        w, d, h = rng.uniform(2, 6), rng.uniform(2, 4), rng.uniform(2.5, 5)
        legs = [(x * w / 2, z * d / 2) for x in (-1, 1) for z in (-1, 1)]
        pieces += [tube((x, 0, z), (x * rng.uniform(0.8, 1), h, z), thick, metal) for x, z in legs]
        pieces.append(box((w, rng.uniform(0.2, 0.8), d), (0, h, 0), cloth()))
        if rng.random() < 0.7:
            back = h + rng.uniform(2, 5)
            pieces += [
                tube((x * w / 2, h, -d / 2), (x * w / 2, back, -d / 2 - 0.5), thick, metal) for x in (-1, 1)
            ]
            bars = int(rng.integers(0, 6))
            if bars:
                for k in range(bars):
                    level = h + (back - h) * (k + 1) / (bars + 0.5)
                    pieces.append(
                        tube((-w / 2, level, -d / 2 - 0.2), (w / 2, level, -d / 2 - 0.2), thick, metal)
                    )
            else:
                pieces.append(
                    box((w, (back - h) * 0.6, 0.4), (0, h + (back - h) * 0.65, -d / 2 - 0.3), cloth())
                )
    elif kind == "ladder" or kind == "rack":
        w, h, count = rng.uniform(1.5, 8), rng.uniform(4, 9), int(rng.integers(3, 11))
        pieces += [tube((x * w / 2, 0, 0), (x * w / 2, h, 0), thick, metal) for x in (-1, 1)]
        for k in range(count):
            level = h * (k + 0.5) / count
            pieces.append(tube((-w / 2, level, 0), (w / 2, level, 0), thick, metal))
            if kind == "rack":
                x = -w / 2 + w * (k + 0.5) / count
                pieces.append(tube((x, 0, 0), (x, h, 0), thick * 0.7, metal))
        if kind == "rack" and rng.random() < 0.5:
            pieces.append(box((w * 0.7, h * 0.3, 1.5), (0, h * 0.2, 0.8), cloth()))
    elif kind == "sign":
        h = rng.uniform(4, 9)
        pieces.append(tube((0, 0, 0), (0, h, 0), thick, metal))
        if rng.random() < 0.5:
            pieces.append(box(rng.uniform([1, 1, 0.1], [4, 3, 0.5]), (0, h, 0.2), cloth()))
        else:
            pieces.append(ellipsoid((0, h, 0), rng.uniform(0.5, 2, 3), rng.uniform(0, 255, 3)))
        pieces.append(ellipsoid((0, 0, 0), (1.4, 0.25, 1.4), metal))
    else:

        def branch(start, direction, length, level):
            end = start + direction * length
            pieces.append(tube(start, end, thick * length / 3, metal, 5))
            if level and len(pieces) < 60:
                for _ in range(int(rng.integers(2, 4))):
                    turn = direction + rng.normal(0, 0.5, 3)
                    branch(end, turn / np.linalg.norm(turn), length * rng.uniform(0.55, 0.85), level - 1)
            elif rng.random() < 0.8:
                pieces.append(
                    ellipsoid(end, rng.uniform(0.2, 0.6, 3), (rng.uniform(0, 80), rng.uniform(80, 200), 60))
                )

        branch(np.float32([0, 0, 0]), np.float32([0, 1, 0]), 3, 3)
        if rng.random() < 0.6:
            profile = np.float32([[0, 0], [0.9, 0], [1.3, 1.6], [0, 1.6]])
            pot = lathe(profile, [np.float32(rng.uniform(0, 255, 3))], [])
            pieces.append(pot)
    whole = join(pieces)
    return merge_colours(whole)


def blocks(rng: np.random.Generator, cloth) -> Mesh:
    """Some boxes and balls that touch: a toy, a machine, a house, a van."""
    pieces, spots = [], [np.zeros(3)]
    for _ in range(int(rng.integers(2, 7))):
        size = rng.uniform(0.5, 3, 3)
        spot = spots[rng.integers(len(spots))] + rng.uniform(-1.4, 1.4, 3)
        spots.append(spot)
        if rng.random() < 0.6:
            piece = box(size, (0, 0, 0), cloth())
            piece.vertices = piece.vertices @ rotation(
                0, rng.choice([0, rng.uniform(0, 3)]), 0
            ).T + np.float32(spot)
        else:
            piece = ellipsoid(spot, size / 2, rng.uniform(0, 255, 3))
        pieces.append(piece)
    return join(pieces)


def merge_colours(mesh: Mesh) -> Mesh:
    """Pieces of one plain colour become one part."""
    keys, numbers = [], []
    for material in mesh.materials:
        key = material.tobytes()
        if key not in keys:
            keys.append(key)
        numbers.append(keys.index(key))
    numbers = np.array(numbers)
    materials = [mesh.materials[int(np.flatnonzero(numbers == k)[0])] for k in range(len(keys))]
    return Mesh(mesh.vertices, mesh.triangles, numbers[mesh.parts], materials, mesh.uv)
