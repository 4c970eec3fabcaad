"""Numbers that come from a configuration or an argument: whole, and no larger than anything there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST = 100_000  # of any width, length or count; far above every published network
MOST_THREADS = 1024  # of a network; each takes memory
MOST_LAYERS = 1000  # networks of more are refused rather than built for minutes


def whole_number(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """``value``. Raises ValueError, one short sentence, unless it is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of {least} or more, not {short(value)}.")
    if value > most:
        raise ValueError(f"{name} may be {most} at most, not {short(value)}.")
    return value


def whole_numbers(
    name: str, values: Any, count: int | None = None, least: int = 1, most: int = MOST
) -> tuple[int, ...]:
    """``values``, a list or tuple, as a tuple. Raises ValueError as `whole_number`, and for another ``count``."""
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise ValueError(f"{name} must be a list of whole numbers, not {short(values)}.")
    if len(values) != count if count is not None else not 1 <= len(values) <= MOST_LAYERS:
        raise ValueError(
            f"{name} must have {count or f'1 to {MOST_LAYERS}'} numbers, not {short(list(values))}."
        )
    return tuple(whole_number(f"Every number of {name}", value, least, most) for value in values)


def short(value: Any, most: int = 60) -> str:
    """A value as a sentence can say it; of a number with many digits only that it has many."""
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a number of more than 15 digits"
    if not isinstance(value, (bool, int, float, str, type(None), list, tuple)):
        return f"of the type {type(value).__name__}"
    try:
        text = repr(value[:most] if isinstance(value, (str, list, tuple)) else value)
    except (RecursionError, ValueError):
        text = f"of the type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]} ..."
