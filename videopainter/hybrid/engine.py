"""The hybrid as an engine of the spine: one engine fetches, another one generates what is left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from videopainter.engine import ENGINES, Engine, EngineError, load_engine
from videopainter.engines.base import Confidence, Progress, StepReport, check_masks, spec_of
from videopainter.hybrid.first_result import FirstResult
from videopainter.hybrid.seams import Seams, compared
from videopainter.hybrid.second_hole import second_holes, spans
from videopainter.hybrid.spec import BASES, GENERATORS, HybridOptions
from videopainter.masks import MaskTrack, pack
from videopainter.propagation.spec import GRAINS
from videopainter.steps.inpainting import inpaint
from videopainter.steps.listener import CheckedSource, Listener
from videopainter.video.subset import SubsetSource, second_reader

log = logging.getLogger("videopainter")

# What is generated is background: whoever wants something else there names it.
BACKGROUND = "the background, continued: an empty scene without people or things in front of it"


class HybridEngine:
    """Fetches what other frames show, and generates only what none of them does.

    The base inpaints the whole hole and tells how sure it is. What it has never seen, and what it doubts in most frames
    around, is a second hole for the generator, which sees the base's result around it. The rest stays as the base made
    it, bit for bit. The generator is loaded when something is left for it, so a clip that was wholly seen costs what
    the base costs. The same seed gives the same result.

    Args:
        first, second: loaded engines instead of those that the options name; the first one tells its confidence.
        options: see `HybridOptions`; those of the engines that are put to work may be among them.

    Raises EngineError for options that cannot be used.
    """

    spec = ENGINES["hybrid"]

    def __init__(self, *, first: Engine | None = None, second: Engine | None = None, **options: Any):
        own = {name: value for name, value in options.items() if name in self.spec.option_names}
        self.options = HybridOptions(**own)
        self._handed_on = {
            name: value for name, value in options.items() if name not in ("base", "generator")
        }
        self._check(first, second)
        self._first, self._second = first, second
        self._loaded: Engine | None = None

    def __call__(
        self,
        source,
        masks,
        prompt: str | None = None,
        generator: np.random.Generator | None = None,
        progress: Progress | None = None,
        confidence: Confidence | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's.

        ``prompt`` is for the generator; without one it continues the background. ``progress`` counts every frame twice.
        """
        check_masks(source, masks)
        seed = 0 if generator is None else int(generator.integers(2**32))
        return self._frames(source, masks, prompt or BACKGROUND, seed, progress, confidence)

    def close(self) -> None:
        """Let go of the generator; called again, the engine loads it anew."""
        for engine in (self._loaded, self._first, self._second):
            if engine is not None:
                engine.close()
        self._loaded = None

    def _frames(self, source, masks, prompt: str, seed: int, progress, confidence) -> Iterator[np.ndarray]:
        steps = _Steps(progress, len(source))
        steps.upto(0)
        checked = source
        with ExitStack() as stack:
            while isinstance(source, CheckedSource):
                source = source.source
            result = stack.enter_context(closing(FirstResult(source, masks)))
            # 1. Fetch what other frames show.
            never, doubtful = self._fetched(checked, masks, seed, result, steps, confidence)
            # 2. Find what is left.
            rest = second_holes(masks, never, doubtful, self.options.least_pixels)
            if _share(rest, masks) < self.options.least_share:
                rest = MaskTrack.empty(len(rest), rest.size)
            # 3. Generate that, and put it in.
            seams = Seams(seed if self.options.grain == "auto" else None)
            # Through a decoder of its own: the generator reads ahead.
            reader = second_reader(source)
            if reader is not source:
                stack.callback(reader.close)
            finished = result.again(reader)
            done = 0
            for span in spans(rest):
                log.info("Frames %d to %d: what was never seen is generated.", span[0], span[-1])
                yield from self._kept(finished, range(done, span.start), steps)
                yield from self._generated(result, finished, masks, rest, span, prompt, seed, seams, steps)
                done = span.stop
            yield from self._kept(finished, range(done, len(source)), steps)

    def _fetched(self, source, masks, seed: int, result: FirstResult, steps: _Steps, confidence):
        """Fill `result`; two tracks: what was never seen, and what was not or is doubtful."""
        never: list[bytes] = []
        doubtful: list[bytes] = []
        least = 255 * self.options.threshold

        def told(i: int, sure: np.ndarray) -> None:
            never.append(pack(sure == 0))
            doubtful.append(pack((sure == 0) | (sure < least)))
            if confidence is not None:
                confidence(i, sure)

        engine = self._first or load_engine(ENGINES[self.options.base], **self._handed_on)
        more: dict[str, Any] = {"generator": np.random.default_rng(seed), "confidence": told}
        try:
            with closing(engine(source, masks, progress=lambda *_: steps.beat(), **more)) as frames:
                for i, frame in enumerate(frames):
                    result.keep(frame)
                    steps.upto(i + 1)
        finally:
            if engine is not self._first:
                engine.close()
        if len(never) != len(masks):
            raise EngineError(
                f"The engine '{spec_of(engine).name}' does not tell what it has seen of every frame."
            )
        return MaskTrack(never, masks.size), MaskTrack(doubtful, masks.size)

    def _kept(self, result: FirstResult, frames: range, steps: _Steps) -> Iterator[np.ndarray]:
        """The frames of the base as they are."""
        for i in frames:
            yield result[i]
            steps.upto(len(result) + i + 1)

    def _generated(
        self, result, finished, masks, rest, span: range, prompt, seed: int, seams: Seams, steps: _Steps
    ) -> Iterator[np.ndarray]:
        """The frames of a span with the rest of their holes generated."""
        engine, count = self._generator(), len(result)

        def told(stage: str, done: int, total: int) -> None:
            # The last step is done when the last frame is.
            reached = count + span.start + int(len(span) * done / max(total, 1))
            steps.upto(min(reached, 2 * count - 1))
            steps.beat()

        seen_by_it = MaskTrack.build(compared(mask) for mask in rest.select(span))
        generated = inpaint(
            engine,
            SubsetSource(result, span),
            seen_by_it,
            prompt=prompt if spec_of(engine).takes_prompt else None,
            generator=np.random.default_rng((seed, span.start)),
            rate=spec_of(engine).target_fps,
            listener=Listener(told),
            first_frame=result[span.start],
        )
        with closing(generated):
            for i, frame in zip(span, generated):
                yield seams.join(i, finished[i], frame, rest[i], masks[i])
                steps.upto(count + i + 1)

    def _generator(self) -> Engine:
        if self._second is not None:
            return self._second
        if self._loaded is None:
            self._loaded = load_engine(ENGINES[self.options.generator], **self._handed_on)
        return self._loaded

    def _check(self, first: Engine | None, second: Engine | None) -> None:
        options = self.options
        if first is None and options.base not in BASES:
            raise EngineError(f"The base is {' or '.join(BASES)}, not '{options.base}'.")
        if first is not None and not spec_of(first).tells_confidence:
            raise EngineError(f"The engine '{spec_of(first).name}' does not tell what it has seen.")
        if second is None and options.generator not in GENERATORS:
            raise EngineError(f"The generator is {' or '.join(GENERATORS)}, not '{options.generator}'.")
        for name in ("threshold", "least_share"):
            if not 0 <= getattr(options, name) <= 1:
                raise EngineError(f"{name} must be from 0 to 1, not {getattr(options, name)}.")
        if options.least_pixels < 1:
            raise EngineError(f"least_pixels must be 1 or more, not {options.least_pixels}.")
        if options.grain not in GRAINS:
            raise EngineError(f"grain is {' or '.join(GRAINS)}, not '{options.grain}'.")


class _Steps(StepReport):
    """Every frame counts twice: when it is fetched, and when it is finished."""

    def __init__(self, progress: Progress | None, frames: int):
        super().__init__(progress, 2 * frames)
        self._next = 0

    def upto(self, done: int) -> None:
        """All steps up to `done` are done; each is told."""
        for step in range(self._next, done + 1):
            self.reached(step)
        self._next = max(self._next, done + 1)


def _share(part: MaskTrack, whole: MaskTrack) -> float:
    marked = whole.share()
    return part.share() / marked if marked else 0.0
