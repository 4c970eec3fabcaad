"""`videopainter weights` and ckpt/download.py: fetches the weights, and says what is there."""

from __future__ import annotations

import argparse
import sys

from videopainter import weights
from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.weights import PARTS
from videopainter.weights.download import default_parts, fetch, gigabytes


def build_parser(prog: str = "download.py") -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Fetch the weights and check them. An interrupted download goes on where it stopped when the same "
        "command is given again.",
        epilog="Parts: " + "; ".join(f"{p.name}: {p.what}, {gigabytes(p.size)}" for p in PARTS.values()),
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("download", "check"),
        default="download",
        help="check is the same as --check (default: download)",
    )
    parser.add_argument(
        "--only",
        type=_parts,
        metavar="PART,...",
        help=f"of {', '.join(PARTS)} (default: {', '.join(default_parts())})",
    )
    parser.add_argument("--check", action="store_true", help="download nothing, say what is there")
    parser.add_argument(
        "--folder",
        help=f"where the weights lie (default: ${weights.ENVIRONMENT}, or {weights.weights_folder()})".replace(
            "%", "%%"
        ),
    )
    return parser


def main(argv: list[str] | None = None, prog: str = "download.py") -> int:
    """Returns the exit status; see `errors`. 1 if something that was checked is missing or damaged."""
    args = build_parser(prog).parse_args(argv)

    def work() -> int:
        if args.check or args.action == "check":
            return check(args.only, args.folder)
        with _Bar() as bar:
            fetch(args.only or default_parts(), args.folder, lambda line: print(line, flush=True), bar)
        return errors.OK

    return errors.run(work, prog, vars(args), "Stopped; the same command goes on from here.")


def check(only: list[str] | None, folder: str | None) -> int:
    """Print what is there and what that allows. 1 if a part of `only`, or any that is begun, is not in order."""
    print(f"Weights in {weights.weights_folder(folder)}:")
    bad, whole = False, set()
    for name in only or PARTS:
        absent, wrong = weights.absent(name, folder), weights.problems(name, folder)
        state = "damaged" if wrong else "missing" if absent else "there"
        begun = absent and weights.started(name, folder)
        print(f"  {name:<19} {state:<8} {PARTS[name].what}")
        for sentence in wrong:
            print(f"                      {sentence}")
        if begun:
            print(
                f"                      incomplete: {', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''}"
            )
        if state == "there":
            whole.add(name)
        bad |= bool(wrong or begun or (only and absent))
    if not only:
        print("That allows:")
        for engine, needed in weights.NEEDED.items():
            lacking = [name for name in needed if whole.isdisjoint(weights.alternatives(name))]
            print(f"  {engine:<13} {'no; ' + _advice(lacking, folder) if lacking else 'yes'}")
    return int(bad)


def _advice(parts: list[str], folder: str | None) -> str:
    for part in (PARTS[name] for name in parts):
        if part.by_hand:
            return part.by_hand.format(folder=weights.weights_folder(folder) / part.folder)
    return weights.command(parts, folder)


class _Bar:
    """A tqdm bar on stderr for the file that is being transferred."""

    def __init__(self):
        self._bar = None

    def __call__(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None or self._bar.desc.removesuffix(": ") != name or done < self._bar.n:
            self.__exit__()
            self._bar = tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True, file=sys.stderr)
        self._bar.update(done - self._bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()


def _parts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(PARTS)}")
    return list(dict.fromkeys(names))
