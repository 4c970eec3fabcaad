"""Who listens to a run: a callback, bars, and whoever may cancel it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from copy import copy
from typing import TypeVar

from videopainter.engines.base import Cancelled, Progress
from videopainter.video import VideoSource

T = TypeVar("T")


class Listener:
    """Hands progress on and ends the run when that is asked for; used as a context manager.

    Called as a `Progress`; what comes out never goes back within a stage. Every call, and `check`, raises `Cancelled`
    once the event is set.

    Args:
        progress: a callback; True: bars on stderr; None or False: nobody.
        cancel: set by another thread to end the run.

    `units` says what a stage counts, for bars, where that is not frames.
    """

    def __init__(
        self,
        progress: Progress | bool | None = None,
        cancel: threading.Event | None = None,
    ):
        self.units: dict[str, str] = {}
        self._progress, self._cancel = progress, cancel
        self._done: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self):
        if self._progress is True:
            from videopainter.utils.bars import Bars

            self._progress = self._stack.enter_context(Bars(self.units))
        return self

    def __exit__(self, *error):
        self._stack.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.check()
        self._done[stage] = done = max(done, self._done.get(stage, 0))
        if self._progress:
            self._progress(stage, done, total)

    def check(self, *_) -> None:
        """Raise `Cancelled` if the run is to end. Can stand where a callback is wanted that tells nothing."""
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("The run was cancelled.")

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, with a `check` before each."""
        for item in items:
            self.check()
            yield item


class CheckedSource(VideoSource):
    """The frames of another source; before each is read the listener can end the run. Closing it closes nothing."""

    def __init__(self, source: VideoSource, listener: Listener):
        super().__init__()
        # What describes a source: its size, rate, colour, sound, ...
        for name, value in vars(VideoSource).items():
            if not name.startswith("__") and not callable(value) and not isinstance(value, property):
                setattr(self, name, getattr(source, name))
        self.source, self.warnings, self._listener = source, source.warnings, listener
        self._length = len(source)

    def _frame(self, i: int):
        self._listener.check()
        return self.source._frame(i)

    def stored(self, i: int):
        return self.source.stored(i)

    def __getattr__(self, name: str):
        # What only some sources have.
        if name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)


def checked(source: VideoSource, listener: Listener) -> VideoSource:
    """A `CheckedSource` in the place of `source`; a part of a video stays a part, of one."""
    if not hasattr(source, "indices"):
        return CheckedSource(source, listener)
    part = copy(source)
    part.source = checked(source.source, listener)
    return part
