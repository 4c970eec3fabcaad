"""`videopainter batch` and infer/inpaint.py: the rows of a CSV. Weights are loaded once, what is done is skipped, a bad
row does not stop the others, and all that work in one output folder, on whatever machines, share the rows.

Every row gets a folder below `--output_dir` with the files of
run_demo.py; `manifest.json` and `summary.csv` say what became of all of them. Started again, it does what is not
done yet: rows that failed, are new, or whose files have changed. Another table or other settings need another
`--output_dir`. The exit status is 0, 1 if rows failed, 2 if nothing could be done at all, or the disk is full.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from videopainter.batch.workers import LEASE
from videopainter.cli import errors
from videopainter.cli.parser import Parser

if TYPE_CHECKING:
    from videopainter.batch.preparation import Prepared
    from videopainter.batch.processes import Processes


def build_parser(prog: str = "inpaint.py") -> argparse.ArgumentParser:
    from videopainter.cli.flags import add_engine_flags

    parser = Parser(
        prog=prog,
        description="Inpaint the rows of a CSV.",
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument(
        "--csv",
        "--inpainting_mask_meta",
        required=True,
        type=Path,
        help="columns video, mask and, if wanted, prompt, mask_id, start_frame, end_frame, fps, truth; or those of the "
        "test sets of VideoPainter; /dev/stdin reads it from a pipe",
    )
    parser.add_argument(
        "--data_dir", type=Path, help="the folder below which the CSV's paths lie (default: that of the CSV)"
    )
    parser.add_argument(
        "--allow_absolute", action="store_true", help="let the CSV's paths be absolute, and lead anywhere"
    )
    parser.add_argument("--output_dir", required=True, type=Path, help="where results go")
    parser.add_argument("--engine", default="auto", help="as for one video (default: auto)")
    parser.add_argument("--prompt", help="instead of what the CSV says, in every row")
    parser.add_argument("--rows", type=_span, metavar="START:END", help="only these, counted from 0")
    parser.add_argument("--dilate_size", type=float, metavar="PIXELS", help="as for one video")
    parser.add_argument(
        "--down_sample_fps",
        type=float,
        metavar="FPS",
        help="at most so many frames a second, 0 for all (default: what suits the engine)",
    )
    parser.add_argument(
        "--max_seconds", type=float, metavar="S", help="only the beginning of each (default: all)"
    )
    parser.add_argument("--invert_mask", action="store_true", help="as for one video")
    parser.add_argument("--seed", type=int, default=42, help="(default: %(default)s)")
    parser.add_argument(
        "--processes",
        type=_count,
        default=1,
        metavar="N",
        help="on this machine, which share the rows and, where there are several GPUs, have one each; one that ends "
        "before its time is replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="on a Ray cluster, which all see the same files: the one at this address, the one that runs here, or one "
        "that is started for it on this machine; a worker on each GPU",
    )
    parser.add_argument(
        "--cpus_per_worker",
        type=_cpus,
        metavar="N",
        help="with --ray, workers without a GPU, on so many CPUs each (default: 1 where there are no GPUs)",
    )
    parser.add_argument(
        "--split",
        type=_seconds,
        metavar="SECONDS",
        help="do each row in pieces of about so many seconds, which all who work here share: for long films",
    )
    parser.add_argument(
        "--row_timeout",
        type=_seconds,
        metavar="SECONDS",
        help="a row that takes longer counts as failed, and its process is replaced (default: no limit)",
    )
    parser.add_argument(
        "--lease",
        type=_seconds,
        default=LEASE,
        metavar="SECONDS",
        help="without a sign of life after which a process of another machine counts as dead, and others take over "
        "what it was at (default: %(default)g)",
    )
    parser.add_argument(
        "--no_wait",
        action="store_true",
        help="end when there is nothing left to begin; else a process waits for what others are at, and does it if "
        "they die",
    )
    parser.add_argument("--share", type=_share, help=argparse.SUPPRESS)  # of those that --processes starts
    parser.add_argument("--codec", metavar="NAME", help="of the results, as for one video")
    parser.add_argument("--quality", type=float, metavar="0-100", help="of the results, as for one video")
    add_engine_flags(parser)
    return parser


def main(argv: list[str] | None = None, prog: str = "inpaint.py") -> int:
    """Returns the exit status; see `errors`."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(prog).parse_args(argv)
    args.argv = argv
    return errors.run(lambda: run(args), prog, vars(args), "Stopped; the same command goes on from here.")


