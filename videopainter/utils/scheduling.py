"""How the system shares processors among this process's threads and others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Threads leave this with the scheduling that they had, new ones with that of the caller.

    SVT-AV1, where root runs it (in containers, mostly), makes its threads and the one that opens it real-time threads
    of the highest priority, and leaves them so: one of them that is busy then stops everything else on its core.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before, own = _policies(), os.sched_getscheduler(0)
    try:
        yield
    finally:
        for thread, policy in _policies().items():
            if policy == os.SCHED_FIFO and (was := before.get(thread, own)) != policy:
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, was, os.sched_param(0))


def _policies() -> dict[int, int]:
    """Thread of this process -> its scheduling policy."""
    found = {}
    for name in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
        with suppress(OSError):
            found[int(name)] = os.sched_getscheduler(int(name))
    return found
