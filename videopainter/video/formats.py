"""Which container and codec an output gets, by the ending of its name; and what each of them can hold."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from videopainter.video.container import shown
from videopainter.video.source import VideoError
from videopainter.video.stored import Layout

QUALITY = 65  # of 100: crf 18 of H.264, hard to tell from the source; results that keep one ask for more
FAITHFUL = 76  # what is not repainted looks the same under a magnifying glass: crf 12 of H.264


@dataclass(frozen=True)
class Container:
    """What files of an ending are: libav's muxer, the codecs of pictures (the first is the default) and of sound."""

    muxer: str
    codecs: tuple[str, ...]
    deep: str | None = None  # the default codec for more than 8 bits a channel
    sound: tuple[str, ...] = ()  # codecs that are copied; those of no list are encoded anew
    encoded: str | None = None  # what other sound becomes
    subtitles: tuple[str, ...] = ()
    text: str | None = None  # what subtitles of text become
    alpha: tuple[str, ...] = ()  # codecs that keep alpha here
    options: tuple[tuple[str, str], ...] = ()


_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac")
_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_u8")
_MP4 = Container(
    "mp4",
    ("h264", "hevc", "av1"),
    deep="hevc",
    sound=_SOUND,
    encoded="aac",
    subtitles=("mov_text",),
    text="mov_text",
    options=(("movflags", "+faststart"),),
)
_MOV = Container(
    "mov",
    ("h264", "hevc", "prores", "png"),
    deep="hevc",
    sound=("aac", "mp3", "ac3", "eac3", "alac", *_PCM),
    encoded="aac",
    subtitles=("mov_text",),
    text="mov_text",
    alpha=("prores", "png"),
    options=(("movflags", "+faststart"),),
)
_MKV = Container(
    "matroska",
    ("h264", "hevc", "av1", "vp9", "prores", "ffv1", "png"),
    deep="hevc",
    sound=("*",),
    encoded="flac",
    subtitles=("subrip", "ass", "ssa", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle", "dvb_subtitle", "text"),
    text="subrip",
    alpha=("vp9", "ffv1", "png", "prores"),
)
_WEBM = Container(
    "webm", ("vp9", "av1"), deep="av1", sound=("opus", "vorbis"), encoded="libopus", alpha=("vp9",)
)
_AVI = Container("avi", ("ffv1",), sound=("mp3", "ac3", "pcm_s16le"), encoded="pcm_s16le", alpha=("ffv1",))
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MOV,
    ".mkv": _MKV,
    ".webm": _WEBM,
    ".avi": _AVI,
    ".gif": Container("gif", ("gif",)),
}
FOLDER = Container("images", ("png", "exr"), alpha=("png", "exr"))
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "png": "png",
    "exr": "exr",
    "gif": "gif",
}
CODECS = tuple(ENCODERS)
PATTERN = re.compile(r"%0?\d*d")


def container_of(path: str) -> Container:
    """By the ending of `path`; a name without one is a folder of images. Raises VideoError for others."""
    name = os.path.basename(os.path.normpath(path))
    ending = os.path.splitext(name)[1].lower()
    if path.endswith(("/", os.sep)) or not ending:
        return FOLDER
    if ending not in CONTAINERS:
        raise VideoError(
            f"{shown(path)} cannot be written: its ending is to be {', '.join(CONTAINERS)}, or none for a folder of "
            "images."
        )
    return CONTAINERS[ending]


def codec_for(path: str, codec: str | None, depth: int, alpha: bool = False) -> str:
    """The codec to write `path` with: the one asked for, or what suits it, `depth` bits a channel and alpha."""
    container = container_of(path)
    if codec is None and alpha and container.codecs[0] in container.alpha:
        return container.codecs[0]
    if codec is None:
        return container.deep if depth > 8 and container.deep else container.codecs[0]
    if codec not in ENCODERS:
        raise VideoError(f"There is no codec {codec!r}; the names are {', '.join(CODECS)}.")
    if codec not in container.codecs:
        raise VideoError(f"{shown(path)} cannot hold {codec}; it takes {', '.join(container.codecs)}.")
    return codec


def ending_for(codec: str | None) -> str:
    """The ending of a name for a codec whose container nobody chose."""
    usual = {"prores": ".mov", "ffv1": ".mkv", "vp9": ".webm", "gif": ".gif", "png": "", "exr": ""}
    if codec is not None and codec not in ENCODERS:
        raise VideoError(f"There is no codec {codec!r}; the names are {', '.join(CODECS)}.")
    return usual.get(codec or "", ".mp4")


