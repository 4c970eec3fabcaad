"""Live inpainting: one frame in, one frame out, in memory that does not grow. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from videopainter.dstt.align import (
    AlignedHistory,
    History,
    MotionEstimator,
    PreparedFrame,
    completed,
    maps,
    preprocess,
)
from videopainter.dstt.config import DSTTConfig
from videopainter.dstt.runner import Runner, TorchRunner
from videopainter.ops.resize import resize

_SMALLEST = 8  # pixels


class DSTTStream:
    """Takes things out of a live stream.

        stream = DSTTStream(load_model())
        for frame, mask in camera:
            show(stream(frame, mask))

    A frame's result depends on it and on those before it, never on a later one. Frames of any size are taken: they
    are worked on at about the network's size, known pixels are given back as they are, and what was seen before
    comes back in full resolution. Over a hard cut it starts afresh.

    Args:
        model: a `model.DSTT`, or any `runner.Runner`, such as an exported network.
        batch: None for one stream, or the number of streams that go side by side.
        size: (height, width) to work at; None: the network's own area in the frames' proportions, for a network
            that takes one size only that size. Frames that are smaller than that are not enlarged.
    """

    def __init__(self, model, batch: int | None = None, size: tuple[int, int] | None = None):
        if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
            raise ValueError(f"batch is a number of streams, 1 or more, or None, not {batch!r}.")
        self._runner: Runner = TorchRunner(model) if hasattr(model, "parameters") else model
        if size is not None and not self._runner.any_size and tuple(size) != self._runner.config.size:
            raise ValueError(f"This network works at {self._runner.config.size} only, not at {tuple(size)}.")
        if size is not None and min(size) < _SMALLEST:
            raise ValueError(f"size needs {_SMALLEST} pixels or more on each side, not {tuple(size)}.")
        self._batch, self._asked_size = batch, size
        self.reset()

    @property
    def config(self) -> DSTTConfig:
        """Of its network."""
        return self._runner.config

    @property
    def working_size(self) -> tuple[int, int] | None:
        """(height, width) the network works at; None before the first frame."""
        return self._size

    def reset(self, stream: int | None = None) -> None:
        """Forget everything, or what one stream of a batch has seen; the next frame is a first one."""
        count = self._batch or 1
        if stream is None:
            self._frame_size = self._size = self._memory = None
            self._histories = [History() for _ in range(count)]
            self._before: list[PreparedFrame | None] = [None] * count
            self._motion = [MotionEstimator() for _ in range(count)]
        elif not 0 <= stream < count:
            raise ValueError(f"There is no stream {stream}; there are {count}.")
        else:
            self._forget(stream)

    def _forget(self, i: int) -> None:
        self._histories[i], self._before[i] = History(), None
        if self._memory is not None:
            self._memory[i] = 0

    def warm_start(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray] | None = None) -> None:
        """PreparedFrame at frames from before the stream, without results; without masks all of each is background."""
        if masks is None:
            for frame in frames:
                self(frame, np.zeros(np.shape(frame)[:-1], bool))
        else:
            for frame, mask in zip(frames, masks, strict=True):
                self(frame, mask)

    def __call__(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Paint the hole of the next frame.

        Args:
            frame: uint8 ``(h, w, 3)`` RGB, of a batch of streams ``(batch, h, w, 3)``; the hole's content is never
                looked at. mask: bool ``(h, w)`` or ``(batch, h, w)``, True = repaint.

        Returns the frame, uint8 of the same shape; known pixels are the given ones. Raises ValueError for shapes or
        dtypes that do not fit, or for another size than before without `reset`.
        """
        self._check(frame, mask)
        frames, masks = (frame[None], mask[None]) if self._batch is None else (frame, mask)
        if self._size is None:
            self._frame_size = masks.shape[1:]
            self._size = self._choose_size()
            self._memory = self._runner.empty(len(frames), self._size)
        prepared = [preprocess(f, m, self._size) for f, m in zip(frames, masks)]
        pasts = [self._align(i, now) for i, now in enumerate(prepared)]
        output, share, self._memory = self._runner(*network_inputs(prepared, pasts), self._memory)
        results = [
            self._finish(i, frames[i], masks[i], prepared[i], pasts[i], output[i], share[i, 0])
            for i in range(len(frames))
        ]
        return results[0] if self._batch is None else np.stack(results)

    def _align(self, i: int, now: PreparedFrame) -> AlignedHistory | None:
        """What stream ``i`` knows of the present; None at its start and after a cut."""
        before = self._before[i]
        field = None if before is None else self._motion[i](now, before)
        past = None if field is None else self._histories[i].aligned(field, self._frame_size)
        if before is not None and past is None:
            self._forget(i)
        self._before[i] = now
        return past

    def _finish(
        self, i, frame, mask, now: PreparedFrame, past: AlignedHistory | None, output, share
    ) -> np.ndarray:
        """Bring the network's picture to the frame's size, and remember it."""
        painted = (output.transpose(1, 2, 0) + 1) * np.float32(127.5)
        if self._size != self._frame_size:
            painted = resize(painted, self._frame_size, "cubic")
            if past is not None:
                # What was seen in full resolution keeps it: the detail that the network's size lacks is added.
                detail = past.output - resize(past.previous, self._frame_size, "cubic")
                painted += resize(share, self._frame_size, "linear")[..., None] * detail
        exact = np.where(mask[..., None], np.clip(painted, 0, 255), frame).astype(np.float32)
        self._histories[i].update(exact, share, past, now.hole)
        return np.rint(exact).astype(np.uint8)

    def _choose_size(self) -> tuple[int, int]:
        if self._asked_size is not None:
            return tuple(self._asked_size)
        own = self.config.size
        return working_size(self._frame_size, own) if self._runner.any_size else own

    def _check(self, frame: np.ndarray, mask: np.ndarray) -> None:
        dims = 3 if self._batch is None else 4
        if frame.dtype != np.uint8 or frame.ndim != dims or frame.shape[-1] != 3:
            raise ValueError(
                f"A frame is uint8 ({'' if self._batch is None else 'batch, '}height, width, 3), not {frame.dtype} "
                f"{frame.shape}."
            )
        if self._batch is not None and len(frame) != self._batch:
            raise ValueError(f"There are {self._batch} streams, but frames of {len(frame)}.")
        if mask.dtype != bool or mask.shape != frame.shape[:-1]:
            raise ValueError(
                f"A mask for this frame is bool {frame.shape[:-1]}, not {mask.dtype} {mask.shape}."
            )
        size = frame.shape[-3:-1]
        if min(size) < _SMALLEST:
            raise ValueError(
                f"Frames need {_SMALLEST} pixels or more on each side, not {size[0]} x {size[1]}."
            )
        if self._frame_size not in (None, size):
            raise ValueError(
                f"This stream's frames are {self._frame_size} (height, width), not {size}; reset() starts another."
            )


