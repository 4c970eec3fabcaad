"""Ctrl-C and SIGTERM end a command wherever they find it, and half-written files are taken away."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 128 + signal.SIGTERM  # the exit status, as shells count it
_MOMENT = 0.02  # seconds, in which the destructor is left

_STOPS = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises SystemExit with status 143 in here, as Ctrl-C raises KeyboardInterrupt; neither can get lost.

    An exception that comes up while a destructor or another callback runs is printed by Python and forgotten, and
    decord's frames, for one, have destructors: the run would go on as if nobody had asked. It is raised again a moment
    later. For the main thread only.
    """
    hook = sys.unraisablehook

    def again(lost) -> None:
        number = _STOPS.get(lost.exc_type)
        if number is None:
            hook(lost)
            return
        timer = threading.Timer(_MOMENT, _thread.interrupt_main, (number,))
        timer.daemon = True
        timer.start()

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)
