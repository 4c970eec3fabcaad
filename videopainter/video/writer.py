"""Video out: H.264 in mp4 that plays everywhere, with the sound of another file copied beside it."""

from __future__ import annotations

import os
import uuid
import warnings
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from videopainter.video.source import VideoError, exact_rate

# Sound that may stand in mp4 as it is; anything else becomes AAC.
COPIED_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac")
# (colorspace, primaries, transfer) in the numbers of ISO/IEC 23001-8, and swscale's name for the matrix
COLOURS = {"bt709": ((1, 1, 1), "ITU709"), "bt601": ((6, 6, 6), "ITU601"), "untagged": (None, "ITU601")}


class VideoWriter:
    """Write frames as H.264, yuv420p, with the index in front (faststart), at an exact rate and size.

    path: the mp4 to write. The frames go to a hidden file in the same folder, which takes the name `path`
    when the with-block ends well and is removed if it ends by any exception, KeyboardInterrupt included.
    fps: frames a second, an int or a Fraction. size: (height, width) of the frames.
    audio_from: a video file whose (first) sound track is copied without re-encoding; None, a folder, or a
    file without sound: silent. Sound that mp4 cannot hold (PCM, Vorbis ...) is encoded as AAC.
    duration: seconds after which the sound is cut. audio_start: seconds of `audio_from` that come before the
    first frame. crf: 0 (lossless) to 51; 18 is hard to tell from the source.
    colour: "bt601", "bt709", "untagged" (BT.601, not said in the file: for a source that does not say it
    either) or None: BT.709 from 720 lines on, else BT.601. `VideoSource.colour` is such a value. The range
    is limited (16-235), as players expect.

    H.264 in yuv420p has even sizes only (its cropping counts in steps of two pixels too), so an odd size is
    padded by repeating the last row or column, and the file is that one pixel larger: `encoded_size` says.
    Raises VideoError, one sentence, for what cannot be written.
    """

    def __init__(
        self, path, fps, size, audio_from=None, duration=None, *, audio_start=0, crf=18, colour=None
    ):
        self.path = os.path.abspath(os.fspath(path))
        folder, name = os.path.split(self.path)
        if not os.path.isdir(folder):
            raise VideoError(f"There is no folder {folder!r} to write {name!r} in.")
        if os.path.isdir(self.path):
            raise VideoError(f"{self.path!r} is a folder, not a file to write.")
        self.fps, self.size = exact_rate(fps), tuple(int(v) for v in size)
        if len(self.size) != 2 or min(self.size) < 2 or max(self.size) > 16384:
            raise VideoError(f"Video of size {size!r} (height, width) cannot be written.")
        if not 0 <= crf <= 51:
            raise VideoError(f"crf must be between 0 and 51, not {crf!r}.")
        h, w = self.size
        self.encoded_size = (h + h % 2, w + w % 2)
        self._colour = colour or ("bt709" if h >= 720 else "bt601")
        if self._colour not in COLOURS:
            raise VideoError(f"Unknown colour {colour!r}; use one of {', '.join(COLOURS)}.")
        self._crf, self._count, self._reformatter = crf, 0, VideoReformatter()
        self._temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.part")
        self._container = self._sound = None
        self._wanted_sound = (audio_from, duration, audio_start)
        self._sound_ends = None  # seconds; None: where it ends by itself

    def write(self, frames):
        """Append frames: uint8 RGB, (n, h, w, 3) or (h, w, 3)."""
        frames = np.asarray(frames)
        if frames.ndim == 3:
            frames = frames[None]
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (*self.size, 3):
            raise VideoError(
                f"A frame to write must be uint8 {(*self.size, 3)}, not {frames.dtype} {frames.shape[1:]}."
            )
        for rgb in frames:
            try:
                if self._container is None:
                    self._open()
                self._write_frame(rgb)
            except (av.FFmpegError, OSError) as error:
                raise self._cannot(error) from None

    def cut_sound(self):
        """Let the sound end with the frames written so far: for a video that is not finished."""
        self._sound_ends = self._count / self.fps

    def close(self):
        """Finish the file and give it its name. Not needed in a with-block."""
        try:
            if self._container is None:
                raise VideoError(f"There are no frames to write to {self.path!r}.")
            try:
                self._mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.copy_until(self._sound_ends)
                self._container.close()
                os.replace(self._temporary, self.path)
            except (av.FFmpegError, OSError) as error:
                raise self._cannot(error) from None
        finally:
            self.abort()

    def abort(self):
        """Throw away what was written; nothing happens after `close`."""
        container, self._container = self._container, None
        sound, self._sound = self._sound, None
        try:
            if sound is not None:
                sound.close()
            if container is not None:
                container.close()
        except (av.FFmpegError, OSError):
            pass
        finally:
            if os.path.exists(self._temporary):
                os.remove(self._temporary)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self):
        self._container = av.open(
            "file:" + self._temporary, "w", format="mp4", options={"movflags": "+faststart"}
        )
        stream = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(self._crf)})
        stream.height, stream.width = self.encoded_size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / self.fps
        tags = COLOURS[self._colour][0]
        if tags is not None:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = tags
            context.color_range = 1
        self._stream = stream
        audio_from, duration, start = self._wanted_sound
        if audio_from is not None and not os.path.isdir(audio_from):
            self._sound = _Sound.find(os.fspath(audio_from), self._container, start, duration)

    def _write_frame(self, rgb):
        h, w = self.size
        if h % 2 or w % 2:
            rgb = np.pad(rgb, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        tags, matrix = COLOURS[self._colour]
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=matrix,
            dst_color_range="MPEG",
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
        )
        # swscale's fast way from YUV to RGB, which PyAV and decord share, rounds down: about one level of
        # luma is lost at every brightness. Given back here, or a video would darken each time it is edited.
        luma = np.frombuffer(frame.planes[0], np.uint8)
        frame.planes[0].update(np.minimum(luma, 254) + np.uint8(1))
        if tags is None:
            frame.colorspace, frame.color_range = 2, 0
        frame.pts, frame.time_base = self._count, 1 / self.fps
        if self._sound is not None:
            self._sound.copy_until(self._count / self.fps)
        self._mux(self._stream.encode(frame))
        self._count += 1

    def _mux(self, packets):
        for packet in packets:
            packet.duration = packet.duration or 1
            self._container.mux(packet)

    def _cannot(self, error):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return VideoError(f"{self.path!r} cannot be written: {reason}.")


