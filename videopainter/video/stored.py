"""Frames as their files store them, so that what is not repainted goes from file to file untouched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from videopainter.video.colour import RANGES, Colour, levels, to_yuv, tone_up

# swscale's flags; PyAV has names for the last two since version 18, and takes numbers in every one.
_ACCURATE_RND, _FULL_CHR_H_INP = 0x40000, 0x4000
SCALING = int(Interpolation.BICUBIC) | _ACCURATE_RND | _FULL_CHR_H_INP
# swscale's numbers of matrices, of which PyAV before 18 does not name the last; its new interface also goes by the
# frame's own tag.
SWSCALE = {"bt709": 1, "fcc": 4, "smpte240m": 7, "bt2020nc": 9}
_ITU601 = 5


@dataclass(frozen=True)
class Layout:
    """A planar pixel format: its libav name, and what that says."""

    name: str
    rgb: bool
    alpha: bool
    depth: int
    shift: tuple[int, int]  # how often the width and the height of the colour planes are halved

    @classmethod
    def of(cls, name: str) -> Layout:
        """Of planar YUV or RGB with 8 to 16 bits."""
        found = re.fullmatch(r"(gbra?|yuva?)(420|422|444)?p(9|10|12|14|16)?(le)?", name)
        if found is None:
            raise ValueError(f"'{name}' is not a planar format of 8 to 16 bits.")
        kind, shared, depth, _ = found.groups()
        shift = {"420": (1, 1), "422": (1, 0)}.get(shared, (0, 0))
        return cls(name, kind.startswith("gbr"), kind.endswith("a"), int(depth or 8), shift)

    @property
    def dtype(self) -> Any:
        return np.uint8 if self.depth == 8 else np.uint16

    def plane_size(self, plane: int, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a plane of a picture of `size`."""
        if plane in (1, 2):
            return -(-size[0] >> self.shift[1]), -(-size[1] >> self.shift[0])
        return size


class Scaler:
    """swscale, set up once for each of the two steps that a conversion may take."""

    def __init__(self) -> None:
        self.widen, self.scale = VideoReformatter(), VideoReformatter()


@dataclass
class StoredFrame:
    """A decoded frame in its file's own format.

    `turn`: the signs (a, b, c, d) of a display matrix that is still to be applied, or None. `size`: (height, width)
    as it is stored, to which a frame of another size is scaled.
    """

    frame: av.VideoFrame
    size: tuple[int, int]
    turn: tuple[int, int, int, int] | None = None

    def planes(self, layout: Layout, colour: Colour, scaler: Scaler) -> list[np.ndarray]:
        """Upright planes (h, w) in `layout`; nothing is computed where the file has that format already.

        colour: the tags that YUV made of RGB is to have.
        """
        frame, name = self.frame, self.frame.format.name.replace("yuvj", "yuv")
        transposed = self.turn is not None and self.turn[0] == 0
        through = layout
        if transposed and layout.shift == (1, 0):
            through = Layout.of(layout.name.replace("422", "444"))
        if name != through.name or (frame.height, frame.width) != self.size:
            frame = self._converted(through, colour, scaler)
        planes = turned(read_planes(frame, through), self.turn)
        before, after = range_of(self.frame), colour.range or "limited"
        if not (layout.rgb or self.frame.format.is_rgb) and before != after:
            planes[:3] = [ranged(plane, k, layout, before) for k, plane in enumerate(planes[:3])]
        if through is not layout:
            planes[1:3] = [np.ascontiguousarray(plane[:, ::2]) for plane in planes[1:3]]
        return planes

    def _converted(self, layout: Layout, colour: Colour, scaler: Scaler) -> av.VideoFrame:
        source, height, width = self.frame, *self.size
        if source.format.is_rgb == layout.rgb:  # the same colours in another format
            reach = "JPEG" if range_of(source) == "full" else "MPEG"
            return scaler.scale.reformat(
                source,
                width,
                height,
                layout.name,
                src_color_range=None if layout.rgb else reach,
                dst_color_range=None if layout.rgb else reach,
                interpolation=SCALING,
                threads=1,
            )
        matrix = SWSCALE.get(colour.matrix or "", _ITU601)
        if layout.rgb:
            return scaler.scale.reformat(
                source, width, height, layout.name, interpolation=SCALING, dst_color_range="JPEG", threads=1
            )
        # swscale rounds 8-bit RGB up on its way to YUV, and has a finer way for 16 bits.
        source = scaler.widen.reformat(source, format="gbrp16le", threads=1)
        return scaler.scale.reformat(
            source,
            width,
            height,
            layout.name,
            dst_colorspace=matrix,
            dst_color_range="JPEG" if colour.range == "full" else "MPEG",
            interpolation=SCALING,
            threads=1,
        )


def range_of(frame: av.VideoFrame) -> str:
    """ "limited" or "full", as swscale takes a frame that does not say."""
    if frame.format.name.startswith(("yuvj", "gray", "ya8", "ya16")):
        return "full"
    return RANGES.get(frame.color_range, "limited")


