"""Clips to train on: any folder of videos, and random holes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from videopainter.ops.pictures import resize
from videopainter.video import VideoError, VideoSource, open_video
from videopainter.video.readers.images import IMAGE_SUFFIXES

log = logging.getLogger("videopainter")

_OPEN = 8  # videos that are kept open; each keeps frames, too
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


class ClipFolder:
    """Random clips of the videos in a folder: video files, and folders of images at any depth.

    That takes `JPEGImages/480p` of DAVIS and `train/JPEGImages` of YouTube-VOS as they are unpacked (not the folders
    above them, which hold masks as well).

    Args:
        local_frames: that follow each other. ref_frames: others of the same video.
        size: (height, width) that frames are resized to.

    Videos with fewer frames than that are left out. Raises VideoError if none is left.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        local_frames: int = 5,
        ref_frames: int = 3,
        size: tuple[int, int] = (240, 432),
    ):
        self.local_frames, self.ref_frames, self.size = local_frames, ref_frames, tuple(size)
        folder = Path(folder)
        if not folder.is_dir():
            raise VideoError(f"There is no folder '{folder}' with videos.")
        self._open: dict[Path, VideoSource] = {}
        self.videos, short = [], 0
        for path in _videos(folder):
            try:
                if len(self._source(path)) >= local_frames + ref_frames:
                    self.videos.append(path)
                else:
                    short += 1
            except VideoError as error:
                log.warning("%s", error)
        if not self.videos:
            raise VideoError(
                f"There is no video of {local_frames + ref_frames} frames or more in '{folder}'"
                + (f"; {short} are shorter." if short else ".")
            )
        if short:
            log.warning("%d videos with fewer than %d frames are left out.", short, local_frames + ref_frames)

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 ``(t, h, w, 3)``, the local ones first, and holes bool ``(t, h, w)``."""
        source = self._source(self.videos[rng.integers(len(self.videos))])
        count = len(source)
        start = int(rng.integers(count - self.local_frames + 1))
        local = list(range(start, start + self.local_frames))
        others = [i for i in range(count) if not local[0] <= i <= local[-1]]
        chosen = local + sorted(rng.choice(others, self.ref_frames, replace=False).tolist())
        frames = np.stack([resize(source[i], self.size) for i in chosen])
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        return frames, random_masks(rng, chosen, self.size)

    def _source(self, path: Path) -> VideoSource:
        if path not in self._open:
            if len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = open_video(path)
        return self._open[path]


def random_masks(rng: np.random.Generator, numbers: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """bool ``(len(numbers), h, w)`` for frames of these numbers: one smooth random shape.

    In half of the cases it wanders by up to 3 pixels a frame, and comes back from the edges. Its box is a third to
    nearly all of the picture in either direction, as in the published training.
    """
    high, wide = (int(rng.integers(max(2, n // 3), n)) for n in size)
    shape = _random_shape(rng, high, wide)
    room = np.array(size) - shape.shape
    start = rng.uniform(0, 1, 2) * room
    speed = np.zeros(2) if rng.random() < 0.5 else rng.uniform(-3, 3, 2)
    masks = np.zeros((len(numbers), *size), bool)
    for mask, number in zip(masks, numbers):
        there = (start + speed * number) % (2 * room)
        top, left = np.rint(np.minimum(there, 2 * room - there)).astype(int)
        mask[top : top + high, left : left + wide] = shape
    return masks


def _random_shape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """bool ``(height, width)``: a closed curve of a few random bulges."""
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    bulges = rng.normal(size=(5, 2)) / np.arange(1, 6)[:, None]
    radius = sum(a * np.cos(k * angles) + b * np.sin(k * angles) for k, (a, b) in enumerate(bulges, 1))
    radius = 0.35 + 0.65 * (radius - radius.min()) / np.ptp(radius)
    corners = np.stack((np.cos(angles), np.sin(angles)), 1) * radius[:, None]
    corners -= corners.min(0)
    corners *= (np.array([width, height]) - 1) / corners.max(0)
    shape = np.zeros((height, width), np.uint8)
    cv2.fillPoly(shape, [np.rint(corners).astype(np.int32)], 1)
    return shape > 0


def _videos(folder: Path) -> list[Path]:
    """Video files and folders of images, in order of their names."""
    found = []
    for here, folders, files in os.walk(folder):
        folders.sort()
        visible = sorted(name for name in files if not name.startswith("."))
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in visible):
            found.append(Path(here))
        found += [Path(here) / name for name in visible if name.lower().endswith(VIDEO_SUFFIXES)]
    return found