def run(args: argparse.Namespace) -> int:
    """Do this process's share of the rows, wait for the others, and sum up."""
    from videopainter.batch.preparation import apart, prepare
    from videopainter.batch.processes import processes, share_of
    from videopainter.batch.summary import sum_up

    ready = prepare(args)
    batch, rows, results = ready.batch, ready.rows, ready.batch.records
    ours = share_of(*args.share) if args.share else processes()
    if ours.index == 0 and not args.share:
        print(f"Engine: {ready.why}. {len(rows)} rows.", flush=True)
        if ready.unused:
            print(f"The engine {batch.info.name} has no use for {', '.join(ready.unused)}.", flush=True)
    results.sweep()
    try:
        if args.ray is not None:
            from videopainter.batch.on_ray import Driver

            results.worker.join()
            Driver(batch, rows, args.cpus_per_worker).work(args.ray or None)
        elif apart(args) and ours.count == 1 and not args.share:
            results.worker.join()  # what is noted from now on is of this run, whichever process it is of
            if not _by_others(args, len(rows)):
                return errors.REFUSED
        else:
            try:
                _work(ready, ours)
            except Exception:
                ours.wait()  # for a process that fails would take the others with it
                ours.wait()
                raise
            ours.wait()
        if args.share:
            return errors.OK
        records = [batch.record(row) for row in rows]
        failed = sum(record["status"] == "failed" for record in records)
        if ours.sums_up:
            results.leases.sweep()
            sum_up(results, records)
            results.close()
        ours.wait()  # for the summary
        ours.leave()
        return errors.FAILED if failed else errors.OK
    finally:
        results.leave()


def _work(ready: Prepared, ours: Processes) -> None:
    """Do the rows together with whoever else works in the folder."""
    batch, rows = ready.batch, ready.rows
    batch.records.worker.join()
    told = {row.name for row in rows[ours.index :: ours.count]} if ours.count > 1 else None
    if batch.args.share or ours.together:
        start = ours.index * len(rows) // ours.count
        if ours.count == 1 and batch.records.worker.company:
            start = random.randrange(len(rows))  # far from where others are
    else:  # whom the environment alone gives a share does not know whether the others write to this folder
        rows, start = rows[ours.index :: ours.count], 0
    batch.work(rows[start:] + rows[:start], not batch.args.no_wait, told)


def _by_others(args: argparse.Namespace, rows: int) -> bool:
    """Have the rows done by processes of their own; whether any of them could begin."""
    from videopainter.batch.processes import launch

    code = "from videopainter.batch.command import main; from videopainter.cli.errors import door; door(main)"
    ends = launch([sys.executable, "-c", code, *args.argv], min(args.processes, rows))
    for end in ends:
        if end < 0:
            errors.say(f"A process was ended by signal {-end}; the same command does what is left.")
    return any(end != errors.REFUSED for end in ends)


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text[:5]) <= 1000):
        raise argparse.ArgumentTypeError("it must be a whole number from 1 to 1000")
    return int(text[:5])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise argparse.ArgumentTypeError("it must be a number of seconds above 0")
    return seconds


def _cpus(text: str) -> float:
    cpus = float(text) if text.replace(".", "", 1).isdecimal() else 0.0
    if not 0.1 <= cpus <= 1000:
        raise argparse.ArgumentTypeError("it must be a number from 0.1 to 1000")
    return cpus


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    return int(index), int(count)


def _span(text: str) -> tuple[int | None, int | None]:
    try:
        start, end = (int(part) if part else None for part in text.split(":"))
        if (start or 0) < 0 or (end or 0) < 0:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not START:END, such as 0:100") from None
    return start, end
