"""Click to mask with EdgeTAM (Zhou et al. 2025, arXiv:2501.07256), through transformers' EdgeTamVideoModel."""

from __future__ import annotations

from videopainter.segmentation.edgetam.checkpoint import load
from videopainter.segmentation.sam2.tracker import Sam2Segmenter


class EdgeTamSegmenter(Sam2Segmenter):
    """SAM 2's way of following objects with a network of a twentieth of its size.

    `model`: an `EdgeTamVideoModel` on its device; None: the released one, loaded when it is first needed.

    Raises WeightsError, at the first preview or frame, if there are no weights, or they cannot be used.
    """

    name = "edgetam"

    def __init__(self, source, model=None):
        super().__init__(source, model)

    def _loaded(self):
        return load()
