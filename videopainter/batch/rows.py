"""The rows of a CSV: which video, which masks, which frames, what should be there.

Two layouts are known by their columns. The reference's, of VideoPainter's test sets: `path, mask_id, start_frame,
end_frame, fps, caption`, with videos and masks in the folders of that data set. And a plain one for people with
their own clips: `video, mask` and, if wanted, `prompt, mask_id, start_frame, end_frame, fps, truth`. In either
`edited_video_caption` and `edited_image_caption`, as in VPBench's editing tables, say that something is changed.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath

from videopainter.utils.sentences import one_line

EDITED = ("edited_video_caption", "edited_image_caption")  # of edits: of the whole video, of the new thing
REFERENCE = ("path", "mask_id", "start_frame", "end_frame", "fps", "caption")
PLAIN = ("video", "mask")
MARKS = (",", ";", "\t")  # between cells, in the order in which they are tried
LONGEST_NAME = 60  # letters of a video's name that its results carry
LONGEST_CELL = 10_000  # characters
LARGEST_TABLE = 100_000_000  # bytes


class TableError(ValueError):
    """A CSV that cannot be used at all, in one sentence, on one line and of bounded length."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


@dataclass(frozen=True)
class Row:
    """One piece of work.

    `number` counts from 0 below the header; `name` is unique and fit for a file name. Frames `start` to `end`
    (not included; None: the last), counted from 0. `fps` None: the video's own. `truth`: what the result should
    look like, if anyone knows. `reference`: of the reference's data set, whose masks may be a few more or less
    than the frames that a decoder finds. `thing`: of an edit, what comes in the place of what is masked.
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
    thing: str | None = field(
        default=None, repr=False
    )  # not in the row's text, by which older results are known


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why, in one sentence."""

    number: int
    name: str
    error: str
    unreadable: bool = False  # it is no row of a CSV at all


def read_rows(table: Path, data: Path | None = None, allow_absolute: bool = False) -> list[Row | BadRow]:
    """The rows of a CSV file, in order; `data`: the folder below which all its paths lie.

    Cells are parted by commas, semicolons or tabs; text is UTF-8 or UTF-16; names of columns may be in capitals; rows
    without any text are left out. Without `data` that is the folder of the file, or, for a stream such as
    `/dev/stdin`, the working directory. `allow_absolute`: paths may be absolute, too.
    Raises TableError if the file cannot be read, has neither layout, or no row.
    """
    if data is None:
        data = Path() if is_stream(table) else table.parent
    if not os.path.isdir(data):
        raise TableError(f"There is no data folder '{data}'.")
    columns, lines = _cells(_text(table))
    make, place = _layout(table, columns), _Place(data, allow_absolute)
    found = [_row(make, number, columns, cells, place) for number, cells in enumerate(lines)]
    if not found:
        raise TableError(f"'{table}' has no rows.")
    unreadable = [row for row in found if isinstance(row, BadRow) and row.unreadable]
    if len(unreadable) == len(found):
        raise TableError(f"'{table}' cannot be read as a CSV file: {unreadable[0].error}")
    return found


def is_stream(table: Path) -> bool:
    """Whether a table comes from a stream such as /dev/stdin, which can be read once only."""
    return table.as_posix().startswith(("/dev/", "/proc/"))


def _read(table: Path) -> bytes:
    try:
        if not is_stream(table) and os.path.exists(table) and not os.path.isfile(table):
            raise TableError(f"'{table}' is not a file.")
        with open(table, "rb") as file:
            raw = file.read(LARGEST_TABLE + 1)
    except OSError as error:
        raise TableError(f"'{table}' cannot be read as a CSV file: {error.strerror}.") from error
    if len(raw) > LARGEST_TABLE:
        raise TableError(f"'{table}' is too large: tables of {LARGEST_TABLE} bytes at most are read.")
    return raw


@dataclass(frozen=True)
class _Place:
    """Where paths of a table lead: below `data`, and, if that is `free`, to wherever an absolute one says."""

    data: Path
    free: bool = False


def _text(table: Path) -> str:
    """UTF-8, or UTF-16 as spreadsheets save it, with a mark at the beginning or without.

    Bytes that are no UTF-8 become surrogates, so that only their rows are lost.
    """
    raw = _read(table)
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16")
        if raw[1:2] == b"\0":
            return raw.decode("utf-16-le")
        if raw[:1] == b"\0":
            return raw.decode("utf-16-be")
    except UnicodeError as error:
        raise TableError(f"'{table}' cannot be read as a CSV file: {error}.") from error
    return raw.decode("utf-8-sig", errors="surrogateescape")


def _cells(text: str) -> tuple[list[str], list[list[str] | str]]:
    """(names of the columns, in small letters; the cells of each row that has text, or why there are none), parted
    by whatever parts them."""
    found: list[tuple[list[str], list[list[str] | str]]] = []
    for mark in MARKS:
        lines = [line for line in _records(text, mark) if isinstance(line, str) or any(line)]
        header = lines[0] if lines and isinstance(lines[0], list) else []
        columns = [name.lower() for name in header]
        found.append((columns, lines[1:]))
        if set(PLAIN) <= set(columns) or _is_reference(columns):
            return found[-1]
    return found[0]


