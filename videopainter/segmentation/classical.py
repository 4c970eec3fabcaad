"""Click to mask without weights: follow a thing through a video by its motion and its looks.

Each frame's mask comes from log-odds per pixel: where the flow and a rigid motion carry the last mask, what
differs from the background that other frames show there, and which colours and textures the object had. One
total
variation cut makes a clean outline of them. NumPy and OpenCV only; a video of any length is read in small
slices.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..masks import MaskError, MaskTrack
from .follow import Follower
from .motion import Clip
from .select import Hints, parts_with, select

SETTLE = 30  # frames followed there and back before the mask of a clicked frame stands


@dataclass(frozen=True)
class ClickPrompt:
    """A point on the object (`positive`) or beside it, in pixels of the source video; frame counts from 0."""

    x: float
    y: float
    frame: int = 0
    positive: bool = True


@dataclass(frozen=True)
class BoxPrompt:
    """A box around the object in pixels of the source video, corners included; frame counts from 0."""

    x0: float
    y0: float
    x1: float
    y1: float
    frame: int = 0


@dataclass
class TrackResult:
    """`masks`, one bool (height, width) a frame; `lost`, the first frame of each stretch without the
    object.
    """

    masks: MaskTrack
    lost: list[int] = field(default_factory=list)


def track(source, prompts, progress: Callable[[int, int], None] | None = None) -> TrackResult:
    """Masks of the object that the prompts point at, in every frame of `source`.

    Args:
        source: a `VideoSource` (uint8 RGB slices).
        prompts: `ClickPrompt`s and `BoxPrompt`s, at least one of them a positive click or a box. Prompts of a
            later frame correct the mask there, or start the object again after it was lost.
        progress: called as progress(frames done, frames in all).

    Returns:
        A `TrackResult`; frames in which the object was not found have empty masks.

    Raises:
        MaskError: no positive prompt, a prompt outside the frame or past the end.
    """
    by_frame = _check(source, prompts)
    clip = Clip(source)
    run = _Run(clip, progress)
    starts = [f for f in sorted(by_frame) if by_frame[f].positive or by_frame[f].boxes]
    frames = sorted(f for f in by_frame if f >= starts[0])
    for k, f in enumerate(frames):
        end = frames[k + 1] if k + 1 < len(frames) else clip.length
        run.start(f, by_frame[f])
        run.forward(f, end)
    for f in reversed(starts):  # what lies before a prompt and is still without a mask
        run.backward(f)
    masks = MaskTrack.build(enlarge(run.get(i), (source.height, source.width)) for i in range(clip.length))
    return TrackResult(masks, run.lost())


def _check(source, prompts) -> dict[int, Hints]:
    """Prompts by frame in working pixels."""
    count, width, height = len(source), source.width, source.height
    if not any(isinstance(p, BoxPrompt) or p.positive for p in prompts):
        raise MaskError(
            f"Of {len(prompts)} prompts none is a positive click or a box; at least one is needed."
        )
    scale = Clip(source).scale
    grouped: dict[int, tuple[list, list, list]] = {}
    for p in prompts:
        if not 0 <= p.frame < count:
            raise MaskError(
                f"A prompt is on frame {p.frame}, but the video has {count} frames (0 to {count - 1})."
            )
        positive, negative, boxes = grouped.setdefault(int(p.frame), ([], [], []))
        if isinstance(p, BoxPrompt):
            x0, x1 = sorted((p.x0, p.x1))
            y0, y1 = sorted((p.y0, p.y1))
            if not (x1 > 0 and y1 > 0 and x0 < width and y0 < height and x1 - x0 >= 1 and y1 - y0 >= 1):
                raise MaskError(
                    f"The box {p.x0:g},{p.y0:g},{p.x1:g},{p.y1:g} holds no pixel of "
                    f"the {width} x {height} frame."
                )
            boxes.append(
                [v * scale for v in (max(x0, 0), max(y0, 0), min(x1, width - 1), min(y1, height - 1))]
            )
        else:
            if not (0 <= p.x < width and 0 <= p.y < height):
                raise MaskError(f"The click {p.x:g},{p.y:g} is outside the {width} x {height} frame.")
            (positive if p.positive else negative).append(
                ((p.x + 0.5) * scale - 0.5, (p.y + 0.5) * scale - 0.5)
            )
    return {f: Hints(*g) for f, g in grouped.items()}


class _Run:
    """The masks found so far, packed, and the walk through the video that finds them."""

    def __init__(self, clip: Clip, progress):
        self.clip = clip
        self.progress = progress
        self.packed: dict[int, bytes] = {}

    def put(self, i: int, mask: np.ndarray | None) -> None:
        self.packed[i] = b"" if mask is None else zlib.compress(np.packbits(mask).tobytes(), 1)
        if self.progress:
            self.progress(min(len(self.packed), self.clip.length), self.clip.length)

    def get(self, i: int) -> np.ndarray:
        """bool (height, width) in working pixels; all False where there is none."""
        shape = (self.clip.height, self.clip.width)
        data = self.packed.get(i, b"")
        if not data:
            return np.zeros(shape, bool)
        bits = np.unpackbits(np.frombuffer(zlib.decompress(data), np.uint8), count=shape[0] * shape[1])
        return bits.reshape(shape).astype(bool)

    def lost(self) -> list[int]:
        """First frame of each stretch without a mask."""
        empty = [not self.packed.get(i) for i in range(self.clip.length)]
        return [i for i, e in enumerate(empty) if e and (i == 0 or not empty[i - 1])]

    def start(self, f: int, hints: Hints) -> None:
        expected = None
        if f > 0 and self.packed.get(f - 1) and not self.clip.cut_between(f - 1, f):
            expected = self.follower.step(f, 1)
        if expected is None and not (hints.positive or hints.boxes):
            self.put(f, None)
            return
        mask = select(self.clip, f, hints, expected)
        self.put(f, mask)
        if expected is None:
            mask = self.settle(f, mask, hints)
            self.put(f, mask)
            self.follower = Follower(self.clip, f, mask, self.get)
        else:
            self.follower.accept(f, mask)
            self.follower.learn(f, mask)

    def settle(self, f: int, mask: np.ndarray, hints: Hints) -> np.ndarray:
        """A better mask for the clicked frame `f`: follow the first one for some frames, and back again.

        The clicked frame is the one with the least to go by; motion soon shows what belongs together.
        """
        masks = {f: mask}
        empty = np.zeros_like(mask)
        there = Follower(self.clip, f, mask, lambda j: masks.get(j, empty), 1.5, split=False)
        last = f
        for i in range(f + 1, min(f + 1 + SETTLE, self.clip.length)):
            found = there.step(i, 1)
            if found is None or found.sum() > 1.6 * mask.sum():  # gone, or grown into something else
                break
            masks[i], last = found, i
        if last < f + 6:
            return mask
        back = Follower(self.clip, last, masks[last], lambda j: masks.get(j, empty))
        for i in range(last - 1, f - 1, -1):
            found = back.step(i, -1)
            if found is None:
                return mask
            masks[i] = found
        shape, seeds = mask.shape, hints.seeds(mask.shape)
        if (masks[f] & seeds).sum() < 0.5 * seeds.sum() or masks[f].sum() < 0.2 * mask.sum():
            return mask  # what came back is something else
        better = parts_with(masks[f] | seeds, seeds) & ~hints.outside_boxes(shape)
        return better & ~hints.discs(shape, hints.negative)

    def forward(self, f: int, end: int) -> None:
        for i in range(f + 1, end):
            self.put(i, None if not self.packed[f] else self.follower.step(i, 1))

    def backward(self, f: int) -> None:
        if f == 0 or self.packed.get(f - 1):
            return
        follower = Follower(self.clip, f, self.get(f), self.get)
        for i in range(f - 1, -1, -1):
            if self.packed.get(i):
                break
            mask = follower.step(i, -1)
            if mask is None and i in self.packed:
                break
            self.put(i, mask)


def enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring bool (h, w) to `size` = (height, width) with a smooth outline."""
    if mask.shape == tuple(size):
        return mask
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    return cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) > 0.45
