"""What a user points at: the words that every segmenter shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from videopainter.masks import MaskError, bounding_box

MASK_MODES = ("is", "add", "erase")
STROKE_CLICKS = 4  # a brush stroke says as much as so many clicks along it


@dataclass(frozen=True)
class ClickPrompt:
    """A point on the object (`positive`) or beside it, in pixels of the source video; frame counts from 0.

    `object_id` tells several objects apart: each is followed by itself, and their masks are united. Without one,
    clicks whose masks do not touch are on separate things, and a negative click is beside all of them.
    """

    x: float
    y: float
    frame: int = 0
    positive: bool = True
    object_id: int | None = None


@dataclass(frozen=True)
class BoxPrompt:
    """A box around the object in pixels of the source video, corners included; frame counts from 0."""

    x0: float
    y0: float
    x1: float
    y1: float
    frame: int = 0
    object_id: int | None = None


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """Pixels of one frame: `mask`, bool (height, width) of the source.

    mode: "is", the object is just that, where a track starts or goes on from; "add", a brush stroke on what belongs
    to it; "erase", one on what does not.
    """

    mask: np.ndarray
    frame: int = 0
    mode: str = "is"
    object_id: int | None = None

    @property
    def positive(self) -> bool:
        return self.mode != "erase"


@dataclass(frozen=True)
class PolygonPrompt:
    """A polygon, its corners `points` ((x, y), ...) in pixels of the source video; what is in it is a `MaskPrompt`."""

    points: tuple[tuple[float, float], ...]
    frame: int = 0
    mode: str = "is"
    object_id: int | None = None

    @property
    def positive(self) -> bool:
        return self.mode != "erase"

    def drawn(self, size: tuple[int, int]) -> MaskPrompt:
        """The same as a mask of `size` = (height, width)."""
        fraction = 4  # bits below the pixel that OpenCV draws with
        corners = np.round(np.asarray(self.points, float) * (1 << fraction)).astype(np.int32)
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [corners], 1, shift=fraction)
        return MaskPrompt(mask > 0, self.frame, self.mode, self.object_id)


Prompt = ClickPrompt | BoxPrompt | MaskPrompt | PolygonPrompt


def is_positive(prompt: Prompt) -> bool:
    """Whether a prompt says where the object is, not where it is not."""
    return isinstance(prompt, BoxPrompt) or prompt.positive


def checked(source, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, polygons drawn as masks.

    Raises MaskError if none is positive, or one lies outside the frames of `source`.
    """
    for p in prompts:
        if not isinstance(p, Prompt):
            raise MaskError(f"A prompt is a click, a box, a mask or a polygon, not {p!r}.")
    if not any(is_positive(p) for p in prompts):
        raise MaskError(
            f"Of {len(prompts)} prompts none is a positive click or a box; at least one is needed."
        )
    return [_checked(source, p) for p in prompts]


def _checked(source, p: Prompt) -> Prompt:
    count, width, height = len(source), source.width, source.height
    if not (0 <= p.frame < count and int(p.frame) == p.frame):
        raise MaskError(
            f"A prompt is on frame {p.frame}, but the video has {count} frames (0 to {count - 1})."
        )
    if p.object_id is not None and not 1 <= p.object_id <= 255:
        raise MaskError(f"Objects are numbered from 1 to 255, so {p.object_id} cannot be one.")
    if isinstance(p, ClickPrompt):
        if not (0 <= p.x < width and 0 <= p.y < height):
            raise MaskError(f"The click {p.x:g},{p.y:g} is outside the {width} x {height} frame.")
    elif isinstance(p, BoxPrompt):
        x0, y0, x1, y1 = clipped(p, source)
        if not (x1 - x0 >= 1 and y1 - y0 >= 1):
            raise MaskError(
                f"The box {p.x0:g},{p.y0:g},{p.x1:g},{p.y1:g} holds no pixel of the {width} x {height} frame."
            )
    elif isinstance(p, PolygonPrompt):
        if len(p.points) < 3 or not np.isfinite(np.asarray(p.points, float)).all():
            raise MaskError(f"A polygon needs three corners or more, not {len(p.points)}.")
        return _checked(source, p.drawn((height, width)))
    else:
        if p.mode not in MASK_MODES:
            raise MaskError(f"A mask {', '.join(MASK_MODES[:-1])} or {MASK_MODES[-1]}s, not '{p.mode}'.")
        mask = np.asarray(p.mask)
        if mask.shape != (height, width):
            raise MaskError(f"A mask prompt has the shape {mask.shape}, but the frame {(height, width)}.")
        if not mask.any():
            raise MaskError(f"The mask prompt on frame {p.frame} marks no pixel of the frame.")
        return replace(p, mask=mask != 0)
    return p


def pixel(click: ClickPrompt, size: tuple[int, int]) -> tuple[int, int]:
    """(row, column) of the pixel that is clicked; pixel centres lie at whole numbers."""
    return min(round(click.y), size[0] - 1), min(round(click.x), size[1] - 1)


def corners(box: BoxPrompt) -> tuple[float, float, float, float]:
    """(left, top, right, bottom), whichever corners the user gave."""
    return min(box.x0, box.x1), min(box.y0, box.y1), max(box.x0, box.x1), max(box.y0, box.y1)


def clipped(box: BoxPrompt, source) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the box within the frame of `source`."""
    x0, y0, x1, y1 = corners(box)
    return max(x0, 0), max(y0, 0), min(x1, source.width - 1), min(y1, source.height - 1)


def stroke_clicks(stroke: MaskPrompt, most: int = STROKE_CLICKS) -> list[ClickPrompt]:
    """Clicks, at most so many, well inside a brush stroke and far from each other: for who takes only clicks."""
    if (box := bounding_box(stroke.mask, 1)) is None:
        return []
    rows, columns = box
    depth = cv2.distanceTransform(np.pad(stroke.mask[rows, columns], 1).astype(np.uint8), cv2.DIST_L2, 5)
    reach = max(depth.shape) / most
    found: list[ClickPrompt] = []
    while len(found) < most and depth.max() > 0:
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        found.append(
            ClickPrompt(
                float(x - 1 + columns.start),
                float(y - 1 + rows.start),
                stroke.frame,
                stroke.positive,
                stroke.object_id,
            )
        )
        cv2.circle(depth, (int(x), int(y)), int(np.ceil(reach)), 0, -1)
    return found
