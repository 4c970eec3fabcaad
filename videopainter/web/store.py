"""Projects on disk: one SQLite file for what changes, one folder a project for what is large.

    WORKSPACE/videopainter.db
    WORKSPACE/projects/ID/video.mp4          the upload; a video named on the command line stays where it is
    WORKSPACE/projects/ID/proxy.mp4          a small copy for smooth playing
    WORKSPACE/projects/ID/results/JOB/       what an inpainting wrote: result.mp4, run.json, ...

Every change is one transaction, and a folder appears under its name when it is complete, so that a process killed at
any moment loses nothing that was told as done. Server and worker use the same file; SQLite's locks keep them apart.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

SCHEMA = """
CREATE TABLE IF NOT EXISTS projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL, created REAL NOT NULL, facts TEXT NOT NULL,
    settings TEXT NOT NULL DEFAULT '{}', cursor INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS edits (
    project TEXT NOT NULL, number INTEGER NOT NULL, objects TEXT NOT NULL, highest INTEGER NOT NULL,
    settings TEXT, mark TEXT, PRIMARY KEY (project, number));
CREATE TABLE IF NOT EXISTS tracked (
    project TEXT NOT NULL, object INTEGER NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (project, object));
CREATE TABLE IF NOT EXISTS masks (
    project TEXT NOT NULL, layer TEXT NOT NULL, object INTEGER NOT NULL, frame INTEGER NOT NULL, data BLOB NOT NULL,
    area REAL NOT NULL, confidence REAL NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (project, layer, object, frame));
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, project TEXT NOT NULL, kind TEXT NOT NULL, settings TEXT NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, stage TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '', cancel INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, worker INTEGER, facts TEXT NOT NULL DEFAULT '{}');
"""
ID = re.compile(r"[0-9a-f]{16}\Z")
OPEN_STATES = ("queued", "running")
MOST_EDITS = 500  # steps that undo goes back
MOST_NUMBER = 255  # of an object, as the library counts them
# Layers of masks: "track"; "preview", which covers the tracked mask of its frame until tracking replaces it; "effects",
# the shadow of all objects, under the number SHADOW.
SHADOW = 0


class NotThere(KeyError):
    """A project, job or result that is not there; the message names it."""

    def __str__(self) -> str:
        return str(self.args[0])


class Outdated(ValueError):
    """An edit of a state of the objects that is not the latest any more."""


class Store:
    """Projects, their edits, masks and jobs. Threads may share one; each gets a connection of its own."""

    def __init__(self, workspace: str | os.PathLike):
        self.workspace = Path(workspace).resolve()
        (self.workspace / "projects").mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        with self._write() as db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            # Workspaces of before undo took back settings.
            there = {row["name"] for row in db.execute("PRAGMA table_info(edits)")}
            for column in ("settings", "mark"):
                if column not in there:
                    db.execute(f"ALTER TABLE edits ADD COLUMN {column} TEXT")

    def hold(self) -> BinaryIO:
        """Keep other servers out of the workspace until the file that is returned is closed, or the process ends.

        Raises ValueError if another one is at work there.
        """
        file = open(self.workspace / "server.lock", "ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such locks on Windows
            pass
        except OSError:
            file.close()
            raise ValueError(
                f"Another server is at work in '{self.workspace}'; give this one its own."
            ) from None
        return file

    # --- projects -------------------------------------------------------------------------------------------

    def folder(self, project: str) -> Path:
        """The project's folder. Raises NotThere for anything but an id, so that no path gets in."""
        return self.workspace / "projects" / _checked(project, "project")

    def add_project(self, name: str, path: str | os.PathLike, facts: dict, project: str | None = None) -> str:
        """Its id. `facts`: what does not change about the video, as JSON."""
        project = project or new_id()
        self.folder(project).mkdir(parents=True, exist_ok=True)
        with self._write() as db:
            db.execute(
                "INSERT INTO projects (id, name, path, created, facts) VALUES (?, ?, ?, ?, ?)",
                (project, name, os.fspath(path), time.time(), json.dumps(facts)),
            )
            db.execute("INSERT INTO edits VALUES (?, 0, '[]', 0, '{}', ?)", (project, secrets.token_hex(4)))
        return project

    def projects(self) -> list[dict]:
        """The newest first."""
        return [_project(row) for row in self._read("SELECT * FROM projects ORDER BY created DESC, id")]

    def project(self, project: str) -> dict:
        rows = self._read("SELECT * FROM projects WHERE id = ?", (_checked(project, "project"),))
        if not rows:
            raise NotThere(f"There is no project '{project}'.")
        return _project(rows[0])

    def rename(self, project: str, name: str) -> None:
        self._change(project, "UPDATE projects SET name = ? WHERE id = ?", (name, project))

    def remove_project(self, project: str) -> None:
        """With all that is in the workspace of it; a video outside the workspace stays."""
        folder = self.folder(project)
        with self._write() as db:
            for table in ("edits", "masks", "tracked", "jobs"):
                db.execute(f"DELETE FROM {table} WHERE project = ?", (project,))
            db.execute("DELETE FROM projects WHERE id = ?", (project,))
        shutil.rmtree(folder, ignore_errors=True)

    # --- edits: the objects, their prompts and the settings, with undo --------------------------------------------

    def objects(self, project: str) -> list[dict]:
        """The objects as they are now; each `{"id", "name", "colour", "hidden", "prompts"}`."""
        return json.loads(self._edit(project)["objects"])

    def next_object(self, project: str) -> int | None:
        """A number for a new object: one that undo cannot bring back as another; None if all 255 are taken."""
        now = self._edit(project)
        if now["highest"] < MOST_NUMBER:
            return now["highest"] + 1
        taken = {one["id"] for one in json.loads(now["objects"])}
        return next((i for i in range(1, MOST_NUMBER + 1) if i not in taken), None)

    def mark(self, project: str) -> str:
        """Names the present state of the objects; see `edit`."""
        return self._edit(project)["mark"] or ""

    def edit(self, project: str, objects: list[dict], after: str | None = None) -> None:
        """A new state of the objects; what had been undone is forgotten.

        after: the `mark` of the state that it was made from. Raises Outdated if that is not the present one.
        """
        self._append(project, objects, None, after)

    def set_settings(self, project: str, settings: dict) -> None:
        """In and out points, margin and the like; what is not among them stays."""
        changed = {**self.project(project)["settings"], **settings}
        if changed != self.project(project)["settings"]:
            self._append(project, None, changed, None)

    def _append(
        self, project: str, objects: list[dict] | None, settings: dict | None, after: str | None
    ) -> None:
        with self._write() as db:
            now = self._edit(project)
            if after is not None and after != (now["mark"] or ""):
                raise Outdated("The objects were changed by somebody else meanwhile; look at them again.")
            old = db.execute("SELECT settings FROM projects WHERE id = ?", (project,)).fetchone()["settings"]
            if now["settings"] is None:  # an edit of an older workspace
                db.execute(
                    "UPDATE edits SET settings = ? WHERE project = ? AND number = ?",
                    (old, project, now["number"]),
                )
            numbers = [one["id"] for one in objects or ()]
            row = (
                project,
                now["number"] + 1,
                now["objects"] if objects is None else json.dumps(objects),
                max([now["highest"], *numbers]),
                old if settings is None else json.dumps(settings),
                now["mark"] if objects is None else secrets.token_hex(4),
            )
            db.execute("DELETE FROM edits WHERE project = ? AND number >= ?", row[:2])
            db.execute("INSERT INTO edits VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM edits WHERE project = ? AND number < ?", (project, row[1] - MOST_EDITS))
            db.execute(
                "UPDATE projects SET cursor = ?, settings = ?, version = version + 1 WHERE id = ?",
                (row[1], row[4], project),
            )

    def undo(self, project: str) -> bool:
        """Whether there was anything to undo."""
        return self._step(project, -1)

    def redo(self, project: str) -> bool:
        return self._step(project, +1)

    def history(self, project: str) -> tuple[bool, bool]:
        """(whether something can be undone, whether something can be redone)."""
        rows = self._read("SELECT number FROM edits WHERE project = ?", (_checked(project, "project"),))
        numbers, cursor = {row["number"] for row in rows}, self.project(project)["cursor"]
        return cursor - 1 in numbers, cursor + 1 in numbers

    def _edit(self, project: str) -> sqlite3.Row:
        rows = self._read(
            "SELECT edits.* FROM edits JOIN projects ON id = project AND number = cursor WHERE id = ?",
            (_checked(project, "project"),),
        )
        if not rows:
            raise NotThere(f"There is no project '{project}'.")
        return rows[0]

    def _step(self, project: str, by: int) -> bool:
        cursor = self.project(project)["cursor"] + by
        with self._write() as db:
            rows = db.execute(
                "SELECT settings FROM edits WHERE project = ? AND number = ?", (project, cursor)
            ).fetchall()
            if not rows:
                return False
            db.execute(
                "UPDATE projects SET cursor = ?, settings = ifnull(?, settings), version = version + 1 WHERE id = ?",
                (cursor, rows[0]["settings"], project),
            )
        return True

    # --- masks --------------------------------------------------------------------------------------------------

    def put_masks(self, project: str, layer: str, object_id: int, rows: Sequence[tuple]) -> None:
        """`rows`: (frame, packed mask, area 0 to 1, confidence 0 to 1, state)."""
        with self._write() as db:
            if not db.execute("SELECT 1 FROM projects WHERE id = ?", (project,)).fetchall():
                raise NotThere(f"There is no project '{project}'.")  # deleted while it was worked on
            db.executemany(
                "INSERT OR REPLACE INTO masks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(project, layer, object_id, *row) for row in rows],
            )
            db.execute("UPDATE projects SET version = version + 1 WHERE id = ?", (project,))

    def drop_masks(
        self,
        project: str,
        layer: str | None = None,
        object_id: int | None = None,
        frames: range | None = None,
    ) -> None:
        where: list[str] = ["project = ?"]
        values: list[str | int] = [project]
        for column, value in (("layer", layer), ("object", object_id)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if frames is not None:
            where.append("frame BETWEEN ? AND ?")
            values += [frames.start, frames.stop - 1]
        self._change(project, f"DELETE FROM masks WHERE {' AND '.join(where)}", values)

    def set_tracked(self, project: str, object_id: int, prompts: list[dict], extent: str | None) -> None:
        """Note with which prompts the object's masks were tracked."""
        facts = json.dumps({"prompts": prompts, "extent": extent})
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO tracked VALUES (?, ?, ?)", (project, object_id, facts))

    def tracked(self, project: str, object_id: int) -> dict | None:
        """`{"prompts", "extent"}` of when it was tracked last; None: never, or its masks came from a file."""
        rows = self._read("SELECT facts FROM tracked WHERE project = ? AND object = ?", (project, object_id))
        return json.loads(rows[0]["facts"]) if rows else None

    def forget_object(self, project: str, object_id: int) -> None:
        """All masks of a number that is given to another object."""
        self.drop_masks(project, None, object_id)
        self._change(project, "DELETE FROM tracked WHERE project = ? AND object = ?", (project, object_id))

    def masks_at(self, project: str, frame: int, layer: str | None = None) -> dict[int, bytes]:
        """Packed masks of a frame by object, the previews over what was tracked; or those of one layer."""
        rows = self._read(
            "SELECT object, data FROM masks WHERE project = ? AND frame = ? AND layer = ifnull(?, layer) "
            "ORDER BY layer DESC",  # "track" before "preview", which then covers it
            (_checked(project, "project"), frame, layer),
        )
        return {row["object"]: row["data"] for row in rows}

    def masks_of(self, project: str, object_id: int, layer: str | None = None) -> dict[int, bytes]:
        """Packed masks of an object by frame, the previews over what was tracked; or those of one layer."""
        rows = self._read(
            "SELECT frame, data FROM masks WHERE project = ? AND object = ? AND layer = ifnull(?, layer) "
            "ORDER BY layer DESC",
            (_checked(project, "project"), object_id, layer),
        )
        return {row["frame"]: row["data"] for row in rows}

    def timeline(self, project: str) -> dict[int, dict[int, dict]]:
        """object -> frame -> {"area", "confidence", "state", "layer"}."""
        found: dict[int, dict[int, dict]] = {}
        for row in self._read(
            "SELECT object, frame, area, confidence, state, layer FROM masks WHERE project = ? ORDER BY layer DESC",
            (_checked(project, "project"),),
        ):
            found.setdefault(row["object"], {})[row["frame"]] = {
                key: row[key] for key in ("area", "confidence", "state", "layer")
            }
        return found

    # --- jobs ---------------------------------------------------------------------------------------------------

    def add_job(self, project: str, kind: str, settings: dict) -> str:
        self.project(project)
        job = new_id()
        self._change(
            project,
            "INSERT INTO jobs (id, project, kind, settings, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
            (job, project, kind, json.dumps(settings), time.time()),
        )
        return job

    def jobs(self, project: str | None = None) -> list[dict]:
        """The oldest first."""
        where, values = ("WHERE project = ?", (_checked(project, "project"),)) if project else ("", ())
        return [_job(row) for row in self._read(f"SELECT * FROM jobs {where} ORDER BY created, id", values)]

    def job(self, job: str) -> dict:
        rows = self._read("SELECT * FROM jobs WHERE id = ?", (_checked(job, "job"),))
        if not rows:
            raise NotThere(f"There is no job '{job}'.")
        return _job(rows[0])

    def waiting(self, kinds: Sequence[str]) -> bool:
        """Whether a job of these kinds is queued."""
        return bool(
            self._read(f"SELECT 1 FROM jobs WHERE state = 'queued' AND {_among(kinds)} LIMIT 1", kinds)
        )

    def claim(self, worker: int, kinds: Sequence[str]) -> dict | None:
        """The next queued job of these kinds, now running for the process `worker`."""
        with self._write() as db:
            rows = db.execute(
                f"SELECT id FROM jobs WHERE state = 'queued' AND {_among(kinds)} ORDER BY created, id LIMIT 1",
                kinds,
            ).fetchall()
            if not rows:
                return None
            db.execute(
                "UPDATE jobs SET state = 'running', started = ?, worker = ?, attempts = attempts + 1, cancel = 0, "
                "done = 0, total = 0, stage = '', message = '' WHERE id = ?",
                (time.time(), worker, rows[0]["id"]),
            )
        return self.job(rows[0]["id"])

    def report(self, job: str, stage: str, done: int, total: int) -> bool:
        """Note how far it is; returns whether it should go on."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET stage = ?, done = ?, total = ? WHERE id = ?", (stage, done, total, job)
            )
            rows = db.execute("SELECT cancel, state FROM jobs WHERE id = ?", (job,)).fetchall()
        return bool(rows) and rows[0]["state"] == "running" and not rows[0]["cancel"]

    def cancelled(self, job: str) -> bool:
        rows = self._read("SELECT cancel, state FROM jobs WHERE id = ?", (job,))
        return not rows or bool(rows[0]["cancel"]) or rows[0]["state"] != "running"

    def end(self, job: str, state: str, message: str = "", facts: dict | None = None) -> None:
        """`state`: done, failed or cancelled. A job that has ended already stays as it is."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, message = ?, ended = ?, facts = ? WHERE id = ? AND state IN (?, ?)",
                (state, message, time.time(), json.dumps(facts or {}), job, *OPEN_STATES),
            )

    def ask_cancel(self, job: str) -> None:
        """A queued job ends at once; of a running one it is asked."""
        self.job(job)
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ? AND state = 'queued'",
                (time.time(), job),
            )
            db.execute("UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", (job,))

    def requeue(self, worker: int | None = None, most_attempts: int = 3, again: bool = False) -> list[str]:
        """Jobs that a worker (None: any) left running wait again, or fail once they were tried `most_attempts` times.

        again: it was ended on purpose, and that was no try.
        """
        with self._write() as db:
            rows = db.execute(
                "SELECT id, attempts, cancel FROM jobs WHERE state = 'running' AND (? IS NULL OR worker = ?)",
                (worker, worker),
            ).fetchall()
            for row in rows:
                if row["cancel"]:
                    state, message = "cancelled", ""
                elif row["attempts"] >= most_attempts and not again:
                    state, message = (
                        "failed",
                        "The work ended by itself several times; perhaps memory ran out.",
                    )
                else:
                    state, message = "queued", "It was interrupted and begins again."
                db.execute(
                    "UPDATE jobs SET state = ?, message = ?, attempts = attempts - ? WHERE id = ?",
                    (state, message, int(again), row["id"]),
                )
        return [row["id"] for row in rows]

    def remove_job(self, job: str) -> None:
        """A job that has ended, and its results."""
        found = self.job(job)
        if found["state"] in OPEN_STATES:
            raise ValueError("A job that is at work can only be cancelled.")
        self._change(found["project"], "DELETE FROM jobs WHERE id = ?", (job,))
        shutil.rmtree(self.result_folder(found), ignore_errors=True)

    def result_folder(self, job: dict) -> Path:
        return self.folder(job["project"]) / "results" / job["id"]

    def part_folder(self, job: dict) -> Path:
        """Where a result is made, until it is complete."""
        return self.result_folder(job).with_name(f".{job['id']}.part")

    # --- SQLite -------------------------------------------------------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        db = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self.workspace / "videopainter.db", timeout=30, isolation_level=None)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # what was told as done outlives a loss of power
            self._local.db = db
        return db

    def _read(self, query: str, values: Sequence = ()) -> list[sqlite3.Row]:
        return self._db.execute(query, values).fetchall()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _change(self, project: str, query: str, values: Sequence) -> None:
        with self._write() as db:
            db.execute(query, values)
            db.execute("UPDATE projects SET version = version + 1 WHERE id = ?", (project,))


def _among(kinds: Sequence[str]) -> str:
    return f"kind IN ({', '.join('?' * len(kinds))})"


def span(project: dict) -> range:
    """The frames from the in to the out point."""
    count, settings = project["facts"]["frames"], project["settings"]
    first = min(max(settings.get("in") or 0, 0), count - 1)
    last = settings.get("out")
    return range(first, count if last is None else min(max(last, first), count - 1) + 1)


def new_id() -> str:
    return secrets.token_hex(8)


def _checked(name: str, what: str) -> str:
    if not isinstance(name, str) or not ID.match(name):
        raise NotThere(f"There is no such {what}.")
    return name


def _project(row: sqlite3.Row) -> dict:
    return {**dict(row), "facts": json.loads(row["facts"]), "settings": json.loads(row["settings"])}


def _job(row: sqlite3.Row) -> dict:
    return {**dict(row), "settings": json.loads(row["settings"]), "facts": json.loads(row["facts"])}
