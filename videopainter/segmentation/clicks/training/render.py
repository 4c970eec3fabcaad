"""A small software renderer: textured triangles to colour, alpha and the number of the part in each pixel."""

from dataclasses import dataclass, field

import cv2
import numpy as np


@dataclass
class Mesh:
    """Triangles with one part each. The y axis points up.

    Attributes:
        vertices: float32 `(n, 3)`.
        triangles: int `(m, 3)`, indices of vertices.
        parts: int `(m,)`, numbers of the materials; the pixel's part is this number plus one.
        materials: one entry a part: a colour `(3,)` in 0..255 or a texture, uint8 `(h, w, 3 or 4)`.
        uv: float32 `(m, 3, 2)`, texture coordinates of the corners; v points up.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    materials: list = field(default_factory=list)
    uv: np.ndarray | None = None


def join(meshes: list[Mesh]) -> Mesh:
    """One mesh of several; parts are numbered through."""
    vertices, triangles, parts, materials, uv = [], [], [], [], []
    for mesh in meshes:
        triangles.append(mesh.triangles + sum(map(len, vertices)))
        parts.append(mesh.parts + len(materials))
        vertices.append(mesh.vertices)
        materials += mesh.materials
        uv.append(mesh.uv if mesh.uv is not None else np.zeros((len(mesh.triangles), 3, 2), np.float32))
    return Mesh(*map(np.concatenate, (vertices, triangles, parts)), materials, np.concatenate(uv))


def rotation(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """float32 `(3, 3)`: turn around the x, then y, then z axis, in radians."""
    matrix = cv2.Rodrigues(np.float64([0, 0, z]))[0] @ cv2.Rodrigues(np.float64([0, y, 0]))[0]
    return (matrix @ cv2.Rodrigues(np.float64([x, 0, 0]))[0]).astype(np.float32)


def tube(a, b, radius: float, colour, sides: int = 8) -> Mesh:
    """A cylinder from `a` to `b`, open at its ends."""
    a, b = np.float32(a), np.float32(b)
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
    side = np.cross(axis, [0, 0, 1] if abs(axis[2]) < 0.9 else [1, 0, 0])
    side /= np.linalg.norm(side)
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = radius * (np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * np.cross(axis, side))
    i = np.arange(sides)
    j = (i + 1) % sides
    triangles = np.concatenate([np.stack((i, j, i + sides), 1), np.stack((j, j + sides, i + sides), 1)])
    vertices = np.concatenate((ring + a, ring + b)).astype(np.float32)
    return Mesh(vertices, triangles, np.zeros(len(triangles), int), [np.float32(colour)])


def hoop(centre, radius: float, thickness: float, colour, segments: int = 28) -> Mesh:
    """A torus around the z axis: a tyre."""
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    points = np.stack((radius * np.cos(angles), radius * np.sin(angles), 0 * angles), 1) + np.float32(centre)
    whole = join([tube(p, q, thickness, colour, 6) for p, q in zip(points[:-1], points[1:])])
    return Mesh(whole.vertices, whole.triangles, np.zeros(len(whole.triangles), int), [np.float32(colour)])


def ellipsoid(centre, radii, colour, segments: int = 14) -> Mesh:
    """A closed ellipsoid."""
    u, v = np.meshgrid(
        np.linspace(0, 2 * np.pi, segments + 1), np.linspace(0, np.pi, segments), indexing="ij"
    )
    points = np.stack((np.cos(u) * np.sin(v), np.cos(v), np.sin(u) * np.sin(v)), -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(segments), np.arange(segments - 1), indexing="ij")
    a = (i * segments + j).ravel()
    triangles = np.concatenate(
        [np.stack((a, a + 1, a + segments), 1), np.stack((a + 1, a + segments + 1, a + segments), 1)]
    )
    vertices = (points * np.float32(radii) + np.float32(centre)).astype(np.float32)
    return Mesh(vertices, triangles, np.zeros(len(triangles), int), [np.float32(colour)])


def _cover(corners: np.ndarray, size: int):
    """Pixels whose centre lies in each triangle: triangle, pixel row and column, barycentric weights."""
    low = np.floor(corners.min(1)).astype(int)
    extent = (np.ceil(corners.max(1)).astype(int) - low).max(1) + 1
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    inside = (corners.max(1) > 0).all(1) & (corners.min(1) < size).all(1) & (np.abs(area) > 1e-6)
    done, found = np.zeros(len(corners), bool), []
    for side in (2, 3, 5, 8, 14, 24, 48, 96, 200, 500, 1200):  # triangles of like size at a time
        chosen = np.flatnonzero(inside & ~done & (extent <= side))
        done[chosen] = True
        for k in range(0, len(chosen), max(1, 2_000_000 // side**2)):
            t = chosen[k : k + max(1, 2_000_000 // side**2)]
            gy, gx = np.mgrid[0:side, 0:side]
            x = (low[t, 0, None] + gx.ravel()).astype(np.float32)
            y = (low[t, 1, None] + gy.ravel()).astype(np.float32)
            px, py = x + 0.5, y + 0.5
            wb = ((px - a[t, None, 0]) * (c[t, None, 1] - a[t, None, 1])
                  - (py - a[t, None, 1]) * (c[t, None, 0] - a[t, None, 0])) / area[t, None]  # fmt: skip
            wc = ((b[t, None, 0] - a[t, None, 0]) * (py - a[t, None, 1])
                  - (b[t, None, 1] - a[t, None, 1]) * (px - a[t, None, 0])) / area[t, None]  # fmt: skip
            keep = (wb >= 0) & (wc >= 0) & (wb + wc <= 1) & (x >= 0) & (y >= 0) & (x < size) & (y < size)
            row, _ = np.nonzero(keep)
            wb, wc = wb[keep], wc[keep]
            weights = np.stack((1 - wb - wc, wb, wc), 1)
            found.append((t[row], y[keep].astype(int), x[keep].astype(int), weights.astype(np.float32)))
    if not found:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3), np.float32)
    return tuple(np.concatenate(piece) for piece in zip(*found))


def render(mesh: Mesh, view: np.ndarray, size: int, rng: np.random.Generator, distance: float = 5.0):
    """The mesh from a camera, lit from a random side.

    Args:
        mesh: What is seen.
        view: float `(3, 3)`, turns the world to the camera: x right, y up, z towards the camera.
        size: Height and width of the picture in pixels.
        rng: Chooses the light.
        distance: Of the camera, in radii of the mesh.

    Returns:
        `(picture, parts)`: uint8 `(size, size, 4)` BGR with straight alpha; uint8 `(size, size)`, part plus one, 0 =
        nothing.
    """
    scale = 2  # two samples a pixel and direction
    full = size * scale
    centred = mesh.vertices - (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    seen = centred @ view.T.astype(np.float32)
    seen /= max(float(np.linalg.norm(seen, axis=1).max()), 1e-6)
    depth = distance / (distance - seen[:, 2])
    flat = np.stack((seen[:, 0] * depth, -seen[:, 1] * depth), 1)
    middle, reach = (flat.max(0) + flat.min(0)) / 2, (flat.max(0) - flat.min(0)).max()
    flat = (flat - middle) * (full * 0.94 / max(reach, 1e-6)) + full / 2

    corners = seen[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = np.zeros_like(seen)
    for k in range(3):
        np.add.at(smooth, mesh.triangles[:, k], normals)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-9

    triangle, row, column, weights = _cover(flat[mesh.triangles], full)
    z = (seen[mesh.triangles[triangle], 2] * weights).sum(1)
    colour = np.zeros((len(triangle), 3), np.float32)
    opaque = np.ones(len(triangle), bool)
    part = mesh.parts[triangle]
    for number, material in enumerate(mesh.materials):
        mine = np.flatnonzero(part == number)
        if not len(mine):
            continue
        if material.ndim == 1:
            colour[mine] = material
            continue
        h, w = material.shape[:2]
        uv = (mesh.uv[triangle[mine]] * weights[mine][..., None]).sum(1)
        texel = material[np.floor(-uv[:, 1] * h).astype(int) % h, np.floor(uv[:, 0] * w).astype(int) % w]
        colour[mine] = texel[:, :3]
        if material.shape[2] == 4:
            opaque[mine] = texel[:, 3] > 127
    normal = (smooth[mesh.triangles[triangle]] * weights[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= np.where(normal[:, 2:] < 0, -1, 1)  # both sides of a sheet are lit
    light = rng.normal(size=3) + [0, 1.0, 0.8]
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.35, 0.8)
    shade = ambient + (1 - ambient) * 1.3 * np.clip(normal @ light, 0, 1)
    shine = np.clip(normal @ (light + [0, 0, 1]) / 2, 0, 1) ** 24 * rng.choice([0, 0, 30, 90])
    colour = np.clip(colour * shade[:, None] + shine[:, None], 0, 255)

    order = np.argsort(z[opaque], kind="stable")  # the nearest is written last
    where = (row[opaque][order], column[opaque][order])
    picture = np.zeros((full, full, 3), np.float32)
    parts = np.zeros((full, full), np.uint8)
    picture[where] = colour[opaque][order]
    parts[where] = part[opaque][order] + 1
    alpha = (parts > 0).astype(np.float32)
    small = cv2.resize(np.dstack((picture, alpha)), (size, size), interpolation=cv2.INTER_AREA)
    straight = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    four = np.stack([parts[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    out = np.dstack((np.clip(straight, 0, 255), small[..., 3] * 255)).astype(np.uint8)
    return out, four.max(0)
