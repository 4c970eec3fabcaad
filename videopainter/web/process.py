"""The worker's process, as the server keeps it: started, woken, ended with its job, started again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from videopainter.web.store import Store

PATIENCE = 1.2  # seconds that a job has to end by itself when it is cancelled, before its process is ended
RESTART_SECONDS = 1.0  # between the end of a process and the start of the next
CRASHED = "The work ended unexpectedly{why}; the rest of the page goes on. Smaller frames or fewer of them may help."


class WorkerProcess:
    """One worker process, always there between `start` and `close`."""

    def __init__(self, store: Store):
        self._store = store
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        """What was running when the last server ended waits again."""
        self._store.requeue()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def wake(self) -> None:
        """Say that there may be work."""
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            try:
                process.stdin.write(b"\n")
                process.stdin.flush()
            except OSError:  # it has just ended; the next one looks at the queue by itself
                pass

    def cancel(self, job: str) -> None:
        """End a job: asked first, and with its process if it does not listen."""
        self._store.ask_cancel(job)
        if self._store.job(job)["state"] == "running":
            threading.Thread(target=self._insist, args=(job,), daemon=True).start()

    @property
    def pid(self) -> int | None:
        with self._lock:
            return None if self._process is None else self._process.pid

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.kill()
            process.wait()
        if self._keeper is not None:
            self._keeper.join()

    def _insist(self, job: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._store.job(job)["state"] != "running":
                return
            time.sleep(0.05)
        with self._lock:
            process = self._process
        if process is not None and self._store.job(job)["worker"] == process.pid:
            process.kill()
        self._store.end(job, "cancelled")

    def _keep(self) -> None:
        while not self._closed.is_set():
            log = open(self._store.workspace / "worker.log", "ab")
            command = [sys.executable, "-m", "videopainter.web.worker", str(self._store.workspace)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
            log.close()
            with self._lock:
                self._process = process
            status = process.wait()
            if self._closed.is_set():
                return
            self._after(process.pid, status)
            self._closed.wait(RESTART_SECONDS)

    def _after(self, pid: int, status: int) -> None:
        """Its job has failed, unless it was to end anyway."""
        for job in self._store.jobs():
            if job["state"] == "running" and job["worker"] == pid:
                why = " (perhaps memory ran out)" if status == -9 else ""
                state = "cancelled" if job["cancel"] else "failed"
                self._store.end(job["id"], state, "" if job["cancel"] else CRASHED.format(why=why))
