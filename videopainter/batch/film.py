"""One long film over many workers: pieces, each computed once by whoever is free, and joined without a seam.

`FilmEngine` stands in the place of an engine. The spine calls it as it would call that, with the whole film, of which
frames are only decoded where they are asked for; so all that the spine does around an engine (the hole, its shadow,
the region, the pasting, the encoding, the sound, the time stamps) is what it does for a film in one piece.

The film is split at hard cuts where there are some, else where two pieces overlap and one is faded into the other.
A piece also looks at as many frames beyond as the engine's results depend on, over a cut, too, so that an engine that
looks at nothing else gives the same frames, bit for bit, as in one run.
"""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videopainter.engines.base import Cancelled, EngineError, spec_of
from videopainter.ops.motion import Motion
from videopainter.utils.atomic import whole_file
from videopainter.video.subset import SubsetSource

OVERLAP = 8  # frames on either side of where a shot is split
ALIGN = 60  # frames by which pieces begin, so that windows and references lie where they would in one run
NEAR = 0.25  # of a piece's length: a cut so far from its end is where it ends
SHORT = 1.5  # lengths of a piece that are not worth splitting
SMALL = 120  # lines at which cuts are looked for
SUSPECTS = 3  # largest changes from frame to frame that are looked at closely
REACH = 100  # frames to either side that results depend on, where nothing better is known

# Engine -> frames to either side that its results depend on; options are known.
REACHES: dict[str, Callable[[Any], int]] = {
    "propagation": lambda options: getattr(options, "radius", 60),
    "propainter": lambda options: 2 * (getattr(options, "subvideo_length", None) or 80),
}


PLAN = "plan.json"


class Elsewhere(Cancelled):
    """Others are at all that is left of the film."""


def parts_left(folder: Path) -> list[str]:
    """What is to be claimed next of the film whose pieces are in `folder`; see `FilmEngine`."""
    try:
        count = len(json.loads((folder / PLAN).read_bytes())) + 1
    except (OSError, ValueError):
        return ["plan"]
    return [str(i) for i in range(count) if not (folder / f"{i}.zip").exists()] or [""]


@dataclass(frozen=True)
class Boundary:
    """Where two pieces meet: the second begins with `frame`; `overlap`: frames on either side that both have."""

    frame: int
    overlap: int


@dataclass(frozen=True)
class Span:
    """Frames of a piece: `used` of it in the result, `seen` by the engine; each from, to (not included)."""

    used: tuple[int, int]
    seen: tuple[int, int]


def check_splittable(engine: Any) -> str | None:
    """What is lost where an engine's film is split, in a sentence; None: nothing that can be said beforehand.

    Raises EngineError for engines that carry from window to window what no piece could know.
    """
    name, options = spec_of(engine).name, getattr(engine, "options", None)
    if name == "videopainter":
        if getattr(options, "prev_clip_weight", 0) or getattr(options, "id_adapter", None):
            raise EngineError(
                "A film cannot be split where each window depends on the one before: `id_adapter` and "
                "`prev_clip_weight` keep it on one worker."
            )
        return "What is repainted may look different from piece to piece, as none knows the others."
    if name == "dstt":
        return "What the engine remembers from before a piece begins is not known in it."
    return None


