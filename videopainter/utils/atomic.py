"""Files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LONGEST_NAME = 80  # bytes of a final name that a temporary one carries; file systems take 255 in all


def shortened_name(name: str) -> str:
    """The beginning of a file's name, short enough for something to be added; cut between letters."""
    return name.encode(errors="surrogateescape")[:LONGEST_NAME].decode(errors="ignore")


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes under a temporary name beside it, and rename it when all went well.

    On any error, Ctrl-C included, nothing is left and what was at `path` before is untouched.
    """
    path = Path(path)
    prefix = f".{shortened_name(path.name)}."
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
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
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{shortened_name(path.name)}.") as unfinished:
        folder = Path(unfinished, "whole")
        folder.mkdir()
        yield folder
        os.replace(folder, path)
