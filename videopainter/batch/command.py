"""`videopainter batch` and infer/inpaint.py: the rows of a CSV. Weights are loaded once, what is done is skipped, a bad
row does not stop the others, and the processes of a launcher share the rows.

Every row gets a folder below `--output_dir` with the files of
run_demo.py; `manifest.json` and `summary.csv` say what became of all of them. Started again, it does what is not
done yet: rows that failed, are new, or whose files have changed. Another table or other settings need another
`--output_dir`. The exit status is 0, 1 if rows failed, 2 if nothing could be done at all, or the disk is full.
"""

import argparse
import hashlib
import json
import sys
import time
import traceback
import warnings
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser


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
        help="on this machine, each with its share of the rows and, where there are several GPUs, one of them; the end "
        "of one does not end the others (default: %(default)s)",
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
    import logging

    from videopainter.batch.processes import processes, share_of
    from videopainter.batch.records import Records
    from videopainter.batch.rows import is_stream, read_rows
    from videopainter.cli.flags import given_options
    from videopainter.engine import choose_engine

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
    settings = {name: getattr(args, name) for name in SETTINGS}
    if is_stream(args.csv) and args.processes > 1:
        raise ValueError(
            f"'{args.csv}' can be read once only, so several processes need a table that is a file."
        )
    table = args.csv if is_stream(args.csv) else args.csv.resolve()
    data = (args.data_dir or (Path() if is_stream(args.csv) else args.csv.parent)).resolve()
    settings = {
        "table": str(table),
        "data_dir": str(data),
        "engine": info.name,
        **settings,
        **_plain(options),
    }
    results = Records(args.output_dir, settings)
    ours = share_of(*args.share) if args.share else processes()
    alone = ours.count == 1
    if ours.index == 0 and not args.share:
        print(f"Engine: {info.name} ({why}). {len(rows)} rows.", flush=True)
        unused = [f"--{name}" for name in given if name not in options]
        if unused:
            print(f"The engine {info.name} has no use for {', '.join(unused)}.", flush=True)
    results.sweep()
    batch = Batch(args, info, options, results)
    if args.processes > 1 and alone and not args.share:
        if not _by_others(args, len(rows)):
            return errors.REFUSED
    else:
        try:
            for row in rows[ours.index :: ours.count]:
                batch.do(row)
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
        _sum_up(results, records)
        results.close()
    ours.wait()  # for the summary
    ours.leave()
    return errors.FAILED if failed else errors.OK


def _by_others(args: argparse.Namespace, rows: int) -> bool:
    """Have the rows done by processes of their own; whether any of them could begin."""
    from videopainter.batch.processes import launch

    code = "from videopainter.batch.command import main; from videopainter.cli.errors import door; door(main)"
    ends = launch([sys.executable, "-c", code, *args.argv], min(args.processes, rows))
    for end in ends:
        if end < 0:
            errors.say(f"A process was ended by signal {-end}; the same command does what it has left.")
    return any(end != errors.REFUSED for end in ends)


