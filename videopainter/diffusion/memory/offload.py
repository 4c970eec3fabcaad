"""Networks and blocks that come to the GPU when it is their turn, without ever being copied back."""

from pathlib import Path

import safetensors.torch
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn


class TakeTurns:
    """Networks of which one is on the device at a time; a copy of each stays in pinned memory.

    Weights do not change while they are used, so that leaving the device is to forget what is there.
    """

    def __init__(self, networks: list[nn.Module], device: torch.device):
        self.device = device
        self.present: nn.Module | None = None
        self._host: dict[int, list[torch.Tensor]] = {}
        for network in networks:
            kept = [tensor.data.cpu().pin_memory() for tensor in _tensors(network)]
            self._host[id(network)] = kept
            _point(network, kept)
            add_hook_to_module(network, _Turn(self))

    def bring(self, network: nn.Module) -> None:
        """Have this network on the device, in the place of the one before."""
        if self.present is network:
            return
        if self.present is not None:
            _point(self.present, self._host[id(self.present)])
        self.present = network
        kept = self._host[id(network)]
        _point(network, [tensor.to(self.device, non_blocking=True) for tensor in kept])


class _Turn(ModelHook):
    """accelerate's hook: called before `forward`, and by diffusers before a VAE's `encode` and `decode`."""

    def __init__(self, turns: TakeTurns):
        self._turns = turns
        self.execution_device = turns.device

    def pre_forward(self, module, *args, **kwargs):
        self._turns.bring(module)
        return args, kwargs


class BlockStream:
    """Blocks of a network of which one is at work on the device while the next one is on its way there.

    Copies wait in pinned memory, or in files of ``folder``; whatever hooks the blocks have (a cache's, a cast's) are
    not touched. Blocks are taken to run in their order, again and again; another order costs time, no more.
    """

    def __init__(self, blocks: nn.ModuleList, device: torch.device, folder: Path | None = None):
        self.device = device
        self._blocks = list(blocks)
        self._copies = torch.cuda.Stream(device)
        self._there: dict[int, list[torch.Tensor]] = {}  # by number of the block
        self._folder = folder
        self._host: list[list[torch.Tensor]] = []
        for number, block in enumerate(self._blocks):
            values = [tensor.data.cpu() for tensor in _tensors(block)]
            if folder is None:
                self._host.append([value.pin_memory() for value in values])
            else:
                named = {str(place): value.contiguous() for place, value in enumerate(values)}
                safetensors.torch.save_file(named, self._file(number))
                self._host.append([torch.empty(0, dtype=value.dtype) for value in values])
            _point(block, self._host[number])
            block.register_forward_pre_hook(lambda *_, number=number: self._begin(number))
            block.register_forward_hook(lambda *_, number=number: self._end(number))

    def _file(self, number: int) -> Path:
        return self._folder / f"block_{number}.safetensors"

    def _read(self, number: int) -> list[torch.Tensor]:
        if self._folder is None:
            return self._host[number]
        values = safetensors.torch.load_file(self._file(number))
        return [values[str(place)] for place in range(len(values))]

    def _send(self, number: int) -> None:
        if number not in self._there:
            with torch.cuda.stream(self._copies):
                self._there[number] = [
                    value.to(self.device, non_blocking=True) for value in self._read(number)
                ]

    def _begin(self, number: int) -> None:
        self._send(number)
        present = torch.cuda.current_stream(self.device)
        present.wait_stream(self._copies)
        values = self._there.pop(number)
        for value in values:
            value.record_stream(
                present
            )  # it was made on the other stream, and is freed while this one may read it
        _point(self._blocks[number], values)
        # The copy of the next block begins when this one's work is queued, and ends before it is done.
        self._send((number + 1) % len(self._blocks))

    def _end(self, number: int) -> None:
        _point(self._blocks[number], self._host[number])


def forget(network: nn.Module) -> None:
    """Free the memory of a network that is not needed any more, wherever others still hold on to it."""
    for tensor in _tensors(network):
        tensor.data = torch.empty(0, dtype=tensor.dtype)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _point(network: nn.Module, values: list[torch.Tensor]) -> None:
    for tensor, value in zip(_tensors(network), values):
        tensor.data = value
