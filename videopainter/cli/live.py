"""What `videopainter stream` does: captured frames through a stream to a writer, until they end."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videopainter.cli import errors
from videopainter.dstt import capture
from videopainter.dstt.loading import load_runner
from videopainter.dstt.stream import DSTTStream
from videopainter.engine import ENGINES
from videopainter.inpaint import FEATHER, dilation_radius
from videopainter.masks import MaskError, dilate, load_masks
from videopainter.steps.composition import paste
from videopainter.utils.signals import Stop
from videopainter.video import VideoError, VideoSource, VideoWriter, open_video

PIPE = "-"
_PATIENCE = 0.1  # seconds after which a wait for the next frame looks whether to stop
_REMEMBERED = 1000  # frames whose latency is kept

Masks = Callable[[int, np.ndarray], np.ndarray]  # (number of the frame, frame) -> bool (h, w)


class ReaderGone(Exception):
    """Nobody reads the output pipe any more."""


@dataclass
class Summary:
    """What a run did. ``latency``: seconds from a frame's arrival until it was written, of the last ones."""

    painted: int = 0
    written: int = 0
    seconds: float = 0.0
    latency: deque = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def dropped(self) -> int:
        return self.written - self.painted

    def __str__(self) -> str:
        said = f"{self.painted} frames"
        if self.dropped:
            said += f", {self.dropped} dropped"
        if self.seconds > 0 and self.latency:
            middle, worst = np.percentile(self.latency, (50, 99)) * 1000
            said += f", {self.painted / self.seconds:.1f} a second, latency {middle:.0f} ms (p99 {worst:.0f})"
        return said


class Loop:
    """Captured frames through a stream to a writer.

    Args:
        paint: ``(frame uint8 (h, w, 3), hole bool (h, w)) -> uint8 (h, w, 3)``, such as a `DSTTStream`.
        masks: the hole of a frame, already dilated.
        write: takes each finished frame.
        feather: pixels over which a result fades in inside the hole.

    In place of frames that were dropped the last result is written again, so that the output keeps time.
    """

    def __init__(self, paint, masks: Masks, write: Callable[[np.ndarray], None], feather: float = 0.0):
        self._paint, self._masks, self._write, self._feather = paint, masks, write, feather
        self.summary = Summary()

    def run(
        self, frames: capture.CaptureThread, stopped: Callable[[], bool], most: int | None = None
    ) -> None:
        """Until the frames end, ``stopped()`` is true, or ``most`` frames are written.

        Raises what the capture, the masks or the writer raise; `summary` holds what was done by then.
        """
        start, result = time.monotonic(), None
        try:
            while not stopped() and (most is None or self.summary.written < most):
                try:
                    item = frames.get(_PATIENCE)
                except EOFError:
                    return
                if item is None:
                    continue
                number, came, frame = item
                last, result = result, self._finish(number, frame)
                if most is not None:
                    number = min(number, most - 1)
                while self.summary.written < number:
                    self._put(result if last is None else last)
                self._put(result)
                self.summary.painted += 1
                self.summary.latency.append(time.monotonic() - came)
        finally:
            self.summary.seconds = time.monotonic() - start

    def _finish(self, number: int, frame: np.ndarray) -> np.ndarray:
        hole = self._masks(number, frame)
        frame = np.ascontiguousarray(frame[..., :3])
        return paste(frame, self._paint(frame, hole), hole, self._feather)

    def _put(self, frame: np.ndarray) -> None:
        self._write(frame)
        self.summary.written += 1


def fixed_mask(hole: np.ndarray, radius: float) -> Masks:
    """The same hole, bool ``(h, w)``, in every frame."""
    grown = dilate(hole, radius)
    return lambda number, frame: grown


def track_masks(track, radius: float) -> Masks:
    """Those of a `MaskTrack`. Raises MaskError for a frame after its last."""

    def mask(number: int, frame: np.ndarray) -> np.ndarray:
        if number >= len(track):
            raise MaskError(f"There are {len(track)} masks, but more frames.")
        return dilate(track[number], radius)

    return mask


def alpha_masks(radius: float) -> Masks:
    """The fourth channel of a frame: over 127 is repainted."""
    return lambda number, frame: dilate(frame[..., 3] > 127, radius)


def boxes_mask(boxes: Sequence[tuple[float, ...]], size: tuple[int, int]) -> np.ndarray:
    """bool ``size``: all boxes X0, Y0, X1, Y1, their edges included. Raises MaskError for one outside the frame."""
    hole = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes:
        part = hole[max(int(y0), 0) : max(int(y1) + 1, 0), max(int(x0), 0) : max(int(x1) + 1, 0)]
        if part.size == 0:
            raise MaskError(
                f"The box {x0:g},{y0:g},{x1:g},{y1:g} holds no pixel of a frame of {size[1]} x {size[0]}."
            )
        part[:] = True
    return hole