def boundaries(source, holes, length: int) -> list[Boundary]:
    """Where pieces of about `length` frames begin: at a hard cut if one is near, else with an overlap."""
    found: list[Boundary] = []
    near, last = int(length * NEAR), 0
    while len(source) - last >= length * SHORT:
        aim = last + length
        cut = _cut_near(source, holes, max(last + 1, aim - near), min(len(source) - 1, aim + near), aim)
        if cut is None:
            aim -= aim % ALIGN if aim - aim % ALIGN > last + 2 * OVERLAP else 0
            found.append(Boundary(aim, min(OVERLAP, (aim - last) // 2, len(source) - aim)))
        else:
            found.append(Boundary(cut, 0))
        last = found[-1].frame
    return found


def spans(count: int, bounds: list[Boundary], reach: int) -> list[Span]:
    """The pieces of a film of `count` frames."""
    edges = [Boundary(0, 0), *bounds, Boundary(count, 0)]
    found = []
    for first, after in zip(edges, edges[1:]):
        low, high = first.frame - first.overlap, after.frame + after.overlap
        see, until = max(0, low - reach) // ALIGN * ALIGN, min(count, high + reach)
        found.append(Span((low, high), (see, until)))
    return found


class FilmEngine:
    """An engine whose work on one film is shared; see above.

    Args:
        engine: called for each piece; what makes it, for a worker that only joins needs none.
        folder: where plan and pieces are kept, seen by all workers, removed by whoever needs them no more.
        length: frames of a piece, about.
        claim: called with the name of a part, "plan", "0", "1", ... or "" for the whole; a context in which that is
            this worker's, or, if it gives False, another's.

    Called, it does what nobody else does, and raises `Elsewhere` unless it is this worker that joins the pieces.
    """

    def __init__(
        self, engine: Any, folder: Path, length: int, claim: Callable[[str], AbstractContextManager[bool]]
    ):
        self.engine, self.folder, self.length, self.claim = engine, folder, length, claim
        self.spec, self.options = spec_of(engine), getattr(engine, "options", None)

    def __call__(
        self, source, masks, prompt=None, generator=None, progress=None, **more
    ) -> Iterator[np.ndarray]:
        self.folder.mkdir(parents=True, exist_ok=True)
        bounds = self._plan(source, masks)
        pieces = spans(len(source), bounds, _reach(self.engine))
        beat = None if progress is None else lambda stage, done, total: progress(stage, 0, len(source))
        while todo := [i for i in range(len(pieces)) if not self._file(i).exists()]:
            if not any([self._do(i, pieces[i], source, masks, prompt, generator, beat, more) for i in todo]):
                raise Elsewhere
        with self.claim("") as ours:
            if not ours:
                raise Elsewhere
            for i, frame in enumerate(self._joined(source, bounds, pieces)):
                yield frame
                if progress is not None:
                    progress("inpaint", i + 1, len(source))

    def close(self) -> None:
        """The engine is whose it was."""

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.zip"

    def _plan(self, source, masks) -> list[Boundary]:
        file = self.folder / PLAN
        while not file.exists():
            with self.claim("plan") as ours:
                if ours and not file.exists():
                    found = boundaries(source, masks, self.length)
                    with whole_file(file) as out:
                        out.write(json.dumps([asdict(boundary) for boundary in found]).encode())
                elif not ours:
                    raise Elsewhere
        return [Boundary(**boundary) for boundary in json.loads(file.read_bytes())]

    def _do(self, number: int, span: Span, source, masks, prompt, generator, beat, more) -> bool:
        """Compute a piece; False if another worker has it."""
        with self.claim(str(number)) as ours:
            if not ours:
                return False
            if self._file(number).exists():
                return True
            low, high = span.seen
            part, holes = SubsetSource(source, range(low, high)), masks.select(range(low, high))
            if more.get("first_frame") is not None and low:
                more = {**more, "first_frame": _first_frame(part, holes)}
            frames = self.engine(
                part, holes, prompt=prompt, generator=copy.deepcopy(generator), progress=beat, **more
            )
            with closing(frames), whole_file(self._file(number)) as out:
                with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    for i, frame in enumerate(frames, low):
                        if span.used[0] <= i < span.used[1]:
                            archive.writestr(str(i), np.subtract(frame, source[i]).tobytes())
        return True

    def _joined(self, source, bounds: list[Boundary], pieces: list[Span]) -> Iterator[np.ndarray]:
        """The frames of all pieces, one faded into the next where two have the same."""
        overlaps = {i: b for b in bounds for i in range(b.frame - b.overlap, b.frame + b.overlap)}
        archives = [zipfile.ZipFile(self._file(number)) for number in range(len(pieces))]
        try:
            for i in range(len(source)):
                original = source[i]
                found = [
                    np.add(original, np.frombuffer(archive.read(str(i)), np.uint8).reshape(original.shape))
                    for archive, span in zip(archives, pieces)
                    if span.used[0] <= i < span.used[1]
                ]
                if len(found) == 1:
                    yield found[0]
                else:
                    bound = overlaps[i]
                    share = (i - (bound.frame - bound.overlap) + 1) / (2 * bound.overlap + 1)
                    mixed = found[0] * np.float32(1 - share) + found[1] * np.float32(share)
                    yield np.rint(mixed).astype(np.uint8)
        finally:
            for archive in archives:
                archive.close()


def _reach(engine: Any) -> int:
    reach = REACHES.get(spec_of(engine).name)
    return REACH if reach is None else reach(engine.options)


def _cut_near(source, holes, low: int, high: int, aim: int) -> int | None:
    """The first frame of a shot that begins between frames `low` and `high`, the nearest to `aim`; None without any."""
    changes, before = [], None
    for i in range(low - 1, high + 1):
        small = _small(source[i])
        if before is not None:
            changes.append((float(cv2.absdiff(small, before).mean()), i))
        before = small
    found = []
    for _, i in sorted(changes, reverse=True)[:SUSPECTS]:
        here, there = _small(source[i - 1]), _small(source[i])
        known = ~cv2.resize(
            (holes[i - 1] | holes[i]).astype(np.uint8), here.shape[::-1], interpolation=cv2.INTER_AREA
        ).astype(bool)
        if Motion().camera(here, there, known) is None:
            found.append(i)
    return min(found, key=lambda i: abs(i - aim), default=None)


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame in grey, `SMALL` lines high or less."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    scale = SMALL / max(SMALL, grey.shape[0])
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey


def _first_frame(part, holes) -> np.ndarray:
    """The first frame of a piece, finished by propagation, for engines that begin with one."""
    from videopainter.engine import ENGINES

    if not holes[0].any():
        return part[0]
    engine: Any = ENGINES["propagation"].load()
    with closing(engine(part, holes)) as frames:
        return next(frames)
