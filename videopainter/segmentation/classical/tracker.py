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

import cv2
import numpy as np

from videopainter.masks import MaskTrack
from videopainter.segmentation.classical.follow import Follower
from videopainter.segmentation.classical.motion import Clip
from videopainter.segmentation.classical.select import Hints, parts_with, select
from videopainter.segmentation.prompts import BoxPrompt, TrackResult, check, clipped

SETTLE = 30  # frames followed there and back before the mask of a clicked frame stands


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
    check(source, prompts)
    by_frame = _hints(source, prompts)
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


def _hints(source, prompts) -> dict[int, Hints]:
    """Prompts by frame in working pixels."""
    scale = Clip(source).scale
    grouped: dict[int, tuple[list, list, list]] = {}
    for p in prompts:
        positive, negative, boxes = grouped.setdefault(int(p.frame), ([], [], []))
        if isinstance(p, BoxPrompt):
            boxes.append([v * scale for v in clipped(p, source)])
        else:
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
