"""Where the classical tracker sees cuts: between scenes, and nowhere inside a fade."""

import cv2
import numpy as np

from videopainter.segmentation.classical.motion import Clip
from videopainter.video import ArraySource


def scene(seed, size=(120, 160)):
    layer = np.random.default_rng(seed).normal(size=(*size, 3))
    picture = sum(p / p.std() for p in (cv2.GaussianBlur(layer, (0, 0), s) for s in (2, 9)))
    return np.clip(125 + 25 * picture, 0, 255)


def cuts(frames):
    clip = Clip(ArraySource(np.stack([np.rint(f).astype(np.uint8) for f in frames])))
    return [i for i in range(len(frames) - 1) if clip.cut_between(i, i + 1)]


def test_a_hard_cut_is_found_and_a_moving_camera_is_none():
    pan = [np.roll(scene(0), 3 * t, 1) for t in range(5)]
    assert cuts(pan + [np.roll(scene(1), 3 * t, 1) for t in range(5)]) == [4]


def test_a_fade_is_no_cut():
    light = np.concatenate([np.linspace(0.08, 1, 12), np.linspace(1, 0.08, 12)])
    assert cuts([scene(0) * share for share in light]) == []
