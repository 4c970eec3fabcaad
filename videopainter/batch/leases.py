"""Leases on rows: who works on which, and what becomes of those whose worker has died.

The lease on row NAME is the file `NAME@0`, claimed for a worker. When that dies, another one claims `NAME@1`, and so
on: nothing is ever taken away from under a name, so that two who find the same dead worker cannot both succeed it, and
the number says how often it happened. Who is done with a row removes its leases.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from videopainter.batch.workers import Worker

ATTEMPTS = 2  # workers that may die at a row before it counts as failed


@dataclass(frozen=True)
class Lease:
    """This worker's right to a row; `deaths`: how many have died at it while the present workers were at work."""

    name: str
    path: Path
    deaths: int


class Leases:
    """The leases in the folder of `worker`."""

    def __init__(self, worker: Worker):
        self._worker = worker

    def free(self, name: str, untouched: bool = False) -> bool:
        """Whether nobody who lives works on the row `name`; `untouched`: nor has anyone died at it."""
        paths = self._of(name)
        return not paths or (not untouched and self._worker.dead(paths[-1]))

    def claim(self, name: str) -> Lease | None:
        """The lease on a row; None if another worker has it."""
        self._worker.join()
        paths = self._of(name)
        if paths and not self._worker.dead(paths[-1]):
            return None
        deaths = sum(self._worker.died_since(path, self._worker.since) for path in paths)
        path = self._path(name, _number(paths[-1]) + 1 if paths else 0)
        if not self._worker.claim(path):
            return None
        if self._of(name)[-1:] != [path]:  # between the two looks others have come and gone
            self._worker.give_back(path)
            return None
        return Lease(name, path, deaths)

    def give_back(self, lease: Lease) -> None:
        """The row is done, has failed, or is left to others."""
        if self._worker.has(lease.path):
            for path in self._of(lease.name):
                if _number(path) < _number(lease.path):  # of the dead; our own must be the last to go
                    path.unlink(missing_ok=True)
            self._worker.give_back(lease.path)

    def sweep(self) -> None:
        """Remove the leases of the dead on rows that nobody works on; for the end, when every row is settled."""
        for name in {entry.rpartition("@")[0] for entry in self._entries() if "@" in entry}:
            lease = None if not self.free(name) else self.claim(name)
            if lease is not None:
                self.give_back(lease)
        self._worker.sweep()

    def _entries(self) -> list[str]:
        with suppress(OSError):
            return os.listdir(self._worker.folder)
        return []

    def _of(self, name: str) -> list[Path]:
        """The leases on a row, the latest at the end."""
        numbers = [entry[len(name) + 1 :] for entry in self._entries() if entry.startswith(f"{name}@")]
        return [self._path(name, number) for number in sorted(int(n) for n in numbers if n.isdecimal())]

    def _path(self, name: str, number: int) -> Path:
        return self._worker.folder / f"{name}@{number}"


def _number(path: Path) -> int:
    return int(path.name.rpartition("@")[2])
