"""Video files through PyAV, which reads everything that is a video."""

from __future__ import annotations

import bisect
import os
import re
from collections import OrderedDict
from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from videopainter.video.colour import colour_of, greatest_light, levels, mastering_display, to_yuv, tone_down
from videopainter.video.container import exact, open_pictures, shown
from videopainter.video.fields import Deinterlacer
from videopainter.video.readers.base import VideoReader
from videopainter.video.source import VideoError, exact_rate
from videopainter.video.stored import Layout, StoredFrame, read_planes, shared, turned
from videopainter.video.times import is_even, rises

# What comes with pictures and belongs to their codec, and cannot be written again: its name, and codec tags that tell.
DROPPED = {
    "DOVI_METADATA": ("The Dolby Vision metadata", ("dvh1", "dvhe", "dva1", "dvav", "dav1")),
    "DYNAMIC_HDR_PLUS": ("The HDR10+ metadata", ()),
    "A53_CC": ("The captions inside the pictures", ()),
}
EXTRAS = ("DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", *DROPPED)
RARE = {
    8: "YCgCo",
    10: "BT.2020 of constant luminance",
    11: "Y'D'ZD'X",
    12: "chromaticity-derived YCC",
    14: "ICtCp",
}
MEASURED = 2**21  # pixels; of larger frames bands of rows tell as much
SMALL_BYTES = 12 * 2**20  # of frames that were made smaller and are kept
BEHIND = 3  # frames before a smaller one that are kept with it, for whoever walks backwards
MOST_THREADS = 4  # of a decoder
PROBED = 24  # frames that are decoded to see whether stamps can be relied on


