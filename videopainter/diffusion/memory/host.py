"""Tensors that wait in the host's memory while the GPU has no use for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, which is complete for whatever the GPU does next; on the CPU the tensor itself."""
    if tensor.device.type == "cpu":
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def from_host(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device, for which nobody waits; on the CPU the tensor itself."""
    if torch.device(device).type == "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Parked:
    """Nested dicts of tensors, off the GPU until they are fetched. Never changed, so that work can be begun anew."""

    def __init__(self, tree: Any):
        self._device: torch.device | None = None
        self._tree = self._park(tree)

    def fetch(self, cut: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Any:
        """Copies on the device that they came from; of each what ``cut`` makes of it."""
        return self._fetch(self._tree, cut)

    def _park(self, tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: self._park(value) for name, value in tree.items()}
        if not isinstance(tree, torch.Tensor):
            return tree
        self._device = tree.device
        return to_host(tree)

    def _fetch(self, tree: Any, cut) -> Any:
        if isinstance(tree, dict):
            return {name: self._fetch(value, cut) for name, value in tree.items()}
        if not isinstance(tree, torch.Tensor):
            return tree
        tree = tree if cut is None else cut(tree)
        return tree.clone() if self._device.type == "cpu" else tree.to(self._device, non_blocking=True)
