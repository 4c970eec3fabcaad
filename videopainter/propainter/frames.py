"""Frames and masks as arrays, on their way to the networks: sizes, dilation, the canvas of outpainting."""

import numpy as np

MULTIPLE = 8  # of pixels, that the networks work on


def process_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) rounded down to multiples of 8: what the public script works at."""
    return height - height % MULTIPLE, width - width % MULTIPLE


class Canvas:
    """Where frames of ``size`` (height, width) lie on a picture that is ``scale`` (height, width) times as large.

    The canvas is rounded down to multiples of 8, but never below the frame. Raises ValueError for a scale
    under 1.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]):
        if len(scale) != 2 or not all(1 <= s < float("inf") for s in scale):
            raise ValueError(f"scale_hw must be two factors (height, width) of 1 or more, not {scale!r}.")
        self.size = tuple(max(n, process_size(int(s * n), 0)[0]) for n, s in zip(size, scale))
        top, left = ((outer - inner) // 2 for outer, inner in zip(self.size, size))
        self.inside = slice(top, top + size[0]), slice(left, left + size[1])
        # On a side with a wide margin the outermost pixels are not trusted with the flow.
        inset = [4 if start > 10 else 0 for start in (top, left)]
        self._trusted = tuple(slice(s.start + i, s.stop - i) for s, i in zip(self.inside, inset))

    def frame(self, frame: np.ndarray) -> np.ndarray:
        """uint8 ``(*canvas, 3)``: the frame in the middle of black."""
        out = np.zeros((*self.size, 3), np.uint8)
        out[self.inside] = frame
        return out

    def hole(self) -> np.ndarray:
        """bool: everything around the frame."""
        return self._outside(self.inside)

    def flow_hole(self) -> np.ndarray:
        """bool: the same, 4 pixels into the frame where the margin is wider than 10."""
        return self._outside(self._trusted)

    def _outside(self, inside) -> np.ndarray:
        out = np.ones(self.size, bool)
        out[inside] = False
        return out
