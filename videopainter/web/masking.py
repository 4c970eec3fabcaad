"""Masks of a project: previews of a click at once, tracks as they are made, and what the two come to."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from videopainter.masks import MaskTrack, pack, unpack
from videopainter.segmentation import choose_segmenter
from videopainter.segmentation.prompts import MaskPrompt
from videopainter.video import open_video
from videopainter.web.prompts import library_prompt
from videopainter.web.store import Store

DOUBTFUL = 0.5  # confidence below which a frame is marked
SMALL = 0.3  # of the median area of the frames around: the mask may have shrunk to a part


class Previews:
    """What prompts of a frame mean, at once. One video is open at a time; threads wait for each other."""

    def __init__(self, store: Store):
        self._store, self._lock = store, threading.Lock()
        self._open: tuple[str, object, object] | None = None

    def update(self, project: str, before: list[dict], after: list[dict]) -> list[dict]:
        """Make the preview masks fit the objects as they are now; what was found, for the page.

        Returns, for each object and frame that was looked at, `{"object", "frame", "candidates": [{"score",
        "extent"}], "message"}`.
        """
        old = {one["id"]: one for one in before}
        new = {one["id"]: one for one in after}
        for gone in old.keys() - new.keys():
            self._store.drop_masks(project, "preview", gone)
        said = []
        for number, one in new.items():
            for frame in sorted(_changed(old.get(number), one)):
                said.append(self._look(project, one, frame))
        return said

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open[1].close()
                self._open = None

    def _look(self, project: str, one: dict, frame: int) -> dict:
        number, found = one["id"], {"object": one["id"], "frame": frame, "candidates": [], "message": ""}
        self._store.drop_masks(project, "preview", number, range(frame, frame + 1))
        prompts = [prompt for prompt in one["prompts"] if prompt["frame"] == frame]
        if not prompts:
            return found
        with self._lock:
            source, segmenter = self._segmenter(project)
            size = tuple(source.size)
            words = [library_prompt(prompt, size, number) for prompt in prompts]
            tracked = self._store.masks_at(project, frame, layer="track").get(number)
            if tracked is not None:
                words.insert(0, MaskPrompt(unpack(tracked, size), frame, "is", number))
            try:
                candidates = segmenter.preview(frame, words, one["extent"])
            except ValueError as error:
                found["message"] = str(error)
                return found
        best = candidates[0]
        found["candidates"] = [{"score": c.score, "extent": c.extent} for c in candidates]
        if not best.mask.any():
            found["message"] = "Nothing was found there; click in the middle of the thing, or draw a box."
        row = (frame, pack(best.mask), float(best.mask.mean()), float(best.score), "found")
        self._store.put_masks(project, "preview", number, [row])
        return found

    def _segmenter(self, project: str):
        if self._open is None or self._open[0] != project:
            if self._open is not None:
                self._open[1].close()
                self._open = None
            source = open_video(video_path(self._store, self._store.project(project)))
            self._open = (project, source, choose_segmenter("auto")[0].kind(source))
        return self._open[1:]


def _changed(old: dict | None, new: dict) -> set[int]:
    """Frames whose prompts differ between two states of an object."""

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
