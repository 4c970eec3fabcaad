"""The long work, in a process of its own: tracking, inpainting, and small copies for playing.

    python -m videopainter.web.worker WORKSPACE KIND,KIND...

It takes one queued job of these kinds after another and keeps an engine's weights between them. Copies for playing are
made by a second process, which has time for it, and ends when there are none to make. A line on its standard input
says that there may be work, or that what has time is to rest; the end of its input, that the server is gone, and then
it goes too. What it had begun is queued again when the server starts.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from videopainter.web.memory import return_large_buffers
from videopainter.web.process import HOLD
from videopainter.web.store import SHADOW, NotThere, Store, span

DISK_FULL = "The disk is full; make room and try again."
IDLE_SECONDS = 1.0  # between looks at the queue, if nobody says that there is work
CANCEL_SECONDS = 0.2  # between looks whether a job is to end
MASKS_AT_ONCE = 8  # tracked frames that are written down together
WORK = ("track", "find", "inpaint", "export")
PROXY_QUALITY = 50
COPIES = ("proxy",)
PROXY_WIDTH = 640
COPY_BYTES = 2**20  # of frames that the reader for copies keeps; it only ever reads on
REST_SECONDS = 0.6  # that copies wait for somebody who clicks, or for thumbnails
MOST_FOUND = 12  # objects that a search makes; of more it makes one
PREVIEW_REACH = 12  # frames on each side that a preview of one frame may take its material from


class Worker:
    def __init__(self, store: Store):
        self.store = store
        self._engine: tuple[str, Any] | None = None
        self._rests_until = 0.0

    def rest(self) -> None:
        """Somebody waits for an answer of the server."""
        self._rests_until = time.monotonic() + REST_SECONDS

    def run(self, wake: threading.Event, kinds: Sequence[str], stay: bool = True) -> None:
        """Do the jobs of these kinds; for ever, or until none is left."""
        while True:
            job = self.store.claim(os.getpid(), kinds)
            if job is None and not stay:
                return
            if job is None:
                wake.wait(IDLE_SECONDS)
                wake.clear()
            else:
                self.do(job)

    def do(self, job: dict) -> None:
        """One claimed job, to its end whatever that is."""
        from videopainter.engines.base import Cancelled

        stop = threading.Event()
        watch = threading.Thread(target=self._watch, args=(job["id"], stop), daemon=True)
        watch.start()
        part = self.store.part_folder(job)
        shutil.rmtree(part, ignore_errors=True)
        kinds = {
            "track": self._track,
            "find": self._find,
            "inpaint": self._inpaint,
            "export": self._export,
            "proxy": self._proxy,
        }
        try:
            work = kinds[job["kind"]]
            facts = work(job, part, self._reporter(job["id"], stop), stop)
            self.store.end(job["id"], "done", facts=facts)
        except (Cancelled, NotThere):
            self.store.end(job["id"], "cancelled")
        except MemoryError:
            self.store.end(job["id"], "failed", "There was not enough memory for it.")
        except (ValueError, OSError) as error:
            self.store.end(job["id"], "failed", sentence(error))
        except Exception as error:  # a fault of ours: the job fails, the worker lives
            traceback.print_exc()
            self.store.end(job["id"], "failed", f"Something unexpected went wrong: {sentence(error)}")
        finally:
            stop.set()
            watch.join()
            shutil.rmtree(part, ignore_errors=True)

    # --- the kinds of work ----------------------------------------------------------------------------------

    def _track(self, job: dict, part: Path, progress: Callable, stop: threading.Event) -> dict:
        """Masks of the objects in every frame between the in and the out point, written down as they come."""
        from videopainter.masks import MaskTrack, unpack
        from videopainter.segmentation import choose_segmenter

        project = self.store.project(job["project"])
        frames = span(project)
        wanted = job["settings"].get("objects")
        objects = [
            one
            for one in self.store.objects(project["id"])
            if any(prompt["frame"] in frames for prompt in one["prompts"])
            and (wanted is None or one["id"] in wanted)
        ]
        count = 0
        with self._source(project, frames) as source:
            how = job["settings"].get("segmenter", "auto"), job["settings"].get("size", "auto")
            segmenter = choose_segmenter(*how)[0].open(source, how[1])
            for place, one in enumerate(objects):

                def told(stage: str, done: int, total: int, place=place) -> None:
                    progress("track", place * total + done, len(objects) * total)

                prompts = self._prompts(project["id"], one, frames, segmenter)
                for start in self._starts(project, one, frames):
                    known = None
                    if start is not None:
                        kept = self.store.masks_of(project["id"], one["id"], "track")
                        known = {one["id"]: MaskTrack.build(unpack(kept[i], source.size) for i in frames)}
                    count += self._follow(
                        project["id"], one["id"], frames, segmenter.track(prompts, told, start, known)
                    )
                self.store.set_tracked(project["id"], one["id"], one["prompts"], one["extent"])
                self.store.drop_masks(project["id"], "preview", one["id"], frames)
            shadow = self._find_shadow(project, frames, source, progress)
        return {"frames": count, "shadow": shadow}

    def _find(self, job: dict, part: Path, progress: Callable, stop: threading.Event) -> dict:
        """All that has a name, such as faces, as objects with masks."""
        from videopainter.masks import MaskError
        from videopainter.segmentation.finders import EVERY, Following, find
        from videopainter.web.exports import add_masks

        project, name = self.store.project(job["project"]), job["settings"]["find"]
        frames, told = span(project), job["settings"]
        how = Following(told.get("segmenter", "auto"), told.get("size", "auto"), told.get("every", EVERY))
        with self._source(project, frames) as source:
            found = find(
                source, name, lambda *step: progress("find", *step[1:]), job["settings"].get("area"), how
            )
        tracks = [track for track in found.objects.values() if track.any()]
        if not tracks:
            raise MaskError(f"No {name} were found.")
        if len(tracks) > MOST_FOUND:
            tracks = [found.masks]
        names = [name.capitalize(), *(f"{name.capitalize()} {k}" for k in range(2, len(tracks) + 1))]
        add_masks(self.store, project["id"], dict(zip(names, tracks)), frames.start)
        return {"objects": len(tracks)}

    def _find_shadow(self, project: dict, frames: range, source, progress: Callable) -> bool:
        """Whether the objects that are shown cast a shadow; its masks are written down, to be seen."""
        from videopainter.masks import pack
        from videopainter.steps.effects import find_effects
        from videopainter.web.masking import mask_track

        effects = project["settings"].get("effects") or "auto"
        self.store.drop_masks(project["id"], "effects")
        shown = [one["id"] for one in self.store.objects(project["id"]) if not one["hidden"]]
        masks = mask_track(self.store, project, shown, frames)
        if effects == "off" or not masks.any():
            return False
        found = find_effects(source, masks, effects, lambda *frames: progress("shadow", *frames))
        if found is None:
            return False
        rows = [(i, pack(mask), float(mask.mean()), 1.0, "found") for i, mask in zip(frames, found)]
        self.store.put_masks(project["id"], "effects", SHADOW, rows)
        return True

    def _prompts(self, project: str, one: dict, frames: range, segmenter) -> list:
        """The library's prompts of an object: the masks that were shown for what was pointed at, so that what is
        followed is what was seen."""
        from videopainter.masks import unpack
        from videopainter.segmentation.prompts import MaskPrompt, is_positive
        from videopainter.web.masking import changed_frames, read
        from videopainter.web.prompts import library_prompt

        found: list = []
        size, number = segmenter.source.size, one["id"]
        shown = self.store.masks_of(project, number, "preview")
        followed = self.store.masks_of(project, number, "track")
        changed = changed_frames(self.store.tracked(project, number), one)
        for frame in sorted({prompt["frame"] for prompt in one["prompts"]} & set(frames)):
            at = frame - frames.start
            own = [prompt for prompt in one["prompts"] if prompt["frame"] == frame]
            here = [library_prompt(prompt, size, number, at) for prompt in own]
            packed = shown.get(frame, followed.get(frame) if frame not in changed else None)
            if packed is not None:
                mask = unpack(packed, size)
            elif any(map(is_positive, here)):
                mask = read(segmenter, at, own, number, one["extent"])[0].mask
            else:
                mask = None
            found += here if mask is None or not mask.any() else [MaskPrompt(mask, at, "is", number)]
        return found

    def _starts(self, project: dict, one: dict, frames: range) -> list[int | None]:
        """From which frames the object is to be followed again, counted in `frames`; None: everything anew."""
        from videopainter.web.masking import changed_frames

        masks = self.store.masks_of(project["id"], one["id"], "track")
        if not all(i in masks for i in frames):
            return [None]
        before = self.store.tracked(project["id"], one["id"])
        now = {prompt["frame"] for prompt in one["prompts"]}
        changed = changed_frames(before, one) & set(frames)
        if changed - now:  # a correction was taken back, and what followed from it with it
            return [None]
        return [i - frames.start for i in sorted(changed)]

    def _follow(self, project: str, number: int, frames: range, steps) -> int:
        """Write down the masks of an object as they come; how many came."""
        from videopainter.masks import pack

        rows: list[tuple] = []
        count = 0
        for found in steps:
            mask = found.objects.get(number, found.mask)
            state = "found" if mask.any() else "out of sight"
            rows.append(
                (found.frame + frames.start, pack(mask), float(mask.mean()), float(found.confidence), state)
            )
            count += 1
            if len(rows) >= MASKS_AT_ONCE:
                self.store.put_masks(project, "track", number, rows)
                rows = []
        self.store.put_masks(project, "track", number, rows)
        return count

    def _inpaint(self, job: dict, part: Path, progress: Callable, stop: threading.Event) -> dict:
        """The objects gone from the frames that the job names, as files in the result's folder."""
        from videopainter.engines.base import Cancelled
        from videopainter.inpaint import inpaint_video
        from videopainter.web.masking import mask_track

        project, settings = self.store.project(job["project"]), job["settings"]
        frames = span(project)
        focus = settings.get("frame")
        if focus is not None:
            reach = range(
                max(0, focus - PREVIEW_REACH), min(project["facts"]["frames"], focus + PREVIEW_REACH + 1)
            )
            frames = range(max(frames.start, reach.start), min(frames.stop, reach.stop))
            if focus not in frames:
                raise ValueError("That frame lies outside the in and out points.")
        elif settings.get("seconds"):
            first = min(max(settings.get("first", frames.start), frames.start), frames.stop - 1)
            count = max(1, round(settings["seconds"] * project["facts"]["fps"]))
            frames = range(first, min(first + count, frames.stop))
        shown = [one["id"] for one in self.store.objects(project["id"]) if not one["hidden"]]
        masks = mask_track(self.store, project, shown, frames)
        if not masks.any():
            raise ValueError("Nothing is selected in these frames; click on what should go, and track it.")
        waits = [True]

        def told(stage: str, done: int, total: int) -> None:
            """Frames are written as they are inpainted; of the two only one is told."""
            if stage == "inpaint":
                waits[0] = done < total
            if stage != "write" or not waits[0]:
                return progress(stage, done, total)
            if stop.is_set():
                raise Cancelled

        engine = self._loaded(settings["engine"], settings.get("options", {}), settings.get("prompt"))
        with self._source(project, frames) as source:
            result = inpaint_video(
                source,
                masks=masks,
                output_dir=part,
                # What other frames show is seen on the page, where the engine tells it.
                export=list(
                    dict.fromkeys([*settings.get("export", ()), *["seen"] * engine.spec.tells_confidence])
                ),
                engine=engine,
                prompt=settings.get("prompt") or None,
                progress=told,
                cancel=stop,
                **{name: value for name, value in settings.get("spine", {}).items() if value is not None},
            )
        with open(part / "run.json", encoding="utf-8") as file:
            seen = json.load(file).get("seen")  # told by engines that fetch what other frames show
        final = self.store.result_folder(job)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, final)
        numbers = list(result.numbers)
        even = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return {
            "first": numbers[0],
            "count": len(numbers),
            "numbers": None if even else numbers,  # of the frames that it has, where some were left out
            "fps": float(result.fps),
            "result": next(path.name for path in final.iterdir() if path.stem == "result"),
            "focus": focus,
            "seen": seen and {"share": seen["share"], "lacking": sum(share < 1 for share in seen["frames"])},
            "engine": result.engine,
            "warnings": result.warnings,
            "seconds": result.seconds,
            "files": sorted(path.name for path in final.iterdir()),
        }

    def _export(self, job: dict, part: Path, progress: Callable, stop: threading.Event) -> dict:
        """A result in another container, codec or quality."""
        from videopainter.video import open_video
        from videopainter.web.exports import rewrite

        settings = job["settings"]
        origin = self.store.job(settings["result"])
        if origin["state"] != "done":
            raise NotThere("That result is no longer there.")
        part.mkdir(parents=True)
        with open_video(self.store.result_folder(origin) / origin["facts"]["result"]) as source:
            made = rewrite(
                source, part, settings["ending"], settings.get("codec"), settings.get("quality"), progress
            )
        final = self.store.result_folder(job)
        os.replace(part, final)
        return {"files": [made], "of": origin["id"]}

    def _proxy(self, job: dict, part: Path, progress: Callable, stop: threading.Event) -> dict:
        """A small copy of the whole video, for smooth playing."""
        from videopainter.video import VideoWriter
        from videopainter.web.frames import narrower

        project = self.store.project(job["project"])
        part.mkdir(parents=True)
        count = project["facts"]["frames"]
        with self._source(project, range(count), COPY_BYTES, 1) as source:
            height, width = narrower(source.size, min(PROXY_WIDTH, source.width))
            size = (max(2, height // 2 * 2), width // 2 * 2)
            times = source.times if source.variable_rate else None
            with VideoWriter(
                part / "proxy.mp4", source.fps, size, times=times, quality=PROXY_QUALITY
            ) as writer:
                for i in range(count):
                    while time.monotonic() < self._rests_until and not stop.is_set():
                        time.sleep(REST_SECONDS / 10)
                    writer.write(source.reduced(i, size))
                    progress("proxy", i + 1, count)
        os.replace(part / "proxy.mp4", self.store.folder(project["id"]) / "proxy.mp4")
        return {}

    # --- what they share ------------------------------------------------------------------------------------

    def _source(self, project: dict, frames: range, *memory: int):
        """`memory`: as in `VideoSource.limit_memory`."""
        from videopainter.video.subset import SubsetSource
        from videopainter.web.frames import opened
        from videopainter.web.masking import video_path

        source = opened(video_path(self.store, project), *memory)
        return source if len(frames) == len(source) else SubsetSource(source, frames)

    def _loaded(self, name: str, options: dict, prompt: str | None):
        """The engine, its weights kept from the job before where that asked for the same."""
        from videopainter.engine import choose_engine

        spec, _ = choose_engine(name, with_prompt=bool(prompt), **options)
        key = json.dumps([spec.name, options], sort_keys=True)
        if self._engine is None or self._engine[0] != key:
            if self._engine is not None:
                self._engine[1].close()
                self._engine = None
            self._engine = (key, spec.load(**options))
        return self._engine[1]

    def _reporter(self, job: str, stop: threading.Event) -> Callable[[str, int, int], None]:
        from videopainter.engines.base import Cancelled

        last = [""]

        def progress(stage: str, done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            now = f"{stage} {100 * done // max(total, 1)}"
            if now != last[0]:  # a hundred notes a stage are enough
                last[0] = now
                self.store.report(job, stage, done, total)

        return progress

    def _watch(self, job: str, stop: threading.Event) -> None:
        while not stop.wait(CANCEL_SECONDS):
            if self.store.cancelled(job):
                stop.set()


def sentence(error: BaseException) -> str:
    """What an error says, in one sentence without the paths of this machine."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return str(error) or type(error).__name__


def main(argv: list[str]) -> int:
    wake, worker = threading.Event(), Worker(Store(argv[0]))

    def listen() -> None:
        for line in sys.stdin.buffer:
            if line.strip() == HOLD:
                worker.rest()
            else:
                wake.set()
        os._exit(0)  # the server is gone

    threading.Thread(target=listen, daemon=True).start()
    kinds = argv[1].split(",")
    return_large_buffers()
    stay = kinds != list(COPIES)
    if not stay and hasattr(os, "nice"):
        os.nice(19)
    worker.run(wake, kinds, stay)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
