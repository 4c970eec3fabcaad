"""What has been done: results that appear whole, with a record of what they were made from, or not at all.

Every row's results lie in a folder of their own. It is filled under another name and renamed when the last file,
`row.json`, is in it: whoever is killed at whatever moment leaves either a finished row or none. What is unfinished
has a claim of its worker beside it: so it is known what may be swept when that is dead. One folder is for the rows of
one table with one kind of settings; `batch.json` says which.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from videopainter.batch.leases import Leases
from videopainter.batch.workers import LEASE, Worker
from videopainter.utils.atomic import shortened_name
from videopainter.utils.checks import short

RECORD, BATCH = "row.json", "batch.json"
TABLE = "table"  # which of the settings is the path of the rows' table
Keys = str | tuple[str, ...]
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS)


class Records:
    """The rows done and failed below `folder`; any number of processes may use it at once.

    `settings`: what all of them share; `lease`: see `Worker`. Raises ValueError, one sentence, if the folder holds the
    rows of others.
    """

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None, lease: float = LEASE):
        self.folder, self._settings = folder, settings
        self._was_there = folder.exists()
        self.worker = Worker(folder / ".leases", lease)
        self.leases = Leases(self.worker)
        self._unfinished, self._failed = folder / ".unfinished", folder / "failed"
        self._claimed = self._agrees()

    def done(self, name: str, key: Keys) -> dict | None:
        """The record of a finished row, if it was made from the same input and its files are all there.

        `key`: says what it was made from; or several that say the same.
        """
        record = _read(self.folder / name / RECORD)
        if record is None or not _is_of(record, key) or not isinstance(record.get("files"), dict):
            return None
        files = ((self.folder / name / file, size) for file, size in record["files"].items())
        return record if all(file_size(path) == size for path, size in files) else None

    def failure(self, name: str, key: Keys) -> dict | None:
        """Why a row could not be done, whenever it was tried."""
        record = _read(self._failed / f"{name}.json")
        return record if record is not None and _is_of(record, key) else None

    def settled(self, name: str, key: Keys) -> bool:
        """Whether a row needs nobody: it is done, or has failed since those that are at work now began."""
        if self.done(name, key) is not None:
            return True
        return self.fresh(f"failed/{name}.json") and self.failure(name, key) is not None

    def fresh(self, name: str) -> bool:
        """Whether a file below the folder has come into being since those that are at work now began."""
        try:
            return (self.folder / name).stat().st_mtime_ns > self.worker.since
        except OSError:
            return False

    @contextmanager
    def begin(self, name: str) -> Iterator[Path]:
        """A new folder for the results of a row; removed at the end unless `finish` has taken it."""
        self._claim()
        with self._place(name) as place:
            yield place

    def finish(self, name: str, key: str, place: Path, record: dict) -> dict:
        """Make the folder `place` the results of a row; what was there from other input gives way.

        Where another process has done the same meanwhile its results stay.
        """
        if (known := self.done(name, key)) is not None:
            (self._failed / f"{name}.json").unlink(missing_ok=True)
            return known
        record = {**record, "name": name, "status": "done", "key": key, "files": {}}
        for path in sorted(place.iterdir()):
            record["files"][path.name] = path.stat().st_size
        (place / RECORD).write_bytes(as_json(record))
        final = self.folder / name
        with self._place(name) as rubbish:
            before = rubbish / "before"
            try:
                if final.exists():
                    os.replace(final, before)
                os.replace(place, final)
            except OSError:
                if self.done(name, key) is None:  # else another process has done the same row meanwhile
                    raise
            finally:
                if before.exists() and not final.exists():
                    os.replace(before, final)
        (self._failed / f"{name}.json").unlink(missing_ok=True)
        return record

    def fail(self, name: str, key: str, record: dict) -> dict:
        """Note why a row could not be done; it is tried again at the next start."""
        self._claim()
        self._failed.mkdir(parents=True, exist_ok=True)
        record = {**record, "name": name, "status": "failed", "key": key}
        self.write(f"failed/{name}.json", as_json(record))
        return record

    def write(self, name: str, data: bytes) -> None:
        """A file below the folder, whole or not at all; a kill leaves nothing that `sweep` does not find."""
        with self.begin("file") as place:
            (place / "file").write_bytes(data)
            os.replace(place / "file", self.folder / name)

    def sweep(self) -> None:
        """Remove what processes left when they were killed."""
        with suppress(OSError):
            for lock in self._unfinished.glob("*.lock"):
                if self.worker.dead(lock):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)

    def close(self) -> None:
        """The end of this process's work; folders that are empty are removed."""
        self.worker.leave()
        for folder in (self._unfinished, self._failed, self.folder / ".pieces"):
            try:
                folder.rmdir()
            except OSError:  # another process still uses it, or it never was
                pass

    def pieces(self, name: str, key: str) -> Path:
        """The folder for the pieces of a row, until they are joined."""
        self._claim()
        return self.folder / ".pieces" / f"{name}@{key}"

    def unfinished(self) -> list[str]:
        """What processes are at, or have left."""
        with suppress(OSError):
            return os.listdir(self._unfinished)
        return []

    def leave(self) -> None:
        """The end of this process's work here."""
        self.worker.leave()
        if not self._was_there:
            with suppress(OSError):
                self.folder.rmdir()  # nothing has come of it

    @contextmanager
    def _place(self, name: str) -> Iterator[Path]:
        self._unfinished.mkdir(parents=True, exist_ok=True)
        place = self._unfinished / f"{shortened_name(name)}@{uuid.uuid4().hex}"
        lock = Path(f"{place}.lock")
        self.worker.claim(lock)
        try:
            place.mkdir()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            self.worker.give_back(lock)

    def _agrees(self) -> bool:
        """Whether the folder is known to be for these settings; False if it is nobody's yet."""
        if self._settings is None:
            return True
        try:
            text = (self.folder / BATCH).read_bytes()
        except OSError:
            return False
        known = _parsed(text)
        if known is None:
            raise ValueError(f"'{self.folder / BATCH}' is damaged; name another output folder.")
        if known.get(TABLE) != self._settings.get(TABLE):
            raise ValueError(
                f"'{self.folder}' holds the rows of another table, {short(known.get(TABLE), 200)}; name another "
                "output folder."
            )
        for name in sorted({*known, *self._settings}):
            ours, theirs = self._settings.get(name), known.get(name)
            if ours != theirs:
                raise ValueError(
                    f"'{self.folder}' holds rows that were done with {name} {_said(theirs)}, not {_said(ours)}; "
                    "name another output folder."
                )
        return True

    def _claim(self) -> None:
        """Write down whose folder it is."""
        if self._claimed or self._settings is None:
            return
        with self._place("file") as place:
            new = place / "file"
            new.write_bytes(as_json(self._settings))
            try:
                os.link(new, self.folder / BATCH)  # unlike a rename this replaces nothing
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                os.replace(new, self.folder / BATCH)
        self._claimed = self._agrees()


def file_size(path: Path) -> int | None:
    """Bytes of a file; None if it is not there, cannot be seen, or is no file."""
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that nothing more can be written."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of(record: dict, key: Keys) -> bool:
    return record.get("key") in ((key,) if isinstance(key, str) else key)


def _said(value: Any) -> str:
    return "by default" if value is None else short(value)


def _read(path: Path) -> dict | None:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(text: bytes) -> dict | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def as_json(record: Any) -> bytes:
    """Names that are no text are written as JSON's escapes."""
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