def pipe_writer(handle: int) -> Callable[[np.ndarray], None]:
    """Writes frames as raw rgb24 to a file descriptor. Raises ReaderGone if nobody reads them any more."""

    def write(frame: np.ndarray) -> None:
        data = np.ascontiguousarray(frame).reshape(-1).data
        try:
            while data:
                data = data[os.write(handle, data) :]
        except BrokenPipeError:
            raise ReaderGone from None

    return write


def is_video(source: str) -> bool:
    """Whether ``--source`` is a video or a folder, not a camera or the pipe."""
    return source != PIPE and not source.isdecimal()


def run(args: argparse.Namespace, stop: Stop) -> int:
    """The command with flags that go together; returns the exit status."""
    paint = DSTTStream(load_runner(args.weights, args.device, args.threads, args.allow_code))
    with ExitStack() as stack:
        frames = _open(args)
        stack.callback(lambda: frames.close())
        radius = dilation_radius(args.dilate_size, ENGINES["dstt"], frames.size[0])
        masks = _masks(args, frames, radius)
        if args.output == PIPE:
            writer, write = None, pipe_writer(sys.stdout.fileno())
        else:
            writer = stack.enter_context(
                VideoWriter(args.output, frames.fps, frames.size, **_like(frames.source))
            )
            write = writer.write
        if args.warm_start is not None:
            _warm_start(paint, args.warm_start, frames.size)
        loop = Loop(paint, masks, write, FEATHER * radius)
        error = _through(loop, frames, args, stop)
        if loop.summary.written == 0:
            raise error or (
                KeyboardInterrupt() if stop() else VideoError(f"No frame came from '{args.source}'.")
            )
        if frames.source is not None and writer is not None and loop.summary.written < len(frames.source):
            writer.cut_sound()
    errors.say(f"dstt: {loop.summary}.")
    if error is None:
        return errors.OK
    errors.fail("dstt", f"{errors.sentence(error).rstrip('.')}. What came before it is written.")
    return errors.REFUSED


def _like(source: VideoSource | None) -> dict[str, Any]:
    """What of a video's tags, times and sound a writer of its frames is to keep."""
    if source is None:
        return {}
    return {
        "audio_from": source.companions,
        "colour": source.colour,
        "pixel_format": source.pixel_format,
        "aspect": source.aspect,
        "times": source.times if source.variable_rate else None,
    }


def _through(loop: Loop, frames: capture.Capture, args: argparse.Namespace, stop: Stop) -> Exception | None:
    """Run the loop; what is wrong with the frames or masks is returned, since what was done before is good."""
    pictures = frames.frames
    if args.keep_up and frames.source is not None:
        pictures = capture.paced(pictures, frames.fps)
    thread = capture.CaptureThread(pictures, newest=args.keep_up)
    try:
        loop.run(thread, stop, args.max_frames)
    except ReaderGone:
        errors.say("dstt: nobody reads the output any more.")
    except (VideoError, MaskError) as error:
        return error
    finally:
        if not thread.close():
            frames.close = lambda: None  # it sits in a read; its device cannot be taken from under it
    return None


def _open(args: argparse.Namespace) -> capture.Capture:
    if args.source == PIPE:
        return capture.pipe(sys.stdin.fileno(), args.size, args.fps or 25, 4 if args.alpha_mask else 3)
    if not is_video(args.source):
        return capture.camera(int(args.source), args.size, args.fps)
    return capture.video(open_video(args.source, fps=args.fps))


def _warm_start(stream: DSTTStream, path: str, size: tuple[int, int]) -> None:
    with open_video(path) as before:
        if tuple(before.size) != tuple(size):
            raise VideoError(
                f"'{path}' is {before.width} x {before.height}, but the stream is {size[1]} x {size[0]}."
            )
        stream.warm_start(before)


def _masks(args: argparse.Namespace, frames: capture.Capture, radius: float) -> Masks:
    if args.alpha_mask:
        return alpha_masks(radius)
    if args.box:
        return fixed_mask(boxes_mask(args.box, frames.size), radius)
    if frames.source is not None:
        return track_masks(load_masks(args.mask, frames.source), radius)
    return fixed_mask(load_masks(args.mask, _Still(frames.size))[0], radius)


class _Still:
    """One frame of a size: what one mask has to fit."""

    def __init__(self, size: tuple[int, int]):
        self.size = size

    def __len__(self) -> int:
        return 1
