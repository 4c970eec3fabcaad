"""What requests carry: settings and jobs as JSON, and files, which stream to disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from videopainter.web.prompts import Finite

KEPT_FREE = 256 * 2**20  # bytes of the disk that an upload leaves
FULL = "The disk is too full for this file; make room and try again."


class Settings(Finite):
    name: str | None = Field(None, min_length=1, max_length=200)
    first: int | None = Field(None, ge=0, alias="in", description="the in point")
    last: int | None = Field(None, ge=0, alias="out", description="the out point, included")
    dilate_size: float | None = Field(None, ge=0, le=500, description="as in `inpaint_video`")
    effects: str | None = Field(None, pattern="^(auto|off)$", description="whether the shadow goes, too")


class JobRequest(Finite):
    kind: str = Field(pattern="^(track|find|inpaint)$")
    find: str | None = Field(
        None, max_length=300, description="find: a name of /api/finders, or words if one takes them"
    )
    area: tuple[float, float, float, float] | None = Field(
        None, description="find: only in this box, x0, y0, x1, y1 in pixels of the video"
    )
    objects: list[int] | None = Field(None, description="track: only these")
    every: int = Field(
        30, ge=1, le=10**6, description="find, by words: frames after which new things are looked for"
    )
    segmenter: str = Field(
        "auto", max_length=40, description="track, find by words: a name of /api/segmenters"
    )
    size: str = Field("auto", max_length=40, description="of that segmenter, where it comes in several")
    engine: str = Field("auto", max_length=40, description="inpaint: a name of /api/engines")
    prompt: str | None = Field(None, max_length=2000)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict, description="of the engine")
    frame: int | None = Field(None, ge=0, description="inpaint: a preview of this frame alone")
    seconds: float | None = Field(None, gt=0, description="inpaint: a preview of so many seconds")
    first: int | None = Field(None, ge=0, description="the frame with which that preview begins")
    seed: int = Field(42, ge=0, lt=2**63)
    export: list[str] = Field(
        default_factory=list, max_length=10, description="inpaint: more files, as in `inpaint_video`"
    )


class ExportRequest(Finite):
    ending: str = Field(max_length=10, description=".mp4, .mov, .mkv, .webm, .avi, .gif, or .zip for images")
    codec: str | None = Field(None, max_length=20, description="as in `VideoWriter`")
    quality: float | None = Field(None, ge=0, le=100, description="as in `VideoWriter`")


async def receive(request: Request, path: Path, largest: int) -> None:
    """Stream the body of a request into a file, which is there whole or not at all; at most `largest` bytes."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > largest:
        raise HTTPException(413, f"Files of more than {_amount(largest)} are not taken.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        if shutil.disk_usage(path.parent).free < announced + KEPT_FREE:
            raise HTTPException(507, FULL)
        size = 0
        with open(part, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > largest:
                    raise HTTPException(413, f"Files of more than {_amount(largest)} are not taken.")
                await run_in_threadpool(file.write, chunk)
            await run_in_threadpool(_settle, file)
        if size == 0:
            raise HTTPException(422, "The file is empty.")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        raise


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _amount(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
