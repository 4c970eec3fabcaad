"""Video in and out: `open_video` gives random access to frames, `VideoWriter` writes them with their sound.

Frames are uint8 RGB arrays of shape (height, width, 3), or (n, height, width, 3) for several. They are decoded when
they are asked for; only a small cache stays in memory. `source.py` is the interface, `readers/` what opens paths,
`subset.py` parts of a video, `times.py`, `colour.py` and `stored.py` what has to stay true, `writer.py` and
`tracks.py` the way out.
"""

from __future__ import annotations

import os

from videopainter.video.colour import Colour
from videopainter.video.container import regular_file
from videopainter.video.readers import READERS, VideoReader
from videopainter.video.source import ArraySource, VideoError, VideoSource
from videopainter.video.subset import SubsetSource
from videopainter.video.writer import VideoWriter

__all__ = [
    "READERS",
    "ArraySource",
    "Colour",
    "SubsetSource",
    "VideoError",
    "VideoReader",
    "VideoSource",
    "VideoWriter",
    "open_video",
]


def open_video(path, backend="auto", fps=None):
    """Open a video file, an animated image or a folder of images as a `VideoSource`.

    backend: "auto" or a name of `READERS`. "auto" is PyAV for videos and Pillow for images; decord, which decodes
    ahead without a bound, is taken only when it is asked for. fps: frames a second of a folder of images (default
    25) or of animated images that are to be shown evenly; for a video it must stay None, its own rate counts.
    Raises VideoError, one sentence, for whatever cannot be opened.
    """
    if backend != "auto" and backend not in READERS:
        raise VideoError(f"Unknown video backend {backend!r}; use one of auto, {', '.join(READERS)}.")
    path = os.fspath(path)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if "\0" in path or not os.path.isdir(path):
        regular_file(path)
    if backend != "auto":
        if (objection := READERS[backend].objection(path)) is not None:
            raise VideoError(objection)
        return READERS[backend](path, fps)
    for reader in READERS.values():
        if reader.automatic and (objection := reader.objection(path)) is None:
            return reader(path, fps)
    raise VideoError(objection)
