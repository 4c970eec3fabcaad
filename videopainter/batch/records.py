"""What has been done: results that appear whole, with a record of what they were made from, or not at all.

Every row's results lie in a folder of their own. It is filled under another name and renamed when the last file,
`row.json`, is in it: whoever is killed at whatever moment leaves either a finished row or none.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RECORD = "row.json"


class Records:
    """The rows done and failed below `folder`; any number of processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._unfinished, self._failed = folder / ".unfinished", folder / "failed"

    def done(self, name: str, key: str) -> dict | None:
        """The record of a finished row, if it was made from the same input (`key`) and its files are all there."""
        record = _read(self.folder / name / RECORD)
        if record is None or record.get("key") != key:
            return None
        files = ((self.folder / name / file, size) for file, size in record["files"].items())
        return record if all(path.is_file() and path.stat().st_size == size for path, size in files) else None

    def failure(self, name: str, key: str) -> dict | None:
        record = _read(self._failed / f"{name}.json")
        return record if record is not None and record.get("key") == key else None

    @contextmanager
    def begin(self, name: str) -> Iterator[Path]:
        """A new folder for the results of a row; removed at the end unless `finish` has taken it."""
        self._unfinished.mkdir(parents=True, exist_ok=True)
        place = Path(
            tempfile.mkdtemp(dir=self._unfinished, prefix=f"{name}@{socket.gethostname()}@{os.getpid()}@")
        )
        os.chmod(place, 0o777 & ~_umask())
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def finish(self, name: str, key: str, place: Path, record: dict) -> dict:
        """Make the folder `place` the results of a row; what was there from other input gives way."""
        record = {**record, "name": name, "status": "done", "key": key, "files": {}}
        for path in sorted(place.iterdir()):
            record["files"][path.name] = path.stat().st_size
        (place / RECORD).write_text(_json(record), encoding="utf-8")
        final = self.folder / name
        if final.exists():
            with self.begin(name) as rubbish:
                os.replace(final, rubbish / "before")
                os.replace(place, final)
        else:
            os.replace(place, final)
        (self._failed / f"{name}.json").unlink(missing_ok=True)
        return record

    def fail(self, name: str, key: str, record: dict) -> dict:
        """Note why a row could not be done; it is tried again at the next start."""
        self._failed.mkdir(parents=True, exist_ok=True)
        record = {**record, "name": name, "status": "failed", "key": key}
        self.write(f"failed/{name}.json", _json(record))
        return record

    def write(self, name: str, text: str) -> None:
        """A file below the folder, whole or not at all; a kill leaves nothing that `sweep` does not find."""
        with self.begin("file") as place:
            (place / "file").write_text(text, encoding="utf-8")
            os.replace(place / "file", self.folder / name)

    def sweep(self) -> None:
        """Remove what processes of this machine left when they were killed."""
        if os.name != "posix" or not self._unfinished.is_dir():
            return
        for place in self._unfinished.glob(f"*@{socket.gethostname()}@*@*"):
            if not _alive(int(place.name.rsplit("@", 2)[1])):
                shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """Remove the folders that are empty."""
        for folder in (self._unfinished, self._failed):
            try:
                folder.rmdir()
            except OSError:  # another process still uses it, or it never was
                pass


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _json(record: dict) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
