"""How much memory is free, and giving back what is not used."""

import ctypes
import os
from functools import cache


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
