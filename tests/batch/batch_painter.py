"""An engine that paints every hole grey, and counts how often it was made."""

import numpy as np

from videopainter.engine import ENGINES
from videopainter.engines.base import NoOptions


class Painter:
    spec = ENGINES["propagation"]
    made: list[dict] = []
    asked: list[str | None] = []

    def __init__(self, **options):
        Painter.made.append(options)
        self.options = NoOptions()

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        Painter.asked.append(prompt)
        for frame, mask in zip(source, masks):
            yield np.where(mask[..., None], np.uint8(128), frame)
