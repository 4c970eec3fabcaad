"""The rows of a CSV: which video, which masks, which frames, what should be there.

Two layouts are known by their columns. The reference's, of VideoPainter's test sets: `path, mask_id, start_frame,
end_frame, fps, caption`, with videos and masks in the folders of that data set. And a plain one for people with
their own clips: `video, mask` and, if wanted, `prompt, mask_id, start_frame, end_frame, fps, truth`.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath

REFERENCE = ("path", "mask_id", "start_frame", "end_frame", "fps", "caption")
PLAIN = ("video", "mask")
LONGEST_NAME = 60  # letters of a video's name that its results carry


class TableError(ValueError):
    """A CSV that cannot be used at all, in one sentence."""


@dataclass(frozen=True)
class Row:
    """One piece of work.

    `number` counts from 0 below the header; `name` is unique and fit for a file name. Frames `start` to `end`
    (not included; None: the last), counted from 0. `fps` None: the video's own. `truth`: what the result should
    look like, if anyone knows. `reference`: of the reference's data set, whose masks may be a few more or less
    than the frames that a decoder finds.
    """

    number: int
    name: str
    video: Path
    mask: Path
    prompt: str | None = None
    mask_id: int | None = None
    start: int = 0
    end: int | None = None
    fps: Fraction | None = None
    truth: Path | None = None
    reference: bool = False


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why, in one sentence."""

    number: int
    name: str
    error: str


def read_rows(table: Path, data: Path | None = None) -> list[Row | BadRow]:
    """The rows of a CSV file, UTF-8, in order; `data`: the folder below which all its paths lie.

    Without `data` that is the folder of the file. Raises TableError if the file cannot be read, has neither
    layout, or no row.
    """
    data = table.parent if data is None else data
    if not data.is_dir():
        raise TableError(f"There is no data folder '{data}'.")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            make = _layout(table, columns)
            rows = [_row(make, number, cells, data) for number, cells in enumerate(reader)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"'{table}' cannot be read as a CSV file: {reason}.") from error
    if not rows:
        raise TableError(f"'{table}' has no rows.")
    return rows


def _layout(table: Path, columns: list[str]):
    if set(PLAIN) <= set(columns):
        return _plain
    if set(REFERENCE) <= set(columns):
        return _reference
    raise TableError(
        f"'{table}' needs the columns {', '.join(REFERENCE)}, or {', '.join(PLAIN)}; it has "
        f"{', '.join(columns) or 'none'}."
    )


def _row(make, number: int, cells: dict, data: Path) -> Row | BadRow:
    file = (cells.get("video") or cells.get("path") or "").strip()
    name = f"{number:05d}_{_plain_name(file)}"
    try:
        if None in cells or None in cells.values():
            raise ValueError("It has another number of cells than the header.")
        return make(number, name, {key: value.strip() for key, value in cells.items()}, data)
    except ValueError as error:
        return BadRow(number, name, str(error))


def _plain(number: int, name: str, cells: dict[str, str], data: Path) -> Row:
    return Row(
        number,
        name,
        _inside(data, cells, "video"),
        _inside(data, cells, "mask"),
        cells.get("prompt") or None,
        _whole(cells, "mask_id"),
        truth=_inside(data, cells, "truth") if cells.get("truth") else None,
        **_frames(cells),
    )


def _reference(number: int, name: str, cells: dict[str, str], data: Path) -> Row:
    """`NAME.0.mp4` is of Videvo, `NAME.mp4` of Pexels; the reference sorts them into folders by their names."""
    file = cells["path"]
    if re.fullmatch(r"[^./\\][^./\\:]*(\.0)?\.mp4", file) is None:
        raise ValueError(f"path must be NAME.0.mp4 or NAME.mp4, not '{file}'.")
    stem = file.split(".")[0]
    if file.endswith(".0.mp4"):
        kind, videos, folder = "videovo", data / "videovo/raw_video", stem[:-3]
    else:
        kind, videos, folder = "pexels", data / "pexels/pexels/raw_video", stem[:9]
    sorted_in, flat = videos / folder / file, videos / file
    video = flat if flat.is_file() and not sorted_in.is_file() else sorted_in
    mask_id = _whole(cells, "mask_id")
    if mask_id is None:
        raise ValueError("mask_id is empty.")
    mask = data / "video_inpainting" / kind / stem / "all_masks.npz"
    # The captions say what the videos show, so that the video itself is the truth.
    return Row(
        number,
        name,
        video,
        mask,
        cells["caption"] or None,
        mask_id,
        truth=video,
        reference=True,
        **_frames(cells),
    )


def _inside(data: Path, cells: dict[str, str], column: str) -> Path:
    """A path below `data`. Links that the user put there may lead anywhere, names in a table may not."""
    text = cells[column]
    if not text:
        raise ValueError(f"{column} is empty.")
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts or "\0" in text:
            raise ValueError(f"{column} must lie inside the data folder, unlike '{text}'.")
    return data / text


def _frames(cells: dict[str, str]) -> dict:
    start, end = _whole(cells, "start_frame") or 0, _whole(cells, "end_frame")
    if end is not None and end <= start:
        raise ValueError(f"end_frame must be above start_frame, {start}, not {end}.")
    return {"start": start, "end": end, "fps": _rate(cells)}


def _whole(cells: dict[str, str], column: str) -> int | None:
    """0, 1, ...; also as 3.0, which spreadsheets make of 3. None if the cell is empty or not there."""
    text = cells.get(column, "")
    if not text:
        return None
    if re.fullmatch(r"\d+(\.0*)?", text) is None:
        raise ValueError(f"{column} must be a whole number, 0 or more, not '{text}'.")
    return int(text.split(".")[0])


def _rate(cells: dict[str, str]) -> Fraction | None:
    """Frames a second; 0 stands for the video's own, as in the reference."""
    text = cells.get("fps", "")
    try:
        rate = Fraction(text or "0").limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(-1)
    if not 0 <= rate <= 1000:
        raise ValueError(f"fps must be 0 to 1000, not '{text}'.")
    return rate or None


def _plain_name(file: str) -> str:
    """The file's name without folders and ending, in letters that every file system takes."""
    stem = re.split(r"[/\\]", file)[-1].split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:LONGEST_NAME] or "row"
