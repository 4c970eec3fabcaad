"""Readers of videos, one a file; `base.py` says how to add one."""

from videopainter.video.readers.base import VideoReader
from videopainter.video.readers.decord import DecordReader
from videopainter.video.readers.images import ImageReader
from videopainter.video.readers.pyav import PyAVReader

READERS: dict[str, type[VideoReader]] = {
    reader.name: reader for reader in (ImageReader, PyAVReader, DecordReader)
}

__all__ = ["READERS", "VideoReader"]
