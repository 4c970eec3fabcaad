"""Where there is text in one picture: PP-OCR's detector, as the package rapidocr ships it, run by OpenCV.

The network draws a map of how likely each pixel is in the middle of a line of text (Liao et al. 2020,
arXiv:1911.08947); lines come out thinner than they are and are widened again.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks import MaskError

LONGEST, SHORTEST = 960, 640  # the longer side of a picture as the network gets it lies between these
MULTIPLE = 32  # sides that the network takes
LIKELY = 0.3  # from which a pixel is in a line
SURE = 0.5  # from which the mean of a line makes it one
WIDEN = 1.6  # times area / outline: by how much lines are widened
LEAST_HEIGHT, MOST_HEIGHT = 0.012, 0.35  # of the picture's: lines of text are neither lower nor higher


@dataclass(frozen=True)
class Detection:
    """A line of text: `region` bool (height, width) of the box (rows, columns), `score` 0..1, `height` in pixels."""

    rows: slice
    columns: slice
    region: np.ndarray
    score: float
    height: float


class TextDetector:
    """Finds lines of text of any language. Raises MaskError if the package's network is not there or cannot be read."""

    def __init__(self):
        self._net = _network()

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """The lines in a frame, uint8 RGB (height, width, 3)."""
        height, width = frame.shape[:2]
        scale = min(LONGEST, max(SHORTEST, max(height, width))) / max(height, width)
        size = tuple(max(round(side * scale / MULTIPLE), 1) * MULTIPLE for side in (width, height))
        small = cv2.resize(
            frame[..., ::-1], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        self._net.setInput(cv2.dnn.blobFromImage(small, 1 / 127.5, mean=(127.5, 127.5, 127.5)))
        likely = self._net.forward()[0, 0]
        return _lines(likely, (height, width))


def _lines(likely: np.ndarray, size: tuple[int, int]) -> list[Detection]:
    """Lines in a map of likelihoods 0..1, in pixels of a picture of `size` = (height, width)."""
    up, across = size[0] / likely.shape[0], size[1] / likely.shape[1]
    count, labels, stats, _ = cv2.connectedComponentsWithStats((likely > LIKELY).astype(np.uint8))
    found = []
    for number in range(1, count):
        x, y, w, h, area = stats[number]
        here = labels[y : y + h, x : x + w] == number
        score = float(likely[y : y + h, x : x + w][here].mean())
        (_, sides, _) = cv2.minAreaRect(np.argwhere(here)[:, ::-1].astype(np.float32))
        long, short = max(sides) + 1, min(sides) + 1
        grown = int(np.ceil(WIDEN * long * short / (2 * (long + short)))) + 1
        line = (short + 2 * grown - 2) * min(up, across)
        if score < SURE or not LEAST_HEIGHT * size[0] <= line <= MOST_HEIGHT * size[0]:
            continue
        rows = slice(max(int((y - grown) * up), 0), min(int(np.ceil((y + h + grown) * up)), size[0]))
        columns = slice(
            max(int((x - grown) * across), 0), min(int(np.ceil((x + w + grown) * across)), size[1])
        )
        padded = cv2.copyMakeBorder(here.astype(np.uint8), *[grown] * 4, cv2.BORDER_CONSTANT, value=0)
        wide = cv2.dilate(padded, cv2.getStructuringElement(cv2.MORPH_RECT, (2 * grown + 1,) * 2))
        top, left = rows.start / up - (y - grown), columns.start / across - (x - grown)
        wide = wide[max(round(top), 0) :, max(round(left), 0) :]
        shape = columns.stop - columns.start, rows.stop - rows.start
        kept = wide[: max(round(shape[1] / up), 1), : max(round(shape[0] / across), 1)]
        region = cv2.resize(kept, shape, interpolation=cv2.INTER_NEAREST) > 0
        found.append(Detection(rows, columns, region, score, line))
    return found


def _network():
    package = find_spec("rapidocr")
    if package is None:
        raise MaskError("Finding captions needs rapidocr; the extra [captions] has it.")
    models = sorted(Path(package.submodule_search_locations[0], "models").glob("*det*.onnx"))
    if not models:
        raise MaskError("The package rapidocr has no text detector in it; version 3.10 of it has.")
    try:
        return cv2.dnn.readNetFromONNX(str(models[-1]))
    except cv2.error as error:
        raise MaskError(
            f"The text detector '{models[-1]}' cannot be read by OpenCV {cv2.__version__}; version 5 can."
        ) from error
