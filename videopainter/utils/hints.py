"""What would put an error right, in a form that a command line, a page or a program puts into its own words.

The library's sentences speak of arguments. Where one of them has a remedy, the exception (or the log record, as
`extra={"hint": ...}`) carries a `Hint`; `videopainter.cli.hints` makes flags and commands of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True)
class Hint:
    """A remedy: what to do, and with what.

    `action` and its `values`:
        "install": `extra`, the group of packages that is missing, such as "diffusion".
        "download": `parts` of the weights, as `videopainter.weights.PARTS` names them, and perhaps their `folder`.
        "set": `name` of an argument and its `value`.
        "click": `frame` in which the object is to be clicked again.
    """

    action: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Reason(str):
    """A clause that says why something cannot be, as a string; `hint` says what would help, None: nothing does."""

    hint: Hint | None

    def __new__(cls, clause: str, hint: Hint | None = None):
        reason = super().__new__(cls, clause)
        reason.hint = hint
        return reason


def hinted(error: E, hint: Hint | None) -> E:
    """The same error, which now carries a hint (as `error.hint`)."""
    error.hint = hint  # type: ignore[attr-defined]
    return error


def hint_of(error: object) -> Hint | None:
    """The hint that an error, a log record or a `Reason` carries; of an error also that of its cause."""
    while error is not None:
        found = getattr(error, "hint", None)
        if isinstance(found, Hint):
            return found
        error = getattr(error, "__cause__", None)
    return None
