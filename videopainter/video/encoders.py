"""Frames into a file, by libav, or into a folder of images; whole under their name, or not there at all."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import av
import numpy as np

from videopainter.utils.atomic import temporary_name
from videopainter.utils.scheduling import usual_scheduling
from videopainter.video.colour import WHITE, Colour, linear
from videopainter.video.container import shown
from videopainter.video.formats import ENCODERS, Container, encoder_format, settings_for
from videopainter.video.source import VideoError
from videopainter.video.stored import Layout, make_frame

SEQUENCE = "{:05d}.{}"  # names of the images of a folder


class FileEncoder:
    """A container with one stream of pictures; `output` is there for the tracks that accompany it."""

    def __init__(
        self,
        path: str,
        container: Container,
        codec: str,
        layout: Layout,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        aspect: Fraction,
        colour: Colour,
        quality: float,
    ):
        self.path, self.codec, self.layout, self.colour = path, codec, layout, colour
        self._temporary = temporary_name(path)
        self._time_base = time_base
        self._durations: dict[int, int] = {}
        self.output = av.open(
            "file:" + self._temporary, "w", format=container.muxer, options=dict(container.options)
        )
        options = settings_for(codec, quality, layout)
        if codec == "hevc":
            options["x265-params"] += _light(colour)
        if codec == "av1":
            os.environ.setdefault("SVT_LOG", "0")  # the encoder talks on stderr unless it is told not to
        stream: Any = self.output.add_stream(ENCODERS[codec], rate=rate, options=options)
        context = stream.codec_context
        stream.height, stream.width = size
        stream.pix_fmt = encoder_format(codec, layout)
        stream.time_base = context.time_base = time_base
        if codec == "hevc" and container.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # which Apple's players want
        if aspect != 1:
            context.sample_aspect_ratio = aspect
        if not layout.rgb:
            matrix, primaries, transfer, reach = colour.codes
            context.colorspace, context.color_primaries = matrix, primaries
            context.color_trc, context.color_range = transfer, reach
        elif codec == "ffv1":
            context.color_primaries, context.color_trc = colour.codes[1:3]
        stream.disposition = av.stream.Disposition.default
        self._stream = stream

    def write(self, planes: list[np.ndarray], pts: int, duration: int) -> None:
        """Planes of the layout, shown from `pts` on for `duration`, both counted in the time base."""
        frame = make_frame(planes, self.layout)
        if self.codec == "gif":
            frame = _paletted(frame)
        elif frame.format.name != self._stream.pix_fmt:
            frame = frame.reformat(format=self._stream.pix_fmt)
        if not self.layout.rgb:
            frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = self.colour.codes
        frame.pts, frame.time_base = pts, self._time_base
        self._durations[pts] = duration
        with usual_scheduling() if self.codec == "av1" else nullcontext():
            packets = self._stream.encode(frame)
        self._mux(packets)

    def finish(self, last=None) -> None:
        """Write what is still held back, then what `last()` adds, and give the file its name."""
        self._mux(self._stream.encode())
        if last is not None:
            last()
        self.output.close()
        os.replace(self._temporary, self.path)

    def abort(self) -> None:
        try:
            self.output.close()
        except (av.FFmpegError, OSError):
            pass
        finally:
            if os.path.exists(self._temporary):
                os.remove(self._temporary)

    def _mux(self, packets) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration or 1
            self.output.mux(packet)


class FolderEncoder:
    """Images 00000.png, 00001.png, ... in a folder that takes its name when all are there."""

    output = None

    def __init__(self, path: str, codec: str, layout: Layout, colour: Colour):
        self.path, self.codec, self.layout, self.colour = path, codec, layout, colour
        self._temporary, self._count = temporary_name(path), 0
        os.mkdir(self._temporary)

    def write(self, planes: list[np.ndarray], pts: int, duration: int) -> None:
        wanted = encoder_format(self.codec, self.layout)
        if self.codec == "exr":
            frame = _light_of(planes, self.layout, self.colour)
        else:
            frame = make_frame(planes, self.layout).reformat(format=wanted)
        context: Any = av.CodecContext.create(ENCODERS[self.codec], "w")
        context.height, context.width = planes[0].shape
        context.pix_fmt, context.time_base = wanted, Fraction(1, 25)
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]
        name = os.path.join(self._temporary, SEQUENCE.format(self._count, self.codec))
        with open(name, "wb") as file:
            for packet in packets:
                file.write(bytes(packet))
        self._count += 1

    def finish(self, last=None) -> None:
        if last is not None:
            last()
        if os.path.isdir(self.path):
            refuse_foreign(self.path)
            shutil.rmtree(self.path)
        os.rename(self._temporary, self.path)

    def abort(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


def refuse_foreign(folder: str) -> None:
    """Raises VideoError if a folder to write holds anything but a sequence of images that was written before."""
    names = os.listdir(folder)
    for name in names:
        stem, _, ending = name.partition(".")
        if not (stem.isdecimal() and len(stem) >= 5 and ending in ("png", "exr")):
            raise VideoError(
                f"{shown(folder)} is a folder with other things in it; images are written into a new folder."
            )


def _paletted(frame: av.VideoFrame) -> av.VideoFrame:
    from PIL import Image

    picture = Image.fromarray(frame.reformat(format="rgb24").to_ndarray())
    picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    colours = np.zeros((256, 4), np.uint8)
    palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours[:, 0] = 255
    colours[: len(palette), 1:] = palette
    indices: Any = (np.asarray(picture), colours)
    return av.VideoFrame.from_ndarray(indices, format="pal8")


def _light_of(planes, layout: Layout, colour: Colour) -> av.VideoFrame:
    """Linear light as float32, 1 for white, as OpenEXR has it; of HDR, 1 for the white of paper."""
    signal = np.stack([planes[2], planes[0], planes[1]], axis=-1) / np.float32(2**layout.depth - 1)
    light = linear(signal, colour.transfer).astype(np.float32)
    if colour.hdr:
        light /= np.float32(WHITE)
    if layout.alpha:
        light = np.dstack([light, planes[3] / np.float32(2**layout.depth - 1)]).astype(np.float32)
    name = "gbrapf32le" if layout.alpha else "gbrpf32le"
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(light), format=name)


def _light(colour: Colour) -> str:
    """x265's words for what the screen could show on which the source was made."""
    if not colour.hdr:
        return ""
    out = ":hdr10-opt=1:repeat-headers=1" if colour.transfer == "smpte2084" else ""
    out += f":master-display={colour.mastering}" if colour.mastering else ""
    return out + (f":max-cll={colour.brightest}" if colour.brightest else "")
