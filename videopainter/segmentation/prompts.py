"""What a user points at, and what comes of it: the words that every segmenter shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from videopainter.masks import MaskError, MaskTrack


@dataclass(frozen=True)
class ClickPrompt:
    """A point on the object (`positive`) or beside it, in pixels of the source video; frame counts from 0.

    `object_id` tells several objects apart, whose masks are joined; a segmenter that follows them as one
    (classical) leaves it aside.
    """

    x: float
    y: float
    frame: int = 0
    positive: bool = True
    object_id: int = 1


@dataclass(frozen=True)
class BoxPrompt:
    """A box around the object in pixels of the source video, corners included; frame counts from 0."""

    x0: float
    y0: float
    x1: float
    y1: float
    frame: int = 0
    object_id: int = 1


@dataclass
class TrackResult:
    """`masks`, one bool (height, width) a frame; `lost`, the first frame of each stretch without the
    object.
    """

    masks: MaskTrack
    lost: list[int] = field(default_factory=list)


def check(source, prompts) -> None:
    """Raise MaskError if no prompt is a positive click or a box, or one lies outside the frames of `source`."""
    count, width, height = len(source), source.width, source.height
    if not any(isinstance(p, BoxPrompt) or p.positive for p in prompts):
        raise MaskError(
            f"Of {len(prompts)} prompts none is a positive click or a box; at least one is needed."
        )
    for p in prompts:
        if not 0 <= p.frame < count:
            raise MaskError(
                f"A prompt is on frame {p.frame}, but the video has {count} frames (0 to {count - 1})."
            )
        if isinstance(p, BoxPrompt):
            x0, y0, x1, y1 = corners(p)
            if not (x1 > 0 and y1 > 0 and x0 < width and y0 < height and x1 - x0 >= 1 and y1 - y0 >= 1):
                raise MaskError(
                    f"The box {p.x0:g},{p.y0:g},{p.x1:g},{p.y1:g} holds no pixel of "
                    f"the {width} x {height} frame."
                )
        elif not (0 <= p.x < width and 0 <= p.y < height):
            raise MaskError(f"The click {p.x:g},{p.y:g} is outside the {width} x {height} frame.")


def corners(box: BoxPrompt) -> tuple[float, float, float, float]:
    """(left, top, right, bottom), whichever corners the user gave."""
    return min(box.x0, box.x1), min(box.y0, box.y1), max(box.x0, box.x1), max(box.y0, box.y1)


def clipped(box: BoxPrompt, source) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the box within the frame of `source`."""
    x0, y0, x1, y1 = corners(box)
    return max(x0, 0), max(y0, 0), min(x1, source.width - 1), min(y1, source.height - 1)
