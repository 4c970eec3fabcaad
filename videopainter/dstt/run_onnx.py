"""Run an exported network where there is no PyTorch: onnxruntime, NumPy and OpenCV are all it takes.

    python -m videopainter.dstt.run_onnx --network dstt.onnx --source in.mp4 --mask hole.png --output out.mp4

A small example to start from, without sound and without dropping frames; the full command line is
`python -m videopainter.dstt.stream`, which takes the same file as --weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import cv2
import numpy as np

from videopainter.dstt.runner_onnx import OnnxRunner
from videopainter.dstt.stream import DSTTStream

# Containers that hold their frames themselves; a playlist would open other files and addresses.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,mxf,nut,gif,yuv4mpegpipe,h264,hevc,m4v,ivf"


def paint(network: str, source: str, mask: str, output: str, threads: int | None = None) -> int:
    """Write ``source`` without what is in ``mask`` to ``output``; returns the number of frames.

    Raises ValueError, one sentence, for what cannot be read, written or does not fit. Nothing half-written is left.
    """
    folder, name = os.path.split(os.path.abspath(output))
    ending = os.path.splitext(name)[1].lower()
    if ending not in (".mp4", ".avi") or not os.path.isdir(folder):
        raise ValueError(
            f"'{output}' cannot be written: it needs to end in .mp4 or .avi, in a folder that is there."
        )
    # The end of the name says which container it is; numbers in it would stand for a sequence of images.
    temporary = _text(os.path.join(folder, f".{os.getpid()}.part{ending}"))
    if "%" in temporary:
        raise ValueError(f"'{output}' cannot be written: its folder has a % in its name.")
    stream = DSTTStream(OnnxRunner(network, threads))
    video = cv2.VideoCapture(int(source)) if _is_camera(source) else _open(source)
    rate = video.get(cv2.CAP_PROP_FPS) or 25
    writer, count = None, 0
    try:
        holes = _masks(mask)
        for frame in _frames(video):
            hole = next(holes, None)
            if hole is None:
                raise ValueError(f"'{mask}' has no mask for frame {count}.")
            if hole.shape != frame.shape[:2]:
                raise ValueError(
                    f"'{mask}' is {hole.shape} (height, width), but the frames are {frame.shape[:2]}."
                )
            if writer is None:
                four = "mp4v" if ending == ".mp4" else "FFV1"
                writer = cv2.VideoWriter(
                    temporary, cv2.VideoWriter.fourcc(*four), rate, (frame.shape[1], frame.shape[0])
                )
            if not writer.isOpened():
                raise ValueError(f"'{output}' cannot be written.")
            writer.write(cv2.cvtColor(stream(frame, hole), cv2.COLOR_RGB2BGR))
            count += 1
        if writer is None:
            raise ValueError(f"There is no frame in '{source}'.")
        writer.release()
        os.replace(temporary, output)
    finally:
        video.release()
        if writer is not None:
            writer.release()
        if os.path.exists(temporary):
            os.remove(temporary)
    return count


def _is_camera(source: str) -> bool:
    return source.isdecimal() and len(source) <= 4


def _text(path: str) -> str:
    """`path`, which OpenCV needs to be text: of other names it dies."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(path)} cannot be used here: the name is no text.") from None
    return path


def _file(path: str) -> str:
    """`path`. Raises ValueError if there is no such file."""
    if not os.path.isfile(path):
        raise ValueError(f"There is no file '{path}'.")
    return _text(path)


def _open(path: str) -> cv2.VideoCapture:
    """A video file, and nothing that its name or content would have FFmpeg fetch from elsewhere."""
    _file(path)
    cv2.utils.logging.setLogLevel(0)  # what cannot be read is said by us
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"format_whitelist;{CONTAINERS}|protocol_whitelist;file"
    return cv2.VideoCapture(f"file:{os.path.abspath(path)}", cv2.CAP_FFMPEG)


def _frames(video) -> Iterator[np.ndarray]:
    """uint8 ``(h, w, 3)`` RGB until there are no more."""
    while True:
        there, frame = video.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _masks(path: str) -> Iterator[np.ndarray]:
    """bool ``(h, w)``: an image again and again, or a video's frames."""
    image = cv2.imread(_file(path), cv2.IMREAD_GRAYSCALE)
    while image is not None:
        yield image > 127
    for frame in _frames(_open(path)):
        yield frame.max(axis=2) > 127


if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.run_onnx import main

    door(main)
