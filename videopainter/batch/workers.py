"""Who works in a folder: every process has a file there, which it renews as long as it lives.

A claim is a hard link to that file: it is there at once and whole, or another one was faster, also on NFS, where
exclusive opening has not always been safe; and one renewal is the renewal of all that a process has claimed. Times are
those of the file server alone, compared with each other, so it does not matter what clocks the machines have.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from videopainter.utils.locks import FileLock, is_free

LEASE = 90.0  # seconds after which a worker that has not renewed its file counts as dead
SUFFIX = ".worker"


def _kernel() -> str | None:
    """What processes have in common that see each other's locks; containers of one machine do, whatever they are
    called."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node() if sys.platform == "darwin" else None


KERNEL = _kernel()


class Worker:
    """This process among those that share `folder`.

    lease: seconds without a sign of life after which others may take over what it has claimed. On one machine they
        know at once, from its lock.

    `join` is called by whatever needs it. In between a thread renews the file, six times in a lease.
    """

    def __init__(self, folder: Path, lease: float = LEASE):
        self.folder, self.lease = folder, lease
        self.since = 0  # ns, when those began that work here now, by the file server's clock
        self.company = 0  # how many were at work here when this one began
        self._lock: FileLock | None = None
        self._copies: set[Path] = set()  # claims where files cannot have two names
        self._renewed = (0, 0.0)  # (ns by the server's clock, seconds by ours)
        self._left = threading.Event()
        self._renewing = threading.Lock()

    def join(self) -> None:
        """Be one of those who work here, if that is not so yet."""
        if self._lock is not None and self._path_is_ours():
            return
        first = self._lock is None
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{uuid.uuid4().hex}{SUFFIX}")
        while not lock.take():  # somebody just looks whether anyone holds it
            time.sleep(0.01)
        with self._renewing:
            before, self._lock = self._lock, lock
            if before is not None:  # it was swept while this process was suspended
                before.release()
        self.renew()
        if first:
            others = self._beginnings()
            self.since = min([self._renewed[0], *others])
            self.company = len(others)
        os.pwrite(lock.handle, self._said(), 0)
        self.renew()
        if first:
            self._left.clear()
            threading.Thread(target=self._live, name="lease", daemon=True).start()

    def leave(self) -> None:
        """The end of this process's work here."""
        self._left.set()
        with self._renewing:
            if self._lock is not None:
                lock, self._lock = self._lock, None
                lock.release()
        with suppress(OSError):
            self.folder.rmdir()  # the last one

    def claim(self, path: Path) -> bool:
        """Have `path` stand for this process, if it stands for nobody; whether it does."""
        self.join()
        assert self._lock is not None
        try:
            os.link(self._lock.path, path)
            return True
        except FileExistsError:
            return self.has(path)  # NFS asks again when an answer is lost
        except OSError:
            if not path.parent.is_dir():
                raise
        return self._copy_to(path)

    def has(self, path: Path) -> bool:
        """Whether `path` stands for this process."""
        if path in self._copies:
            return True
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock.handle), os.stat(path))
        except OSError:
            return False

    def give_back(self, path: Path) -> None:
        """The end of a claim; nothing happens where another has taken it over."""
        if self.has(path):
            self._copies.discard(path)
            path.unlink(missing_ok=True)

    def dead(self, path: Path) -> bool:
        """Whether the process that `path` stands for is known to be gone; False if there is no such file any more."""
        return self._look(path)[0]

    def died_since(self, path: Path, since: int) -> bool:
        """Whether the dead process of `path` was seen alive after `since` (ns)."""
        try:
            return path.stat().st_mtime_ns >= since
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove the files of dead workers."""
        for path in self._files():
            if self.dead(path):
                path.unlink(missing_ok=True)

    def renew(self) -> None:
        """A sign of life."""
        with self._renewing:
            if self._lock is None:
                return
            handle = self._lock.handle
            places: list[int | Path] = [handle, *self._copies]
            for place in places:
                with suppress(OSError):
                    os.utime(place)  # without a time it is the server's
            self._renewed = (os.fstat(handle).st_mtime_ns, time.monotonic())

    def now(self) -> float:
        """Seconds by the file server's clock."""
        self.join()
        stamp, at = self._renewed
        return stamp / 1e9 + time.monotonic() - at

    def _live(self) -> None:
        while not self._left.wait(self.lease / 6):
            with suppress(OSError):
                self.renew()

    def _said(self) -> bytes:
        """What stands in the file: for people, and for those who judge whether its process lives."""
        about = {"host": socket.gethostname(), "pid": os.getpid(), "kernel": KERNEL}
        return json.dumps({**about, "lease": self.lease, "since": self.since}).encode()

    def _path_is_ours(self) -> bool:
        assert self._lock is not None
        return self.has(self._lock.path)

    def _files(self) -> list[Path]:
        with suppress(OSError):
            return [self.folder / name for name in os.listdir(self.folder) if name.endswith(SUFFIX)]
        return []

    def _beginnings(self) -> list[int]:
        """When the living began."""
        found = []
        for path in self._files():
            dead, about = self._look(path)
            if not dead and isinstance(about.get("since"), int):
                found.append(about["since"])
        return found

    def _look(self, path: Path) -> tuple[bool, dict[str, Any]]:
        """(whether the process of a claim or a worker's file is dead, what stands in that)."""
        try:
            try:
                handle = os.open(path, os.O_RDWR)  # opening has NFS ask the server what is there now
            except PermissionError:
                handle = os.open(path, os.O_RDONLY)
        except OSError:
            return False, {}
        try:
            about = _parsed(os.pread(handle, 4096, 0))
            status = os.fstat(handle)
            if self._lock is not None and os.path.samestat(status, os.fstat(self._lock.handle)):
                return False, about
            lease = about.get("lease")
            lease = lease if isinstance(lease, int | float) and lease > 0 else self.lease
            if self.now() - status.st_mtime_ns / 1e9 > lease:
                return True, about
            # Other machines' locks may not be seen here; on this one they end with their process.
            here = KERNEL is not None and about.get("kernel") == KERNEL and not about.get("copy")
            return here and is_free(handle), about
        except OSError:
            return False, {}
        finally:
            os.close(handle)

    def _copy_to(self, path: Path) -> bool:
        """`claim` where a file has one name only."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, json.dumps({**json.loads(self._said()), "copy": True}).encode())
        finally:
            os.close(handle)
        self._copies.add(path)
        return True


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
