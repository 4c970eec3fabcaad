"""Video in and out: `open_video` gives random access to frames, `VideoWriter` writes them with their sound.

Frames are uint8 RGB arrays of shape (height, width, 3), or (n, height, width, 3) for several. They are
decoded when they are asked for; only a small cache stays in memory. The parts are in `video_base.py` (the
interface, arrays and folders of images), `video_file.py` (PyAV and decord) and `video_writer.py`.
"""

from __future__ import annotations

import os

from videopainter.video.readers.pyav import DecordSource, PyAVSource, decord_objection
from videopainter.video.source import ArraySource, ImageFolderSource, VideoError, VideoSource
from videopainter.video.writer import VideoWriter

__all__ = ["ArraySource", "VideoError", "VideoSource", "VideoWriter", "open_video"]

BACKENDS = ("auto", "decord", "pyav", "images")


def open_video(path, backend="auto", fps=None):
    """Open a video file or a folder of images as a `VideoSource`.

    backend: "auto", "decord", "pyav" or "images". "auto" takes decord where it is installed and can be relied
    on to give the same frames as PyAV, and PyAV everywhere else (see `decord_objection`). fps: frames a
    second of a folder of images (default 25); for a file it must stay None, its own rate counts.
    Raises VideoError, one sentence, for whatever cannot be opened.
    """
    if backend not in BACKENDS:
        raise VideoError(f"Unknown video backend {backend!r}; use one of {', '.join(BACKENDS)}.")
    path = os.fspath(path)
    if not os.path.exists(path):
        raise VideoError(f"There is no video at {path!r}.")
    if os.path.isdir(path):
        if backend not in ("auto", "images"):
            raise VideoError(f"{path!r} is a folder, which the {backend} backend cannot read.")
        return ImageFolderSource(path, fps=25 if fps is None else fps)
    if backend == "images":
        raise VideoError(f"{path!r} is not a folder of images.")
    if fps is not None:
        raise VideoError(
            f"A frame rate ({fps}) can be set for a folder of images only, and {path!r} is a file."
        )
    source = PyAVSource(path)
    if backend == "pyav":
        return source
    objection = decord_objection(source)
    if objection is None:
        try:
            return DecordSource(source)
        except VideoError as error:
            objection = str(error)
    if backend == "auto":
        return source
    source.close()
    raise VideoError(objection)