def working_size(frame: tuple[int, int], own: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of about the area of ``own`` in the proportions of ``frame``, multiples of 4.

    A frame that has no more pixels than ``own`` is worked on as it is.
    """
    scale = (own[0] * own[1] / (frame[0] * frame[1])) ** 0.5
    if scale >= 1:
        return frame
    height, width = (max(_SMALLEST, 4 * round(side * scale / 4)) for side in frame)
    return height, width


def network_inputs(
    prepared: list[PreparedFrame], pasts: list[AlignedHistory | None]
) -> tuple[np.ndarray, ...]:
    """``frame, mask, previous, maps`` of `model.DSTT.forward`, float32 ``(n, c, h, w)``."""
    told = [maps(now, past) for now, past in zip(prepared, pasts)]
    there = np.array([past is not None for past in pasts], np.float32)[:, None, None, None]
    frames = [completed(now, past, *t) for now, past, t in zip(prepared, pasts, told)]
    frame = _channels_first(frames) / np.float32(127.5) - 1
    previous = (_channels_first([t[0] for t in told]) / np.float32(127.5) - 1) * there
    mask = np.stack([now.hole for now in prepared])[:, None].astype(np.float32)
    return frame, mask, previous, _channels_first([t[1] for t in told])


def _channels_first(pictures: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.stream import main

    door(main)
