"""Random holes for training: rectangles and free-form strokes, fixed, trembling or travelling."""

from __future__ import annotations

import cv2
import numpy as np

SHAPES = ("rectangle", "strokes", "figure")
MOTIONS = ("fixed", "perturbed", "travelling")
_SHARE = (0.05, 0.2)  # of the frame that a rectangle covers, as published
_STAYS = 0.6  # of a travelling hole stays in the picture; then it turns round
_TREMBLE = 0.02  # of the frame's height: a perturbed hole's shift from one frame to the next


def random_masks(
    rng: np.random.Generator, frames: int, size: tuple[int, int], travelling: float = 0.0
) -> np.ndarray:
    """A hole in ``frames`` frames of ``size`` (height, width): bool ``(frames, height, width)``, never empty.

    As published, rectangles of 5 to 20 % or strokes, half of them fixed, half shifted a little each frame. Of all
    holes the share ``travelling`` crosses the picture instead, like something that walks past; figures of ellipses
    among them.
    """
    motion = "travelling" if rng.random() < travelling else MOTIONS[int(rng.random() < 0.5)]
    shape = SHAPES[rng.integers(3 if motion == "travelling" else 2)]
    return moving_masks(rng, frames, size, shape, motion)


def moving_masks(
    rng: np.random.Generator, frames: int, size: tuple[int, int], shape: str, motion: str
) -> np.ndarray:
    """A hole of one of `SHAPES`, moving as one of `MOTIONS` says. Raises ValueError for other words."""
    if shape not in SHAPES or motion not in MOTIONS:
        raise ValueError(f"A hole is one of {SHAPES}, {MOTIONS}, not {shape!r}, {motion!r}.")
    draw = {"rectangle": rectangle, "strokes": strokes, "figure": figure}[shape]
    first = draw(rng, size)
    shift = np.zeros(2)
    velocity = _velocity(rng, size) if motion == "travelling" else np.zeros(2)
    out = []
    for _ in range(frames):
        out.append(_shifted(first, shift))
        if motion == "perturbed":
            shift = shift + rng.normal(0, _TREMBLE * size[0], 2)
        if not _shifted(first, shift + velocity).sum() > _STAYS * first.sum():
            velocity = -velocity
        shift = shift + velocity
        if not _shifted(first, shift).any():
            shift = np.zeros(2)
    return np.stack(out)


def _velocity(rng, size) -> np.ndarray:
    """(x, y) pixels a frame: mostly sideways, up to a twentieth of the width."""
    speed = size[1] * rng.uniform(0.004, 0.05) * rng.choice((-1, 1))
    return np.array([speed, speed * rng.normal(0, 0.2)])


def _shifted(mask: np.ndarray, shift: np.ndarray) -> np.ndarray:
    move = np.float32([[1, 0, np.rint(shift[0])], [0, 1, np.rint(shift[1])]])
    return cv2.warpAffine(mask.astype(np.uint8), move, mask.shape[::-1], flags=cv2.INTER_NEAREST).astype(bool)


def rectangle(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """5 to 20 % of the frame, bool ``(height, width)``."""
    h, w = size
    area, aspect = rng.uniform(*_SHARE) * h * w, np.exp(rng.uniform(-0.7, 0.7))
    high = int(np.clip(np.rint((area / aspect) ** 0.5), 1, h))
    wide = int(np.clip(np.rint(area / high), 1, w))
    top, left = rng.integers(h - high + 1), rng.integers(w - wide + 1)
    out = np.zeros(size, bool)
    out[top : top + high, left : left + wide] = True
    return out


def strokes(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A few bent strokes of a brush, bool ``(height, width)``."""
    h, w = size
    canvas = np.zeros(size, np.uint8)
    for _ in range(rng.integers(1, 5)):
        point = rng.uniform(0, 1, 2) * (w, h)
        angle, brush = rng.uniform(0, 2 * np.pi), max(2, int(h * rng.uniform(0.04, 0.16)))
        for _ in range(rng.integers(2, 7)):
            angle += rng.normal(0, 0.8)
            after = point + h * rng.uniform(0.08, 0.25) * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(int(v) for v in np.clip(p, 0, (w - 1, h - 1))) for p in (point, after)]
            cv2.line(canvas, *ends, 1, brush)
            point = after
    return canvas.astype(bool)


def figure(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Upright ellipses on top of each other, about a person, bool ``(height, width)``."""
    h, w = size
    tall = h * rng.uniform(0.4, 0.8)
    x, top = w * rng.uniform(0.1, 0.9), rng.uniform(0.02, 0.98) * (h - tall)
    canvas = np.zeros(size, np.uint8)
    wide = tall * rng.uniform(0.25, 0.55)
    for centre, high, share in ((0.1, 0.1, 0.28), (0.38, 0.23, 0.5), (0.75, 0.25, 0.35)):
        at = (int(x + rng.normal(0, 0.08) * wide), int(top + centre * tall))
        cv2.ellipse(canvas, at, (max(1, int(share * wide)), max(1, int(high * tall))), 0, 0, 360, 1, -1)
    return canvas.astype(bool)