def _records(text: str, mark: str) -> Iterator[list[str] | str]:
    """The cells of each record, or, in a sentence, why it has none; reading then goes on with the next line."""
    lines = list(io.StringIO(text, newline=""))
    before, begin = csv.field_size_limit(LARGEST_TABLE), 0
    try:
        while begin < len(lines):
            rest, first = (lines[i] for i in range(begin, len(lines))), begin
            reader = csv.reader(rest, delimiter=mark, skipinitialspace=mark != "\t", strict=True)
            try:
                for cells in reader:
                    begin = first + reader.line_num
                    yield [cell.strip() for cell in cells]
            except csv.Error as error:
                begin += 1
                yield f"It cannot be read as CSV: {error}."
    finally:
        csv.field_size_limit(before)


def _layout(table: Path, columns: list[str]):
    if set(PLAIN) <= set(columns):
        return _plain
    if _is_reference(columns):
        return _reference
    raise TableError(
        f"'{table}' needs the columns {', '.join(REFERENCE)}, or {', '.join(PLAIN)}; it has "
        f"{', '.join(columns) or 'none'}."
    )


def _is_reference(columns: list[str]) -> bool:
    return set(REFERENCE) <= {*columns, *(["caption"] if EDITED[0] in columns else [])}


def _row(make, number: int, columns: list[str], cells: list[str] | str, place: _Place) -> Row | BadRow:
    if isinstance(cells, str):
        return BadRow(number, f"{number:05d}_row", cells, unreadable=True)
    known = dict(zip(columns, cells))
    name = f"{number:05d}_{_plain_name(known.get('video') or known.get('path') or '')}"
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        return BadRow(number, name, "It is neither UTF-8 nor UTF-16 text.", unreadable=True)
    try:
        if len(cells) != len(columns):
            raise ValueError("It has another number of cells than the header.")
        for column, text in known.items():
            if len(text) > LONGEST_CELL:
                raise ValueError(f"{column} has {len(text)} characters; {LONGEST_CELL} at most are taken.")
        return make(number, name, known, place)
    except ValueError as error:
        return BadRow(number, name, one_line(str(error)))


def _plain(number: int, name: str, cells: dict[str, str], place: _Place) -> Row:
    return Row(
        number,
        name,
        _inside(place, cells, "video"),
        _inside(place, cells, "mask"),
        cells.get(EDITED[0]) or cells.get("prompt") or None,
        _whole(cells, "mask_id"),
        truth=_inside(place, cells, "truth") if cells.get("truth") else None,
        thing=cells.get(EDITED[1]) or None,
        **_frames(cells),
    )


def _reference(number: int, name: str, cells: dict[str, str], place: _Place) -> Row:
    """`NAME.0.mp4` is of Videvo, `NAME.mp4` of Pexels; the reference sorts them into folders by their names."""
    data, file = place.data, cells["path"]
    if re.fullmatch(r"[^./\\][^./\\:]*(\.0)?\.mp4", file) is None:
        raise ValueError(f"path must be NAME.0.mp4 or NAME.mp4, not '{file}'.")
    stem = file.split(".")[0]
    if file.endswith(".0.mp4"):
        kind, videos, folder = "videovo", data / "videovo/raw_video", stem[:-3]
    else:
        kind, videos, folder = "pexels", data / "pexels/pexels/raw_video", stem[:9]
    sorted_in, flat = videos / folder / file, videos / file
    video = flat if os.path.isfile(flat) and not os.path.isfile(sorted_in) else sorted_in
    mask_id = _whole(cells, "mask_id")
    if mask_id is None:
        raise ValueError("mask_id is empty.")
    mask = data / "video_inpainting" / kind / stem / "all_masks.npz"
    # The captions say what the videos show, so that the video itself is the truth, but where it is to be changed.
    edited = cells.get(EDITED[0]) or None
    return Row(
        number,
        name,
        video,
        mask,
        edited or cells.get("caption") or None,
        mask_id,
        truth=None if edited else video,
        reference=True,
        thing=cells.get(EDITED[1]) or None,
        **_frames(cells),
    )


def _inside(place: _Place, cells: dict[str, str], column: str) -> Path:
    """A path below the data folder. Links that the user put there may lead anywhere, names in a table may not."""
    text = cells[column]
    if not text:
        raise ValueError(f"{column} is empty.")
    if place.free and "\0" not in text and Path(text).is_absolute():
        return Path(text)
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts or "\0" in text:
            lifted = "; allow_absolute lets it be" if Path(text).is_absolute() and "\0" not in text else ""
            raise ValueError(f"{column} must lie inside the data folder, unlike '{text}'{lifted}.")
    return place.data / text


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
    if re.fullmatch(r"\d{1,15}(\.0*)?", text) is None:
        raise ValueError(f"{column} must be a whole number, 0 or more, not '{text}'.")
    return int(text.split(".")[0])


def _rate(cells: dict[str, str]) -> Fraction | None:
    """Frames a second; 0 stands for the video's own, as in the reference."""
    text = cells.get("fps", "")
    try:
        # Fraction would write out every digit of 1e999999999.
        short = re.fullmatch(r"[-+]?[\d.]{1,30}(/\d{1,15}|[eE][-+]?\d{1,2})?", text or "0")
        rate = Fraction(text or "0").limit_denominator(1001) if short else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(-1)
    if not 0 <= rate <= 1000:
        raise ValueError(f"fps must be 0 to 1000, not '{text}'.")
    return rate or None


def _plain_name(file: str) -> str:
    """The file's name without folders and ending, in letters that every file system takes."""
    stem = re.split(r"[/\\]", file)[-1].split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:LONGEST_NAME] or "row"
