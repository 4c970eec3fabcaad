"""A value that stands for "what is right here", where None means something else."""

from __future__ import annotations

import enum
from typing import Final


class Default(enum.Enum):
    """The type of `DEFAULT`; in annotations `Literal[Default.DEFAULT]`."""

    DEFAULT = enum.auto()

    def __repr__(self) -> str:
        return "DEFAULT"


# What is right for the engine that was chosen. None is another value: no limit.
DEFAULT: Final = Default.DEFAULT
