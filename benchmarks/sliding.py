"""A clip of any length that takes no memory, and an engine's way through it."""

import time


def moving_clip(count: int, width: int, height: int):
    """A source of a sliding texture, made frame by frame, and a track with a hole of a tenth of the picture."""
    import cv2
    import numpy as np

    from videopainter.masks import MaskTrack
    from videopainter.video import VideoSource

    class Sliding(VideoSource):
        def __init__(self):
            super().__init__()
            self.size, self._length = (height, width), count
            coarse = np.random.default_rng(0).integers(0, 256, (height // 8 + 9, width // 8 + 9, 3), np.uint8)
            self.texture = cv2.resize(coarse, None, fx=8, fy=8)

        def _frame(self, i):  # of no `CachedSource`, which keeps frames: what is measured is the engine
            y, x = i % 60, 2 * i % 60
            return self.texture[y : y + height, x : x + width]

    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 3 + height * 3 // 10, width // 3 : width // 3 + width // 3] = True
    return Sliding(), MaskTrack.still(mask, count)


def paint_all(engine, count: int, width: int, height: int, each=lambda stage, done, count: None) -> float:
    """Seconds for the whole clip; ``each(stage, done, count)`` is told how far it is."""
    source, masks = moving_clip(count, width, height)
    start = time.perf_counter()
    done = sum(1 for _ in engine(source, masks, progress=each))
    assert done == count
    return time.perf_counter() - start
