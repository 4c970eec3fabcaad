"""What listens: the REST interface, described by OpenAPI at /openapi.json, and the page that uses it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from videopainter.masks import unpack
from videopainter.steps.export import checked_exports
from videopainter.utils.atomic import whole_file
from videopainter.web import exports, masking
from videopainter.web.frames import Frames, encode, narrower, overlay
from videopainter.web.process import WorkerProcess
from videopainter.web.prompts import Objects, check, plain
from videopainter.web.requests import ExportRequest, JobRequest, Settings, receive
from videopainter.web.security import Guard
from videopainter.web.store import SHADOW, NotThere, Outdated, Store, new_id, span
from videopainter.web.worker import COPIES, DISK_FULL, WORK, sentence

STATIC = Path(__file__).parent / "static"
LARGEST_UPLOAD = 64 * 2**30  # bytes
LOOK_SECONDS = 0.2  # between looks for what has changed
SHADOW_COLOUR = "#ffd60a"
THUMBNAIL_WIDTH = 160
THUMBNAIL_BYTES = 8 * 2**20  # of them that are kept
POSTER_WIDTH = 320
REST_SECONDS = (
    0.4  # after which the thumbnails' decoder is let go of; sooner than copies go on, which have one, too
)
PROXY_FROM = 1280 * 720  # pixels; smaller videos play without a copy
Width = Annotated[int | None, Query(ge=16, le=8192, description="at most so many pixels wide")]


class Page(StaticFiles):
    """The page's files; a browser asks each time whether its copy is still good, so that an update is seen."""

    def file_response(self, *args, **kwargs) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def create_app(
    workspace: str | os.PathLike,
    hosts: set[str],
    token: str | None = None,
    largest_upload: int = LARGEST_UPLOAD,
) -> FastAPI:
    """The application. `hosts`, `token`: see `Guard`."""
    store = Store(workspace)
    held = store.hold()
    # Thumbnails have a decoder of their own, so that the frame that is looked at need not wait for them.
    frames, small = Frames(), Frames(1, THUMBNAIL_BYTES, THUMBNAIL_BYTES, REST_SECONDS, 1)
    previews, worker, copier = (
        masking.Previews(store, frames),
        WorkerProcess(store, WORK),
        WorkerProcess(store, COPIES),
    )
    editing = threading.Lock()  # one change of objects at a time, with its previews

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        exports.sweep(store)
        store.requeue()  # what was running when the last server ended
        worker.start()
        copier.start()
        yield
        await run_in_threadpool(worker.close)
        await run_in_threadpool(copier.close)
        previews.close()
        frames.close()
        small.close()
        held.close()

    # The usual page of the documentation comes from another site; ours is static/api.html.
    app = FastAPI(title="VideoPainter", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, hosts=hosts, token=token)
    app.state.store, app.state.worker = store, worker

    @app.exception_handler(NotThere)
    async def _not_there(request: Request, error: NotThere):
        return JSONResponse({"detail": str(error)}, 404)

    @app.exception_handler(Outdated)
    async def _outdated(request: Request, error: Outdated):
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(IndexError)
    async def _no_frame(request: Request, error: IndexError):
        return JSONResponse({"detail": str(error)}, 404)

    @app.exception_handler(ValueError)
    async def _refused(request: Request, error: ValueError):
        return JSONResponse({"detail": str(error).replace(f"{store.workspace}{os.sep}", "")}, 422)

    @app.exception_handler(OSError)
    async def _failed(request: Request, error: OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return JSONResponse({"detail": sentence(error)}, 507 if full else 500)

    @app.exception_handler(sqlite3.OperationalError)
    async def _no_database(request: Request, error: sqlite3.OperationalError):
        full = "full" in str(error)
        said = DISK_FULL if full else f"The workspace cannot be written: {error}."
        return JSONResponse({"detail": said}, 507 if full else 500)

    # --- projects -------------------------------------------------------------------------------------------

    def shown(project: str) -> dict:
        """A project as the page sees it; paths stay here."""
        found = store.project(project)
        undo, redo = store.history(project)
        return {
            "id": found["id"],
            "name": found["name"],
            "version": found["version"],
            "mark": store.mark(project),
            **found["facts"],
            "in": span(found).start,
            "out": span(found).stop - 1,
            "dilate_size": found["settings"].get("dilate_size"),
            "effects": found["settings"].get("effects") or "auto",
            "objects": store.objects(project),
            "next_object": store.next_object(project),
            "undo": undo,
            "redo": redo,
            "proxy": (store.folder(project) / "proxy.mp4").is_file(),
            "timeline": masking.timeline(store, found),
            "jobs": [shown_job(job) for job in store.jobs(project)],
        }

    def shown_job(job: dict) -> dict:
        hidden = {"worker", "cancel", "attempts"}
        return {key: value for key, value in job.items() if key not in hidden}

    def opened(name: str, path: Path, project: str | None = None) -> dict:
        facts = frames.facts(path)
        inside = path.is_relative_to(store.workspace)
        kept = path.relative_to(store.workspace) if inside else path
        for one in store.projects():
            # Opened before, and the same video still: its masks and results are there.
            if not inside and one["path"] == str(path) and one["facts"] == facts:
                return shown(one["id"])
        project = store.add_project(name, kept, facts, project)
        with whole_file(store.folder(project) / "poster.jpg") as file:
            file.write(frames.picture(path, 0, POSTER_WIDTH))
        return shown(project)

    app.state.open = opened

    @app.get("/api/projects")
    def list_projects() -> list[dict]:
        return [
            {"id": one["id"], "name": one["name"], "created": one["created"], **one["facts"], "times": None}
            for one in store.projects()
        ]

    @app.post("/api/projects", status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=200)] = "video") -> dict:
        """A new project; the body is the video file."""
        project = new_id()
        path = store.folder(project) / f"video{exports.suffix(name)}"
        await receive(request, path, largest_upload)
        try:
            return await run_in_threadpool(opened, Path(name).name, path, project)
        except ValueError as error:  # who sent it knows the file by its own name
            frames.forget(path)
            shutil.rmtree(path.parent, ignore_errors=True)
            raise ValueError(str(error).replace(str(path), name)) from None
        except BaseException:
            frames.forget(path)
            shutil.rmtree(path.parent, ignore_errors=True)
            raise

    @app.post("/api/projects/example", status_code=201)
    def open_example() -> dict:
        """The clip that comes with the package."""
        project = new_id()
        path = store.folder(project) / "video.mp4"
        path.parent.mkdir(parents=True)
        shutil.copyfile(exports.example(), path)
        return opened("example.mp4", path, project)

    @app.get("/api/projects/{project}")
    def read_project(project: str) -> dict:
        return shown(project)

    @app.patch("/api/projects/{project}")
    def change_project(project: str, settings: Settings) -> dict:
        store.project(project)
        given = settings.model_dump(exclude_unset=True, by_alias=True)
        if (name := given.pop("name", None)) is not None:
            store.rename(project, name)
        with editing:
            store.set_settings(project, given)
        return shown(project)

    @app.delete("/api/projects/{project}", status_code=204)
    def delete_project(project: str) -> None:
        found = store.project(project)
        for job in store.jobs(project):
            if job["state"] in ("queued", "running"):
                cancel_job(job["id"])
        for one in (frames, small):
            one.forget(masking.video_path(store, found))
        previews.close(project)
        store.remove_project(project)

    # --- frames and masks -----------------------------------------------------------------------------------

    def kept(data: bytes, kind: str, seconds: int = 0) -> Response:
        age = f"private, max-age={seconds}" if seconds else "no-store"
        return Response(data, media_type=f"image/{kind}", headers={"cache-control": age})

    @app.get("/api/projects/{project}/frames/{number}")
    def read_frame(
        project: str,
        number: int,
        width: Width = None,
        kind: Annotated[str, Query(pattern="^(jpeg|webp|png)$")] = "jpeg",
    ) -> Response:
        """A frame of the video by its number."""
        path = masking.video_path(store, store.project(project))
        return kept(frames.picture(path, number, width, kind), kind, 3600)

    @app.get("/api/projects/{project}/thumbnails/{number}")
    def read_thumbnail(project: str, number: int) -> Response:
        """A small picture of a frame, or of one close by that is quick to read."""
        copier.hold()
        path = masking.video_path(store, store.project(project))
        return kept(small.picture(path, number, THUMBNAIL_WIDTH, near=True), "jpeg", 3600)

    @app.get("/api/projects/{project}/poster")
    def read_poster(project: str) -> Response:
        """A small picture of the first frame."""
        path = store.folder(project) / "poster.jpg"
        if not path.is_file():  # a workspace of before there were posters
            return read_frame(project, 0, POSTER_WIDTH, "jpeg")
        return kept(path.read_bytes(), "jpeg", 3600)

    @app.post("/api/projects/{project}/frames/{number}/prepare", status_code=204)
    def prepare_frame(project: str, number: int) -> None:
        """Read ahead what a click on that frame will need, so that its mask comes at once."""
        if not 0 <= number < store.project(project)["facts"]["frames"]:
            raise IndexError(f"There is no frame {number}.")
        copier.hold()
        previews.prepare(project, number)

    @app.get("/api/projects/{project}/frames/{number}/masks")
    def read_masks(
        project: str, number: int, width: Width = None, margin: Annotated[float, Query(ge=0, le=500)] = 0
    ):
        """The masks of all visible objects in a frame, as a transparent PNG; `margin` pixels around them fainter."""
        found = store.project(project)
        full = (found["facts"]["height"], found["facts"]["width"])
        size = narrower(full, min(width or full[1], full[1]))
        colours = {one["id"]: one["colour"] for one in store.objects(project) if not one["hidden"]}
        if colours and found["settings"].get("effects") != "off":
            colours[SHADOW] = SHADOW_COLOUR
        packed = store.masks_at(project, number)
        masks = {one: unpack(packed[one], full) for one in colours if one in packed}
        return kept(encode(overlay(masks, colours, size, margin * size[1] / full[1]), "png"), "png")

    @app.put("/api/projects/{project}/objects")
    def put_objects(project: str, objects: Objects) -> dict:
        """All objects with all their prompts, as they are to be now. Masks of frames whose prompts changed are new."""
        copier.hold()
        after = plain(objects)
        facts = store.project(project)["facts"]
        check(after, facts["frames"], facts["width"], facts["height"])
        with editing:
            before = store.objects(project)
            if before == after:
                return {"found": [], **shown(project)}
            for new in {one["id"] for one in after} - {one["id"] for one in before}:
                store.forget_object(project, new)
            store.edit(project, after, objects.after)
            return updated(project, before, after)

    def updated(project: str, before: list[dict], after: list[dict]) -> dict:
        found = previews.update(project, before, after)
        if found or [(o["id"], o["hidden"]) for o in before] != [(o["id"], o["hidden"]) for o in after]:
            store.drop_masks(project, "effects")  # the shadow was that of other masks
        return {"found": found, **shown(project)}

    def stepped(project: str, step: Callable[[str], bool]) -> dict:
        copier.hold()
        with editing:
            before = store.objects(project)
            step(project)
            return updated(project, before, store.objects(project))

    @app.post("/api/projects/{project}/undo")
    def undo(project: str) -> dict:
        """The objects, their prompts and the settings as they were before the last change."""
        return stepped(project, store.undo)

    @app.post("/api/projects/{project}/redo")
    def redo(project: str) -> dict:
        return stepped(project, store.redo)

    @app.put("/api/projects/{project}/masks", status_code=201)
    async def upload_masks(
        project: str,
        request: Request,
        name: Annotated[str, Query(max_length=200)],
        mask_id: Annotated[int | None, Query(ge=0)] = None,
        invert: bool = False,
    ) -> dict:
        """A new object from a file of masks, in any format that the library reads; a folder of images as .zip."""
        found = store.project(project)
        path = store.folder(project) / "uploads" / f"{new_id()}{exports.suffix(name)}"
        await receive(request, path, largest_upload)
        try:
            await run_in_threadpool(exports.take_masks, store, found, path, Path(name).stem, mask_id, invert)
        finally:
            exports.remove(path)
        return await run_in_threadpool(shown, project)

    @app.get("/api/projects/{project}/masks/{name}")
    def download_masks(project: str, name: str) -> FileResponse:
        """Those of the visible objects: `masks.npz`, `masks.zip` (PNG), `labels.zip` (DAVIS palette), `masks.mp4`."""
        path = exports.give_masks(store, store.project(project), name)
        return FileResponse(path, filename=name)

    @app.post("/api/projects/{project}/proxy", status_code=201)
    def make_proxy(project: str) -> dict:
        """Have a small copy made for smooth playing, where the video is large and there is none; all of the project."""
        facts = store.project(project)["facts"]
        there = (store.folder(project) / "proxy.mp4").is_file() or any(
            job["kind"] == "proxy" and job["state"] in ("queued", "running") for job in store.jobs(project)
        )
        if facts["width"] * facts["height"] >= PROXY_FROM and not there:
            store.add_job(project, "proxy", {})
            copier.wake()
        return shown(project)

    @app.get("/api/projects/{project}/proxy.mp4")
    def read_proxy(project: str) -> FileResponse:
        path = store.folder(project) / "proxy.mp4"
        if not path.is_file():
            raise NotThere("There is no small copy of this video yet.")
        return FileResponse(path, media_type="video/mp4")

    # --- jobs and results -----------------------------------------------------------------------------------

    @app.get("/api/engines")
    def list_engines() -> list[dict]:
        """What each needs, why it cannot run here, and its options with their help."""
        return exports.engines()

    @app.get("/api/segmenters")
    def list_segmenters() -> list[dict]:
        """What can follow objects through a video, the best first."""
        return exports.segmenters()

    @app.get("/api/finders")
    def list_finders() -> list[dict]:
        """What can be selected by its name alone, and why it cannot here."""
        return exports.finders()

    @app.post("/api/projects/{project}/jobs", status_code=201)
    def add_job(project: str, request: JobRequest) -> dict:
        found = store.project(project)
        settings = request.model_dump(exclude_none=True, exclude={"kind"})
        if request.kind == "inpaint":
            exports.check_engine(request.engine, request.options, request.prompt)
            settings["spine"] = {"seed": request.seed, "dilate_size": found["settings"].get("dilate_size")}
            settings["spine"]["effects"] = found["settings"].get("effects") or "auto"
            checked_exports(request.export)
        else:
            exports.check_segmenter(request.segmenter, request.size)
            if request.kind == "find":
                exports.check_finder(request.find)
        job = store.add_job(project, request.kind, settings)
        worker.wake()
        return shown_job(store.job(job))

    @app.get("/api/endings")
    def list_endings() -> list[dict]:
        """As what results can be written, with the codecs of each."""
        return exports.endings()

    @app.post("/api/jobs/{job}/exports", status_code=201)
    def add_export(job: str, request: ExportRequest) -> dict:
        """A job that writes a result again, with another ending, codec or quality."""
        found = store.job(job)
        if found["kind"] != "inpaint" or found["state"] != "done":
            raise ValueError("Only a finished result can be written again.")
        settings = request.model_dump(exclude_none=True)
        exports.check_export(settings)
        new = store.add_job(found["project"], "export", {**settings, "result": job})
        worker.wake()
        return shown_job(store.job(new))

    @app.get("/api/jobs/{job}")
    def read_job(job: str) -> dict:
        return shown_job(store.job(job))

    @app.post("/api/jobs/{job}/cancel")
    def cancel_job(job: str) -> dict:
        (copier if store.job(job)["kind"] in COPIES else worker).cancel(job)
        return shown_job(store.job(job))

    @app.delete("/api/jobs/{job}", status_code=204)
    def delete_job(job: str) -> None:
        """A job that has ended, and its result."""
        found = store.job(job)
        for name in {found["facts"].get("result"), "seen.mp4"} & set(found["facts"].get("files", ())):
            frames.forget(store.result_folder(found) / name)
        store.remove_job(job)

    def result_file(job: str, name: str) -> Path:
        found = store.job(job)
        if found["state"] != "done" or name not in found["facts"].get("files", ()):
            raise NotThere(f"There is no file '{name}' of this job.")
        return store.result_folder(found) / name

    @app.get("/api/jobs/{job}/frames/{number}")
    def read_result_frame(
        job: str,
        number: int,
        width: Width = None,
        of: Annotated[
            str, Query(pattern="^(result|seen)$", description="seen: the hole, red where nothing shows it")
        ] = "result",
    ) -> Response:
        """A frame of the result, counted from the result's first."""
        name = "seen.mp4" if of == "seen" else store.job(job)["facts"].get("result", "result.mp4")
        return kept(frames.picture(result_file(job, name), number, width), "jpeg", 3600)

    @app.get("/api/jobs/{job}/files/{name}")
    def read_result_file(job: str, name: str) -> FileResponse:
        return FileResponse(result_file(job, name), filename=name)

    @app.get("/api/projects/{project}/events")
    async def events(project: str, request: Request) -> StreamingResponse:
        """Server-sent events: `project`, the whole state, at the start and whenever it has changed; `jobs`."""
        await run_in_threadpool(store.project, project)

        async def changes() -> AsyncIterator[str]:
            version, jobs = None, None
            while not await request.is_disconnected():
                try:
                    now = await run_in_threadpool(store.project, project)
                except NotThere:
                    yield "event: gone\ndata: {}\n\n"
                    return
                if now["version"] != version:
                    version = now["version"]
                    state = await run_in_threadpool(shown, project)
                    state.pop("times")  # they never change
                    jobs = state["jobs"]
                    yield f"event: project\ndata: {json.dumps(state)}\n\n"
                else:
                    fresh = [shown_job(job) for job in await run_in_threadpool(store.jobs, project)]
                    if fresh != jobs:
                        jobs = fresh
                        yield f"event: jobs\ndata: {json.dumps(jobs)}\n\n"
                await asyncio.sleep(LOOK_SECONDS)

        return StreamingResponse(
            changes(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    app.mount("/", Page(directory=STATIC, html=True))
    return app
