"""Masks as a video: white where the frame is to be repainted."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat, Objects, first_line, united
from videopainter.masks.images import THRESHOLD
from videopainter.masks.track import MaskError

CHUNK = 16  # frames decoded at a time


class MaskVideo(MaskFormat):
    """A video: brighter than 127 in any channel is repainted. It has no labels.

    Claims every file that no other format claims. Written without loss.
    """

    name, what, has_labels = "video", "a video", False
    suffixes = (".mp4",)

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.is_file()

    def __init__(self, path: Path):
        from videopainter.video import VideoError, open_video

        self.path = path
        try:
            with open_video(path) as video:
                self.count, self.size = len(video), tuple(video.size)
        except VideoError as error:
            raise MaskError(f"The masks cannot be read: {first_line(error)}.") from error

    def frames(self) -> Iterator[np.ndarray]:
        from videopainter.video import VideoError, open_video

        try:
            with open_video(self.path) as video:
                for i in range(0, len(video), CHUNK):
                    for frame in video[i : i + CHUNK]:
                        yield (frame.max(axis=2) > THRESHOLD).view(np.uint8)
        except VideoError as error:
            raise MaskError(f"The masks cannot be read: {first_line(error)}.") from error

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        from videopainter.video import VideoError, VideoWriter

        size = next(iter(objects.values())).size
        try:
            with VideoWriter(path, Fraction(fps).limit_denominator(1001), size, quality=100) as writer:
                for mask in united(objects):
                    writer.write(np.repeat(mask[..., None].view(np.uint8) * np.uint8(255), 3, axis=2))
        except VideoError as error:
            raise MaskError(f"The masks cannot be saved: {first_line(error)}.") from error
