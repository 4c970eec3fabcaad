"""A row done: by the engine, which is made for the first that needs it, under a lease, and noted whatever comes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from videopainter.batch.clips import excerpt, given_masks, truth_of
from videopainter.batch.film import OVERLAP, Elsewhere, FilmEngine, check_splittable, parts_left
from videopainter.batch.leases import ATTEMPTS
from videopainter.batch.measure import compare, load_lpips
from videopainter.batch.records import RECORD, Records, disk_is_full, file_size
from videopainter.batch.rows import BadRow, Row
from videopainter.cli import errors
from videopainter.edit import DILATE_SIZE, EditPrompts, engine_options
from videopainter.inpaint import inpaint_video
from videopainter.utils.default import DEFAULT
from videopainter.video import open_video

DEADLY = "{} processes ended while they were at it, one after the other; perhaps it takes more memory than there is."
PAUSE = 1.0  # seconds between two looks at what others are at
TIMED_OUT = 124  # the exit status of a process that a row took too long, as `timeout` has it


class Batch:
    """The settings of a run, and its engine, which is made for the first row that needs it and then kept.

    args: those of the command. info: the engine's spec, made with `options`. records: of the output folder.
    """

    def __init__(self, args: argparse.Namespace, info, options: dict, records: Records):
        self.args, self.info, self.options, self.records = args, info, options, records
        self._painter: Any = None
        self._lpips = None
        self._told: set[str] | None = None
        self._folders: dict[Path, Path] = {}

    def work(self, rows: list, wait: bool = True, told: set[str] | None = None) -> None:
        """Do those of the rows that nobody else does, until all are settled.

        Rows that others are at, or have died at, come last: a row that kills whoever tries it keeps nobody from the
        rest. `wait`: for what others are at, to do it if they die; without, return when nothing is left to begin.
        `told`: names of the rows of which this process says that they were done before; None: all.
        """
        self._told = told
        waiting = [row for row in rows if not self._settle(row, first=True)]
        said = False
        while waiting:
            before, waiting = waiting, [row for row in waiting if not self._settle(row)]
            if not wait or not waiting:
                return
            if not said and self._told is None:
                said = True
                print(f"Others are at {len(waiting)} rows; this process waits to take over.", flush=True)
            if len(waiting) == len(before):
                time.sleep(PAUSE)

    def settled(self, row: Row | BadRow) -> bool:
        """Whether a row needs nobody any more in this run."""
        return self.records.settled(row.name, self.keys(row))

    def _settle(self, row: Row | BadRow, first: bool = False) -> bool:
        """Do a row if nobody has and nobody does; whether it is settled. `first`: nor has anybody tried."""
        keys, records, name = self.keys(row), self.records, row.name
        if records.settled(name, keys):
            if not records.fresh(f"{name}/{RECORD}"):
                if (self._told is None or name in self._told) and records.done(name, keys):
                    print(f"{name}: done before", flush=True)
            elif self._told is None:
                print(f"{name}: done by another process", flush=True)
            return True
        if not records.leases.free(name, untouched=first):
            return False
        if self.args.split is not None and not isinstance(row, BadRow):
            return self._share(row)
        if not isinstance(row, BadRow):
            self.painter(
                row
            )  # before the row is ours, as that may take long, and may be what kills this process
        lease = records.leases.claim(name)
        if lease is None:
            return False
        try:
            if not records.settled(name, keys):
                self._do(row, lease.deaths)
            return True
        finally:
            records.leases.give_back(lease)

    def _share(self, row: Row) -> bool:
        """Do what nobody else does of a row in pieces; whether it is settled now."""
        painter, key, records = self.painter(row), self.keys(row)[0], self.records
        folder = records.pieces(row.name, key)
        if not any(records.leases.free(self._part_name(row, part)) for part in parts_left(folder)):
            return False
        try:
            with self._noting(row):
                film = FilmEngine(
                    painter, folder, self._piece_length(row), lambda part: self._part(row, part)
                )
                with self._in_time(row):
                    self._finish(row, film)
                shutil.rmtree(folder, ignore_errors=True)
        except Elsewhere:
            pass
        return self.settled(row)

    @contextmanager
    def _part(self, row: Row, part: str) -> Iterator[bool]:
        """A lease on a part of a row, or on the whole for ""; whether it could be had, and is still of use."""
        leases = self.records.leases
        lease = leases.claim(self._part_name(row, part))
        try:
            if lease is not None and lease.deaths >= ATTEMPTS:
                raise ValueError(DEADLY.format(lease.deaths))
            yield lease is not None and not self.settled(row)
        finally:
            if lease is not None:
                leases.give_back(lease)

    def _part_name(self, row: Row, part: str) -> str:
        return f"{row.name}~{part}" if part else row.name

    def _piece_length(self, row: Row) -> int:
        """Frames of a piece, at the rate at which the engine works."""
        args, rate = self.args, self.info.target_fps
        if args.down_sample_fps is not None:
            rate = args.down_sample_fps or None
        with open_video(row.video, fps=row.fps if row.video.is_dir() else None) as video:
            own = float(row.fps or video.fps)
        return max(2 * OVERLAP, round(args.split * (min(own, rate) if rate else own)))

    def _do(self, row: Row | BadRow, deaths: int) -> None:
        """Do a row; note it if it cannot be done."""
        with self._noting(row):
            if isinstance(row, BadRow):
                raise ValueError(row.error)
            if deaths >= ATTEMPTS:
                raise ValueError(DEADLY.format(deaths))
            with self._in_time(row):
                self._finish(row, self.painter(row))

    def _finish(self, row: Row, painter) -> None:
        """Do a row with an engine, and make what has come of it its results."""
        begun = time.perf_counter()
        with self.records.begin(row.name) as place:
            found = self._paint(row, painter, place)
            found["seconds"] = round(time.perf_counter() - begun, 2)
            self.records.finish(row.name, self.keys(row)[0], place, found)
        print(f"{row.name}: {found['frames']} frames in {found['seconds']:.1f} s", flush=True)

    @contextmanager
    def _noting(self, row: Row | BadRow) -> Iterator[None]:
        """Whatever is wrong with a row is noted, and does not stop the others."""
        try:
            yield
        except Elsewhere:
            raise
        except Exception as error:
            if disk_is_full(error):
                raise ValueError(
                    f"Nothing more can be written to '{self.records.folder}', whose disk is full or not to be written "
                    "to; the same command goes on from here."
                ) from error
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            self.fail(row, errors.in_flags(errors.sentence(error), vars(self.args)))

    def fail(self, row: Row | BadRow, said: str) -> None:
        """Note why a row cannot be done, and say so."""
        self.records.fail(row.name, self.keys(row)[0], {"row": row.number, "error": said})
        errors.say(f"{row.name}: failed: {said}")

    @contextmanager
    def _in_time(self, row: Row) -> Iterator[None]:
        """Where a row has a limit of time, the end of this process when it is over: whatever the row hangs in."""
        limit = getattr(self.args, "row_timeout", None)
        if limit is None:
            yield
            return

        def end() -> None:
            self.fail(row, f"It took longer than {limit:g} seconds.")
            sys.stdout.flush()
            os._exit(TIMED_OUT)

        timer = threading.Timer(limit, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def record(self, row: Row | BadRow) -> dict:
        """What became of a row."""
        keys, name = self.keys(row), row.name
        nothing = {"name": name, "row": row.number, "status": "failed", "error": "It was not reached."}
        return self.records.done(name, keys) or self.records.failure(name, keys) or nothing

    def keys(self, row: Row | BadRow) -> tuple[str, ...]:
        """Change whenever the result would: with the row, the settings, or the size of a file.

        The first is the same from wherever the command is given; the others are those that results may have been
        recorded under before.
        """
        a = self.args
        places = {n: p for n in ("video", "mask", "truth") if (p := getattr(row, n, None)) is not None}
        sizes = [file_size(path) for path in places.values()]
        settings = (
            self.info.name,
            self.options,
            a.prompt,
            a.dilate_size,
            a.down_sample_fps,
            a.max_seconds,
            a.seed,
            a.codec,
            a.quality,
            # Only where it is asked for, so that older results stay what they are.
            *(("invert_mask",) if a.invert_mask else ()),
            *((row.thing,) if isinstance(row, Row) and row.thing else ()),
        )
        resolved: dict[str, Any] = {name: self._resolved(path) for name, path in places.items()}
        whole = replace(row, **resolved)
        texts = dict.fromkeys((str(whole), str(row)))
        return tuple(
            hashlib.sha256(json.dumps([text, sizes, settings]).encode()).hexdigest()[:16] for text in texts
        )

    def _resolved(self, path: Path) -> Path:
        """A path with its folder resolved once, and not what lies in it, which may be a link."""
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = folder.resolve()
        return self._folders[folder] / path.name

    def painter(self, row: Row):
        """The engine, loaded once in the life of this process, for the first row that needs it."""
        if self._painter is None:
            # Of an edit nothing else may fill the first frame: it would take the thing away.
            edit = engine_options(self.info.name, EditPrompts("", "")) if row.thing else {}
            try:
                self._painter = self.info.load(**{**edit, **self.options})
            except (ValueError, OSError) as error:  # no row could be done
                raise ValueError(errors.sentence(error)) from error
            if self.args.split is not None and (lost := check_splittable(self._painter)):
                print(lost, flush=True)
            self._lpips = load_lpips()
        if hasattr(getattr(self._painter, "options", None), "first_frame_prompt"):
            shown = self.options.get("first_frame_prompt") or row.thing
            self._painter.options = replace(self._painter.options, first_frame_prompt=shown)
        return self._painter

    def _paint(self, row, painter, place: Path) -> dict:
        """Paint a row into `place`; what there is to say about it."""
        args, prompt = self.args, self.args.prompt or row.prompt
        dilate = DILATE_SIZE if row.thing and args.dilate_size is None else args.dilate_size
        if self.info.needs_prompt and not prompt:
            raise ValueError(f"The engine '{self.info.name}' needs a prompt, and the row has none.")
        rate = DEFAULT if args.down_sample_fps is None else args.down_sample_fps or None  # 0: all
        with open_video(row.video, fps=row.fps if row.video.is_dir() else None) as video:
            masks, source = given_masks(row, video, excerpt(row, video))
            result = inpaint_video(
                source,
                masks,
                mask_id=row.mask_id if isinstance(masks, Path) else None,
                prompt=prompt if self.info.takes_prompt else None,
                engine=painter,
                invert_mask=args.invert_mask,
                output_dir=place,
                dilate_size=dilate,
                seed=args.seed,
                target_fps=rate,
                max_seconds=args.max_seconds,
                codec=args.codec,
                quality=args.quality,
            )
            found = {
                "row": row.number,
                "engine": self.info.name,
                "prompt": prompt,
                "frames": len(result.masks),
            }
            if row.truth is not None:
                file = next(path for path in result.files if path.stem == "result")
                with open_video(file) as written, truth_of(row, video, result) as truth:
                    found["measured"] = compare(written, truth, result.holes, self._lpips)
        return found