class _Sound:
    """The first sound track of a file on its way into another, in step with the pictures."""

    @classmethod
    def find(cls, path, output, start, duration):
        """The sound of `path`, or None if it has none."""
        if not os.path.exists(path):
            raise VideoError(f"There is no file {path!r} to take the sound from.")
        try:
            source = av.open("file:" + path, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError):
            raise VideoError(f"The sound of {path!r} cannot be read.") from None
        try:
            if source.streams.audio and source.streams.audio[0].codec_context is not None:
                return cls(source, output, start, duration)
        except (av.FFmpegError, OSError, ValueError):
            warnings.warn(f"The sound of {path!r} cannot be read; the result is silent.", stacklevel=2)
        source.close()
        return None

    def __init__(self, source, output, start, duration):
        self._source, self._output = source, output
        track = source.streams.audio[0]
        self._copied = track.codec_context.codec.canonical_name in COPIED_SOUND
        pictures = source.streams.video[0] if source.streams.video else None
        first = pictures.start_time * pictures.time_base if pictures and pictures.start_time else Fraction(0)
        self._shift = first + Fraction(start)  # seconds of the source at which the result begins
        self._begin = Fraction(start) > 0
        self._end = None if duration is None else Fraction(duration)
        if self._copied:
            self._stream = output.add_stream_from_template(track)
        else:
            self._stream = output.add_stream("aac", rate=track.codec_context.sample_rate)
            self._stream.layout = "stereo" if track.codec_context.channels > 1 else "mono"
        self._queue = self._packets(track) if self._copied else self._encoded(track)
        self._waiting = None

    def close(self):
        self._queue = None
        self._source.close()

    def copy_until(self, seconds):
        """Write the sound up to `seconds` of the result; None: the rest."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._queue, None)
            if self._waiting is None:
                return
            time, packet = self._waiting
            if seconds is not None and time > seconds:
                return
            self._waiting = None
            self._output.mux(packet)

    def _time(self, item):
        return item.pts * item.time_base - self._shift

    def _inside(self, time):
        # At the very start, what lies before the first picture stays: it is the codec's run-in.
        return not (self._begin and time < 0) and not (self._end is not None and time >= self._end)

    def _packets(self, track):
        last = None
        try:
            for packet in self._source.demux(track):
                if packet.size == 0 or packet.is_corrupt or packet.pts is None:
                    continue
                time = self._time(packet)
                if not self._inside(time) or (last is not None and packet.pts <= last):
                    continue
                last = packet.pts
                packet.pts = packet.dts = packet.pts - round(self._shift / packet.time_base)
                packet.stream = self._stream
                yield time, packet
        except av.FFmpegError:
            return  # cut off: the sound ends here

    def _encoded(self, track):
        """Sound decoded and encoded as AAC."""
        context = self._stream.codec_context
        resampler = av.AudioResampler(format="fltp", layout=self._stream.layout, rate=context.sample_rate)
        position = None
        for frame in self._decoded(track):
            time = self._time(frame)
            if not self._inside(time):
                continue
            for piece in resampler.resample(frame):
                if position is None:
                    position = round(time * context.sample_rate)
                piece.pts, piece.time_base = position, Fraction(1, context.sample_rate)
                position += piece.samples
                for packet in self._stream.encode(piece):
                    yield time, packet
        for packet in self._stream.encode(None) if position is not None else ():
            yield Fraction(0), packet

    def _decoded(self, track):
        try:
            for packet in self._source.demux(track):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                yield from (frame for frame in frames if frame.pts is not None)
        except av.FFmpegError:
            return
