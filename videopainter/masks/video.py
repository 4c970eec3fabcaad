"""Masks as a video: white where the frame is to be repainted."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat, Objects, first_line, united
from videopainter.masks.picture import Picture
from videopainter.masks.track import MaskError

ALPHA = re.compile(
    r"^(?:yuv|gbr|rgb|bgr|y|gray)?(a)"
)  # names of pixel formats that have it: yuva420p, argb, ...


class MaskVideo(MaskFormat):
    """A video: bright, or opaque where it has alpha, is repainted. It has no labels.

    Claims every file that no other format claims. Written without loss.
    """

    name, what, has_labels = "video", "a video", False
    suffixes = (".mp4",)

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.is_file()

    def __init__(self, path: Path):
        self.path = path
        with self._opened() as video:
            self.count, self.size = len(video), tuple(video.size)
            self.times, self.duration = video.times, video.duration

    def pictures(self) -> Iterator[Picture]:
        with self._opened() as video:
            has_alpha = ALPHA.match(video.pixel_format or "") is not None
            for i in range(len(video)):
                yield Picture(video[i], self._alpha(video, i) if has_alpha else None, lossy=True)

    @staticmethod
    def _alpha(video, i: int) -> np.ndarray | None:
        from videopainter.video.stored import turned

        stored = video.stored(i)
        if stored is None:
            return None
        height, width = stored.size
        alpha = stored.frame.to_ndarray(format="rgba", width=width, height=height)[..., 3]
        return turned([alpha], stored.turn)[0]

    @contextmanager
    def _opened(self):
        from videopainter.video import VideoError, open_video

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a mask video is not perfect in
                video = open_video(self.path)
            with video:
                yield video
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
