"""How much memory is free, giving back what is not used, and copies between host and GPU that nobody waits for."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def free_bytes(device) -> int:
    """Memory that is free on a torch device; for the CPU what the system would still give."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 * 2**30  # a small laptop


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, which is complete for whatever the GPU does next; on the CPU the tensor itself."""
    import torch

    if tensor.device.type == "cpu":
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def from_host(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device, for which nobody waits; on the CPU the tensor itself."""
    if device.type == "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def give_back() -> None:
    """Hand memory that lies free inside this process back to the system, where the C library can (glibc).

    What is kept of each frame is small and lies between large intermediate results; without this their gaps
    would count as used for good.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim():
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # another C library, or none that can be asked
        return None
