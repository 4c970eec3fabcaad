"""Fitting VideoPainter into the memory of a GPU, and making it faster."""

from videopainter.diffusion.memory.modes import (
    CACHES,
    choose_mode,
    compile_blocks,
    enable_cache,
    free_memory,
    fuse_adapter,
    lower_mode,
    place,
    release,
    temporarily_on_device,
)
from videopainter.diffusion.memory.needs import GIB, MODES, Work, bytes_needed

__all__ = [
    "CACHES",
    "GIB",
    "MODES",
    "Work",
    "bytes_needed",
    "choose_mode",
    "compile_blocks",
    "enable_cache",
    "free_memory",
    "fuse_adapter",
    "lower_mode",
    "place",
    "release",
    "temporarily_on_device",
]
