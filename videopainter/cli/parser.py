"""How every command reads its arguments: argparse, whose mistakes are one sentence, the last line that is said."""

from __future__ import annotations

import argparse
from typing import NoReturn

from videopainter.cli import errors
from videopainter.utils.sentences import one_line


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that does not put pages of usage before what is wrong.

    A mistake ends the command with `errors.REFUSED`.
    """

    def error(self, message: str) -> NoReturn:
        errors.say(f"{self.prog} --help lists the flags.")
        errors.fail(self.prog, one_line(message))
        self.exit(errors.REFUSED)
