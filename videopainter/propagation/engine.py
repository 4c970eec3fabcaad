"""Propagation as an engine of the spine: one frame after the other, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from videopainter.engines.base import Confidence, EngineError, Progress, StepReport, check_masks
from videopainter.ops.channels import average
from videopainter.ops.grain import Grain, denoised, missing_share
from videopainter.ops.harmonic import expected_error
from videopainter.ops.motion import Motion
from videopainter.propagation.blend import fetched_share, remove_seam
from videopainter.propagation.bridge import bridge
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import HoleView, hole_views
from videopainter.propagation.references import choose, fetch, steady, steady_references
from videopainter.propagation.smooth import smooth_fill
from videopainter.propagation.spec import GRAINS, SPEC, PropagationOptions
from videopainter.propagation.unseen import UnseenTexture

# Grey levels by which half of the pixels around a hole may differ from the steady background. Noise and coding make
# one or two; passers-by and changes of light, which are no reason to follow motion, stay below half, or are removed.
_RESTLESS = 2.5
_HALF_SURE = 400.0  # squared grey levels of expected error at which confidence is half
_CLEAR = 1.2  # px, sigma over which noise is averaged before anything is guessed from the border


class PropagationEngine:
    """Removes things with no network: camera motion, optical flow, one resampling, seamless blending.

    Pixels hidden in a frame are fetched from up to ``radius`` frames before and after it; what none of them
    shows is completed smoothly, with structure and texture of its surroundings, and carried along with the
    camera. Nothing is fetched across a hard cut. References are brought into the light of the frame, so that fades
    and flashes are no misfit; noise is allowed for in matching, and the fill gets the grain of its surroundings.
    The same seed gives the same result; a prompt has no meaning here.

    Args:
        options: see `PropagationOptions`.

    Raises EngineError for options that cannot be used.
    """

    spec = SPEC

    def __init__(self, **options):
        self.options = PropagationOptions(**options)
        if self.options.radius < 1:
            raise EngineError(f"radius is 1 frame or more, not {self.options.radius}.")
        if self.options.grain not in GRAINS:
            raise EngineError(f"grain is {' or '.join(GRAINS)}, not '{self.options.grain}'.")

    def __call__(
        self,
        source,
        masks,
        prompt=None,
        generator=None,
        progress: Progress | None = None,
        confidence: Confidence | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's."""
        check_masks(source, masks)
        seed = 0 if generator is None else int(generator.integers(2**32))
        return self._frames(source, masks, seed, StepReport(progress, len(source)), confidence)

    def _frames(self, source, masks, seed: int, steps: StepReport, confidence) -> Iterator[np.ndarray]:
        steps.reached(0)
        grain = Grain(seed) if self.options.grain == "auto" else None
        run = _Run(source, masks, self.options.radius, grain, steps.beat)
        for t in range(len(source)):
            frame = run.frame(t)
            if confidence is not None:
                confidence(t, run.confidence)
            yield frame
            steps.reached(t + 1)

    def close(self) -> None:
        """Nothing is kept from one video to the next."""


class _Run:
    """One video on its way through: the frames at hand, and what is remembered from frame to frame."""

    def __init__(self, source, masks, radius: int, grain: Grain | None, beat: Callable[[], None]):
        self._beat = beat
        self._store = FrameStore(source, masks, radius)
        self._motion = Motion()
        self._texture = UnseenTexture(self._store)
        self._grain = grain
        self.confidence = np.full(source.size, 255, np.uint8)  # of the frame made last, see `Confidence`
        self._grain_missing = 1.0  # share of the noise's variance that averaging took, as last measured

    def frame(self, t: int) -> np.ndarray:
        self._store.advance(t)
        out = self._store.colour(t).copy()
        hole = self._store.hole(t)
        self.confidence = np.full(hole.shape, 255, np.uint8)
        if hole.any():
            if self._grain is not None and self._store.noise(t):
                self._grain.measure(t, out, hole)
            for view in hole_views(self._store, t):
                self._beat()
                self._fill(view, out[view.pixels])
        return out

    def _fill(self, view: HoleView, out: np.ndarray) -> None:
        """Repaint the hole of a view in place; ``out``: its pixels, uint8 ``(h, w, 3)``."""
        hole = view.hole
        if not hole.any():
            return
        frame = out.copy()
        fetched, error = self._fetch(view, frame)
        self._beat()
        unseen = hole & ~np.isfinite(error)
        sure = 255 / (1 + error[hole] / _HALF_SURE)  # 0 where the error is inf
        self.confidence[view.pixels][hole] = np.where(unseen[hole], 0, np.maximum(sure, 1))
        # What is guessed from the border is guessed without its noise, which would become streaks.
        clear = denoised(frame, hole, _CLEAR) if view.noise else frame
        share = fetched_share(error, expected_error(clear, hole))
        smooth = smooth_fill(clear, hole, 1 - share)
        share = share[..., None]
        filled = share * fetched + (1 - share) * smooth
        filled[~hole] = clear[~hole]
        if unseen.any():
            self._beat()
            filled = self._texture.fill(view, filled, unseen)
        if view.noise and self._grain is not None and self._grain.known:
            filled = self._with_grain(view, filled, frame, fetched, np.isfinite(error) & ~hole, share)
        out[hole] = np.clip(np.rint(filled[hole]), 0, 255)

    def _with_grain(self, view: HoleView, filled, frame, fetched, around, share) -> np.ndarray:
        """``filled`` (h, w, 3) with as much noise as averaging took out of it; ``share``: of what was fetched in it."""
        strength = self._grain.strength(filled)
        missing = missing_share(frame.astype(np.float32), fetched, around, strength)
        self._grain_missing = 0.7 * self._grain_missing + 0.3 * missing
        more = np.sqrt(1 - share * share * (1 - self._grain_missing))
        noise = self._grain.field(view.t, (view.store.height, view.store.width), *view.pixels)
        return filled + more * strength * noise

    def _fetch(self, view: HoleView, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What other frames say: float32 ``(h, w, 3)``, and its expected squared error, inf where nothing."""
        sides = self._store.sides(view.t)
        if sides is None:
            return self._propagated(view, frame)
        fetched, error = bridge(view, self._motion, *sides)
        if np.isfinite(error).all():
            return fetched, error
        # Both sides have holes, or the camera has moved away from them: others may know.
        more, doubt = self._propagated(view, frame)
        gap = ~np.isfinite(error)
        return np.where(gap[..., None], more, fetched), np.where(gap, doubt, error)

    def _propagated(self, view: HoleView, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Where the light changes, a shadow may move as well, and near frames know best.
        if view.camera_is_fixed and not any(view.store.light(view.t, i) for i in steady_references(view)):
            fetched, error = steady(view)
            around = np.isfinite(error) & ~view.hole
            fetched = remove_seam(fetched, frame, around, view.noise)
            if not _restless(fetched, frame, around):
                return fetched, error
        self._beat()
        references = choose(view)
        if not references:
            return frame.astype(np.float32), np.full(view.size, np.inf, np.float32)
        self._beat()
        fetched, error = fetch(view, self._motion, references)
        return remove_seam(fetched, frame, np.isfinite(error) & ~view.hole, view.noise), error


def _restless(fetched: np.ndarray, frame: np.ndarray, around: np.ndarray) -> bool:
    """Whether a fixed camera's background moves by itself (leaves, water), so that flow serves it better."""
    misfit = average(np.abs(fetched[around] - frame[around]))
    return len(misfit) > 0 and float(np.median(misfit)) > _RESTLESS