class Batch:
    """The settings of a run, and its engine, which is made for the first row that needs it and then kept."""

    def __init__(self, args: argparse.Namespace, info, options: dict, records):
        self.args, self.info, self.options, self.records = args, info, options, records
        self._painter = self._lpips = None

    def do(self, row) -> None:
        """Do a row unless it is done; note it if it cannot be done."""
        from videopainter.batch.records import disk_is_full
        from videopainter.batch.rows import BadRow

        key = self.key(row)
        if self.records.done(row.name, key):
            print(f"{row.name}: done before", flush=True)
            return
        begun = time.perf_counter()
        try:
            if isinstance(row, BadRow):
                raise ValueError(row.error)
            painter = self.painter()
            with self.records.begin(row.name) as place:
                found = self._paint(row, painter, place)
                found["seconds"] = round(time.perf_counter() - begun, 2)
                self.records.finish(row.name, key, place, found)
        except NoEngine as error:
            raise ValueError(str(error)) from error
        except Exception as error:  # a bad row must not stop the others
            if disk_is_full(error):
                raise ValueError(
                    f"Nothing more can be written to '{self.records.folder}', whose disk is full or not to be written "
                    "to; the same command goes on from here."
                ) from error
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            said = errors.in_flags(errors.sentence(error), vars(self.args))
            self.records.fail(row.name, key, {"row": row.number, "error": said})
            errors.say(f"{row.name}: failed: {said}")
        else:
            print(f"{row.name}: {found['frames']} frames in {found['seconds']:.1f} s", flush=True)

    def record(self, row) -> dict:
        """What became of a row."""
        key = self.key(row)
        nothing = {"name": row.name, "row": row.number, "status": "failed", "error": "It was not reached."}
        return self.records.done(row.name, key) or self.records.failure(row.name, key) or nothing

    def key(self, row) -> str:
        """Changes whenever the result would: with the row, the settings, or the size of a file."""
        from videopainter.batch.records import file_size

        a = self.args
        paths = [p for p in (getattr(row, n, None) for n in ("video", "mask", "truth")) if p is not None]
        sizes = [file_size(p) for p in paths]
        settings = (
            self.info.name,
            self.options,
            a.prompt,
            a.dilate_size,
            a.down_sample_fps,
            a.max_seconds,
            a.seed,
            a.codec,
            a.quality,
            *(
                ("invert_mask",) if a.invert_mask else ()
            ),  # only then, so that older results stay what they are
        )
        return hashlib.sha256(json.dumps([str(row), sizes, settings]).encode()).hexdigest()[:16]

    def painter(self):
        """The engine, loaded once in the life of this process."""
        if self._painter is None:
            from videopainter.batch.measure import load_lpips

            try:
                self._painter = self.info.load(**self.options)
            except (ValueError, OSError) as error:  # no row could be done
                raise NoEngine(errors.sentence(error)) from error
            self._lpips = load_lpips()
        return self._painter

    def _paint(self, row, painter, place: Path) -> dict:
        """Paint a row into `place`; what there is to say about it."""
        from videopainter.batch.clips import excerpt, given_masks, truth_of
        from videopainter.batch.measure import compare
        from videopainter.inpaint import inpaint_video
        from videopainter.utils.default import DEFAULT
        from videopainter.video import open_video

        args, prompt = self.args, self.args.prompt or row.prompt
        if self.info.takes_prompt and not prompt:
            raise ValueError(f"The engine '{self.info.name}' needs a prompt, and the row has none.")
        rate = DEFAULT if args.down_sample_fps is None else args.down_sample_fps or None  # 0: all
        with open_video(row.video, fps=row.fps if row.video.is_dir() else None) as video:
            masks, source = given_masks(row, video, excerpt(row, video))
            result = inpaint_video(
                source,
                masks,
                mask_id=row.mask_id if isinstance(masks, Path) else None,
                prompt=prompt if self.info.takes_prompt else None,
                engine=painter,
                invert_mask=args.invert_mask,
                output_dir=place,
                dilate_size=args.dilate_size,
                seed=args.seed,
                target_fps=rate,
                max_seconds=args.max_seconds,
                codec=args.codec,
                quality=args.quality,
            )
            found = {
                "row": row.number,
                "engine": self.info.name,
                "prompt": prompt,
                "frames": len(result.masks),
            }
            if row.truth is not None:
                file = next(path for path in result.files if path.stem == "result")
                with open_video(file) as written, truth_of(row, video, result) as truth:
                    found["measured"] = compare(written, truth, result.holes, self._lpips)
        return found


class NoEngine(Exception):
    """The engine cannot be made, which is no row's fault."""


# What the rows of an output folder have in common, besides the table, the engine and its options.
SETTINGS = ("prompt", "dilate_size", "down_sample_fps", "max_seconds", "seed", "codec", "quality")


def _plain(options: dict) -> dict:
    """Options as JSON gives them back."""
    return json.loads(json.dumps(options, default=str))


MEASURES = ("psnr_hole", "ssim_hole", "lpips_hole", "psnr_outside", "ssim_outside")


def _sum_up(results, records: list[dict]) -> None:
    """Write `manifest.json` and `summary.csv`, and print the table."""
    import csv
    import io

    from videopainter.batch.records import as_json

    measures = [m for m in MEASURES if any(m in r.get("measured", {}) for r in records)]
    lines = []
    for record in records:
        values = [record.get("measured", {}).get(m) for m in measures]
        cells = [record["row"], record["name"], record["status"], record.get("frames"), record.get("seconds")]
        lines.append([*cells, *values, record.get("error", "")])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "name", "status", "frames", "seconds", *measures, "error"])
    table.writerows(lines)
    results.write("summary.csv", text.getvalue().encode(errors="backslashreplace"))
    results.write("manifest.json", as_json(records))

    width = max(len("mean"), *(len(line[1]) for line in lines))
    print(f"\n{'':{width}}  frames  seconds" + "".join(f"  {m:>12}" for m in measures))
    for line in lines:
        if line[2] == "done":
            print(f"{line[1]:{width}}  {line[3]!s:>6}  {line[4]!s:>7}" + "".join(map(_cell, line[5:-1])))
        else:
            print(f"{line[1]:{width}}  failed: {line[-1]}")
    done = [line for line in lines if line[2] == "done"]
    if measures and done:
        columns = zip(*(line[5:-1] for line in done))
        print(f"{'mean':{width}}  {'':6}  {'':7}" + "".join(_cell(_mean(column)) for column in columns))
    print(f"{len(done)} of {len(lines)} rows are done; see {results.folder / 'summary.csv'}.", flush=True)


def _cell(value: float | None) -> str:
    return f"  {value:12.4f}" if value is not None else f"  {'-':>12}"


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text[:5]) <= 1000):
        raise argparse.ArgumentTypeError("it must be a whole number from 1 to 1000")
    return int(text[:5])


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
