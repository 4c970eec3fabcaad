"""DSTT as an engine of the spine: a stream, frame by frame."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from videopainter.dstt.loading import load_runner
from videopainter.dstt.spec import SPEC, DSTTOptions
from videopainter.dstt.stream import DSTTStream
from videopainter.engines.base import EngineError, Progress, StepReport, check_masks


class DSTTEngine:
    """Removes things as a live stream does: every frame from itself and those before it, in memory that stays.

    What is hidden now and shows only later cannot be known; the engine `propagation` looks ahead and is the better
    one for films. Deterministic; a prompt has no meaning here.

    Args:
        options: see `DSTTOptions`, and `load_runner` for what they mean.

    Raises EngineError for weights and options that cannot be used.
    """

    spec = SPEC

    def __init__(self, weights: str | os.PathLike | None = None, **options):
        self.options = DSTTOptions(weights=weights, **options)
        try:
            self.runner = load_runner(**dataclasses.asdict(self.options))
        except ValueError as error:
            raise EngineError(str(error)) from error

    def __call__(
        self, source, masks, prompt=None, generator=None, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's.

        Raises EngineError for masks that do not fit, ValueError for frames of less than 8 pixels on a side.
        """
        if self.runner is None:
            raise EngineError("The engine 'dstt' has been closed.")
        check_masks(source, masks)
        return self._frames(source, masks, StepReport(progress, len(source)))

    def _frames(self, source, masks, steps: StepReport) -> Iterator[np.ndarray]:
        steps.reached(0)
        stream = DSTTStream(self.runner)
        for i in range(len(source)):
            yield stream(source[i], masks[i])
            steps.reached(i + 1)

    def close(self) -> None:
        """Let go of the network; the engine cannot be called afterwards."""
        self.runner = None
