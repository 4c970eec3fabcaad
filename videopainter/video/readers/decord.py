"""Video files through decord, for those who ask for it, where it gives the frames that PyAV gives."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from videopainter.video.container import shown
from videopainter.video.readers.base import VideoReader
from videopainter.video.readers.pyav import PyAVReader
from videopainter.video.source import VideoError

# decord decodes ahead of what is asked for as fast as it can and drops nothing: in the worst case a whole file.
MOST_AHEAD = 2**30  # bytes that all frames of a file may take


class DecordReader(VideoReader):
    """A file through decord. A `PyAVReader` has the index, and steps in if decord fails."""

    name = "decord"
    automatic = False

    @classmethod
    def objection(cls, path):
        if importlib.util.find_spec("decord") is None:
            return "decord is not installed."
        return f"{shown(path)} is a folder, which decord cannot read." if os.path.isdir(path) else None

    def __init__(self, path, fps=None):
        super().__init__(path, fps)
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._reader = None
        self._reference = source = PyAVReader(path, fps)
        try:
            if (objection := unreliable(source)) is not None:
                raise VideoError(objection)
            for name in (
                "fps",
                "size",
                "has_audio",
                "companions",
                "colour",
                "variable_rate",
                "warnings",
                "_length",
            ):
                setattr(self, name, getattr(source, name))
            for name in ("start", "aspect", "pixel_format", "_times"):
                setattr(self, name, getattr(source, name))
            self._start(decord)
        except BaseException:
            self.close()
            raise

    def _start(self, decord):
        source = self._reference
        try:
            self._reader = decord.VideoReader(source.path, num_threads=min(4, os.cpu_count() or 1))
            same = len(self._reader) == len(source) and all(
                np.array_equal(self._reader[i].asnumpy(), source[i]) for i in {0, len(source) - 1}
            )
        except Exception as error:  # decord raises its own classes and bare RuntimeErrors
            raise VideoError(f"decord cannot read {shown(source.path)} ({type(error).__name__}).") from None
        if not same:
            raise VideoError(f"decord does not give the frames of {shown(source.path)} as PyAV does.")
        source._cache.clear()

    def close(self):
        super().close()
        self._reader = None
        self._reference.close()

    def stored(self, i):
        return self._reference.stored(i)

    def _decode(self, i):
        if self._reader is not None and self.backend == "decord":
            try:
                return self._reader[i].asnumpy()
            except Exception:
                self.backend = "pyav"  # damaged further in: PyAV goes on, and conceals or repeats
                self._reader = None
        return self._reference._frame(i)


def unreliable(source: PyAVReader) -> str | None:
    """Why decord should not read this file, in one sentence, or None.

    Measured on decord 0.6: it gives other pixels than PyAV for 10 bit, odd sizes and old MPEG codecs, wrong
    frames after a seek in streams with open groups of pictures or intra refresh and in MPEG-PS and MPEG-TS,
    and knows no AV1.
    """
    reasons = {
        "it is damaged": source.is_damaged,
        f"its codec is {source.codec}": source.codec not in ("h264", "hevc", "vp8", "vp9"),
        f"its container is {source.container_format}": not any(
            name in source.container_format for name in ("mov", "matroska")
        ),
        f"its pixels are {source.pixel_format}": source.pixel_format not in ("yuv420p", "yuvj420p"),
        "its size is odd": bool(source.height % 2 or source.width % 2),
        "it is rotated": source.rotated,
        "it is interlaced": source.interlaced,
        "its frame rate varies": source.variable_rate,
        f"it decodes ahead, and all frames take more than {MOST_AHEAD >> 20} MB": (
            len(source) * source.height * source.width * 3 > MOST_AHEAD
        ),
        "its frames lean on groups of pictures before them": source.reordered_keys
        or not source._clean_keys(),
    }
    for reason, applies in reasons.items():
        if applies:
            return f"decord cannot be relied on for {shown(source.path)}, because {reason}."
    return None
