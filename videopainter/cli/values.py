"""The values of flags, as argparse takes them from text: points, boxes, outlines, images, limits."""

from __future__ import annotations

import argparse


def rate(text: str) -> float | str | None:
    if text == "source":
        return text
    return limit(text, "source")


def seconds(text: str) -> float | None:
    return limit(text, "all")


def frames(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of frames")
    return int(text)


def effects(text: str) -> float | str:
    if text in ("auto", "off"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither auto, off nor a number") from None


def limit(text: str, word: str) -> float | None:
    """A number; None, no limit, for "all"."""
    if text == "all":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor {word}") from None


def point(text: str) -> tuple:
    return numbers(text, 2, "X,Y, X,Y,FRAME or X,Y,FRAME,OBJECT")


def box(text: str) -> tuple:
    return numbers(text, 4, "X0,Y0,X1,Y1, perhaps with ,FRAME or ,FRAME,OBJECT")


def area(text: str) -> tuple:
    found = numbers(text, 4, "X0,Y0,X1,Y1")
    if len(found) != 4:
        raise argparse.ArgumentTypeError(f"'{text}' is not X0,Y0,X1,Y1")
    return found


def polygon_part(text: str) -> tuple:
    """(x, y), or from @FRAME[,OBJECT] (frame, object) as whole numbers."""
    form = "X,Y, or @FRAME or @FRAME,OBJECT at the end"
    if text.startswith("@"):
        try:
            frame, number = (*map(int, text[1:].split(",")), None)[:2]
            if text.count(",") <= 1:
                return Place((frame, number))
        except ValueError:
            pass
    elif text.count(",") == 1:
        return numbers(text, 2, form)
    raise argparse.ArgumentTypeError(f"'{text}' is not {form}")


class Place(tuple):
    """(frame, object or None) at the end of a polygon."""


def closed(polygon: list[tuple]) -> list[tuple]:
    """The corners of a polygon and, at the end, its (frame, object)."""
    return polygon if isinstance(polygon[-1], Place) else [*polygon, Place((0, None))]


def check_polygons(parser: argparse.ArgumentParser, polygons: list[list[tuple]]) -> None:
    for polygon in polygons:
        *points, _ = closed(polygon)
        if len(points) < 3:
            parser.error(f"--polygon needs three corners or more, not {len(points)}")
        if any(isinstance(point, Place) for point in points):
            parser.error("--polygon takes its @FRAME at the end")


def image(text: str) -> tuple[str, int, int | None]:
    """(path, frame, object); the path may have commas too."""
    path = text
    numbers: list[int] = []
    while len(numbers) < 2 and "," in path and path.rpartition(",")[2].isdecimal():
        path, _, number = path.rpartition(",")
        numbers.insert(0, int(number))
    if not path:
        raise argparse.ArgumentTypeError(f"'{text}' does not begin with the name of an image")
    return path, numbers[0] if numbers else 0, numbers[1] if len(numbers) == 2 else None


def masks_out(text: str) -> tuple[str, str | None]:
    """(path, format); the path may have commas too."""
    path, comma, form = text.rpartition(",")
    return (path, form) if comma and form.isalpha() else (text, None)


def numbers(text: str, count: int, form: str) -> tuple:
    parts = text.split(",")
    try:
        if not count <= len(parts) <= count + 2:
            raise ValueError
        return (*map(float, parts[:count]), *map(int, parts[count:]))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not {form}") from None
