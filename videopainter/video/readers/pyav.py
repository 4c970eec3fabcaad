"""Video files: through PyAV, which reads everything, and through decord where that gives the same."""

from __future__ import annotations

import bisect
import importlib.util
import os
import re
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from videopainter.video.source import CachedSource, VideoError, exact_rate


class PyAVSource(CachedSource):
    """A video file through PyAV.

    Opening walks over the packets without decoding them, which gives the time stamp of every frame. A frame
    is reached by seeking to the key frame at or before it and decoding onwards. Where packets have no usable
    time stamps (a bare .h264 stream, old AVIs) frames are counted by decoding the file once, and reaching
    back beyond the cache decodes from the start.
    """

    backend = "pyav"

    def __init__(self, path):
        super().__init__()
        self.path = path
        self._container = self._decoder = None
        self._reformatter = VideoReformatter()
        self._position = -1  # number of the frame that the decoder gave last
        self._lost = set()  # frames that no key frame leads to
        try:
            self._open()
            self._build_index()
        except BaseException:
            self.close()
            raise

    def close(self):
        super().close()
        self._decoder = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self):
        if self._container is not None:
            self._container.close()
        self._container, self._stream = _open_container(self.path)

    # -- what is in the file --

    def _build_index(self):
        stream = self._stream
        self.has_audio = bool(self._container.streams.audio)
        self.codec = stream.codec_context.codec.canonical_name
        self.container_format = self._container.format.name
        packets = self._walk()
        stamps, durations = [p[0] for p in packets], [p[2] for p in packets]
        self._counted = None in stamps or len(set(stamps)) < len(stamps)
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
                f"Only {len(self)} of the {announced} frames that {self.path!r} announces can be decoded."
            )

    def _walk(self):
        """(time stamp, key frame?, duration) of every packet that should give a frame, in file order."""
        packets, newest = [], None
        self.reordered_keys = (
            False  # pictures that follow a key frame in the file and precede it on the screen
        )
        self._damaged = False
        try:
            for packet in self._container.demux(self._stream):
                hidden = self.codec == "vp8" and packet.size and not bytes(packet)[0] & 16
                if packet.size == 0 or packet.is_discard or hidden:
                    continue
                if packet.is_corrupt:
                    self._damaged = True
                    continue
                pts = packet.pts
                packets.append((pts, packet.is_keyframe, packet.duration or 0))
                if packet.is_keyframe:
                    newest = pts
                elif pts is not None and newest is not None and pts < newest:
                    self.reordered_keys = True
        except av.FFmpegError:
            self._damaged = True
        if not packets:
            raise VideoError(f"{self.path!r} holds no video frame that can be read.")
        return packets

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

    def _count_frames(self):
        self._open()
        self._length, self._keys, self._number = 0, [], None
        for number, frame in self._frames_from(None):
            if number == 0:
                self._describe(frame)
            self._length = number + 1
        if not self._length:
            raise VideoError(f"No frame of {self.path!r} can be decoded.")
        self._pts = None

    def _describe(self, frame):
        # Asked once for the file: PyAV never frees a frame whose side data was looked at.
        self._turn = _orientation(frame)
        self.rotated = self._turn is not None
        self.size = self._to_rgb(frame).shape[:2]
        self.pixel_format = frame.format.name
        self.colour = {1: "bt709", 5: "bt601", 6: "bt601", 0: "untagged", 2: "untagged"}.get(frame.colorspace)

    def _set_rate(self, durations):
        stream = self._stream
        rates = [r for r in (stream.guessed_rate, stream.average_rate) if r and 0 < r <= 1000]
        self.fps = exact_rate(rates[0] if rates else 25)
        if self._pts is None or len(self) < 2:
            return
        tick = Fraction(stream.time_base)
        for rate in rates:
            if self._fits(rate, tick):
                self.fps, self.variable_rate = exact_rate(rate), False
                return
        span = (self._pts[-1] - self._pts[0]) * tick
        seconds = span + (durations[-1] * tick or span / (len(self) - 1))
        self.fps, self.variable_rate = exact_rate(len(self) / seconds), True

    def _fits(self, rate, tick):
        """Whether the frames come at an even rate.

        Close to the end up to three may be missing: a cut loses some of the pictures between the last ones.
        """
        slack = max(tick, Fraction(1, 900))  # Matroska rounds to milliseconds
        for i, p in enumerate(self._pts):
            late = (p - self._pts[0]) * tick - i / rate
            if late < -slack or late > slack + (3 / rate if i >= len(self) - 16 else 0):
                return False
        return True

    def _announced(self):
        """How many frames the file says it has; 0 where it does not say."""
        stream = self._stream
        if stream.frames:
            return stream.frames
        time = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))  # Matroska
        if time is None or self._pts is None or self.variable_rate:
            return 0
        hours, minutes, seconds = (float(part) for part in time.groups())
        seconds += 3600 * hours + 60 * minutes - float(self._pts[0] * stream.time_base)
        return int(seconds * float(self.fps) + 0.3)

    def _clean_keys(self):
        """Whether decoding can begin at a key frame (with intra refresh it cannot): tries the second."""
        if self._counted or len(self._keys) < 2:
            return not self._counted
        self._seek(1)
        number, _ = next(self._decoder, (None, None))
        self._decoder = None
        return number == self._keys[1]

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
                if packet.is_corrupt:
                    continue
                if floor is None and packet.size:
                    if not packet.is_keyframe or packet.pts not in self._number:
                        continue
                    floor = self._number[packet.pts]
                try:
                    frames = packet.decode()
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

    def _decode(self, i):
        if self._container is None:
            raise VideoError(f"{self.path!r} has been closed.")
        k = bisect.bisect_right(self._keys, i) - 1
        reachable = self._decoder is not None and self._position < i
        if not (reachable and (k < 0 or self._keys[k] <= self._position + 1)):
            self._seek(k)
        back = 1
        while i not in self._lost:
            frame = self._advance(i)
            if frame is not None:
                return frame
            if k <= 0:
                if not self._lost:
                    self._warn(f"Frame {i} of {self.path!r} is damaged; such frames repeat a neighbour.")
                self._lost.add(i)
            else:
                k, back = max(0, k - back), back * 2
                self._seek(k)
        for j in [*range(i - 1, -1, -1), *range(i + 1, len(self))]:
            if j not in self._lost:
                return self._frame(j)
        raise VideoError(f"No frame of {self.path!r} can be decoded.")

    def _to_rgb(self, frame):
        # Bicubic is what decord's filter graph uses; it matters for odd sizes and subsampled chroma only.
        # One reformatter for a file: frame.reformat() sets up a new scaler, with threads, for each frame.
        rgb = self._reformatter.reformat(
            frame, format="rgb24", interpolation="BICUBIC", threads=1
        ).to_ndarray()
        if self._turn is None:
            return rgb
        # A pixel (x, y) is shown at (a x + c y, b x + d y).
        a, b, c, d = self._turn
        if a == 0:
            rgb, a, d = rgb.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(rgb[::d, ::a])

    def _advance(self, i):
        """Decode up to frame i and return it, or None if the decoder passes without giving it."""
        for number, frame in self._decoder:
            self._position = number
            if number == i:
                return self._to_rgb(frame)
            if number > i:
                self._keep(number, self._to_rgb(frame))
                return None
            if number > i - self._capacity // 2 and number not in self._cache:
                self._keep(number, self._to_rgb(frame))  # for whoever walks backwards
        self._decoder = None
        return None


