"""Training videos out of photographs: random camera paths, parallax, and things that move."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from videopainter.ops.resize import resize

# Photographs that come with the packages; text, diagrams and pictures of cells are no scenes.
_PACKAGED = {
    "skimage": (
        "data",
        (
            "astronaut",
            "brick",
            "camera",
            "chelsea",
            "coffee",
            "coins",
            "grass",
            "gravel",
            "moon",
            "motorcycle_left",
        )
        + ("motorcycle_right", "rocket", "hubble_deep_field", "retina"),
    ),
    "sklearn": ("datasets/images", ("china", "flower")),
}
_KEPT_FOR_VALIDATION = ("motorcycle_left", "motorcycle_right", "china")
_ROOM = 1.6  # a scene is so many times as large as the frame, so that the camera has somewhere to go
_STILL = 0.35  # share of scenes with a fixed camera, as most live ones have


def packaged_photos(validation: bool = False) -> list[np.ndarray]:
    """The photographs shipped in scikit-image and scikit-learn, uint8 ``(h, w, 3)`` RGB; some are for validation.

    Raises ModuleNotFoundError if a package is not installed.
    """
    out = []
    for package, (folder, names) in _PACKAGED.items():
        spec = find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"Training takes photographs from {package}; the extra [train] has it.")
        inside = Path(spec.submodule_search_locations[0]) / folder
        wanted = [n for n in names if (n in _KEPT_FOR_VALIDATION) == validation]
        out += [read_photo(next(inside.glob(f"{name}.*g"))) for name in wanted]
    return out


def read_photo(path: Path) -> np.ndarray:
    """uint8 ``(h, w, 3)`` RGB. Raises ValueError if it cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"'{path}' cannot be read as an image.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def moving_scene(
    rng: np.random.Generator,
    photos: Sequence[np.ndarray],
    frames: int,
    size: tuple[int, int],
    speed: float = 1.0,
) -> np.ndarray:
    """A short video, uint8 ``(frames, height, width, 3)``, of photographs under a moving camera.

    A scene before which a nearer layer passes faster (parallax), through which up to three things move, under light
    that may change, with a sensor's noise. ``size``: (height, width). ``speed``: times the usual motion.
    """
    h, w = size
    still = rng.random() < _STILL
    path = camera_path(rng, frames, size, 0.0 if still else speed)
    wide = (int(h * _ROOM), int(w * _ROOM))
    layers = [(_scene(rng, photos, wide), None, path)]
    if rng.random() < 0.4:
        nearer = path.copy()
        nearer[:, :2] *= rng.uniform(1.2, 2.2)
        layers.append((_scene(rng, photos, wide), _foreground(rng, wide), nearer))
    for _ in range(rng.choice(4, p=(0.2, 0.3, 0.3, 0.2))):
        own = camera_path(rng, frames, size, speed * rng.uniform(0.3, 2.0)) + swing(rng, frames, size)
        own[:, :2] += path[:, :2]
        layers.append((_scene(rng, photos, wide), blob(rng, wide), own))
    light = 1 + np.cumsum(rng.normal(0, 1, frames)) * (rng.random() < 0.3) * 0.006
    noise = max(0.0, rng.normal(0.8, 1.0))
    out = np.empty((frames, h, w, 3), np.uint8)
    for t in range(frames):
        picture = np.zeros((h, w, 3), np.float32)
        for texture, shape, way in layers:
            picture = _over(picture, texture, shape, placed(way[t], wide, size))
        picture = picture * light[t] + rng.standard_normal((h, w, 1), np.float32) * noise
        out[t] = np.clip(picture, 0, 255)
    return out


def camera_path(rng: np.random.Generator, frames: int, size: tuple[int, int], speed: float) -> np.ndarray:
    """float64 ``(frames, 4)``: x and y in pixels, turn in radians, logarithm of the zoom; zeros at the start."""
    height = size[0]
    # Half of the paths are slow: a tripod that is turned, a hand that wants to hold still.
    pace = speed * (rng.uniform(0.1, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, 3.0)) * height / 120
    velocity = rng.normal(0, 1, 4) * (pace, 0.5 * pace, 0.002 * speed, 0.003 * speed)
    change = rng.normal(0, 1, (frames, 4)) * (0.15 * pace, 0.1 * pace, 3e-4 * speed, 3e-4 * speed)
    shake = rng.normal(0, 1, (frames, 4)) * (0.3, 0.3, 5e-4, 5e-4) * speed * (rng.random() < 0.4)
    out = np.cumsum(velocity + np.cumsum(change, 0), 0) + shake
    return out - out[0]


