"""Frozen test cases: real clips with masks drawn over untouched video, so that the truth in the hole is known.

Masks depend only on the case's name (a CRC seeds the generator), the frame count and the size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from videopainter.video import open_video


@dataclass(frozen=True)
class Clip:
    name: str
    file: str
    start: int
    step: int = 1


# One shot each: hard cuts inside a clip are tested in tests/, not measured here.
CLIPS = (
    Clip("realshort", "realshort.mp4", 2),
    Clip("bikes-a", "bikes.mp4", 145),
    Clip("bikes-b", "bikes.mp4", 195),
    Clip("bigbuckbunny", "bigbuckbunny.mp4", 20),
    Clip("vtest", "vtest.avi", 60),
    Clip("cup", "cup.mp4", 60),
    Clip("tree", "tree.avi", 5),
    Clip("trailer", "trailer_bbb.mp4", 330),
)
KINDS = ("moving", "rectangle", "text")
WHOLE_FRAMES = 12  # frames hidden altogether, about half a second, of the kind "whole"


def read_clip(folder: str | Path, clip: Clip, frames: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``(frames, height, width, 3)`` RGB, area-resampled to ``size`` = (height, width)."""
    with open_video(Path(folder) / clip.file) as source:
        stop = min(clip.start + frames * clip.step, len(source))
        out = [
            cv2.resize(source[i], (size[1], size[0]), interpolation=cv2.INTER_AREA)
            for i in range(clip.start, stop, clip.step)
        ]
    return np.stack(out)


def draw_masks(kind: str, name: str, frames: int, size: tuple[int, int]) -> np.ndarray:
    """bool ``(frames, height, width)``: a walking person (7 %), a fixed rectangle (10 %) or a caption (3 %)."""
    rng = np.random.default_rng(zlib.crc32(f"{kind}/{name}".encode()))
    if kind == "moving":
        return _person(rng, frames, size)
    if kind == "rectangle":
        return _rectangle(rng, frames, size)
    if kind == "text":
        return _text(rng, frames, size)
    if kind == "whole":
        out = np.zeros((frames, *size), bool)
        out[(frames - WHOLE_FRAMES) // 2 : (frames + WHOLE_FRAMES) // 2] = True
        return out
    raise ValueError(f"kind of mask is one of {KINDS} or 'whole', not {kind!r}")


def draw_shadow(masks: np.ndarray) -> np.ndarray:
    """What is left of the brightness: float32 of the shape of ``masks``, less than 1 beside their feet.

    A soft ellipse that moves along with the hole, which hides half of it.
    """
    out = np.ones(masks.shape, np.float32)
    for shade, mask in zip(out, masks):
        x, y, wide, tall = cv2.boundingRect(mask.view(np.uint8))
        if wide:
            dark = np.zeros(mask.shape, np.float32)
            centre = (int(x + 1.1 * wide), int(y + 0.97 * tall))
            cv2.ellipse(dark, centre, (int(0.8 * wide), max(2, int(0.06 * tall))), 0, 0, 360, 0.45, -1)
            shade -= cv2.GaussianBlur(dark, (0, 0), 1)
    out[out > 0.99] = 1
    return out


def alter(how: str, video: np.ndarray) -> np.ndarray:
    """``video`` as worse cameras and cutters would have it, of the same shape.

    ``how``: "none"; "noiseN", normal noise of N grey levels in every pixel and channel; "fadeN", N per cent darker with
    every frame; "flash", three frames in the middle too bright; "dissolve", ten frames in which the mirrored picture
    takes over.
    """
    n, values = len(video), video.astype(np.float32)
    if how == "none":
        return video
    if how.startswith("noise"):
        values += np.random.default_rng(7).normal(0, float(how[5:]), values.shape)
    elif how.startswith("fade"):
        values *= ((1 - float(how[4:]) / 100) ** np.arange(n))[:, None, None, None]
    elif how == "flash":
        for i, (gain, offset) in enumerate(((1.9, 25), (1.4, 10), (1.15, 3))):
            values[n // 2 + i] = values[n // 2 + i] * gain + offset
    elif how == "dissolve":
        share = np.clip((np.arange(n) - n / 2 + 5) / 10, 0, 1)[:, None, None, None]
        values = values * (1 - share) + values[:, :, ::-1] * share
    else:
        raise ValueError(f"how is none, noiseN, fadeN, flash or dissolve, not {how!r}")
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _person(rng, frames, size):
    h, w = size
    tall = h * rng.uniform(0.66, 0.78)
    wide = tall * 0.3
    span = w * rng.uniform(0.28, 0.38)
    left = w * rng.uniform(0.3, 0.4)
    forward = rng.random() < 0.5
    phase = rng.uniform(0, 2 * np.pi)
    foot = h * rng.uniform(0.88, 0.97)
    out = np.zeros((frames, h, w), np.uint8)
    for i in range(frames):
        # The speed does not depend on the clip's length: long clips see the figure walk to and fro.
        along = (i / 29.0) % 2
        along = along if along <= 1 else 2 - along
        x = left + span * (along if forward else 1 - along)
        draw_figure(out[i], x, foot + 0.01 * h * np.sin(i * 0.8), tall, wide, phase + i * 0.45)
    return out.astype(bool)


def draw_figure(canvas, x, foot, tall, wide, phase):
    """Draw a walking person as ones into uint8 ``(h, w)``, the feet at ``(x, foot)``."""

    def at(u, v):
        return int(round(x + u * wide)), int(round(foot - v * tall))

    swing = np.sin(phase)
    limb = max(2, int(wide * 0.30))
    cv2.ellipse(canvas, at(0, 0.90), (int(wide * 0.28), int(tall * 0.10)), 0, 0, 360, 1, -1)
    cv2.ellipse(canvas, at(0, 0.62), (int(wide * 0.50), int(tall * 0.23)), 0, 0, 360, 1, -1)
    for side in (-1, 1):
        knee, heel = at(side * swing * 0.35, 0.24), at(side * swing * 0.75, 0.02)
        cv2.line(canvas, at(side * 0.12, 0.45), knee, 1, limb)
        cv2.line(canvas, knee, heel, 1, limb)
        elbow = at(-side * swing * 0.45, 0.56)
        cv2.line(canvas, at(side * 0.3, 0.76), elbow, 1, int(limb * 0.7))
        cv2.line(canvas, elbow, at(-side * swing * 0.8, 0.45), 1, int(limb * 0.7))


def _rectangle(rng, frames, size):
    h, w = size
    aspect = rng.uniform(0.8, 1.6)
    rh = int(np.sqrt(0.1 * h * w / aspect))
    rw = int(0.1 * h * w / rh)
    top, left = int(rng.uniform(0.1, 0.9) * (h - rh)), int(rng.uniform(0.1, 0.9) * (w - rw))
    out = np.zeros((frames, h, w), bool)
    out[:, top : top + rh, left : left + rw] = True
    return out


def _text(rng, frames, size):
    h, w = size
    canvas = np.zeros((h, w), np.uint8)
    scale = h / 240 * 0.9
    for line, words in enumerate(("take it out of here", "and nobody will know")):
        org = (int(w * 0.13), int(h * rng.uniform(0.76, 0.80)) + int(line * h * 0.13))
        cv2.putText(canvas, words, org, cv2.FONT_HERSHEY_DUPLEX, scale, 1, max(2, round(scale * 3)))
    return np.broadcast_to(canvas.astype(bool), (frames, h, w)).copy()
