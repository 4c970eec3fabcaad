"""Tensors that wait in the host's memory while the GPU has no use for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from videopainter.ops.memory import to_host


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
