"""data_utils/: the videos of VPData from the addresses in its tables, and its masks out of their archives."""

from __future__ import annotations

import argparse
import csv
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from videopainter.cli import errors
from videopainter.cli.parser import Parser


class Video(NamedTuple):
    address: str
    path: PurePosixPath  # below the data folder


def download_main(argv: list[str] | None = None, prog: str = "VPData_download.py") -> int:
    """Returns the exit status; see `errors`. 1 if some videos could not be had."""
    parser = Parser(
        prog=prog,
        description="Download the videos of VPData's tables, videovo.csv (columns video_url, file_path) and pexels.csv "
        "(link, videoId). What is there already is left out, so the same command goes on after a stop.",
    )
    parser.add_argument(
        "tables", nargs="*", type=Path, metavar="CSV", help="(default: those two in the data folder)"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("../data"), help="(default: %(default)s)")
    parser.add_argument("--rows", default=":", metavar="START:END", help="only these of each table")
    args = parser.parse_args(argv)
    return errors.run(
        lambda: _download(args), prog, vars(args), "Stopped; the same command goes on from here."
    )


def unzip_main(argv: list[str] | None = None, prog: str = "unzip_folder.py") -> int:
    """Returns the exit status; see `errors`."""
    parser = Parser(prog=prog, description="Unzip all archives of a folder, such as VPData's masks.")
    parser.add_argument(
        "--source_dir", type=Path, default=Path("./data/videovo_masks"), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--target_dir",
        type=Path,
        default=Path("./data/video_inpainting/videovo"),
        help="(default: %(default)s)",
    )
    args = parser.parse_args(argv)
    return errors.run(lambda: _unzip(args.source_dir, args.target_dir), prog, vars(args))


def read_table(table: Path) -> Iterator[Video]:
    """The videos of a table, in order. Raises ValueError for another table, or a path that leads out of the folder."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{table}' cannot be read as a CSV file: {error}.") from None
    columns = set(rows[0]) if rows else set()
    for number, row in enumerate(rows):
        if {"video_url", "file_path"} <= columns:
            path = PurePosixPath("videovo/raw_video", row["file_path"] or "")
            address = row["video_url"]
        elif {"link", "videoId"} <= columns:
            name = f"{number:012d}"
            path = PurePosixPath("pexels/pexels/raw_video", name[:9], f"{name}_{row['videoId']}.mp4")
            address = row["link"]
        else:
            break
        if not re.match(r"https?://", address or ""):
            raise ValueError(f"Row {number} of '{table}' has no address of a video, but '{address}'.")
        if ".." in path.parts or PurePosixPath(row.get("file_path") or "").is_absolute() or "\\" in str(path):
            raise ValueError(f"Row {number} of '{table}' leads out of the data folder: '{path}'.")
        yield Video(address, path)
    else:
        if rows:
            return
    raise ValueError(f"'{table}' has neither the columns video_url and file_path nor link and videoId.")


def _download(args: argparse.Namespace) -> int:
    from videopainter.weights import WeightsError
    from videopainter.weights.transfer import Item, length, transfer

    tables = args.tables or [
        path for name in ("videovo", "pexels") if (path := args.output_dir / f"{name}.csv").is_file()
    ]
    if not tables:
        raise ValueError(
            f"There is neither videovo.csv nor pexels.csv in '{args.output_dir}'; name the tables."
        )
    match = re.fullmatch(r"(\d*):(\d*)", args.rows)
    if match is None:
        raise ValueError(f"--rows is START:END, such as 0:100, not '{args.rows}'.")
    part = slice(*(int(number) if number else None for number in match.groups()))
    videos = [video for table in tables for video in list(read_table(table))[part]]
    failed = 0
    for number, video in enumerate(videos, 1):
        target = args.output_dir / video.path
        if target.is_file():
            continue
        try:
            item = Item(str(video.path), video.address, length(video.address))
            target.parent.mkdir(parents=True, exist_ok=True)
            transfer(item, target, None, lambda name, done, total: None)
            print(f"{number} of {len(videos)}: {video.path}", flush=True)
        except WeightsError as error:
            failed += 1
            errors.say(f"{video.path}: {error}")
    print(f"{len(videos) - failed} of {len(videos)} videos are in '{args.output_dir}'.")
    return errors.FAILED if failed else errors.OK


def _unzip(source: Path, target: Path) -> int:
    if not source.is_dir():
        raise ValueError(f"There is no folder '{source}'.")
    archives = sorted(source.glob("*.zip"))
    if not archives:
        raise ValueError(f"There is no .zip file in '{source}'.")
    target.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as file:
                names = [name for name in file.namelist() if not name.endswith("/")]
                for name in names:
                    parts = PurePosixPath(name).parts
                    if ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
                        raise ValueError(f"'{archive}' leads out of the folder: '{name}'.")
                _extract(file, names, target)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"'{archive}' is damaged, or no zip file: {error}.") from error
        print(f"{archive.name}: {len(names)} files", flush=True)
    return errors.OK


def _extract(file: zipfile.ZipFile, names: list[str], target: Path) -> None:
    """Files that are there at their full size already are left out."""
    import shutil

    from videopainter.utils.atomic import whole_file

    for name in names:
        path = target / name
        if path.is_file() and path.stat().st_size == file.getinfo(name).file_size:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.open(name) as packed, whole_file(path) as out:
            shutil.copyfileobj(packed, out)
