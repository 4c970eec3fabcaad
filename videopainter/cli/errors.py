"""How every command ends: one ladder of exit statuses, one sentence for an error, streams that may break.

| status | meaning |
|---|---|
| 0 | done |
| 1 | done in part: rows failed, a file is missing or damaged, an exported network differs |
| 2 | nothing done, and the user can put it right; one sentence on stderr says how |
| 130, 143, 129, 131 | stopped by Ctrl-C, SIGTERM, SIGHUP (a closed terminal), SIGQUIT |

An error that nobody foresaw keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TextIO

from videopainter.cli.hints import advice
from videopainter.utils.hints import hint_of
from videopainter.utils.sentences import sentence
from videopainter.utils.signals import TERMINATED, Stopped, stoppable

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "REFUSED",
    "TERMINATED",
    "door",
    "fail",
    "in_flags",
    "run",
    "say",
    "sentence",
]

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

# Top-level module -> the extra of this package that brings it.
EXTRAS = {
    **dict.fromkeys(("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors"), "diffusion"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    "skimage": "metrics",
    **dict.fromkeys(("sklearn", "matplotlib"), "train"),
}


def run(
    work: Callable[[], int | None],
    prog: str,
    arguments: Iterable[str] = (),
    stopped: str = "Stopped; nothing half-written is left.",
) -> int:
    """Do a command's work and return its exit status; what goes wrong is said on stderr in one sentence.

    Args:
        work: returns an exit status, None for `OK`.
        prog: the command's name, which an error begins with.
        arguments: the names of its flags without dashes, for `in_flags`.
        stopped: what Ctrl-C is answered with.
    """
    try:
        return work() or OK
    except Stopped as stop:
        say(f"\n{stop}")
        return stop.status
    except KeyboardInterrupt:
        say(f"\n{stopped}")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name is None:  # our own, with words
            fail(prog, error)
            return REFUSED
        extra = EXTRAS.get(error.name.partition(".")[0])
        if extra is None:
            raise
        fail(prog, f"{error.name} is not installed; the extra [{extra}] has it.")
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        fail(prog, error, arguments)
    return REFUSED


def fail(prog: str, error: BaseException | str, arguments: Iterable[str] = ()) -> None:
    """Say on stderr what is wrong, as argparse does."""
    text = in_flags(error if isinstance(error, str) else sentence(error), arguments)
    said = None if isinstance(error, str) else advice(hint_of(error))
    say(f"{prog}: error: {text} {said}" if said else f"{prog}: error: {text}")


def in_flags(text: str, arguments: Iterable[str]) -> str:
    """A sentence of the library in a command line's words.

    Names of `arguments` become flags where they are unmistakable: with an underscore, as in `target_fps`, or in
    backticks. "The extra [NAME] has it" becomes the command that installs it.
    """
    for name in arguments:
        text = text.replace(f"`{name}`", f"--{name}")
        if "_" in name:
            text = re.sub(rf"(?<![\w'/.-]){re.escape(name)}(?![\w'/]|\.\w)", f"--{name}", text)
    return re.sub(r"the extra \[(\w+)\] has (it|them)", r"pip install 'videopainter[\1]' gets \2", text)


def say(text: str) -> None:
    """A line on stderr, if there is one."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def door(main: Callable[[], int | None]) -> NoReturn:
    """What a script ends with: calls `main` and leaves with its exit status.

    SIGTERM ends it as Ctrl-C does. Streams that are closed, full, or read by nobody any more do not end the work; when
    it is done, a stdout that could not be written is an error, but for a pipe whose reader has gone.
    """
    _open_descriptors()
    out, err = _Lasting(sys.stdout), _Lasting(sys.stderr)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        with stoppable():
            status: Any = main()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as end:
        status = end.code
    out.flush()
    if not status and out.lost is not None and out.lost.errno not in (errno.EPIPE, errno.EBADF):
        say(f"error: stdout cannot be written: {sentence(out.lost)}")
        status = REFUSED
    sys.exit(status)


def _open_descriptors() -> None:
    """Open on nothing whichever of stdin, stdout and stderr is closed: the next file would get its number, and
    what libraries write to stderr would end up in that file."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)


class _Lasting:
    """A text stream that goes on into nothing once it cannot be written; `lost`: why."""

    def __init__(self, stream: TextIO | None):
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115
        self.lost: OSError | None = None
        if hasattr(self._stream, "reconfigure"):  # names of files need not be text
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, do: Callable[..., Any], *arguments: str) -> None:
        if self.lost is not None:
            return
        try:
            do(*arguments)
        except OSError as error:
            self.lost = error
            # What is still buffered is written when Python ends, which must not fail once more.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
