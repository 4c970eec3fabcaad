"""Propagation as an engine of the spine: one frame after the other, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from videopainter.engine import check_masks
from videopainter.ops.channels import average
from videopainter.ops.harmonic import expected_error
from videopainter.ops.motion import Motion
from videopainter.propagation.blend import mix, remove_seam
from videopainter.propagation.complete import smooth_fill
from videopainter.propagation.invented import Invented
from videopainter.propagation.propagate import Region, choose, gather, merge, regions, steady
from videopainter.propagation.window import Window

# Grey levels by which half of the pixels around a hole may differ from the steady background. Noise and coding make
# one or two; passers-by and changes of light, which are no reason to follow motion, stay below half, or are removed.
_RESTLESS = 2.5


class PropagationEngine:
    """Removes things with no network: camera motion, optical flow, one resampling, seamless blending.

    Pixels hidden in a frame are fetched from up to ``radius`` frames before and after it; what none of them
    shows is completed smoothly, with structure and texture of its surroundings, and carried along with the
    camera. Nothing is fetched across a hard cut. Deterministic; a prompt has no meaning here.

    Args:
        radius: frames looked back and ahead, 1 or more.
    """

    name = "propagation"
    preferred_size = None

    def __init__(self, radius: int = 60):
        if radius < 1:
            raise ValueError(f"radius is 1 frame or more, not {radius}")
        self.radius = radius
        self.window = 2 * radius + 1
        self.overlap = 2 * radius

    def __call__(
        self, source, masks, prompt=None, generator=None, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's."""
        check_masks(source, masks)
        run = _Run(source, masks, self.radius)
        for t in range(len(source)):
            yield run.frame(t)
            if progress is not None:
                progress(t + 1, len(source))


class _Run:
    """What is remembered from frame to frame."""

    def __init__(self, source, masks, radius: int):
        self.window = Window(source, masks, radius)
        self.motion = Motion()
        self.invented = Invented(self.window)

    def frame(self, t: int) -> np.ndarray:
        self.window.advance(t)
        out = self.window.colour(t).copy()
        hole = self.window.hole(t)
        if hole.any():
            for region in regions(self.window, t):
                self._fill(t, region, hole[region.full], out[region.full])
        return out

    def _fill(self, t: int, region: Region, hole: np.ndarray, out: np.ndarray) -> None:
        """Repaint the hole of one region in place."""
        if not hole.any():
            return
        frame = out.copy()
        fetched, error = self._fetch(t, region, frame)
        seen = np.isfinite(error)
        unseen = hole & ~seen
        smooth = smooth_fill(frame, hole)
        filled = mix(fetched, error, smooth, expected_error(frame, hole))
        filled[~hole] = frame[~hole]
        if unseen.any():
            filled = self.invented.complete(t, region, filled, unseen)
        out[hole] = np.clip(np.rint(filled[hole]), 0, 255)

    def _fetch(self, t: int, region: Region, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What other frames say: float32 ``(h, w, 3)``, and its expected squared error, inf where nothing."""
        hole = self.window.hole(t)[region.full]
        if self.window.fixed.get(t, False):
            fetched, error = steady(self.window, t, region)
            around = np.isfinite(error) & ~hole
            fetched = remove_seam(fetched, frame, around)
            if not _restless(fetched, frame, around):
                return fetched, error
        references = choose(self.window, t, region)
        if not references:
            return frame.astype(np.float32), np.full(frame.shape[:2], np.inf, np.float32)
        fetched, error = merge(gather(self.window, self.motion, t, region, references))
        return remove_seam(fetched, frame, np.isfinite(error) & ~hole), error


def _restless(fetched: np.ndarray, frame: np.ndarray, around: np.ndarray) -> bool:
    """Whether a fixed camera's background moves by itself (leaves, water), so that flow serves it better."""
    misfit = average(np.abs(fetched[around] - frame[around]))
    return len(misfit) > 0 and float(np.median(misfit)) > _RESTLESS
