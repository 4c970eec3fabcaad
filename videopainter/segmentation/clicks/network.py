"""The click network as it runs: an ONNX file in onnxruntime or OpenCV, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks import MaskError

WEIGHTS = Path(__file__).parent / "trained" / "clicks.onnx"
EXTENTS = ("part", "object", "group")
STRIDE = 32  # heights and widths of the network's pictures are multiples of it
DISC = 5  # radius of a click in the network's picture, in pixels
WIDEST = (96, 832)  # the largest height and width that `predict` makes of an area of 256 x 256
PLANES = 5  # previous mask, positive clicks, negative clicks, motion, background


@dataclass(frozen=True)
class Point:
    """A click in one frame, in its pixels; `positive`: on the object, otherwise beside it."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """A cut of a frame: columns `left` to before `right`, rows `top` to before `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


Forward = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]  # picture and hints to masks and scores


def _by_onnxruntime(path: Path) -> Forward | None:
    """The network in onnxruntime, which takes half of OpenCV's time for it; None where it is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cv2.getNumThreads(), 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # between looks others need the CPU
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda picture, hints: session.run(["masks", "scores"], {"picture": picture, "hints": hints})


def _by_opencv(path: Path) -> Forward:
    net = cv2.dnn.readNetFromONNX(str(path))

    def forward(picture: np.ndarray, hints: np.ndarray):
        net.setInput(picture, "picture")
        net.setInput(hints, "hints")
        return net.forward(["masks", "scores"])

    return forward


class ClickNetwork:
    """Masks of three extents for what is clicked in a picture; by onnxruntime where it is installed, else by OpenCV.

    Args:
        path: The ONNX file; by default the one that ships with the package.

    Raises:
        MaskError: the file is missing, or is no click network.
    """

    def __init__(self, path: Path | str = WEIGHTS):
        path = Path(path)
        if not path.is_file():
            raise MaskError(f"The click network {path} is missing.")
        # The largest buffers that were needed are kept. With those of the largest picture no look has to wait for
        # memory; else each new shape costs as much again as the look itself.
        largest = np.zeros((1, 3, *WIDEST), np.float32), np.zeros((1, PLANES, *WIDEST), np.float32)
        try:
            self._forward = _by_onnxruntime(path) or _by_opencv(path)
            masks, scores = self._forward(*largest)
        except Exception as error:  # both have kinds of their own for what they cannot run
            raise MaskError(f"{path} is not a click network that can be run here.") from error
        if (masks.shape[1:], scores.shape[1:]) != (
            (len(EXTENTS), WIDEST[0] // 2, WIDEST[1] // 2),
            (len(EXTENTS),),
        ):
            raise MaskError(f"{path} is not a click network: its masks have the shape {masks.shape}.")

    def predict(
        self,
        frame: np.ndarray,
        box: Box,
        points: list[Point] | tuple[Point, ...] = (),
        previous: np.ndarray | None = None,
        motion: np.ndarray | None = None,
        background: np.ndarray | None = None,
        area: int = 256 * 256,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look at a cut of the frame.

        Args:
            frame: uint8 `(height, width, 3)` RGB.
            box: The cut that is looked at.
            points: Clicks; those outside the cut are not seen.
            previous: float `(height, width)` in 0..1: the mask that is known already.
            motion: float `(height, width)` in -1..1: 1 = moves like the clicked spot, 0 = nobody knows.
            background: float `(height, width)` in -1..1: 1 = differs from the background that other frames show.
            area: Pixels of the network's picture, about; it keeps the cut's proportions.

        Returns:
            `(masks, scores)`: float32 `(3, height, width)` of the cut, probabilities for part, object and group;
            float32 `(3,)`, the IoU that the network expects of each.
        """
        rows, columns = box.slices
        height, width = box.bottom - box.top, box.right - box.left
        scale = (area / (width * height)) ** 0.5
        w, h = (max(2, round(side * scale / STRIDE)) * STRIDE for side in (width, height))
        how = cv2.INTER_AREA if w < width else cv2.INTER_LINEAR

        def seen(plane):
            return cv2.resize(plane[rows, columns].astype(np.float32), (w, h), interpolation=how)

        hints = np.zeros((1, PLANES, h, w), np.float32)
        for k, plane in ((0, previous), (3, motion), (4, background)):
            if plane is not None:
                hints[0, k] = seen(plane)
        for point in points:
            x, y = (point.x + 0.5 - box.left) * w / width, (point.y + 0.5 - box.top) * h / height
            cv2.circle(hints[0, 1 if point.positive else 2], (int(x), int(y)), DISC, 1.0, -1)
        picture = cv2.resize(frame[rows, columns], (w, h), interpolation=how)
        picture = picture.transpose(2, 0, 1)[None].astype(np.float32)
        masks, scores = self._forward(picture, hints)
        masks = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in masks[0]])
        return masks, np.clip(scores[0], 0, 1)
