"""Propagation as an engine of the spine: one frame after the other, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from videopainter.engines.base import Confidence, EngineError, Progress, StepReport, check_masks
from videopainter.ops.grain import Grain, missing_share
from videopainter.ops.motion import Motion
from videopainter.propagation.filling import Filled, fill
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import hole_views
from videopainter.propagation.pool import MOST, Pool, cores
from videopainter.propagation.spec import GRAINS, SPEC, PropagationOptions
from videopainter.propagation.unseen import UnseenTexture

# Frames that are worked on together; what comes out depends on them, so it is not the number of workers. The first
# block is one frame, which is soon there.
_BLOCK = 4
_LARGE, _LARGE_BLOCK = 1 << 20, 2  # pixels of a frame from which on fewer are kept in memory half done


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
        if self.options.workers is not None and self.options.workers < 1:
            raise EngineError(f"workers must be 1 or more, not {self.options.workers}.")

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
        run = _Run(source, masks, self.options, seed, steps)
        with Pool(self.options.workers or min(cores(), MOST)) as pool:
            begun: deque[_Begun] = deque()
            for block in _blocks(len(source), source.size):
                begun.append(run.start(pool, block))
                # While a block is worked on the next one is read and waits, so that no thread has to.
                if len(begun) > 1:
                    yield from self._given_out(run, begun.popleft(), confidence)
            for block in begun:
                yield from self._given_out(run, block, confidence)

    def _given_out(self, run: _Run, begun: _Begun, confidence) -> Iterator[np.ndarray]:
        for t, views in zip(begun.block, begun.filled):
            frame, sure = run.finish(begun.store, t, views)
            if confidence is not None:
                confidence(t, sure)
            yield frame
            run.steps.reached(t + 1)

    def close(self) -> None:
        """Nothing is kept from one video to the next."""


@dataclass
class _Begun:
    """A block of frames that is worked on: the frames at hand for it, and what comes of each of its own."""

    block: range
    store: FrameStore
    filled: Iterator[list[Filled]]


class _Run:
    """One video on its way through, and what is remembered from frame to frame."""

    def __init__(self, source, masks, options: PropagationOptions, seed: int, steps: StepReport):
        self.steps = steps
        self._store = FrameStore(source, masks, options.radius)
        self._texture = UnseenTexture()
        self._grain = Grain(seed) if options.grain == "auto" else None
        self._grain_missing = 1.0  # share of the noise's variance that averaging took, as last measured

    def start(self, pool: Pool, block: range) -> _Begun:
        """Read what a block of frames needs, and begin to fill their views."""
        # At first all threads are free, later on those that the block before leaves.
        free = pool.threads if block.start == 0 else pool.threads - len(block)
        self._store.advance(block[0], block[-1], self.steps.beat, pool if free > 0 else None)
        store = self._store.at_hand()
        return _Begun(block, store, pool.start(partial(_filled, store), block, self.steps.beat))

    def finish(self, store: FrameStore, t: int, filled: list[Filled]) -> tuple[np.ndarray, np.ndarray]:
        """The frame, uint8 ``(height, width, 3)``, and how sure it is, see `Confidence`."""
        out = store.original(t).copy()
        sure = np.full(out.shape[:2], 255, np.uint8)
        if filled and self._grain is not None and store.noise(t):
            self._grain.measure(t, out, store.hole(t))
        for one in filled:
            self.steps.beat()
            hole, place = one.view.hole, one.view.pixels
            sure[place][hole] = one.sure
            self.steps.beat()
            picture = self._completed(one)
            self.steps.beat()
            out[place][hole] = np.clip(np.rint(picture[hole]), 0, 255)
            self.steps.beat()
        return out, sure

    def _completed(self, one: Filled) -> np.ndarray:
        """What no frame shows gets texture, all of it the noise that averaging took out: float32 ``(h, w, 3)``."""
        picture = one.picture
        if one.unseen.any():
            picture = self._texture.fill(one.view, picture, one.unseen)
        if one.fetched is None or self._grain is None or not self._grain.known:
            return picture
        strength = self._grain.strength(picture)
        missing = missing_share(one.view.frame.astype(np.float32), one.fetched, one.around, strength)
        self._grain_missing = 0.7 * self._grain_missing + 0.3 * missing
        more = np.sqrt(1 - one.share * one.share * (1 - self._grain_missing))
        noise = self._grain.field(one.view.t, (one.view.store.height, one.view.store.width), *one.view.pixels)
        return picture + more * strength * noise


def _filled(store: FrameStore, t: int, motion: Motion) -> list[Filled]:
    return [fill(view, motion) for view in hole_views(store, t) if view.hole.any()]


def _blocks(count: int, size: tuple[int, int]) -> Iterator[range]:
    step = _LARGE_BLOCK if size[0] * size[1] > _LARGE else _BLOCK
    yield range(min(1, count))
    for start in range(1, count, step):
        yield range(start, min(start + step, count))
