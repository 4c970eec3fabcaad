"""Video out: frames with their times, colours and companions into the container that the name's ending says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from videopainter.video.colour import NAMED, Colour, tone_up
from videopainter.video.container import shown
from videopainter.video.encoders import FileEncoder, FolderEncoder, refuse_foreign
from videopainter.video.formats import (
    FOLDER,
    QUALITY,
    codec_for,
    container_of,
    has_alpha,
    layout_for,
)
from videopainter.video.source import VideoError, exact_rate
from videopainter.video.stored import Scaler, StoredFrame, paste_rgb
from videopainter.video.times import clock_of
from videopainter.video.tracks import Tracks


class VideoWriter:
    """Write frames with their times, and the sound of another file beside them.

    path: what to write; the ending decides: .mp4, .mov, .mkv, .webm, .avi, .gif, or none for a folder of images.
    The frames go to a hidden file (or folder) beside it, which takes the name `path` when the with-block ends well
    and is removed if it ends by any exception, KeyboardInterrupt included.
    fps: frames a second, an int or a Fraction. size: (height, width) of the frames.
    audio_from: a video file whose sound, subtitles, chapters and words about itself come along, copied where the
    container can hold them; None, a folder, or a file without any: silent.
    duration: seconds after which they are cut. audio_start: seconds of `audio_from`, after its first picture, that
    come before the first frame.
    times: seconds at which each frame is shown, rising from 0, where they do not come evenly.
    codec: "h264", "hevc", "av1", "vp9", "prores", "ffv1", "png", "exr" or "gif", as far as the container holds it;
    None: what suits it, H.264 or for more than 8 bits HEVC in mp4. quality: 0 to 100, lossless where the codec
    can; 65 is hard to tell from the source. prores, ffv1, png, exr and gif know no quality.
    colour: the tags to write, a `Colour` such as `VideoSource.colour`, or "bt601", "bt709", "untagged"; None:
    BT.709 from 720 lines on, else BT.601, limited range. pixel_format: libav's name of what the source stores, so
    that more than 8 bits and alpha are kept where they can be. aspect: width of a pixel divided by its height.

    Formats with shared samples of colour (4:2:0) have even sizes in most codecs, so an odd size is padded by
    repeating the last row or column, and the file is that one pixel larger: `encoded_size` says.
    `warnings` lists, in sentences, what was not kept, once the first frame is written.
    Raises VideoError, one sentence, for what cannot be written.
    """

    def __init__(
        self,
        path,
        fps,
        size,
        audio_from=None,
        duration=None,
        *,
        audio_start=0,
        times: Sequence[Fraction] | None = None,
        codec: str | None = None,
        quality: float | None = None,
        colour: Colour | str | None = None,
        pixel_format: str | None = None,
        aspect: Fraction = Fraction(1),
    ):
        name = os.fspath(path)
        self.path, self.warnings = os.path.abspath(name), []
        self._container = container_of(name)
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise VideoError(
                f"There is no folder {shown(folder)} to write {os.path.basename(self.path)!r} in."
            )
        if os.path.isdir(self.path):
            if self._container is not FOLDER:
                raise VideoError(f"{shown(self.path)} is a folder, not a file to write.")
            refuse_foreign(self.path)
        self.fps, self.size = exact_rate(fps), tuple(int(v) for v in size)
        if len(self.size) != 2 or min(self.size) < 2 or max(self.size) > 16384:
            raise VideoError(f"Video of size {size!r} (height, width) cannot be written.")
        self.quality = QUALITY if quality is None else quality
        if not 0 <= self.quality <= 100:
            raise VideoError(f"The quality must be between 0 and 100, not {quality!r}.")
        if isinstance(colour, str) and colour not in NAMED:
            raise VideoError(f"Unknown colour {colour!r}; use one of {', '.join(NAMED)}.")
        given = NAMED[colour] if isinstance(colour, str) else colour
        depth = given.depth if given is not None else 8
        alpha = has_alpha(pixel_format or "")
        self.codec = codec_for(name, codec, depth, alpha)
        keeps_alpha = self.codec in self._container.alpha
        self._layout = layout_for(self.codec, keeps_alpha, pixel_format, depth)
        if alpha and not self._layout.alpha:
            self.warnings.append(f"Alpha is dropped: {self.codec} in {self._container.muxer} holds none.")
        if depth > 8 and self._layout.depth == 8:
            how = "toned down" if given is not None and given.hdr and self.codec == "gif" else "rounded"
            self.warnings.append(f"{depth} bits a channel are {how} to the 8 that {self.codec} holds here.")
        self._colour = _written_colour(given, self._layout, self.size[0])
        if not self._layout.rgb and (self.codec == "prores" or self._container.muxer == "avi"):
            self._colour = replace(self._colour, range="limited")  # neither can say that it is not
        self.encoded_size = self.size
        if self._layout.shift != (0, 0) and self.codec not in ("ffv1", "vp9"):
            (across, down), (h, w) = self._layout.shift, self.size
            self.encoded_size = (h + h % 2 * down, w + w % 2 * across)
        self._times, self._aspect = times, Fraction(aspect)
        self._time_base = 1 / self.fps if times is None else clock_of(times)
        if self.codec == "gif":
            self._time_base = Fraction(1, 100)
        self._count, self._scaler = 0, Scaler()
        self._encoder = self._tracks = None
        self._companions = (audio_from, duration, audio_start)
        self._sound_ends = None  # seconds; None: where it ends by itself

    def write(self, frames):
        """Append frames: uint8 RGB, (n, h, w, 3) or (h, w, 3)."""
        frames = np.asarray(frames)
        if frames.ndim == 3:
            frames = frames[None]
        for rgb in self._checked(frames):
            self._append(self._planes_of(rgb))

    def write_over(self, stored: StoredFrame | None, frame: np.ndarray, hole: np.ndarray):
        """Append one frame: what its source stores, with uint8 RGB `frame` (h, w, 3) where bool `hole` (h, w) is True.

        Without `stored` all of `frame` is taken.
        """
        (frame,) = self._checked(np.asarray(frame)[None])
        if stored is None or self.codec == "gif":
            self._append(self._planes_of(frame))
            return
        planes = stored.planes(self._layout, self._colour, self._scaler)
        paste_rgb(planes, self._layout, frame, hole, self._colour)
        self._append(planes)

    def write_cut_out(self, frame: np.ndarray, alpha: np.ndarray):
        """Append one frame: uint8 RGB (h, w, 3), as opaque as uint8 `alpha` (h, w) says; 255 is wholly so.

        For writers that were made with a `pixel_format` that has alpha; raises VideoError if the codec holds none.
        """
        if not self._layout.alpha:
            raise VideoError(f"{self.codec} in {shown(self.path)} holds no alpha.")
        (frame,) = self._checked(np.asarray(frame)[None])
        planes = self._planes_of(frame)
        largest = 2**self._layout.depth - 1
        planes[-1] = np.rint(alpha.astype(np.float32) * (largest / 255)).astype(planes[-1].dtype)
        self._append(planes)

    def cut_sound(self):
        """Let the sound end with the frames written so far: for a video that is not finished."""
        self._sound_ends = self._time(self._count)

    def close(self):
        """Finish the file and give it its name. Not needed in a with-block."""
        try:
            if self._encoder is None:
                raise VideoError(f"There are no frames to write to {shown(self.path)}.")
            try:
                tracks = self._tracks
                self._encoder.finish(tracks and (lambda: tracks.copy_until(self._sound_ends)))
                self._encoder = None
            except (av.FFmpegError, OSError) as error:
                raise self._cannot(error) from None
        finally:
            self.abort()

    def abort(self):
        """Throw away what was written; nothing happens after `close`."""
        encoder, self._encoder = self._encoder, None
        tracks, self._tracks = self._tracks, None
        try:
            if tracks is not None:
                tracks.close()
        finally:
            if encoder is not None:
                encoder.abort()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.close()
        else:
            self.abort()

    def _checked(self, frames):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (*self.size, 3):
            raise VideoError(
                f"A frame to write must be uint8 {(*self.size, 3)}, not {frames.dtype} {frames.shape[1:]}."
            )
        return frames

    def _append(self, planes):
        try:
            if self._encoder is None:
                self._open()
            if self._times is not None and self._count >= len(self._times):
                raise VideoError(f"There are {len(self._times)} times, but more frames.")
            (h, w), (height, width) = self.size, self.encoded_size
            if (h, w) != (height, width):
                planes = [
                    np.pad(plane, ((0, more[0]), (0, more[1])), mode="edge")
                    for number, plane in enumerate(planes)
                    for more in [np.subtract(self._layout.plane_size(number, (height, width)), plane.shape)]
                ]
            time = self._time(self._count)
            if self._tracks is not None:
                self._tracks.copy_until(time)
            pts = round(time / self._time_base)
            duration = round(self._time(self._count + 1) / self._time_base) - pts
            self._encoder.write(planes, pts, max(1, duration))
            self._count += 1
        except (av.FFmpegError, OSError) as error:
            raise self._cannot(error) from None

    def _time(self, number):
        """Seconds at which a frame is shown; of the one after the last, at which the video ends."""
        if self._times is None:
            return number / self.fps
        if number < len(self._times):
            return self._times[number]
        return max(len(self._times) / self.fps, self._times[-1] + self._time_base)

    def _planes_of(self, rgb):
        if self._colour.hdr and self.codec != "gif":
            values = np.rint(tone_up(self._colour.transfer)[rgb] * 65535).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(values, format="rgb48le")
        else:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        planes = StoredFrame(frame, self.size).planes(self._layout, self._colour, self._scaler)
        # What the way from the source's YUV to RGB has cost is given back, or a video would darken at each edit.
        lost = round(self._colour.bias[0])
        if lost and not self._layout.rgb and self._layout.depth == 8:
            planes[0] = np.clip(planes[0].astype(np.int16) + lost, 0, 255).astype(np.uint8)
        return planes

    def _open(self):
        if self._container is FOLDER:
            self._encoder = FolderEncoder(self.path, self.codec, self._layout, self._colour)
        else:
            self._encoder = FileEncoder(
                self.path,
                self._container,
                self.codec,
                self._layout,
                self.encoded_size,
                rate=self.fps,
                time_base=self._time_base,
                aspect=self._aspect,
                colour=self._colour,
                quality=self.quality,
            )
        audio_from, duration, start = self._companions
        if audio_from is not None and not os.path.isdir(audio_from) and self._container is not FOLDER:
            self._tracks = Tracks(audio_from, self._encoder.output, self._container, start, duration)
            self._tracks.copy_words()
            self.warnings += self._tracks.said

    def _cannot(self, error):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return VideoError(f"{shown(self.path)} cannot be written: {reason}.")


def _written_colour(given: Colour | None, layout, lines: int) -> Colour:
    """The tags to write: those given, with a matrix where RGB becomes YUV, and the other way round."""
    usual = NAMED["bt709" if lines >= 720 else "bt601"]
    if given is None:
        return replace(usual, matrix="rgb", range="full") if layout.rgb else usual
    if layout.rgb:
        return replace(given, matrix="rgb", range="full")
    if given.matrix == "rgb":
        return replace(
            given,
            matrix="bt2020nc" if given.primaries == "bt2020" else usual.matrix,
            primaries=given.primaries or usual.primaries,
            transfer=given.transfer or usual.transfer,
            range="limited",
        )
    return given
