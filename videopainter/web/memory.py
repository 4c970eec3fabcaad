"""Memory of large frames goes back to the system when they are let go of."""

import ctypes
import gc

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
LARGE = 6 * 2**20  # bytes: less than a 4K frame, more than what a click needs, which it would slow down
ARENAS = 2  # heaps, for threads that ask for memory at once


def return_large_buffers() -> None:
    """Have glibc map buffers of `LARGE` bytes and more, so that frames that come and go leave no holes behind.

    Else it raises its limit to the largest buffer that was ever freed, and a server that shows 4K frames to two tabs
    was measured to hold 120 MB more. Nothing happens where there is another C library.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError, TypeError):
        pass


def freeze() -> None:
    """What is there now stays to the end: the collector need not look at it again, which makes `trim` quick."""
    gc.collect()
    gc.freeze()


def trim() -> None:
    """Give back what nobody uses, such as the frame by which a video was known, or what a network's loading took."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        pass