def swing(rng: np.random.Generator, frames: int, size: tuple[int, int]) -> np.ndarray:
    """To and fro, as hands and heads go, or not at all: added to a `camera_path`, float64 ``(frames, 4)``."""
    out = np.zeros((frames, 4))
    if rng.random() < 0.5:
        reach, period = size[0] * rng.uniform(0.02, 0.15, 2), rng.uniform(8, 30)
        out[:, :2] = reach * np.sin(2 * np.pi * (np.arange(frames)[:, None] / period + rng.random(2)))
    return out


def placed(pose: np.ndarray, scene: tuple[int, int], frame: tuple[int, int]) -> np.ndarray:
    """The affine map ``(2, 3)`` of a pose of `camera_path` from a scene to a frame, both (height, width)."""
    x, y, turn, zoom = pose
    cos, sin = np.exp(zoom) * np.cos(turn), np.exp(zoom) * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    from_centre, to_centre = np.array(scene)[::-1] / 2, np.array(frame)[::-1] / 2
    return np.column_stack([linear, to_centre + (x, y) - linear @ from_centre])


def _over(
    picture: np.ndarray, texture: np.ndarray, shape: np.ndarray | None, place: np.ndarray
) -> np.ndarray:
    """``texture`` (and ``shape``, its opacity, if it does not fill the frame) at its place over ``picture``."""
    size = picture.shape[1::-1]
    moved = cv2.warpAffine(texture, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if shape is None:
        return moved
    opacity = cv2.warpAffine(shape, place, size, flags=cv2.INTER_LINEAR)[..., None]
    return picture + opacity * (moved - picture)


def _scene(rng, photos, size) -> np.ndarray:
    """A random piece of a random photograph, float32 ``(height, width, 3)``, turned and recoloured."""
    h, w = size
    photo = photos[rng.integers(len(photos))]
    # Between the whole photograph and a piece as large as the frame.
    scale = min(photo.shape[0] / h, photo.shape[1] / w) ** rng.uniform(0.2, 1.0)
    high, wide = max(1, min(int(h * scale), photo.shape[0])), max(1, min(int(w * scale), photo.shape[1]))
    top, left = rng.integers(photo.shape[0] - high + 1), rng.integers(photo.shape[1] - wide + 1)
    piece = photo[top : top + high, left : left + wide]
    shrink = high >= h and wide >= w
    piece = resize(piece, (h, w), "area" if shrink else "cubic")
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return recolour(rng, piece.astype(np.float32))


def recolour(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Another exposure, contrast and tint, float32 from 0 to 255."""
    grey = picture.mean(-1, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.4, 1.4)
    picture = (picture - 128) * rng.uniform(0.6, 1.25) + 128 + rng.normal(0, 15)
    return np.clip(picture * (1 + rng.normal(0, 0.06, 3)), 0, 255).astype(np.float32)


def _foreground(rng, size) -> np.ndarray:
    """Opacity of a near layer, float32 ``(height, width)``: what lies below a wavy line."""
    h, w = size
    x = np.arange(w) / w
    line = rng.uniform(0.5, 0.9) + sum(
        rng.normal(0, 0.08) * np.sin(2 * np.pi * (x * k + rng.random())) for k in (1, 2, 5)
    )
    below = (np.arange(h)[:, None] / h > line).astype(np.float32)
    return cv2.GaussianBlur(np.rot90(below, 2) if rng.random() < 0.2 else below, (3, 3), 0.7)


def blob(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Opacity of a roundish thing somewhere in the frame, float32 ``(height, width)``."""
    h, w = size
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = (
        h
        * rng.uniform(0.06, 0.4)
        * (1 + sum(rng.normal(0, 0.15) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (1, 2, 3, 5)))
    )
    stretch = np.exp(rng.normal(0, 0.4))
    outline = np.stack(
        [w * rng.random() + radius * np.cos(angles) / stretch, h * rng.random() + radius * np.sin(angles)]
    )
    canvas = np.zeros(size, np.float32)
    cv2.fillPoly(canvas, [np.rint(outline.T).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(canvas, (3, 3), 0.7)
