"""The command `videopainter`: one word for each command, whose module is imported when it is asked for."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from videopainter import __version__
from videopainter.cli import errors
from videopainter.cli.parser import Parser

# Word -> (module with main(argv, prog), what it does).
COMMANDS = {
    "inpaint": (
        "videopainter.cli.inpaint",
        "take something out of a video, or put something else in its place",
    ),
    "web": ("videopainter.cli.web", "a page in the browser: click, correct, inpaint, compare, keep"),
    "batch": ("videopainter.batch.command", "the rows of a CSV: resumable, over many processes"),
    "weights": ("videopainter.cli.weights", "download the engines' weights, check what is there"),
    "stream": ("videopainter.cli.stream", "live: frames of a camera, a pipe or a video in, frames out"),
    "metrics": ("videopainter.cli.metrics", "PSNR, SSIM, E_warp and VFID of results"),
    "convert": ("videopainter.cli.convert", "ProPainter's released files to a Hugging Face folder"),
}


def build_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = Parser(
        prog="videopainter",
        description="Take things out of videos, and put other things in.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())
        + "\n\nvideopainter COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status; see `errors`."""
    argv = sys.argv[1:] if argv is None else argv
    word = argv[0] if argv else ""
    if word not in COMMANDS:
        build_parser().parse_args(argv)  # help, the version, or what is wrong
    prog = f"videopainter {word}"
    return errors.run(lambda: import_module(COMMANDS[word][0]).main(argv[1:], prog), prog)


def command() -> NoReturn:
    """What the installed script calls."""
    errors.door(main)
