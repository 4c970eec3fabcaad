"""`videopainter convert` and `python -m videopainter.propainter.convert`: ProPainter's released files to one folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.propainter import weights
from videopainter.propainter.names import RELEASED

ADDRESS = "https://github.com/sczhou/ProPainter/releases/download/v0.1.0/"
FLAGS = ("--optical-flow-checkpoint", "--flow-completion-checkpoint", "--inpaint-generator-checkpoint")


def build_parser(prog: str = "convert.py") -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="The three released files of ProPainter to one folder that ProPainterModel.from_pretrained reads.",
    )
    parser.add_argument("--pytorch-dump-folder-path", required=True, metavar="OUT", help="folder to write")
    for flag, file in zip(FLAGS, RELEASED):
        known = weights.folder_of() / file
        default = os.fspath(known) if known.is_file() else ADDRESS + file
        parser.add_argument(
            flag, default=default, metavar="FILE", help=f"{file}, or where to fetch it (the release)"
        )
    parser.add_argument(
        "--verify-logits",
        action="store_true",
        help="afterwards compare every tensor with the released files, and the networks with recorded values",
    )
    parser.add_argument(
        "--recorded-values",
        metavar="FOLDER",
        help="for --verify-logits (default: those that come with the package)",
    )
    return parser


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`."""
    args = build_parser(prog or "convert.py").parse_args(argv)
    return errors.run(lambda: _convert(args), prog or "convert.py")


def _convert(args: argparse.Namespace) -> None:
    from videopainter.propainter.convert import RECORDED, check, fetch, load_released, save

    out = Path(args.pytorch_dump_folder_path)
    out.mkdir(parents=True, exist_ok=True)
    given = (getattr(args, flag[2:].replace("-", "_")) for flag in FLAGS)
    files = {file: fetch(address, out) for file, address in zip(RELEASED, given)}
    save(load_released(files), out)
    print(f"Written to {out}: {', '.join(weights.CONVERTED)}")
    if args.verify_logits:
        for line in check(out, files, args.recorded_values or RECORDED):
            print(f"Verified {line}")
