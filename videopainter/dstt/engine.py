"""DSTT as an engine of the spine: a stream, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from videopainter.dstt.loading import load_runner
from videopainter.dstt.stream import DSTTStream
from videopainter.engine import EngineError, Progress, check_masks


class DSTTEngine:
    """Removes things as a live stream does: every frame from itself and those before it, in memory that stays.

    What is hidden now and shows only later cannot be known; the engine `propagation` looks ahead and is the better
    one for films. Deterministic; a prompt has no meaning here.

    Args:
        weights: a file of `weights.save_model`, or an exported ``.onnx`` or ``.pt2``; None: the shipped weights.
        device: "cpu", "cuda", ...; None: a GPU if there is one.
        threads: that the network uses on a CPU, see `load_runner`.

    Raises EngineError for weights and options that cannot be used.
    """

    name = "dstt"
    preferred_size = None
    window = 1
    overlap = 0

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        threads: int | None = None,
    ):
        try:
            self.runner = load_runner(weights, device, threads)
        except ValueError as error:
            raise EngineError(str(error)) from None

    def __call__(
        self, source, masks, prompt=None, generator=None, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """Yield ``len(source)`` frames, uint8 ``(height, width, 3)``; known pixels are exactly the source's.

        Raises EngineError for masks that do not fit, ValueError for frames of less than 8 pixels on a side.
        """
        check_masks(source, masks)
        stream = DSTTStream(self.runner)
        for i in range(len(source)):
            yield stream(source[i], masks[i])
            if progress is not None:
                progress(i + 1, len(source))
