"""Masks of a project: previews of a click at once, tracks as they are made, and what the two come to."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from videopainter.masks import MaskError, MaskTrack, pack, unpack
from videopainter.segmentation import choose_segmenter
from videopainter.segmentation.base import Candidate, Segmenter
from videopainter.segmentation.prompts import MaskPrompt
from videopainter.web.frames import Clicked, Frames, resized
from videopainter.web.memory import trim
from videopainter.web.prompts import library_prompt, scaled, with_polygons
from videopainter.web.store import SHADOW, Store

DOUBTFUL = 0.5  # confidence below which a frame is marked
SMALL = 0.3  # of the median area of the frames around: the mask may have shrunk to a part


class Previews:
    """What prompts of a frame mean, at once. What the segmenter of one project has computed of a frame stays for the
    next click; threads wait for each other."""

    def __init__(self, store: Store, frames: Frames):
        self._store, self._frames, self._lock = store, frames, threading.Lock()
        self._open: tuple[str, Segmenter] | None = None
        self._loaded = False

    def update(self, project: str, before: list[dict], after: list[dict]) -> list[dict]:
        """Make the preview masks fit the objects as they are now; what was found, for the page.

        Returns, for each object and frame that was looked at, `{"object", "frame", "candidates": [{"score",
        "extent"}], "message"}`. The masks of objects that are gone stay, for an undo.
        """
        old = {one["id"]: one for one in before}
        said = []
        for one in after:
            was = old.get(one["id"])
            if was is None and self._store.masks_of(project, one["id"], "track"):
                continue  # it is back, with its masks
            said += [self._look(project, one, frame) for frame in sorted(changed_frames(was, one))]
        return said

    def prepare(self, project: str, frame: int) -> None:
        """Read what a click on that frame will need, unless a click is being answered just now."""
        if self._lock.acquire(blocking=False):
            try:
                self._segmenter(project).prepare(frame)
                self._settle()
            finally:
                self._lock.release()

    def close(self, project: str | None = None) -> None:
        """Let go of what is kept; only if it is of `project`, where that is given."""
        with self._lock:
            if self._open is not None and project in (None, self._open[0]):
                self._open = None

    def _look(self, project: str, one: dict, frame: int) -> dict:
        number, found = one["id"], {"object": one["id"], "frame": frame, "candidates": [], "message": ""}
        self._store.drop_masks(project, "preview", number, range(frame, frame + 1))
        prompts = [prompt for prompt in one["prompts"] if prompt["frame"] == frame]
        if not prompts:
            return found
        with self._lock:
            segmenter, facts = self._segmenter(project), self._store.project(project)["facts"]
            size, full = segmenter.source.size, (facts["height"], facts["width"])
            here = [scaled(prompt, size[1] / full[1]) for prompt in prompts]
            tracked = self._store.masks_at(project, frame, layer="track").get(number)
            known = None if tracked is None else resized(unpack(tracked, full), size)
            try:
                candidates = read(segmenter, frame, here, number, one["extent"], known)
            except MaskError as error:
                found["message"] = str(error)
                return found
            finally:
                self._settle()
        best = candidates[0]
        found["candidates"] = [{"score": float(c.score), "extent": c.extent} for c in candidates]
        if not best.mask.any():
            found["message"] = "Nothing was found there; click in the middle of the thing, or draw a box."
        mask = resized(best.mask, full)
        row = (frame, pack(mask), float(mask.mean()), float(best.score), "found")
        self._store.put_masks(project, "preview", number, [row])
        return found

    def _segmenter(self, project: str) -> Segmenter:
        if self._open is None or self._open[0] != project:
            found = self._store.project(project)
            source = Clicked(self._frames, video_path(self._store, found), found["facts"])
            self._open, self._loaded = (project, choose_segmenter("auto")[0].kind(source)), False
        return self._open[1]

    def _settle(self) -> None:
        """Once a segmenter has loaded what it needs, the system gets back what only the loading did."""
        if not self._loaded:
            self._loaded = True
            trim()


def read(
    segmenter: Segmenter,
    frame: int,
    prompts: list[dict],
    number: int,
    extent: str | None,
    known: np.ndarray | None = None,
) -> list[Candidate]:
    """The readings of one object's prompts (`PromptData` as dicts) in a frame, the best first.

    Polygons are taken as they are drawn: those that come first are what the object is known to be, what is clicked or
    brushed after them corrects that; later ones are put in, or taken out, in the end.

    Args:
        frame: counted as the segmenter's source counts.
        known: bool (height, width), what was tracked there.

    Raises MaskError for prompts that cannot be used.
    """
    size = segmenter.source.size
    first = next((k for k, prompt in enumerate(prompts) if prompt["kind"] != "polygon"), len(prompts))
    if known is None:
        known = np.zeros(size, bool)
    known = with_polygons(known, prompts[:first])
    words = [library_prompt(p, size, number, frame) for p in prompts[first:] if p["kind"] != "polygon"]
    if not words and not known.any():
        raise MaskError("Nothing is left of it; draw around the thing first.")
    if not words:
        return [Candidate(known, 1.0)]
    if known.any():
        words.insert(0, MaskPrompt(known, frame, "is", number))
    found = segmenter.preview(frame, words, extent)
    return [replace(one, mask=with_polygons(one.mask, prompts[first:])) for one in found]


def changed_frames(old: dict | None, new: dict) -> set[int]:
    """Frames whose prompts, or what they are to be read as, differ between two states of an object."""

    def by_frame(one: dict | None) -> dict[int, list]:
        frames: dict[int, list] = {}
        for prompt in one["prompts"] if one else ():
            frames.setdefault(prompt["frame"], []).append(prompt)
        return frames

    a, b = by_frame(old), by_frame(new)
    if old is not None and old["extent"] != new["extent"]:
        return set(a) | set(b)
    return {frame for frame in set(a) | set(b) if a.get(frame) != b.get(frame)}


def mask_track(store: Store, project: dict, numbers: list[int], frames: range) -> MaskTrack:
    """The union of the masks of some objects, one a frame of `frames`; empty where there is none."""
    size = (project["facts"]["height"], project["facts"]["width"])
    packed = [store.masks_of(project["id"], number) for number in numbers]

    def united():
        for frame in frames:
            here = [unpack(one[frame], size) for one in packed if frame in one]
            yield np.logical_or.reduce(here) if here else np.zeros(size, bool)

    return MaskTrack.build(united())


def timeline(store: Store, project: dict) -> list[dict]:
    """Of each object: which frames have masks, and which want a look.

    `{"object", "frames": [[first, last], ...], "preview": [...], "marks": [{"frame", "why"}, ...]}`, where `why` is
    "out of sight", "doubtful" or "small"; a mark stands at the first frame of its stretch.
    """
    out = []
    for number, frames in sorted(store.timeline(project["id"]).items()):
        if number == SHADOW:
            continue
        order = sorted(frames)
        areas = np.array([frames[i]["area"] for i in order])
        median = float(np.median(areas[areas > 0])) if (areas > 0).any() else 0.0
        marks, before = [], ""
        for i in order:
            row, why = frames[i], ""
            if row["area"] == 0:
                why = "out of sight"
            elif row["confidence"] < DOUBTFUL:
                why = "doubtful"
            elif row["area"] < SMALL * median:
                why = "small"
            if why and why != before:
                marks.append({"frame": i, "why": why})
            before = why
        out.append(
            {
                "object": number,
                "frames": _stretches(order),
                "preview": [i for i in order if frames[i]["layer"] == "preview"],
                "marks": marks,
            }
        )
    return out


def _stretches(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for i in numbers:
        if found and found[-1][1] == i - 1:
            found[-1][1] = i
        else:
            found.append([i, i])
    return found


def video_path(store: Store, project: dict) -> Path:
    """Where the project's video lies: in its folder, or where the command line named it."""
    return store.workspace / project["path"]