def ranged(plane: np.ndarray, channel: int, layout: Layout, before: str) -> np.ndarray:
    """A plane of the range `before` in the other one; swscale loses a level on that way."""
    most, unit = 2**layout.depth - 1, 2 ** (layout.depth - 8)
    values = plane.astype(np.float32)
    if channel == 0:
        values = values / most if before == "full" else (values / unit - 16) / 219
    else:
        values = (values - 128 * unit) / most if before == "full" else (values / unit - 128) / 224
    made = levels(values, channel, layout.depth, before == "limited")
    return np.clip(np.rint(made), 0, most).astype(layout.dtype)


def read_planes(frame: av.VideoFrame, layout: Layout) -> list[np.ndarray]:
    """Copies of a planar frame's planes, each (h, w); RGB in the order of libav: green, blue, red."""
    sizes = [layout.plane_size(k, (frame.height, frame.width)) for k in range(len(frame.planes))]
    return [_lines(plane, layout)[:h, :w].copy() for plane, (h, w) in zip(frame.planes, sizes)]


def make_frame(planes: list[np.ndarray], layout: Layout) -> av.VideoFrame:
    """An `av.VideoFrame` of planes that `read_planes` would give."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout.name)
    for plane, values in zip(frame.planes, planes):
        lines = _lines(plane, layout).copy()
        lines[: values.shape[0], : values.shape[1]] = values
        plane.update(lines)
    return frame


def _lines(plane: Any, layout: Layout) -> np.ndarray:
    """A plane's memory, (h, w or more): lines may be longer than the picture."""
    return np.frombuffer(plane, layout.dtype).reshape(-1, plane.line_size // np.dtype(layout.dtype).itemsize)


def turned(planes: list[np.ndarray], turn) -> list[np.ndarray]:
    """Planes as a display matrix shows them: a pixel (x, y) at (a x + c y, b x + d y)."""
    if turn is None:
        return planes
    a, b, c, d = turn
    out = []
    for plane in planes:
        if a == 0:
            plane = plane.swapaxes(0, 1)
        first, second = (c, b) if a == 0 else (a, d)
        out.append(np.ascontiguousarray(plane[::second, ::first]))
    return out


def paste_rgb(
    planes: list[np.ndarray], layout: Layout, rgb: np.ndarray, hole: np.ndarray, colour: Colour
) -> None:
    """Put the pixels of `rgb`, uint8 (h, w, 3), that are True in `hole`, bool (h, w), into `planes`.

    A sample of colour that several pixels share is taken from `rgb` if the hole has one of them. An alpha plane
    stays. HDR is made of the toned down `rgb` again.
    """
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    if len(rows) == 0:
        return
    # Even borders, and two pixels around for the mean of the colour samples.
    height, width = hole.shape
    top, bottom = max(0, rows[0] - 2) & ~1, min(height, rows[-1] + 3)
    left, right = max(0, columns[0] - 2) & ~1, min(width, columns[-1] + 3)
    bottom, right = min(height, bottom + bottom % 2), min(width, right + right % 2)
    inside = hole[top:bottom, left:right]
    part = rgb[top:bottom, left:right]
    values = tone_up(colour.transfer)[part] if colour.hdr else part.astype(np.float32) / 255
    most = 2**layout.depth - 1
    if layout.rgb:
        for plane, channel in zip(planes, (1, 2, 0)):
            target = plane[top:bottom, left:right]
            target[inside] = np.rint(values[..., channel] * most)[inside]
        return
    yuv = to_yuv(values, colour)
    for channel, plane in enumerate(planes[:3]):
        part, chosen, at = yuv[..., channel], inside, (slice(top, bottom), slice(left, right))
        if channel:
            part, chosen = shared(part, layout.shift), any_of(inside, layout.shift)
            across, down = layout.shift
            at = (slice(top >> down, -(-bottom >> down)), slice(left >> across, -(-right >> across)))
        bias = (
            colour.bias[channel] * 2 ** (layout.depth - colour.depth) if layout.depth >= colour.depth else 0
        )
        made = levels(part, channel, layout.depth, colour.range == "full") + bias
        target = plane[at]
        target[chosen] = np.clip(np.rint(made), 0, most)[chosen]


def shared(values: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """Samples of colour as H.264 sites them: between two lines, on every second pixel, with its two neighbours."""
    across, down = shift
    if across:
        padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
        values = ((padded[:, :-2] + 2 * values + padded[:, 2:]) / 4)[:, ::2]
    if down:
        if values.shape[0] % 2:
            values = np.pad(values, ((0, 1), (0, 0)), mode="edge")
        values = (values[::2] + values[1::2]) / 2
    return values


def any_of(hole: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """bool: which samples of colour have a pixel of `hole`."""
    across, down = shift
    if across:
        hole = np.pad(hole, ((0, 0), (0, hole.shape[1] % 2)))
        hole = hole[:, ::2] | hole[:, 1::2]
    if down:
        hole = np.pad(hole, ((0, hole.shape[0] % 2), (0, 0)))
        hole = hole[::2] | hole[1::2]
    return hole
