"""What a user could do about something, in a form that a command line, a page or a program puts into its own words.

The library's sentences speak of arguments. A log record (as `extra={"hint": ...}`) or an exception (as its attribute
`hint`) may carry a `Hint` with what would help; `videopainter.cli.hints` makes flags of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Hint:
    """What to do, and with what.

    `action` and its `values`:
        "click": `frame` in which the object is to be clicked again.
        "invert": the masks.
    """

    action: str
    values: Mapping[str, Any] = field(default_factory=dict)


def hint_of(carrier: object) -> Hint | None:
    """The hint that a log record or an exception carries."""
    found = getattr(carrier, "hint", None)
    return found if isinstance(found, Hint) else None
