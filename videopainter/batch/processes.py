"""Which of the processes of `accelerate launch` (or any other launcher) this one is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

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
    """Run `command` as often as told, with `--share INDEX/COUNT`; the exit statuses, negative for a signal's number.

    The death of one is nothing to the others. A stop of this process stops them all.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        environment.pop(name, None)
    started: list[subprocess.Popen] = []
    try:
        for index in range(count):
            started.append(subprocess.Popen([*command, "--share", f"{index}/{count}"], env=environment))
        return [process.wait() for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            process.wait()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"The environment's {name} must be a whole number, not '{text}'.") from None
