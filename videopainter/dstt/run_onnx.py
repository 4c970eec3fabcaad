"""Run an exported network where there is no PyTorch: onnxruntime, NumPy, OpenCV and PyAV are all it takes.

    python -m videopainter.dstt.run_onnx --network dstt.onnx --source in.mp4 --mask hole.png --output out.mp4

A small example to start from, without sound and without dropping frames; the full command line is
`python -m videopainter.dstt.stream`, which takes the same file as --weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import cv2
import numpy as np

from videopainter.dstt.runner_onnx import OnnxRunner
from videopainter.dstt.stream import DSTTStream
from videopainter.video import VideoWriter, open_video
from videopainter.video.container import regular_file


def paint(network: str, source: str, mask: str, output: str, threads: int | None = None) -> int:
    """Write ``source`` without what is in ``mask`` to ``output``; returns the number of frames.

    Raises ValueError, one sentence, for what cannot be read, written or does not fit. Nothing half-written is left.
    """
    stream = DSTTStream(OnnxRunner(network, threads))
    count, writer = 0, None
    with ExitStack() as stack:
        frames, rate, like = _frames(source, stack)
        holes = _masks(mask, stack)
        for frame in frames:
            hole = next(holes, None)
            if hole is None:
                raise ValueError(f"'{mask}' has no mask for frame {count}.")
            if hole.shape != frame.shape[:2]:
                raise ValueError(
                    f"'{mask}' is {hole.shape} (height, width), but the frames are {frame.shape[:2]}."
                )
            if writer is None:
                writer = stack.enter_context(VideoWriter(output, rate, frame.shape[:2], **like))
            writer.write(stream(frame, hole))
            count += 1
        if writer is None:
            raise ValueError(f"There is no frame in '{source}'.")
    return count


def _frames(source: str, stack: ExitStack) -> tuple[Iterable[np.ndarray], float, dict]:
    """(uint8 ``(h, w, 3)`` RGB until there are no more, frames a second, what a writer has to know of them)."""
    if not source.isdecimal():
        video = stack.enter_context(open_video(source))
        times = video.times if video.variable_rate else None
        return video, video.fps, {"colour": video.colour, "times": times, "aspect": video.aspect}
    camera = cv2.VideoCapture(int(source))
    stack.callback(camera.release)
    return _taken(camera), camera.get(cv2.CAP_PROP_FPS) or 25, {}


def _taken(camera) -> Iterator[np.ndarray]:
    while True:
        there, frame = camera.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _masks(path: str, stack: ExitStack) -> Iterator[np.ndarray]:
    """bool ``(h, w)``: an image again and again, or a video's frames."""
    regular_file(path)
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    while image is not None:
        yield image > 127
    for frame in stack.enter_context(open_video(path)):
        yield frame.max(axis=2) > 127


if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.run_onnx import main

    door(main)
