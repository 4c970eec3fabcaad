"""Between the page's words for what a person pointed at, as JSON, and the library's prompts."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from videopainter.masks import MaskError
from videopainter.segmentation.prompts import BoxPrompt, ClickPrompt, MaskPrompt, PolygonPrompt, Prompt

COLOURS = ("#ff3b30", "#0a84ff", "#30d158", "#ff9f0a", "#bf5af2", "#64d2ff", "#ffd60a", "#ff375f")
MOST_OBJECTS = 64


class Finite(BaseModel):
    """What has numbers: none of them is infinite or no number."""

    model_config = ConfigDict(allow_inf_nan=False)


class Stroke(Finite):
    radius: float = Field(gt=0, le=2000, description="pixels of the video")
    points: list[tuple[float, float]] = Field(min_length=1, max_length=20_000)


class PromptData(Finite):
    """A click, a box, a polygon or brush strokes in one frame, in pixels of the video."""

    kind: str = Field(pattern="^(click|box|brush|polygon)$")
    frame: int = Field(ge=0)
    positive: bool = Field(True, description="of clicks; brushes and polygons: False takes away")
    x: float = 0
    y: float = 0
    x0: float = 0
    y0: float = 0
    x1: float = 0
    y1: float = 0
    strokes: list[Stroke] = Field(default_factory=list, max_length=2000)
    points: list[tuple[float, float]] = Field(
        default_factory=list,
        max_length=5000,
        description="corners of a polygon, which is taken as it is drawn",
    )


class ObjectData(BaseModel):
    """A thing that is to go: its prompts in any frames, its name and its colour."""

    id: int = Field(ge=1, le=255)
    name: str = Field(max_length=100)
    colour: str = Field(COLOURS[0], pattern="^#[0-9a-f]{6}$")
    hidden: bool = Field(False, description="left out of the picture and of what is inpainted")
    extent: str | None = Field(None, pattern="^(part|object|group)$")
    prompts: list[PromptData] = Field(default_factory=list, max_length=5000)


class Objects(BaseModel):
    objects: list[ObjectData] = Field(max_length=MOST_OBJECTS)
    after: str | None = Field(
        None, description="the `mark` of the project from which this was made; 409 if it has changed since"
    )

    @field_validator("objects")
    @classmethod
    def _distinct(cls, objects: list[ObjectData]) -> list[ObjectData]:
        if len({one.id for one in objects}) != len(objects):
            raise ValueError("two objects have the same number")
        return objects


def plain(objects: Objects) -> list[dict]:
    """As they are stored. Corners stand with polygons alone, as workspaces of before there were any have prompts."""
    found = objects.model_dump()["objects"]
    for prompt in (prompt for one in found for prompt in one["prompts"]):
        if prompt["kind"] != "polygon":
            del prompt["points"]
    return found


def check(objects: list[dict], count: int, width: int, height: int) -> None:
    """Raise MaskError for prompts outside the frames of a video."""
    for prompt in (prompt for one in objects for prompt in one["prompts"]):
        if prompt["frame"] >= count:
            raise MaskError(f"A prompt is on frame {prompt['frame']}, but the video has {count} frames.")
        x, y = prompt["x"], prompt["y"]
        if prompt["kind"] == "click" and not (0 <= x < width and 0 <= y < height):
            raise MaskError(f"The click {x:g},{y:g} is outside the {width} x {height} frame.")
        if prompt["kind"] == "brush" and not prompt["strokes"]:
            raise MaskError("A brush has no strokes.")
        if prompt["kind"] == "polygon" and len(prompt["points"]) < 3:
            raise MaskError(f"A polygon needs three corners or more, not {len(prompt['points'])}.")


def library_prompt(prompt: dict, size: tuple[int, int], object_id: int, frame: int | None = None) -> Prompt:
    """The library's prompt for a `PromptData` as a dict. `frame`: another number than its own."""
    at = prompt["frame"] if frame is None else frame
    if prompt["kind"] == "click":
        return ClickPrompt(prompt["x"], prompt["y"], at, prompt["positive"], object_id)
    if prompt["kind"] == "box":
        return BoxPrompt(prompt["x0"], prompt["y0"], prompt["x1"], prompt["y1"], at, object_id)
    mode = "add" if prompt["positive"] else "erase"
    if prompt["kind"] == "polygon":
        return PolygonPrompt(tuple(map(tuple, prompt["points"])), at, mode, object_id)
    return MaskPrompt(painted(prompt["strokes"], size), at, mode, object_id)


def with_polygons(mask: np.ndarray, prompts: list[dict]) -> np.ndarray:
    """bool (height, width): `mask` with the polygons among prompts (`PromptData` as dicts) put in or taken out."""
    mask = mask.copy()
    for prompt in prompts:
        if prompt["kind"] == "polygon":
            drawn = PolygonPrompt(tuple(map(tuple, prompt["points"]))).drawn(mask.shape[:2])
            mask[drawn.mask] = prompt["positive"]
    return mask


def scaled(prompt: dict, scale: float) -> dict:
    """A `PromptData` as a dict, for frames that are `scale` times as large; pixel centres lie at whole numbers."""
    if scale == 1:
        return prompt

    def moved(at: float) -> float:
        return (at + 0.5) * scale - 0.5

    strokes = [
        {"radius": one["radius"] * scale, "points": [(moved(x), moved(y)) for x, y in one["points"]]}
        for one in prompt["strokes"]
    ]
    places = {name: moved(prompt[name]) for name in ("x", "y", "x0", "y0", "x1", "y1")}
    points = [(moved(x), moved(y)) for x, y in prompt.get("points", ())]
    return {**prompt, **places, "strokes": strokes, "points": points}


def painted(strokes: list[dict], size: tuple[int, int]) -> np.ndarray:
    """bool (height, width): what a round brush covered."""
    canvas = np.zeros(size, np.uint8)
    for stroke in strokes:
        points = np.round(np.array(stroke["points"], float) * 8).clip(-(2**24), 2**24).astype(np.int32)
        radius = stroke["radius"]
        cv2.polylines(canvas, [points], False, 255, max(1, round(2 * radius)), cv2.LINE_8, 3)
        for x, y in (points[0], points[-1]):
            cv2.circle(canvas, (int(x), int(y)), max(1, round(8 * radius)), 255, -1, cv2.LINE_8, 3)
    return canvas > 0
