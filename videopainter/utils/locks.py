"""Locks on files: the system takes them back when their process ends, however it ends, on whatever machine."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing that others left is removed
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock that the file `path` stands for; the file is there while it is held."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._handle: int | None = None

    @property
    def handle(self) -> int:
        """The file's descriptor, while the lock is held."""
        assert self._handle is not None
        return self._handle

    def take(self) -> bool:
        """Take the lock if it is free; whether it could be. True, too, where the system has no locks."""
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            if not _lock(handle):
                os.close(handle)
                return False
            try:
                current = os.path.samestat(os.fstat(handle), os.stat(self.path))
            except FileNotFoundError:
                current = False
            if current:
                self._handle = handle
            else:  # whoever held it has removed the file meanwhile
                os.close(handle)
        return True

    def release(self) -> None:
        """Remove the file and give the lock back; nothing happens if it is not held."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def is_free(handle: int) -> bool:
    """Whether nobody holds the lock of an open file. False where the system cannot tell."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
        return True
    except OSError:  # it is held, or this file system knows no locks
        return False


def _lock(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
