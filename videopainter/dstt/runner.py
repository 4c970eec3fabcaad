"""What runs the network for a stream: arrays in, arrays out, the memory left where it is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from videopainter.dstt.config import DSTTConfig


class Runner(Protocol):
    """A network that `DSTTStream` can use: `TorchRunner`, or an exported one.

    ``config``: its sizes. ``any_size``: whether it takes frames of other sizes than ``config.size``.
    """

    config: DSTTConfig
    any_size: bool

    def empty(self, batch: int, size: tuple[int, int]) -> Any:
        """A memory that holds nothing, for frames of ``size``; ``memory[i] = 0`` empties that of one stream."""

    def __call__(
        self, frame: np.ndarray, mask: np.ndarray, previous: np.ndarray, maps: np.ndarray, memory: Any
    ) -> tuple[np.ndarray, np.ndarray, Any]:
        """As `model.DSTT.forward`: float32 arrays and a memory to ``(output, share, memory)``."""


class TorchRunner:
    """A `model.DSTT` on whatever device and in whatever dtype its weights are."""

    any_size = True

    def __init__(self, model):
        self._model = model.eval()
        self.config = model.config

    def empty(self, batch: int, size: tuple[int, int]):
        weight = next(self._model.parameters())
        return weight.detach().new_zeros(self.config.memory_shape(batch, size))

    def __call__(self, frame, mask, previous, maps, memory):
        import torch

        arrays = (frame, mask, previous, maps)
        with torch.no_grad():  # not inference_mode, whose tensors cannot be emptied afterwards
            tensors = [torch.from_numpy(x).to(memory.device, memory.dtype) for x in arrays]
            output, share, memory = self._model(*tensors, memory)
        return output.float().cpu().numpy(), share.float().cpu().numpy(), memory
