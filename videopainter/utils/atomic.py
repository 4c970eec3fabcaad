"""Files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LONGEST_START = 80  # bytes of a final name that a temporary one carries


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes under a temporary name beside it, and rename it when all went well.

    On any error, Ctrl-C included, nothing is left and what was at `path` before is untouched.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{start_of_name(path)}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)  # mkstemp lets only the owner read
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
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
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{start_of_name(path)}.") as unfinished:
        folder = Path(unfinished, "whole")
        folder.mkdir()
        yield folder
        os.replace(folder, path)


def start_of_name(path: str | os.PathLike) -> str:
    """As much of a file's name as leaves room for more, and is text: file systems take 255 bytes."""
    return os.fsencode(os.path.basename(path))[:LONGEST_START].decode(errors="ignore")
