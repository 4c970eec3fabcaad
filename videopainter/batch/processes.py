"""Which of the processes of `accelerate launch` (or any other launcher) this one is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from videopainter.cli import errors

PATIENCE = 5  # processes on end that do not last
BRIEF = 30.0  # seconds
_ROOT = str(Path(__file__).resolve().parents[2])  # where the package lies
LONGEST_WAIT = timedelta(days=30)  # one process may be at its last rows for long after the others are done


@dataclass(frozen=True)
class Processes:
    """`index` of `count`; `wait` returns when all have called it; `leave` is the last thing to call.

    `wait` raises ValueError if one of the others has ended without.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    leave: Callable[[], None] = lambda: None
    together: bool = True  # whether `wait` really waits

    @property
    def sums_up(self) -> bool:
        """Whether this one writes the summary: the first, or, where they do not wait for each other, each."""
        return self.index == 0 or not self.together


def processes() -> Processes:
    """From accelerate's PartialState where there is one, else from RANK and WORLD_SIZE; alone without either."""
    count = _number("WORLD_SIZE", 1)
    if count <= 1:
        return Processes()
    index = _number("RANK", 0)
    if not 0 <= index < count:
        raise ValueError(f"RANK must be 0 to {count - 1}, as WORLD_SIZE is {count}, not {index}.")
    if "MASTER_ADDR" not in os.environ or find_spec("accelerate") is None:
        return Processes(index, count, together=False)
    import torch
    from accelerate import PartialState

    # On the CPU, for only waiting goes through it; which GPU is ours is said below.
    state = PartialState(cpu=True, timeout=LONGEST_WAIT)
    if torch.cuda.is_available():
        torch.cuda.set_device(state.local_process_index % torch.cuda.device_count())

    def wait() -> None:
        try:
            state.wait_for_everyone()
        except RuntimeError:  # the connection to one of them is gone
            raise ValueError(
                "Another process of this batch has ended before its time; the same command does what is left."
            ) from None

    return Processes(state.process_index, state.num_processes, wait, state.destroy_process_group)


def share_of(index: int, count: int) -> Processes:
    """One of the processes that `launch` has started; it waits for none of the others."""
    if find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(index % torch.cuda.device_count())
    return Processes(index, count, together=False)


def launch(command: list[str], count: int) -> list[int]:
    """Run `command` as often as told, with `--share INDEX/COUNT`; the last exit status of each, negative for a signal's
    number.

    One that ends before its time is replaced, unless that has come to nothing `PATIENCE` times on end. A stop of this
    process stops them all.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        environment.pop(name, None)
    started: list[subprocess.Popen] = []
    since, brief = [0.0] * count, [0] * count  # when it was started, how many on end have not lasted

    def start(index: int) -> subprocess.Popen:
        since[index] = time.monotonic()
        return subprocess.Popen([*command, "--share", f"{index}/{count}"], env=environment)

    try:
        for index in range(count):
            started.append(start(index))
        while True:
            at_work = False
            for index, process in enumerate(started):
                status = process.poll()
                if status is not None and _before_its_time(status) and brief[index] < PATIENCE:
                    lasted = time.monotonic() - since[index]
                    brief[index] = brief[index] + 1 if lasted < BRIEF else 0
                    if status < 0:
                        errors.say(f"A process was ended by signal {-status}; another one takes its place.")
                    started[index] = start(index)
                    status = None
                at_work |= status is None
            if not at_work:
                return [process.returncode for process in started]
            time.sleep(0.2)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            process.wait()


def _before_its_time(status: int) -> bool:
    """Whether a process ended neither well nor because it was told to, or could not begin."""
    stopped = {128 + getattr(signal, name, 0) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")}
    return status not in {errors.OK, errors.FAILED, errors.REFUSED, *stopped}


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"The environment's {name} must be a whole number, not '{text}'.") from None