def layout_for(codec: str, keeps_alpha: bool, pixel_format: str | None, depth: int) -> Layout:
    """The planar format that frames are worked on in before they are encoded.

    pixel_format: that of the source; None for 8-bit RGB, of which H.264 makes 4:2:0 as all do that play everywhere.
    """
    name = pixel_format or "rgb24"
    alpha = keeps_alpha and has_alpha(name)
    rgb = name.startswith(("rgb", "bgr", "gbr", "0", "a", "pal8")) and not name.startswith("ayuv")
    full = rgb or "444" in name
    if codec in ("png", "exr", "gif"):
        bits = 16 if depth > 8 and codec == "png" else 16 if codec == "exr" else 8
        return Layout.of(f"gbr{'a' * alpha}p{_bits(bits)}")
    if codec == "prores":
        if alpha:
            return Layout.of("yuva444p10le")
        return Layout.of("yuv444p10le" if full else "yuv422p10le")
    if codec == "ffv1":
        if rgb:  # of 8 bits the encoder takes packed RGB, of which planes are made without loss
            return Layout.of(f"gbr{'a' * alpha}p{_bits(8 if depth <= 8 else 10 if depth <= 10 else 16)}")
        try:
            planar: Layout | None = Layout.of(name.replace("yuvj", "yuv"))
        except ValueError:
            planar = None
        if planar is not None and planar.depth in (8, 10, 16) and planar.alpha == alpha:
            return planar
        return Layout.of(f"yuv{'a' * alpha}444p{_bits(8 if depth <= 8 else 10 if depth <= 10 else 16)}")
    if codec == "vp9" and alpha:
        return Layout.of("yuva420p")
    # The VP9 encoder of PyAV's wheels is built for 8 bits.
    return Layout.of(f"yuv420p{_bits(10 if depth > 8 and codec != 'vp9' else 8)}")


def encoder_format(codec: str, layout: Layout) -> str:
    """The pixel format that the encoder takes for frames of `layout`."""
    if codec == "gif":
        return "pal8"
    if codec == "exr":
        return "gbrapf32le" if layout.alpha else "gbrpf32le"
    if codec == "png":
        return (
            ("rgba64be" if layout.alpha else "rgb48be")
            if layout.depth > 8
            else "rgba"
            if layout.alpha
            else "rgb24"
        )
    if codec == "ffv1" and layout.rgb and layout.depth == 8:
        return "bgra" if layout.alpha else "bgr0"
    return layout.name


def has_alpha(pixel_format: str) -> bool:
    """Whether libav's format of that name carries alpha."""
    return bool(re.match(r"(yuva|gbra|rgba|bgra|argb|abgr|ya\d|pal8|ayuv)", pixel_format))


def settings_for(codec: str, quality: float, layout: Layout) -> dict[str, str]:
    """The encoder's options for a quality from 0 to 100, which is lossless where the codec knows that."""
    crf = (100 - quality) * 51 / 100
    if codec == "h264":
        # With its tree of macroblocks the encoder is not reproducible at small sizes.
        # "faster": 0.1 dB under "medium" at the same size, and four tenths of the time less.
        return {"crf": f"{crf:g}", "preset": "faster", "x264-params": "mbtree=0"}
    if codec == "hevc":
        exact = "lossless=1:" if quality >= 100 else ""
        return {"crf": f"{crf:g}", "x265-params": exact + "log-level=none"}
    if codec == "av1":
        return {"crf": f"{max(1, round((100 - quality) * 63 / 100))}", "preset": "8", "svtav1-params": "rc=0"}
    if codec == "vp9":
        lossless = {"lossless": "1"} if quality >= 100 else {}
        return {
            "crf": f"{round((100 - quality) * 63 / 100)}",
            "b": "0",
            "row-mt": "1",
            "cpu-used": "4",
            "auto-alt-ref": "0",  # which cannot be had together with alpha
            **lossless,
        }
    if codec == "prores":
        return {"profile": "4" if "444" in layout.name else "3", "vendor": "apl0"}
    if codec == "ffv1":
        return {"level": "3", "slices": "4", "slicecrc": "1"}
    return {}


def _bits(depth: int) -> str:
    return "" if depth == 8 else f"{depth}le"
