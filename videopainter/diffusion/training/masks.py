"""Masks to train on: shapes that move and grow, and changes of given ones."""

from __future__ import annotations

import math

import cv2
import numpy as np

from videopainter.diffusion.training.config import TrainingConfig


def random_masks(
    rng: np.random.Generator, frames: int, size: tuple[int, int], config: TrainingConfig
) -> np.ndarray:
    """bool ``(frames, height, width)``: rectangles, ellipses and strokes, each on its own way and of its own growth."""
    height, width = size
    out = np.zeros((frames, height, width), np.uint8)
    for _ in range(int(rng.integers(1, config.mask_count + 1))):
        kind = ("rect", "ellipse", "strokes")[int(rng.integers(3))]
        side = rng.uniform(*config.mask_scale, 2) * (width, height)
        place = rng.uniform(0.15, 0.85, 2) * (width, height)
        way = rng.uniform(-1, 1, 2) * config.mask_motion * (width, height)
        growth = rng.uniform(-1, 1) * config.mask_growth
        angle = rng.uniform(0, 180)
        strokes = _strokes(rng)
        for i in range(frames):
            part = i / max(frames - 1, 1)
            centre, scale = place + way * (part - 0.5), 1 + growth * (part - 0.5)
            if kind == "strokes":
                _draw(out[i], strokes, centre, side * scale)
            else:
                _shape(out[i], kind, centre, side * scale, angle)
    return out > 0


def changed_masks(rng: np.random.Generator, masks: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """Given masks, bool ``(frames, height, width)``, changed in one of the published ways, the same in all frames."""
    shares = config.mask_shares
    kind = list(shares)[int(rng.choice(len(shares), p=np.array([*shares.values()]) / sum(shares.values())))]
    boxes = [_box(mask) for mask in masks]
    if all(box is None for box in boxes):
        return masks
    out = np.zeros(masks.shape, np.uint8)
    sides = np.array(masks.shape[:0:-1])  # width, height
    if kind == "brush":
        rounds = int(rng.integers(1, 4))
        reach = 2 * max(1, int(min(sides) * config.margin_ratio / (4 * rounds))) + 1
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        ways = ((cv2.dilate, cv2.erode), (cv2.erode, cv2.dilate), (cv2.dilate,))[int(rng.integers(3))]
        for i, mask in enumerate(masks):
            changed = mask.astype(np.uint8)
            for way in ways:
                changed = way(changed, element, iterations=rounds)
            out[i] = changed if changed.any() else mask  # what is thin would be lost
        return out > 0
    scale = rng.uniform(config.shape_scale_min, config.shape_scale_max, 2)
    scale = np.full(2, scale.max()) if kind == "circle" else scale
    margin = rng.uniform(0, config.margin_ratio, 2) * min(sides)
    angle, strokes = rng.uniform(0, 180), _strokes(rng)
    for i, box in enumerate(boxes):
        if box is None:
            continue
        centre, side = (box[0] + box[1]) / 2, box[1] - box[0]
        if kind == "random_brush":
            _draw(out[i], strokes, centre, side * scale + margin)
            out[i] |= masks[i]
        else:
            side = np.full(2, side.max()) if kind == "circle" else side
            _shape(
                out[i],
                "rect" if kind == "rect" else "ellipse",
                centre,
                side * scale + margin,
                0 if kind == "rect" else angle,
            )
    return out > 0


def _box(mask: np.ndarray) -> np.ndarray | None:
    """((left, top), (right, bottom)) of what is masked."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return np.array([(columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)], float)


def _strokes(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Lines in a square of side 1 about 0, each with its width."""
    lines = []
    for _ in range(int(rng.integers(1, 5))):
        point, angle, points = rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 2 * math.pi), []
        for _ in range(int(rng.integers(2, 7))):
            points.append(point)
            angle += rng.normal(0, 1.2)
            point = np.clip(
                point + rng.uniform(0.1, 0.5) * np.array([math.cos(angle), math.sin(angle)]), -0.5, 0.5
            )
        lines.append((np.array(points), float(rng.uniform(0.08, 0.3))))
    return lines


def _draw(mask: np.ndarray, strokes, centre: np.ndarray, side: np.ndarray) -> None:
    for points, thickness in strokes:
        places = np.rint(points * side + centre).astype(np.int32)
        cv2.polylines(mask, [places], False, 1, max(1, round(thickness * float(min(side)))))


def _shape(mask: np.ndarray, kind: str, centre: np.ndarray, side: np.ndarray, angle: float) -> None:
    if kind == "rect":
        left, top = np.rint(centre - side / 2).astype(int)
        right, bottom = np.rint(centre + side / 2).astype(int)
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    else:
        cv2.ellipse(mask, (tuple(map(float, centre)), tuple(map(float, side)), angle), 1, -1)
