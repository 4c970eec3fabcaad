"""Rows on a Ray cluster: actors that load the engine once, rows to whoever is free, the dead replaced.

Only a row's number goes out and whether it is settled comes back: frames, masks and results are files that all nodes
see. Who is at which row is noted by leases, as without Ray, so that other processes may share the same folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.cli import errors
from videopainter.utils.signals import Stop, Stopped

if TYPE_CHECKING:
    from videopainter.batch.preparation import Prepared
    from videopainter.batch.work import Batch

PATIENCE = 5  # actors on end that die before a row is settled, for each that is wanted
AGAIN = 1.0  # seconds until a row is tried again that another has, or whose actor has died
LOOK = 10.0  # seconds between two looks whether the cluster has grown
GRACE = 30.0  # seconds that an actor has to end by itself when its row has taken too long
_ROOT = str(Path(__file__).resolve().parents[2])  # where the package lies


class RowActor:
    """A worker of the batch: what runs on the nodes."""

    def __init__(self, args: argparse.Namespace, folder: str):
        self._args, self._folder = args, folder
        self._ready: Prepared | None = None

    def about(self) -> str:
        """Where it is; answered as soon as the actor has its place in the cluster."""
        return f"{socket.gethostname()} {os.getpid()}"

    def settle(self, number: int) -> bool:
        """Do the row at `number` among those of the command; whether it is settled."""
        from videopainter.batch.preparation import prepare

        if self._ready is None:
            with suppress(OSError):
                os.chdir(self._folder)  # the paths of the command are meant from there
            self._ready = prepare(self._args)
        batch, rows = self._ready.batch, self._ready.rows
        batch.work([rows[number]], wait=False, told=set())
        return batch.settled(rows[number])

    def leave(self) -> None:
        """The end of its work."""
        if self._ready is not None:
            self._ready.batch.records.leave()


@dataclass
class _Job:
    """What an actor is at; `number` None: it waits for its place in the cluster."""

    actor: Any
    number: int | None
    begun: float


@dataclass
class Driver:
    """Hands the rows out and sees to it that all are settled.

    cpus: of each actor; None: one GPU each where the cluster has any, else one CPU.
    """

    batch: Batch
    rows: list
    cpus: float | None = None
    _jobs: dict[Any, _Job] = field(default_factory=dict)
    _idle: list = field(default_factory=list)
    _later: deque = field(default_factory=deque)  # (when, number)
    _deaths: int = 0

    def work(self, address: str | None) -> None:
        """Until every row is settled. `address`: of a cluster; None: the one that runs here, or one of its own.

        Raises ValueError, one sentence, without Ray, a cluster, or an actor that can work.
        """
        # What is raised while Ray waits would end the process with another status: it is only asked to stop.
        with _connected(address), Stop() as stop:
            try:
                self._run(stop)
            finally:
                self._end()

    def _run(self, stop: Stop) -> None:
        import ray

        shared = self.batch.args.split is not None  # several may be at one row
        waiting = deque(number for number, row in enumerate(self.rows) if not self._told_before(row))
        total, begun, looked = len(waiting), time.monotonic(), 0.0
        left = set(waiting)
        while left:
            if stop():
                raise Stopped("Stopped; the same command goes on from here.", stop)
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                self._hire(len(left))
            while self._later and self._later[0][0] <= time.monotonic():
                number = self._later.popleft()[1]
                if number in left and number not in waiting:
                    waiting.append(number)
            if shared and not waiting and not self._later:
                waiting.extend(sorted(left))
            while self._idle and waiting:
                actor, number = self._idle.pop(), waiting.popleft()
                self._jobs[actor.settle.remote(number)] = _Job(actor, number, time.monotonic())
            self._end_the_late()
            done, _ = ray.wait(list(self._jobs), num_returns=1, timeout=AGAIN) if self._jobs else ([], [])
            if not self._jobs:
                time.sleep(AGAIN)
            for answer in done:
                number = self._take(answer)
                if number is None:
                    continue
                if number not in left:
                    continue
                if not self.batch.settled(self.rows[number]):
                    self._later.append((time.monotonic() + AGAIN, number))
                    continue
                self._deaths = 0
                left.discard(number)
                self._tell(self.rows[number], total - len(left), total, time.monotonic() - begun)

    def _take(self, answer) -> int | None:
        """What has come of a job; the number of its row, None for what was none."""
        import ray

        job = self._jobs.pop(answer)
        try:
            ray.get(answer)
            self._idle.append(job.actor)
        except ray.exceptions.RayTaskError as error:  # nobody could do any row
            cause = error.cause if isinstance(error.cause, Exception) else error
            if isinstance(cause, ValueError | OSError):
                raise ValueError(errors.sentence(cause)) from error
            raise
        except ray.exceptions.RayError as error:
            self._deaths += 1
            what = "row" if job.number is None else self.rows[job.number].name
            errors.say(f"A worker has died at {what}; another one takes its place.")
            if self._deaths > PATIENCE * max(1, self._wanted(len(self.rows))):
                raise ValueError(
                    f"The workers die one after the other; the last one: {errors.sentence(error)}"
                ) from error
            with suppress(Exception):
                ray.kill(job.actor)
            self._hire(len(self.rows))
        return job.number

    def _told_before(self, row) -> bool:
        """Whether a row is settled already; said, if it is."""
        if not self.batch.settled(row):
            return False
        print(f"{row.name}: done before", flush=True)
        return True

    def _tell(self, row, done: int, total: int, seconds: float) -> None:
        record = self.batch.record(row)
        if record["status"] == "done":
            said = f"{record.get('frames')} frames in {record.get('seconds')} s"
        else:
            said = f"failed: {record.get('error')}"
        rest = seconds / done * (total - done)
        print(f"{row.name}: {said} ({done} of {total}, {_duration(rest)} left)", flush=True)

    def _wanted(self, rows: int) -> int:
        """How many actors the cluster has room for."""
        import ray

        have = ray.cluster_resources()
        gpus = int(have.get("GPU", 0))
        room = gpus if self.cpus is None and gpus else int(have.get("CPU", 1) // (self.cpus or 1))
        return max(1, min(room, rows))

    def _hire(self, rows: int) -> None:
        import ray

        gpus = self.cpus is None and ray.cluster_resources().get("GPU", 0) >= 1
        place = {"num_gpus": 1} if gpus else {"num_cpus": self.cpus or 1}
        actor_class: Any = ray.remote(max_restarts=0, max_task_retries=0, **place)(RowActor)
        for _ in range(self._wanted(rows) - len(self._jobs) - len(self._idle)):
            actor = actor_class.remote(self.batch.args, os.getcwd())
            self._jobs[actor.about.remote()] = _Job(actor, None, time.monotonic())

    def _end_the_late(self) -> None:
        """Kill actors that hang so that they cannot even end themselves."""
        import ray

        limit = self.batch.args.row_timeout
        if limit is None:
            return
        for job in self._jobs.values():
            if job.number is not None and time.monotonic() - job.begun > limit + GRACE:
                row = self.rows[job.number]
                if not self.batch.settled(row):
                    self.batch.fail(row, f"It took longer than {limit:g} seconds.")
                job.begun = float("inf")
                ray.kill(job.actor)

    def _end(self) -> None:
        """Let go of the actors, and of what those have left that were at work."""
        import ray

        with suppress(Exception):
            ray.wait([actor.leave.remote() for actor in self._idle], num_returns=len(self._idle), timeout=10)
        for actor in [*self._idle, *(job.actor for job in self._jobs.values())]:
            with suppress(Exception):
                ray.kill(actor)
        deadline = time.monotonic() + 10
        while self._jobs and time.monotonic() < deadline:  # until the system has noticed that they are dead
            self.batch.records.sweep()
            if not self.batch.records.unfinished():
                break
            time.sleep(0.1)
        self.batch.records.sweep()  # and what those left that died before
        self.batch.records.worker.sweep()


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster, unless there is one; what is begun here is ended here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ModuleNotFoundError("Ray is not installed; the extra [ray] has it.") from None
    if ray.is_initialized():
        yield
        return
    search = [_ROOT, os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(search).rstrip(os.pathsep)}
    before = _handlers()
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address in (None, "local") else None,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise ValueError(f"There is no Ray cluster to work on: {errors.sentence(error)}") from error
    finally:
        for number, handler in before.items():  # Ray's own would end this process with another status
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _handlers() -> dict[int, Any]:
    """What this process does on signals."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    found = {
        getattr(signal, name): signal.getsignal(getattr(signal, name))
        for name in names
        if hasattr(signal, name)
    }
    return {number: handler for number, handler in found.items() if handler is not None}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
