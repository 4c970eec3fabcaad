"""Ctrl-C and other stops: they end a command wherever they find it, or a loop after the step that it is at."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

TERMINATED = 128 + signal.SIGTERM  # the exit status, as shells count it
_MOMENT = 0.02  # seconds, in which the destructor is left

# What asks a program to end, beside Ctrl-C: kill, a closed terminal, Ctrl-\\. Not every system has them all.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises SystemExit with status 143 in here, SIGHUP and SIGQUIT with 129 and 131, as Ctrl-C raises
    KeyboardInterrupt; none of them can get lost. What is ignored, as nohup has it, stays so.

    An exception that comes up while a destructor or another callback runs is printed by Python and forgotten, and
    decord's frames, for one, have destructors: the run would go on as if nobody had asked. It is raised again a moment
    later. For the main thread only.
    """
    hook = sys.unraisablehook

    def again(lost) -> None:
        number = _asked_by(lost)
        if number is None:
            hook(lost)
        else:
            _later(number)

    def stop(number, frame) -> None:
        while frame is not None and frame.f_code is not again.__code__:
            frame = frame.f_back
        if frame is not None:  # in the hook itself it would be forgotten once more
            _later(signal.Signals(number))
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in _heeded(_ENDS)}
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # else it is ignored, or somebody else's
        before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    return [n for n in numbers if n == signal.SIGTERM or signal.getsignal(n) is not signal.SIG_IGN]


def _asked_by(lost) -> signal.Signals | None:
    """The signal whose exception was lost."""
    if lost.exc_type is KeyboardInterrupt:
        return signal.SIGINT
    if lost.exc_type is not SystemExit:
        return None
    code = getattr(lost.exc_value, "code", None)
    return next((number for number in _ENDS if code == 128 + number), signal.SIGTERM)


def _later(number: signal.Signals) -> None:
    """Send the main thread that signal in a moment."""

    def send() -> None:
        time.sleep(_MOMENT)
        _thread.interrupt_main(number)

    _thread.start_new_thread(send, ())  # not threading's, whose start waits, and may be interrupted itself


class Stop:
    """In its with-block Ctrl-C, SIGTERM and the like only ask for an end, after the present frame or step; a second
    one is a KeyboardInterrupt. Called, it says whether an end is asked for.

    Args:
        notice: said on stderr when it is asked for, where that may take a while.

    Signals reach the main thread only: in another one nothing asks.
    """

    def __init__(self, notice: str | None = None):
        self._notice = notice
        self.number: int | None = None  # the signal that asked

    def __enter__(self):
        numbers = [signal.SIGINT, *_heeded(_ENDS)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *exc):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame) -> None:
        if self():
            raise KeyboardInterrupt
        self.number = number
        if self._notice is not None:
            with suppress(OSError):  # nobody may be there to read it
                os.write(2, f"\n{self._notice}\n".encode())  # not print, which may be at work just now

    def __call__(self) -> bool:
        return self.number is not None


class Stopped(KeyboardInterrupt):
    """Work was ended on request and is saved; the message says how to go on. ``status``: of the process."""

    def __init__(self, message: str, stop: Stop):
        super().__init__(message)
        self.status = 128 + (stop.number or signal.SIGINT)
