"""Files that are there whole or not at all."""

import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

LONGEST_NAME = 80  # bytes of a final name that a temporary one carries; file systems take 255 in all


def shortened_name(name: str) -> str:
    """The beginning of a file's name, short enough for something to be added; cut between letters."""
    return name.encode(errors="surrogateescape")[:LONGEST_NAME].decode(errors="ignore")


def temporary_name(path: str | os.PathLike) -> str:
    """A hidden name in the same folder, never too long for the file system, that says which process it is of."""
    folder, name = os.path.split(os.fspath(path))
    owner = f"{_place()}-{os.getpid()}-{_started(os.getpid())}"
    return os.path.join(folder, f".{shortened_name(name)}.{owner}-{uuid.uuid4().hex[:8]}.part")


def sweep(folder: str | os.PathLike) -> None:
    """Remove what processes of this machine were writing into a folder when they were killed.

    Of processes that cannot be seen from here (on another machine, in another container, before the last start of
    this one) nothing is known, so what they left stays until it is a day old.
    """
    with suppress(OSError):
        for name in os.listdir(folder):
            found = _OWNED.search(name)
            if found is not None and _is_over(os.path.join(folder, name), *found.groups()):
                path = os.path.join(folder, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(path)


_OWNED = re.compile(r"^\..*\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.part$", re.DOTALL)
_DAY = 86400.0  # seconds


def _is_over(path: str, place: str, pid: str, started: str) -> bool:
    if place == _place() and place != _NOWHERE:
        return _started(int(pid)) != int(started)
    with suppress(OSError):
        return time.time() - os.stat(path).st_mtime > _DAY
    return False


_NOWHERE = "00000000"


@cache
def _place() -> str:
    """The processes that can be seen from here: those of this start of this machine, in this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot}{os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]
    except OSError:
        return _NOWHERE


def _started(pid: int) -> int:
    """When a process was started, counted by its machine; 0 if there is none."""
    try:
        after = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if after[0] in (b"Z", b"X") else int(after[19])
    except (OSError, ValueError, IndexError):
        return 0


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes under a temporary name beside it, and rename it when all went well.

    On any error, Ctrl-C included, nothing is left and what was at `path` before is untouched.
    """
    temporary = temporary_name(path)
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        # A stop may come when the file has its name already; that must not become an error about the other name.
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A new folder to fill, under a temporary name beside `path`, which it takes when all went well.

    On any error, Ctrl-C included, nothing is left. An empty folder at `path` is replaced. Raises OSError if
    something else is there.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{shortened_name(path.name)}.") as unfinished:
        folder = Path(unfinished, "whole")
        folder.mkdir()
        yield folder
        os.replace(folder, path)
