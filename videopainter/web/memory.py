"""Memory of large frames goes back to the system when they are let go of."""

import ctypes

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 2**20  # bytes


def return_large_buffers() -> None:
    """Have glibc map buffers of a megabyte and more, so that frames that come and go leave no holes behind.

    Else it raises its limit to the largest buffer that was ever freed, and a server that shows 4K frames to two tabs
    was measured to hold 120 MB more. Nothing happens where there is another C library.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
    except (OSError, AttributeError, TypeError):
        pass
