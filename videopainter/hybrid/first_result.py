"""What the base made, as a video that the second engine can read: the source with its hole filled."""

from __future__ import annotations

import tempfile
import zlib

import numpy as np

from videopainter.masks import MaskTrack
from videopainter.video import VideoSource


class FirstResult(VideoSource):
    """The frames of another source with what `keep` was given in their holes, which lies in a temporary file.

    Args:
        source: gives what is outside the holes; closing this does not close it.
        holes: one for each of its frames.
    """

    def __init__(self, source: VideoSource, holes: MaskTrack):
        super().__init__()
        self._read_from(source)
        self._holes = holes
        self._file = tempfile.TemporaryFile(prefix="videopainter-")
        self._places: list[tuple[int, int]] = []

    def again(self, source: VideoSource) -> FirstResult:
        """The same frames for another reader, through another `source` of the same; not to be closed."""
        other = FirstResult.__new__(FirstResult)
        VideoSource.__init__(other)
        other._read_from(source)
        other._holes, other._file, other._places = self._holes, self._file, self._places
        return other

    def _read_from(self, source: VideoSource) -> None:
        self._describe_like(source)
        # Of a file nothing is left but its pictures: whoever opens the path would get the source.
        self.path, self.fps, self.variable_rate = None, source.fps, source.variable_rate
        self._times = source.times if source.variable_rate else None
        self._length, self.source = len(source), source

    def keep(self, frame: np.ndarray) -> None:
        """The next frame, uint8 (height, width, 3), of which the hole is kept."""
        hole = self._holes[len(self._places)]
        data = zlib.compress(frame[hole].tobytes(), 1)
        self._places.append((self._file.seek(0, 2), len(data)))
        self._file.write(data)

    def _frame(self, i: int) -> np.ndarray:
        # An array's frames are its owner's.
        frame, hole = self.source._frame(i).copy(), self._holes[i]
        start, length = self._places[i]
        self._file.seek(start)
        frame[hole] = np.frombuffer(zlib.decompress(self._file.read(length)), np.uint8).reshape(-1, 3)
        return frame

    def close(self) -> None:
        self._file.close()
