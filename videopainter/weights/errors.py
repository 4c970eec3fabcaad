"""`WeightsError`, and what is read from JSON that somebody else may have written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.utils.checks import MOST_LAYERS, short
from videopainter.utils.sentences import first_line, one_line

LARGEST_JSON = 16_000_000  # bytes; the longest published one, an index of shards, has 0.2 million
LARGEST_NUMBER = 1_000_000  # in a configuration; far above every published one
_COUNTS_OF_LAYERS = ("layers", "blocks", "depth", "stages")


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another network: one sentence, on one line and of bounded length."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


def plain_file(path: str | os.PathLike) -> Path:
    """``path``. Raises WeightsError unless it is a file: a pipe would be waited for, a folder cannot be read."""
    path = Path(path)
    try:
        there, plain = path.exists(), path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or with a zero byte
        raise WeightsError(f"'{path}' cannot be opened: {first_line(error)}.") from None
    if not there:
        raise WeightsError(f"There is no file '{path}'.")
    if not plain:
        raise WeightsError(f"'{path}' is not a file.")
    return path


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds. Raises WeightsError if it is not there, not JSON, too deep or too large."""
    path = plain_file(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(f"'{path}' is too large to be a configuration: {path.stat().st_size} bytes.")
        text = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {first_line(error)}.") from None
    return parse_json(text, path)


def parse_json(text: str | bytes, path: str | os.PathLike) -> Any:
    """As `read_json`, for text that comes from ``path``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # of numbers with thousands of digits, too
        raise WeightsError(f"'{os.fspath(path)}' is not JSON.") from None


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """A configuration file of a network of another library, which would take any number at its word.

    Raises WeightsError as `read_json`, if it is not a table of values, and for numbers that no network has.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise WeightsError(f"'{path}' is not a configuration of a network.")
    check_numbers(values, path)
    return values


def check_numbers(values: Any, path: str | os.PathLike, name: str = "") -> None:
    """Raises WeightsError for a size above a million, or more than a thousand layers, anywhere in ``values``."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_numbers(value, path, str(key))
    elif isinstance(values, list):
        for value in values:
            check_numbers(value, path, name)
    elif isinstance(values, int):
        most = MOST_LAYERS if any(word in name for word in _COUNTS_OF_LAYERS) else LARGEST_NUMBER
        if abs(values) > most:
            raise WeightsError(
                f"'{os.fspath(path)}' is not a configuration of a network: {one_line(name, 60)} may be {most} at most, "
                f"not {short(values)}."
            )
