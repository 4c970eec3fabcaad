"""From a command's flags to its rows and what does them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from videopainter.batch.records import Records
from videopainter.batch.rows import is_stream, read_rows
from videopainter.batch.work import Batch
from videopainter.cli.flags import given_options
from videopainter.engine import choose_engine

# What the rows of an output folder have in common, besides the table, the engine and its options.
SETTINGS = (
    "prompt",
    "dilate_size",
    "down_sample_fps",
    "max_seconds",
    "seed",
    "codec",
    "quality",
    "invert_mask",
)


def _plain(options: dict) -> dict:
    """Options as JSON gives them back."""
    return json.loads(json.dumps(options, default=str))


@dataclass
class Prepared:
    """What a command comes to: its rows, and what does them. `why`: the engine; `unused`: flags without meaning."""

    batch: Batch
    rows: list
    why: str
    unused: list[str]


def prepare(args: argparse.Namespace) -> Prepared:
    """Read the table and choose the engine. Raises ValueError, one sentence, if nothing can be done."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING, force=True)
    warnings.simplefilter("ignore")  # what is wrong with a video is told through the log
    rows = read_rows(args.csv, args.data_dir, args.allow_absolute)
    if args.rows:
        number = len(rows)
        rows = rows[args.rows[0] : args.rows[1]]
        if not rows:
            raise ValueError(f"No row is among those of --rows; '{args.csv}' has {number}.")
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise ValueError(f"The output folder '{args.output_dir}' is a file.")
    given = given_options(args)
    info, why = choose_engine(args.engine, **given)
    options = {name: value for name, value in given.items() if name in info.option_names}
    if is_stream(args.csv) and (apart(args) or args.ray is not None):
        raise ValueError(
            f"'{args.csv}' can be read once only, so other processes need a table that is a file."
        )
    table = args.csv if is_stream(args.csv) else args.csv.resolve()
    data = (args.data_dir or (Path() if is_stream(args.csv) else args.csv.parent)).resolve()
    settings = {
        "table": str(table),
        "data_dir": str(data),
        "engine": info.name,
        # A flag that is not given is as if it were not known yet, as to folders of before there was such a flag.
        **{name: None if (value := getattr(args, name)) is False else value for name in SETTINGS},
        **_plain(options),
        **({} if args.split is None else {"split": args.split}),
    }
    results = Records(args.output_dir, settings, args.lease)
    unused = [f"--{name}" for name in given if name not in options]
    return Prepared(Batch(args, info, options, results), rows, f"{info.name} ({why})", unused)


def apart(args: argparse.Namespace) -> bool:
    """Whether rows are done by processes of their own."""
    return args.processes > 1 or args.row_timeout is not None
