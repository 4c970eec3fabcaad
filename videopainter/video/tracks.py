"""What accompanies the pictures on their way into another file: sound, subtitles, chapters, words about it all."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from videopainter.video.container import exact, open_container, shown, words_of
from videopainter.video.formats import Container
from videopainter.video.source import VideoError

# libav's encoders of subtitles want to know a style; this is the plain one.
STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,16,&Hffffff

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
RUN_UP = 30  # seconds before a part at which reading begins
JUMP = Fraction(1, 4)  # seconds by which a clock must go back to count as started anew
TEXT = ("subrip", "ass", "ssa", "webvtt", "mov_text", "text")
RATES: dict[str, tuple[int, ...]] = {  # that an encoder takes; those that are not named take any
    "aac": (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
    "libopus": (48000,),
}
BITS = {"aac": 96_000, "libopus": 80_000}  # a second and channel
# Of what a file says about itself, that which belongs to the old file only.
TECHNICAL = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "bps",
    "number_of_frames",
)
# QuickTime knows languages by their older codes.
OLDER = {
    "deu": "ger",
    "fra": "fre",
    "nld": "dut",
    "zho": "chi",
    "ces": "cze",
    "ell": "gre",
    "fas": "per",
    "ron": "rum",
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class Tracks:
    """The companions of the pictures of `path`, in step with a result that begins `start` seconds after the first one.

    duration: seconds of the result; None: to the end. With a start of 0 what lies before the first picture stays: it
    is the codec's run-in. `said` lists, in sentences, what could not be kept as it was.
    Raises VideoError if there is no such file; one without companions is nothing wrong.
    """

    def __init__(self, path, output, container: Container, start=0, duration=None):
        self.said: list[str] = []
        self._path = os.fspath(path)
        if not os.path.exists(self._path):
            raise VideoError(f"There is no file {shown(self._path)} to take the sound from.")
        self._output, self._container = output, container
        self._source: Any = None
        try:
            self._source = open_container(self._path)
        except VideoError:
            raise VideoError(f"The sound of {shown(self._path)} cannot be read.") from None
        pictures = self._source.streams.video[0] if self._source.streams.video else None
        first = Fraction(0)
        if pictures is not None and pictures.start_time:
            first = pictures.start_time * exact(pictures.time_base)
        self._start, self._cut_start = first + Fraction(start), Fraction(start) > 0
        self._end = None if duration is None else Fraction(duration)
        self._tracks: dict[int, _Track] = {}
        self._waiting: deque = deque()
        try:
            for stream in self._source.streams:
                self._add(stream)
        except BaseException:
            self.close()
            raise
        self._queue: Iterator[tuple[Fraction, object]] | None = self._packets()
        self._tell_others()

    def close(self) -> None:
        self._queue = None
        if self._source is not None:
            self._source.close()

    def copy_words(self) -> None:
        """Title, time of creation, place and chapters."""
        words: dict[str, str] = {}
        for key, value in words_of(self._source.metadata).items():
            name = key.lower()
            if name in ("com.apple.quicktime.location.iso6709", "location-eng"):
                name = "location"
            elif name == "com.apple.quicktime.creationdate":
                name = "date"
            if name not in TECHNICAL and not name.startswith("_statistics"):
                words.setdefault(name if name.islower() else key, value)
        self._output.metadata.update(words)
        chapters = []
        for chapter in self._source.chapters():
            base = exact(chapter["time_base"])
            begin, end = (chapter[side] * base - self._start for side in ("start", "end"))
            if end <= 0 or (self._end is not None and begin >= self._end):
                continue
            begin = max(begin, Fraction(0))
            end = end if self._end is None else min(end, self._end)
            fine = Fraction(1, 1000)
            chapters.append(
                {
                    "id": chapter["id"],
                    "start": round(begin / fine),
                    "end": round(end / fine),
                    "time_base": fine,
                    "metadata": words_of(chapter["metadata"]),
                }
            )
        if chapters:
            if self._container.muxer in ("mp4", "mov", "matroska", "webm"):
                self._output.set_chapters(chapters)
            else:
                self.said.append(f"The {len(chapters)} chapters are dropped, which the output cannot hold.")

    def copy_until(self, seconds) -> None:
        """Write what belongs before `seconds` of the result; None: the rest."""
        while self._queue is not None:
            if not self._waiting:
                item = next(self._queue, None)
                if item is None:
                    return
                self._waiting.append(item)
            time, packet = self._waiting[0]
            if seconds is not None and time > seconds:
                return
            self._waiting.popleft()
            self._output.mux(packet)

    # -- which tracks --

    def _add(self, stream) -> None:
        if stream.type == "audio":
            self._add_sound(stream)
        elif stream.type == "subtitle":
            self._add_subtitles(stream)

    def _add_sound(self, stream) -> None:
        context, number = stream.codec_context, self._count("audio") + 1
        if context is None:
            self.said.append(f"Sound track {number} is dropped: its codec is not known.")
            return
        codec = context.codec.canonical_name
        if not self._container.sound:
            self.said.append(f"Sound track {number} is dropped, which the output cannot hold.")
            return
        try:
            if codec in self._container.sound or self._container.sound == ("*",):
                out = self._output.add_stream_from_template(stream)
                track: _Track = _Copied(stream, out)
            else:
                encoded = track = _Encoded(stream, self._output, self._container.encoded)
                self.said.append(f"Sound track {number}, {codec}, is encoded as {encoded.words}.")
        except (av.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.said.append(f"Sound track {number}, {codec}, is dropped: {reason}.")
            return
        self._keep(stream, track)

    def _add_subtitles(self, stream) -> None:
        context, number = stream.codec_context, self._count("subtitle") + 1
        codec = context.codec.canonical_name if context is not None else "unknown"
        try:
            if codec in self._container.subtitles:
                track: _Track = _Copied(stream, self._output.add_stream_from_template(stream))
            elif codec in TEXT and self._container.text is not None:
                track = _Text(stream, self._output, self._container.text, codec)
                self.said.append(f"Subtitle track {number}, {codec}, is written as {self._container.text}.")
            else:
                self.said.append(
                    f"Subtitle track {number}, {codec}, is dropped, which the output cannot hold."
                )
                return
        except (av.FFmpegError, ValueError, OSError):
            self.said.append(f"Subtitle track {number}, {codec}, is dropped: it cannot be carried over.")
            return
        self._keep(stream, track)

    def _keep(self, stream, track) -> None:
        words = words_of(stream.metadata)
        for key in ("language", "title", "handler_name"):
            if value := words.get(key):
                if key == "language" and self._container.muxer == "mov" and stream.type == "audio":
                    value = OLDER.get(value, value)
                track.out.metadata[key] = value
        track.out.disposition = stream.disposition
        self._tracks[stream.index] = track

    def _count(self, kind: str) -> int:
        return sum(self._source.streams[index].type == kind for index in self._tracks)

    def _tell_others(self) -> None:
        """Name what is left behind."""
        cover = av.stream.Disposition.attached_pic
        pictures = [s for s in self._source.streams.video if not s.disposition & cover]
        if len(pictures) > 1:
            self.said.append(f"Only the first of {len(pictures)} tracks of pictures is kept.")
        if len(self._source.streams.video) > len(pictures):
            self.said.append("The cover picture is dropped.")
        for stream in self._source.streams:
            chapters = stream.type == "data" and self._source.chapters()  # mp4 keeps their names in a track
            if stream.type in ("data", "attachment") and not chapters:
                words = words_of(stream.metadata)
                what = words.get("handler_name") or words.get("filename") or stream.type
                self.said.append(f"The track of data '{what.strip()[:60]}' is dropped.")

    # -- what is in them --

    def _packets(self) -> Iterator[tuple[Fraction, object]]:
        """(seconds of the result, packet) in the order of the file."""
        if not self._tracks:
            return
        streams = [self._source.streams[index] for index in self._tracks]
        if self._start > RUN_UP:  # subtitles may begin long before they are read
            try:
                self._source.seek(int((self._start - RUN_UP) * 1_000_000))
            except av.FFmpegError:
                pass  # then from the beginning
        ended = set()
        try:
            for packet in self._source.demux(*streams):
                track = self._tracks[packet.stream.index]
                if packet.size == 0 or packet.is_corrupt or packet.pts is None:
                    continue
                track.follow_clock(packet)
                tick = exact(packet.time_base)
                time = packet.pts * tick - self._start + track.offset
                if self._end is not None and time >= self._end:
                    ended.add(packet.stream.index)
                    if len(ended) == len(self._tracks):
                        break
                    continue
                span = (packet.duration or 0) * tick
                if self._cut_start and time + (span if track.out.type == "subtitle" else 0) < 0:
                    track.skip(packet)
                    continue
                yield from track.packets(packet, max(time, Fraction(0)) if self._cut_start else time)
        except av.FFmpegError:
            pass  # cut off: the sound ends here
        for track in self._tracks.values():
            yield from track.rest()


class _Track:
    def __init__(self, stream, out):
        self.stream, self.out, self.offset = stream, out, Fraction(0)
        self._until = None  # seconds of the file at which the last packet ends

    def follow_clock(self, packet) -> None:
        """Go on after a clock that starts anew, as in streams that were glued together."""
        tick = exact(packet.time_base)
        begin = packet.pts * tick + self.offset
        if self._until is not None and begin < self._until - JUMP and self.out.type == "audio":
            self.offset += self._until - begin
            begin = self._until
        self._until = max(self._until or begin, begin + (packet.duration or 0) * tick)

    def packets(self, packet, time) -> Iterator[tuple[Fraction, object]]:
        """(seconds of the result, packet) of what comes of a packet of the file that belongs at `time`."""
        raise NotImplementedError

    def skip(self, packet) -> None:
        """A packet that is not written; a decoder may have to see it."""

    def rest(self):
        return ()


class _Copied(_Track):
    """Packets as they are."""

    _last = None

    def packets(self, packet, time):
        stamp = round(time / exact(packet.time_base))
        if self._last is not None and stamp <= self._last:
            return
        self._last = stamp
        packet.pts = packet.dts = stamp
        packet.stream = self.out
        yield time, packet


class _Encoded(_Track):
    """Sound decoded and encoded anew, with all its channels."""

    def __init__(self, stream, output, codec):
        context = stream.codec_context
        rates = RATES.get(codec, ())
        rate = context.sample_rate
        if rates and rate not in rates:
            rate = next((r for r in (48000, *rates) if rate % r == 0 and r <= rate), 48000)
        out = output.add_stream(codec, rate=rate)
        channels = context.channels
        if channels not in LAYOUTS:
            raise ValueError(f"it has {channels} channels")
        named = context.layout.name
        out.layout = named if "channels" not in named and channels > 2 else LAYOUTS[channels]
        if codec in BITS:
            out.codec_context.bit_rate = max(128_000, BITS[codec] * channels)
        super().__init__(stream, out)
        out.codec_context.open()
        self._resampler = av.AudioResampler(
            format=out.codec_context.format, layout=out.layout, rate=out.codec_context.sample_rate
        )
        self._position = None
        changed = f", {rate} Hz for {context.sample_rate}" if rate != context.sample_rate else ""
        self.words = f"{codec.removeprefix('lib')}{changed}"

    def packets(self, packet, time):
        for frame in self._decoded(packet):
            for piece in self._resampler.resample(frame):
                yield from self._encode(piece, time)

    def skip(self, packet):
        self._decoded(packet)

    def _decoded(self, packet):
        try:
            return [frame for frame in packet.decode() if frame.pts is not None]
        except av.FFmpegError:
            return []

    def _encode(self, piece, time):
        rate = self.out.codec_context.sample_rate
        if piece is not None:
            if self._position is None:
                self._position = round(time * rate)
            piece.pts, piece.time_base = self._position, Fraction(1, rate)
            self._position += piece.samples
        for packet in self.out.encode(piece):
            yield time, packet

    def rest(self):
        if self._position is not None:
            end = Fraction(self._position, self.out.codec_context.sample_rate)
            for piece in self._resampler.resample(None):
                yield from self._encode(piece, end)
            yield from self._encode(None, end)


class _Text(_Track):
    """Subtitles of text in another form, without their styles."""

    def __init__(self, stream, output, codec, before):
        super().__init__(stream, output.add_stream(codec))
        self.out.codec_context.subtitle_header = STYLE
        self._codec, self._before = codec, before

    def packets(self, packet, time):
        text = plain_text(bytes(packet), self._before)
        if not text:
            return
        data = text.encode()
        if self._codec == "mov_text":
            data = len(data).to_bytes(2, "big") + data
        made = av.Packet(data)
        made.time_base = Fraction(1, 1000)
        made.pts = made.dts = round(time * 1000)
        made.duration = round((packet.duration or 0) * exact(packet.time_base) * 1000)
        made.stream = self.out
        yield time, made


def plain_text(data: bytes, codec: str) -> str:
    """The words of a packet of subtitles."""
    if codec == "mov_text":
        return data[2 : 2 + int.from_bytes(data[:2], "big")].decode("utf-8", "replace").strip("\0")
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", 8)[-1].replace("\\N", "\n").replace("\\n", "\n")
        return re.sub(r"\{[^}]*\}", "", text).strip()
    return re.sub(r"<[^>]*>", "", text).strip()