class PyAVReader(VideoReader):
    """A video file through PyAV.

    Opening walks over the packets without decoding them, which gives the time stamp of every frame. A frame
    is reached by seeking to the key frame at or before it and decoding onwards. Where packets have no usable
    time stamps (a bare .h264 stream, B-frames in AVI, streams glued together) frames are counted by decoding the
    file once, and reaching back beyond the cache decodes from the start.
    """

    name = "pyav"

    @classmethod
    def objection(cls, path):
        return f"{shown(path)} is a folder, which PyAV cannot read." if os.path.isdir(path) else None

    def __init__(self, path, fps=None):
        super().__init__(path, fps)
        if fps is not None:
            raise VideoError(
                f"A frame rate ({fps}) can be set for images only, and {shown(path)} is a video with its own."
            )
        self._container = self._decoder = self._codec = self._fields = None
        self._reformatter = VideoReformatter()
        self._position = -1  # number of the frame that the decoder gave last
        self._lost = set()  # frames that no key frame leads to
        self._latest = (-1, None)  # number and StoredFrame of what was decoded last
        self._threads = MOST_THREADS
        self._small: OrderedDict[tuple, np.ndarray] = OrderedDict()  # by number and size
        self._stored_size = None
        try:
            self._open()
            self._build_index()
        except BaseException:
            self.close()
            raise

    def limit_memory(self, frame_bytes, threads=None):
        super().limit_memory(frame_bytes, threads)
        if threads is not None:
            self._threads = threads
            self._open()
            self._decoder, self._position = None, -1

    def close(self):
        super().close()
        self._decoder, self._latest = None, (-1, None)
        self._small.clear()
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self):
        if self._container is not None:
            self._container.close()
        self._container, self._stream = open_pictures(self.path)
        context = self._stream.codec_context
        context.thread_count = min(context.thread_count, self._threads)
        # libav's own VP9 decoder leaves alpha aside.
        self._codec = None
        if self._stream.metadata.get("alpha_mode") == "1" and self._stream.codec_context.name in (
            "vp8",
            "vp9",
        ):
            self._codec = av.CodecContext.create(
                f"libvpx{'-vp9' * (self._stream.codec_context.name == 'vp9')}", "r"
            )

    # -- what is in the file --

    def _build_index(self):
        stream = self._stream
        self.has_audio, self.companions = bool(self._container.streams.audio), self.path
        self.codec = stream.codec_context.codec.canonical_name
        self.container_format = self._container.format.name
        packets = self._walk()
        stamps, durations = [p[0] for p in packets], [p[2] for p in packets]
        self._counted = self._blind or None in stamps or len(set(stamps)) < len(stamps) or not self._rises()
        if not self._counted:
            packets.sort()
            self._set_index([p[0] for p in packets], [p[0] for p in packets if p[1]])
            self._set_rate(durations)
            self._check_ends()
        if self._counted:
            self._count_frames()
        self._set_rate(durations)
        announced = self._announced()
        if announced > len(self):
            self._warn(
                f"Only {len(self)} of the {announced} frames that {shown(self.path)} announces can be decoded."
            )

    def _walk(self):
        """(time stamp, key frame?, duration) of every packet that should give a frame, in file order."""
        packets, newest = [], None
        delays = set()  # by which pictures are shown later than they are decoded
        self.reordered_keys = (
            False  # pictures that follow a key frame in the file and precede it on the screen
        )
        self._damaged = False
        try:
            for packet in self._container.demux(self._stream):
                hidden = self.codec == "vp8" and packet.size and not bytes(packet)[0] & 16
                if packet.size == 0 or packet.is_discard or hidden:
                    continue
                if self._is_broken(packet):
                    self._damaged = True
                    continue
                pts = packet.pts
                packets.append((pts, packet.is_keyframe, packet.duration or 0))
                delays.add(None if pts is None or packet.dts is None else pts - packet.dts)
                if packet.is_keyframe:
                    newest = pts
                elif pts is not None and newest is not None and pts < newest:
                    self.reordered_keys = True
        except av.FFmpegError:
            self._damaged = True
        if not packets:
            raise VideoError(f"{shown(self.path)} holds no video frame that can be read.")
        # B-frames whose stamps are those of decoding: AVI knows no other, and what was made of it.
        self._blind = (
            len(delays) == 1
            and self._stream.codec_context.has_b_frames
            and "mov" not in self.container_format
        )
        return packets

    def _is_broken(self, packet):
        """Whether a packet is to be left out; in MPEG-TS a leap of the counters alone is no reason."""
        return packet.is_corrupt and (packet.size == 0 or "mpegts" not in self._container.format.name)

    def _set_index(self, stamps, keys):
        self._pts = stamps
        self._number = {p: i for i, p in enumerate(stamps)}
        self._keys = [self._number[p] for p in keys if p in self._number]
        self._length = len(stamps)

    def _check_ends(self):
        """Drop what the decoder does not give at either end; count instead if stamps are unreliable."""
        self._from_start()
        first = next(self._decoder, None)
        if first is None:
            self._counted = True
            return
        number, frame = first
        self._describe(frame)
        last = len(self) - 1
        trusted = any(name in self.container_format for name in ("mov", "matroska", "avi"))
        if self._damaged or not trusted or self._announced() > len(self):
            for k in reversed(range(len(self._keys))):
                self._seek(k)
                emitted = [n for n, _ in self._decoder]
                if emitted:
                    last = emitted[-1]
                    break
        if number or last < len(self) - 1:
            keys = [self._pts[k] for k in self._keys if number <= k <= last]
            self._set_index(self._pts[number : last + 1], keys)
        self._decoder, self._position = None, -1

    @property
    def is_damaged(self):
        return self._damaged or any("announces" in sentence for sentence in self.warnings)

    def _count_frames(self):
        self._open()
        self._length, self._keys, self._number = 0, [], None
        for number, frame in self._frames_from(None):
            if number == 0:
                self._describe(frame)
            self._length = number + 1
        if not self._length:
            raise VideoError(f"No frame of {shown(self.path)} can be decoded.")
        self._pts = None

    def _describe(self, frame):
        # Asked once for the file: PyAV never frees a frame whose side data was looked at.
        extras = {kind: bytes(data) for kind in EXTRAS if (data := frame.side_data.get(kind)) is not None}
        self._turn = _orientation(extras.get("DISPLAYMATRIX"))
        self.rotated = self._turn is not None
        self._stored_size = (frame.height, frame.width)
        self.pixel_format = frame.format.name
        self.colour = replace(
            colour_of(frame),
            mastering=mastering_display(extras.get("MASTERING_DISPLAY_METADATA")),
            brightest=greatest_light(extras.get("CONTENT_LIGHT_LEVEL")),
        )
        tag = self._stream.codec_context.codec_tag
        for kind, (what, tags) in DROPPED.items():
            if kind in extras or tag in tags:
                self._warn(f"{what} of {shown(self.path)} is dropped.")
        # PyAV tells the stream's order of fields since version 18; before, each frame's own mark has to do.
        fields = getattr(self._stream.codec_context, "field_order", 0)
        self.interlaced = frame.interlaced_frame or fields in (2, 3, 4, 5)
        if self.interlaced:
            self._fields = Deinterlacer(frame)
            self._warn(f"{shown(self.path)} is interlaced; it is worked on and written without the combing.")
        aspect = exact(self._stream.sample_aspect_ratio)
        if aspect > 0:
            self.aspect = 1 / aspect if self._turn is not None and self._turn[0] == 0 else aspect
        stored = self._made(frame)
        rgb = self._to_rgb(stored)
        self.size = rgb.shape[:2]
        self.colour = replace(self.colour, bias=self._bias(stored, rgb))

    def _bias(self, stored, rgb):
        """Levels that the way to RGB loses: swscale's fast one rounds down, at every brightness by about one."""
        name = self.pixel_format.replace("yuvj", "yuv")
        if self.colour.hdr or not re.fullmatch(r"yuva?4(20|22|44)p(9|10|12|14|16)?(le)?", name):
            return (0.0, 0.0, 0.0)
        layout = Layout.of(name)
        rows = _some_rows(*rgb.shape[:2])
        rgb = rgb[rows]
        known = ((rgb > 8) & (rgb < 247)).all(axis=-1)
        if known.mean() < 0.01 or self._turn is not None:
            fast = layout.depth == 8 and layout.shift[0] and self.width % 2 == 0
            return (1.0, 0.0, 0.0) if fast else (0.0, 0.0, 0.0)
        yuv = to_yuv(rgb.astype(np.float32) / 255, self.colour)
        full, out = self.colour.range == "full", []
        for channel, plane in enumerate(read_planes(stored.frame, layout)[:3]):
            made, at = yuv[..., channel], known
            if channel:
                made, at = shared(made, layout.shift), shared(known.astype(np.float32), layout.shift) == 1
            plane = plane[rows[:: 2 ** layout.shift[1]] >> layout.shift[1] if channel else rows]
            lost = (plane - levels(made, channel, layout.depth, full))[at]
            most = (0.5 if channel else 1.5) * 2 ** (
                layout.depth - 8
            )  # strong colours lose more, and only theirs
            out.append(float(np.clip(lost.mean(), -most, most)) if lost.size else 0.0)
        return tuple(out)

    def _set_rate(self, durations):
        stream = self._stream
        rates = [r for r in map(exact, (stream.guessed_rate, stream.average_rate)) if 0 < r <= 1000]
        tick = exact(stream.time_base)
        self.fps = exact_rate(rates[0] if rates else 25)
        if self._pts is None or len(self) < 2:
            first = stream.start_time if self._pts is None else self._pts[0]
            self.start = (first or 0) * tick
            return
        self.start = self._pts[0] * tick
        for rate in rates:
            if is_even(self._pts, rate, tick):
                self.fps, self.variable_rate, self._times = exact_rate(rate), False, None
                return
        times = [(p - self._pts[0]) * tick for p in self._pts]
        seconds = times[-1] + (durations[-1] * tick or times[-1] / (len(self) - 1))
        self.fps, self.variable_rate, self._times = exact_rate(len(self) / seconds), True, times

    def _rises(self):
        """Whether the first frames come out of the decoder in the order of their stamps, as they always do in mp4."""
        if "mov" in self.container_format:
            return True
        self._from_start()
        self._number, stamps = None, []
        for _, frame in self._decoder:
            stamps.append(frame.pts)
            if len(stamps) == PROBED:
                break
        self._decoder = None
        return rises(stamps)

    def _announced(self):
        """How many frames the file says it has; 0 where it does not say."""
        stream = self._stream
        if stream.frames:
            return stream.frames
        time = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))  # Matroska
        if time is None or self._pts is None or self.variable_rate:
            return 0
        hours, minutes, seconds = (float(part) for part in time.groups())
        seconds += 3600 * hours + 60 * minutes - float(self._pts[0] * exact(stream.time_base))
        return int(seconds * float(self.fps) + 0.3)

    def _clean_keys(self):
        """Whether decoding can begin at a key frame (with intra refresh it cannot): tries the second."""
        if self._counted or len(self._keys) < 2:
            return not self._counted
        self._seek(1)
        number, _ = next(self._decoder, (None, None))
        self._decoder = None
        return number == self._keys[1]

    def key_frame_before(self, i):
        k = bisect.bisect_right(self._keys, i) - 1
        return self._keys[k] if k >= 0 else i

    # -- reaching a frame --

    def _seek(self, k):
        """Put the decoder at key frame k of the list of key frames."""
        if k <= 0:
            return self._from_start()
        self._container.seek(self._pts[self._keys[k]], stream=self._stream, backward=True)
        self._decoder, self._position = self._frames_from(k), -1

    def _from_start(self):
        self._open()
        self._decoder, self._position = self._frames_from(None), -1

    def _frames_from(self, key):
        """(number, frame) from where the container stands; key None: from the start of the file.

        After a seek nothing counts before the first key frame that comes by: those pictures lean on others
        that were not decoded.
        """
        floor = 0 if key is None else None
        count = 0
        try:
            for packet in self._container.demux(self._stream):
                if self._is_broken(packet):
                    continue
                if floor is None and packet.size:
                    if not packet.is_keyframe or packet.pts not in self._number:
                        continue
                    floor = self._number[packet.pts]
                try:
                    frames = packet.decode() if self._codec is None else self._codec.decode(packet)
                except av.FFmpegError:
                    continue  # one damaged packet; the decoder goes on with the next
                for frame in frames:
                    number = count if self._number is None else self._number.get(frame.pts)
                    count += 1
                    if number is None or floor is None or number < floor:
                        continue
                    if frame.is_corrupt and key is not None:
                        continue  # an earlier key frame may give it whole
                    yield number, frame
        except av.FFmpegError:
            return

    def reduced(self, i, size):
        found = self._small.get((i, size))
        if found is None:
            if self._latest[0] == i:
                found = self._to_rgb(self._latest[1], size)
            else:
                found = self._decode(i, size)
            self._keep_small(i, found)
        return found

    def _keep_small(self, i, frame):
        self._small[i, frame.shape[:2]] = frame
        most = min(SMALL_BYTES, self._cache_bytes)
        while len(self._small) > 1 and sum(one.nbytes for one in self._small.values()) > most:
            self._small.popitem(last=False)

    def _decode(self, i, size=None):
        if self._container is None:
            raise VideoError(f"{shown(self.path)} has been closed.")
        self._latest = (-1, None)  # its memory is the decoder's again
        k = bisect.bisect_right(self._keys, i) - 1
        reachable = self._decoder is not None and self._position < i
        if not (reachable and (k < 0 or self._keys[k] <= self._position + 1)):
            self._seek(k)
        back = 1
        while i not in self._lost:
            frame = self._advance(i, size)
            if frame is not None:
                return frame
            if k <= 0:
                if not self._lost:
                    self._warn(f"Frame {i} of {shown(self.path)} is damaged; such frames repeat a neighbour.")
                self._lost.add(i)
            else:
                k, back = max(0, k - back), back * 2
                self._seek(k)
        for j in [*range(i - 1, -1, -1), *range(i + 1, len(self))]:
            if j not in self._lost:
                if self._latest[0] != j:
                    self._cache.pop(j, None)
                frame = self._frame(j) if size is None else self.reduced(j, size)
                self._latest = (i, self._latest[1])
                return frame
        raise VideoError(f"No frame of {shown(self.path)} can be decoded.")

    # -- what is made of a frame --

    def stored(self, i):
        if self._latest[0] != i:
            self._cache.pop(i, None)
            self._frame(i)
        return self._latest[1]

    def _made(self, frame):
        if self._fields is not None:
            frame = self._fields(frame)
        if (frame.height, frame.width) != self._stored_size:
            self._warn(f"The size of the pictures changes inside {shown(self.path)}; all get the first one.")
        return StoredFrame(frame, self._stored_size, self._turn)

    def _to_rgb(self, stored, size=None):
        """uint8 (h, w, 3), upright; of `size` if that is given."""
        # Bicubic is what decord's filter graph uses; it matters for odd sizes and subsampled chroma only.
        # One reformatter for a file: frame.reformat() sets up a new scaler, with threads, for each frame.
        (height, width), hdr = stored.size, self.colour.hdr
        if size is not None:
            height, width = size[::-1] if self._turn is not None and self._turn[0] == 0 else size
        try:
            rgb = self._reformatter.reformat(
                stored.frame,
                width,
                height,
                "rgb48le" if hdr else "rgb24",
                interpolation="BICUBIC" if size is None else "AREA",
                threads=1,
            ).to_ndarray()
        except (av.FFmpegError, OSError, ValueError):
            matrix = RARE.get(stored.frame.colorspace, stored.frame.format.name)
            raise VideoError(
                f"{shown(self.path)} stores its colours as {matrix}, which cannot be made into RGB."
            ) from None
        if hdr:
            rgb = tone_down(self.colour.transfer)[rgb]
        return turned([rgb], self._turn)[0]

    def _advance(self, i, size=None):
        """Decode up to frame i and return it, or None if the decoder passes without giving it."""
        for number, frame in self._decoder:
            self._position = number
            if number == i:
                stored = self._made(frame)
                self._latest = (i, stored)
                return self._to_rgb(stored, size)
            # What is passed is kept for whoever walks backwards.
            if size is not None and number >= i - BEHIND:
                self._keep_small(number, self._to_rgb(self._made(frame), size))
            elif size is None and number > i - self._capacity // 2 and number not in self._cache:
                self._keep(number, self._to_rgb(self._made(frame)))
            if number > i:
                return None
        self._decoder = None
        return None


def _some_rows(height, width):
    """Numbers of rows, all of them or bands that are spread over a large frame; in pairs, as colour samples are."""
    rows = np.arange(height)
    every = -(-height * width // MEASURED)
    return rows[rows // 16 % (4 * every) == 0] if every > 1 else rows


def _orientation(data):
    """The upper left of a display matrix as four signs (a, b, c, d), or None if the frame is upright."""
    if data is None:
        return None
    matrix = np.frombuffer(data, np.int32)
    signs = tuple(int(np.sign(round(v / 65536))) for v in matrix[[0, 1, 3, 4]])
    return None if signs == (1, 0, 0, 1) or abs(signs[0] * signs[3] - signs[1] * signs[2]) != 1 else signs
