"""The one door through which libav opens files: only what was named is read, and only if it is a video."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av

from videopainter.video.source import VideoError

# Demuxers that read the named file and nothing else. Playlists (hls, dash, concat, ffconcat, sdp) and formats of
# two files (vobsub) open what their text names; image demuxers take patterns; tty draws any text as a film.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,vvc,av1,obu,ivf,flv,asf,ogg,mxf,"
    "nut,dv,gxf,rm,wtv,yuv4mpegpipe,mjpeg,vc1,dnxhd,dirac,cavsvideo,nsv,roq,smk,bink,swf,h263,h261,amv,lavf,"
    "wav,w64,mp3,aac,flac,ac3,eac3,truehd,dts,caf,aiff,au"
)
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "pattern_type": "none"}
PATIENCE = 20  # seconds that libav may take to open a file, or to read one packet, before it is interrupted
MAX_PIXELS = 50_000_000  # of a frame: 150 MB as RGB


def regular_file(path: str) -> None:
    """Raises VideoError, one sentence, if there is no file of that name that ends."""
    try:
        mode = os.stat(path)
    except PermissionError as error:
        raise VideoError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    except (OSError, ValueError):
        raise VideoError(f"There is no video at {shown(path)}.") from None
    if not stat.S_ISREG(mode.st_mode):
        raise VideoError(f"{shown(path)} is no file but a pipe or a device, which cannot be read as a video.")
    if mode.st_size == 0:
        raise VideoError(f"{shown(path)} is an empty file.")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise VideoError(f"{shown(path)} cannot be read: {error.strerror}.") from None


def open_container(path: str):
    """An `av` input container over the file `path`. Raises VideoError, one sentence, if that cannot be."""
    regular_file(path)
    asked: dict[str, Any] = {"options": dict(OPTIONS), "timeout": (PATIENCE, PATIENCE)}
    try:
        try:
            return av.open("file:" + path, metadata_errors="surrogateescape", **asked)
        except TypeError:  # since version 19 PyAV always reads words that way, and takes no such argument
            return av.open("file:" + path, **asked)
    except (av.FFmpegError, OSError, ValueError):
        raise VideoError(
            f"{shown(path)} is not a video that can be read, or it is cut off at a vital place."
        ) from None


def open_pictures(path: str):
    """(container, its first stream of moving pictures) of the file `path`; see `open_container`."""
    container = open_container(path)
    cover = av.stream.Disposition.attached_pic
    streams = [
        s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None
    ]
    try:
        if not streams:
            raise VideoError(f"{shown(path)} has no video in it.")
        check_size(path, streams[0].codec_context.width, streams[0].codec_context.height)
    except VideoError:
        container.close()
        raise
    streams[0].thread_type = "AUTO"
    streams[0].codec_context.thread_count = min(4, os.cpu_count() or 1)  # each thread holds frames
    return container, streams[0]


def words_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a container, a stream or a chapter says of itself; bytes that are no UTF-8 become U+FFFD."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    return {clean(key): clean(value) for key, value in metadata.items()}


def exact(rational) -> Fraction:
    """A rate, a clock's tick or an aspect as PyAV gives it, as a Fraction; 0 where the file does not say.

    Before version 19 PyAV gives Fractions, or None; since then numbers of its own, which round when they are
    multiplied with one another and may be 1/0.
    """
    return Fraction(rational.numerator, rational.denominator) if rational else Fraction(0)


def check_size(path: str, width: int, height: int) -> None:
    """Raises VideoError for pictures that would take too much memory; asked before any is decoded."""
    if width * height > MAX_PIXELS:
        raise VideoError(
            f"{shown(path)} has frames of {width} x {height} pixels; more than {MAX_PIXELS // 10**6} million are "
            "not taken."
        )


def shown(path: str | None) -> str:
    """The name as sentences quote it, of bounded length."""
    text = repr(path)
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"
