"""Hints of the library in the words of a command line: the one place where arguments become flags."""

from __future__ import annotations

import logging

from videopainter.utils.hints import Hint, hint_of


def advice(hint: Hint | None) -> str | None:
    """A hint as one sentence that a user can follow; None if there is none."""
    if hint is None:
        return None
    values = hint.values
    if hint.action == "click":
        return f"The flag is --click X,Y,{values['frame']}."
    if hint.action == "invert":
        return "The flag is --invert_mask."
    return None


class HintFormatter(logging.Formatter):
    """Log records as their message, and the advice that their hint gives."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        said = advice(hint_of(record))
        return super().format(record) + (f" {said}" if said else "")
