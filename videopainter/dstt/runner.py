"""What runs the network for a stream: arrays in, arrays out, the memory left where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from videopainter.dstt.config import DSTTConfig
from videopainter.utils.checks import MOST_THREADS, whole_number

# Networks whose tokens hold at most so many values, as the shipped one's do, gain nothing from a second thread on a
# CPU: a frame is hundreds of short steps, after each of which threads wait for each other. Two threads on two cores
# that others use took 1.1 to 2.7 s a frame, one 0.05 to 0.09.
SMALL = 128


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
    """A `model.DSTT` on whatever device and in whatever dtype its weights are.

    Args:
        threads: that PyTorch uses for the network, see `torch_threads`.

    Raises ValueError for a number of threads that makes no sense.
    """

    any_size = True

    def __init__(self, model, threads: int | None = None):
        check_threads(threads)
        self._model, self._threads = model.eval(), threads
        self.config = model.config

    def empty(self, batch: int, size: tuple[int, int]):
        weight = next(self._model.parameters())
        return weight.detach().new_zeros(self.config.memory_shape(batch, size))

    def __call__(self, frame, mask, previous, maps, memory):
        import torch

        arrays = (frame, mask, previous, maps)
        # Not inference_mode, whose tensors cannot be emptied afterwards.
        with torch.no_grad(), torch_threads(self._threads, self.config, memory.device.type):
            tensors = [torch.from_numpy(x).to(memory.device, memory.dtype) for x in arrays]
            output, share, memory = self._model(*tensors, memory)
        return output.float().cpu().numpy(), share.float().cpu().numpy(), memory


@contextmanager
def torch_threads(threads: int | None, config: DSTTConfig, device: str) -> Iterator[None]:
    """PyTorch works in so many threads inside, and in as many as before afterwards.

    None: one for a network that is `SMALL` on the CPU, PyTorch's own setting for others. ``device``: a type of torch.
    """
    import torch

    if threads is None and device == "cpu" and config.hidden <= SMALL:
        threads = 1
    before = torch.get_num_threads()
    if threads in (None, before):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_threads(threads: int | None) -> None:
    """Raises ValueError unless it is a number of threads, or None."""
    if threads is not None:
        whole_number("threads", threads, most=MOST_THREADS)
