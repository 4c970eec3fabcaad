"""The worker's process, as the server keeps it: started, woken, ended with its job, started again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

from videopainter.web.store import Store

WORK, HOLD = b"work", b"hold"  # what a worker is told, a line each
PATIENCE = 1.2  # seconds that a job has to end by itself when it is cancelled, before its process is ended
LOOK_SECONDS = 2.0  # between looks for work, if nobody says that there is any
RESTART_SECONDS = 1.0  # between the end of a process and the start of the next
CRASHED = "The work ended unexpectedly{why}; the rest of the page goes on. Smaller frames or fewer of them may help."


class WorkerProcess:
    """One worker process for jobs of some kinds, there from the first of them on until `close`."""

    def __init__(self, store: Store, kinds: tuple[str, ...]):
        self._store, self._kinds = store, kinds
        self._called = threading.Event()
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def wake(self) -> None:
        """Say that there may be work."""
        self._called.set()
        self._tell(WORK)

    def hold(self) -> None:
        """Say that somebody waits for an answer: work that has time rests for a moment."""
        self._tell(HOLD)

    def _tell(self, word: bytes) -> None:
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None and process.poll() is None:
                try:
                    process.stdin.write(word + b"\n")
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
        """End the process; the job that it had begun waits for the next server."""
        self._closed.set()
        self._called.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.kill()
            process.wait()
            self._store.requeue(process.pid, again=True)
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
            if not self._store.waiting(self._kinds):
                self._called.wait(LOOK_SECONDS)
                self._called.clear()
                continue
            with self._lock, open(self._store.workspace / "worker.log", "ab") as log:
                if self._closed.is_set():
                    return
                process = subprocess.Popen(self._command(), stdin=subprocess.PIPE, stdout=log, stderr=log)
                self._process = process
            status = process.wait()
            if self._closed.is_set():
                return
            self._after(process.pid, status)
            if status != 0:
                self._closed.wait(RESTART_SECONDS)

    def _command(self) -> list[str]:
        arguments = [str(self._store.workspace), ",".join(self._kinds)]
        return [sys.executable, "-m", "videopainter.web.worker", *arguments]

    def _after(self, pid: int, status: int) -> None:
        """Its job has failed, unless it was to end anyway."""
        for job in self._store.jobs():
            if job["state"] == "running" and job["worker"] == pid:
                why = " (perhaps memory ran out)" if status == -9 else ""
                shutil.rmtree(self._store.part_folder(job), ignore_errors=True)
                state = "cancelled" if job["cancel"] else "failed"
                self._store.end(job["id"], state, "" if job["cancel"] else CRASHED.format(why=why))