class DecordSource(CachedSource):
    """The same file through decord; `source`, a PyAVSource, has the index and steps in if decord fails."""

    backend = "decord"

    def __init__(self, source):
        super().__init__()
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._reference = source
        for name in ("path", "fps", "size", "has_audio", "colour", "variable_rate", "warnings", "_length"):
            setattr(self, name, getattr(source, name))
        try:
            self._reader = decord.VideoReader(source.path, num_threads=min(4, os.cpu_count() or 1))
            same = len(self._reader) == len(source) and all(
                np.array_equal(self._reader[i].asnumpy(), source[i]) for i in {0, len(source) - 1}
            )
        except Exception as error:  # decord raises its own classes and bare RuntimeErrors
            raise VideoError(f"decord cannot read {source.path!r} ({type(error).__name__}).") from None
        if not same:
            raise VideoError(f"decord does not give the frames of {source.path!r} as PyAV does.")
        source._cache.clear()

    def close(self):
        super().close()
        self._reader = None
        self._reference.close()

    def _decode(self, i):
        if self._reader is not None and self.backend == "decord":
            try:
                return self._reader[i].asnumpy()
            except Exception:
                self.backend = "pyav"  # damaged further in: PyAV goes on, and conceals or repeats
                self._reader = None
        return self._reference._frame(i)


def decord_objection(source):
    """Why decord should not read this file, in one sentence, or None.

    Measured on decord 0.6: it gives other pixels than PyAV for 10 bit, odd sizes and old MPEG codecs, wrong
    frames after a seek in streams with open groups of pictures or intra refresh and in MPEG-PS and MPEG-TS,
    and knows no AV1.
    """
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed."
    reasons = {
        "it is damaged": bool(source.warnings) or source._damaged,
        f"its codec is {source.codec}": source.codec not in ("h264", "hevc", "vp8", "vp9"),
        f"its container is {source.container_format}": not any(
            name in source.container_format for name in ("mov", "matroska")
        ),
        f"its pixels are {source.pixel_format}": source.pixel_format not in ("yuv420p", "yuvj420p"),
        "its size is odd": bool(source.height % 2 or source.width % 2),
        "it is rotated": source.rotated,
        "its frame rate varies": source.variable_rate,
        "its frames lean on groups of pictures before them": source.reordered_keys
        or not source._clean_keys(),
    }
    for reason, applies in reasons.items():
        if applies:
            return f"decord cannot be relied on for {source.path!r}, because {reason}."
    return None


def _open_container(path):
    try:
        if os.path.getsize(path) == 0:
            raise VideoError(f"{path!r} is an empty file.")
        container = av.open("file:" + path, metadata_errors="replace")
    except VideoError:
        raise
    except (av.FFmpegError, OSError, ValueError):
        raise VideoError(
            f"{path!r} is not a video that can be read, or it is cut off at a vital place."
        ) from None
    # Text as a film, and play lists that would open other files or addresses.
    if container.format.name in ("tty", "concat", "dash", "hls", "sdp"):
        container.close()
        raise VideoError(f"{path!r} is not a video.")
    cover = av.stream.Disposition.attached_pic
    streams = [
        s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None
    ]
    if not streams:
        container.close()
        raise VideoError(f"{path!r} has no video in it.")
    streams[0].thread_type = "AUTO"
    streams[0].codec_context.thread_count = min(4, os.cpu_count() or 1)  # each thread holds frames
    return container, streams[0]


def _orientation(frame):
    """The upper left of the frame's display matrix as four signs (a, b, c, d), or None if it is upright."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    matrix = np.frombuffer(bytes(data), np.int32)
    signs = tuple(int(np.sign(round(v / 65536))) for v in matrix[[0, 1, 3, 4]])
    return None if signs == (1, 0, 0, 1) or abs(signs[0] * signs[3] - signs[1] * signs[2]) != 1 else signs
