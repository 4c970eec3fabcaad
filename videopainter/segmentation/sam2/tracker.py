"""Click to mask with SAM 2 (Ravi et al. 2024, arXiv:2408.00714), through transformers' Sam2VideoModel.

Frames are streamed: at any time the session of an object holds one frame, one frame's features (shared by all
objects, on the host) and what later frames can attend to, the memories of the last `REACH` frames and of the
prompted ones. Our own preprocessing, as transformers' needs torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoInferenceCache,
    Sam2VideoInferenceSession,
)

from videopainter.masks import MaskError, MaskTrack
from videopainter.segmentation.prompts import BoxPrompt, TrackResult, check, clipped
from videopainter.segmentation.sam2.checkpoint import load

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in 0..1
REACH = 16  # frames back to which object pointers are attended; spatial memories reach back 6 (section 4)
BACKWARD = 8  # frames decoded at a time when a video is walked backwards
BESIDE, ON, FIRST_CORNER, SECOND_CORNER = 0, 1, 2, 3  # the prompt encoder's labels of points


def track(source, prompts, progress: Callable[[int, int], None] | None = None, model=None) -> TrackResult:
    """Masks of the objects that the prompts point at, joined, in every frame of `source`.

    Args:
        source: a `VideoSource` (uint8 RGB slices).
        prompts: `ClickPrompt`s and `BoxPrompt`s; each `object_id` needs a positive click or a box. Prompts of a
            later frame correct the mask that was followed to there; a box, or a click where the object was lost,
            starts it again.
        progress: called as progress(frames done, frames in all).
        model: a `Sam2VideoModel` on its device; None: the released one, see `sam2_checkpoint.load`.

    Returns:
        A `TrackResult`; frames in which no object was found have empty masks.

    Raises:
        MaskError: no positive prompt, a prompt outside the frame or past the end.
        WeightsError: there are no weights, or they cannot be used.
    """
    check(source, prompts)
    hints = _hints(source, prompts)
    run = _Run(source, model or load(), progress)
    objects = [_Object(run, by_frame) for by_frame in hints.values()]
    run.begin(objects)
    run.backward(objects)
    run.forward(objects)
    return TrackResult(run.masks(), sorted({frame for one in objects for frame in one.lost()}))


@dataclass
class _Points:
    """One object's prompts in one frame: rows of x, y in source pixels, and their labels."""

    places: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @property
    def box(self) -> bool:
        return FIRST_CORNER in self.labels

    @property
    def positive(self) -> bool:
        return self.box or ON in self.labels

    def add(self, labels, places, at: int | None = None) -> None:
        at = len(self.labels) if at is None else at
        self.labels[at:at], self.places[at:at] = labels, places


def _hints(source, prompts) -> dict[int, dict[int, _Points]]:
    """object id -> frame -> its prompts. Raises MaskError for an object with nothing positive."""
    found: dict[int, dict[int, _Points]] = {}
    for prompt in prompts:
        points = found.setdefault(prompt.object_id, {}).setdefault(int(prompt.frame), _Points())
        if isinstance(prompt, BoxPrompt):
            if points.box:
                raise MaskError(
                    f"Object {prompt.object_id} has two boxes on frame {prompt.frame}; SAM 2 takes one an object, so "
                    "give the second box an object of its own."
                )
            x0, y0, x1, y1 = clipped(prompt, source)
            points.add(
                (FIRST_CORNER, SECOND_CORNER), ((x0, y0), (x1, y1)), at=0
            )  # the network wants it first
        else:
            points.add((ON if prompt.positive else BESIDE,), ((prompt.x, prompt.y),))
    for number, by_frame in found.items():
        if not any(points.positive for points in by_frame.values()):
            raise MaskError(f"Object {number} has neither a positive click nor a box.")
    return found


class _Run:
    """One walk through a video with all objects; holds the joined masks, compressed."""

    def __init__(self, source, model, progress):
        self.source, self.model, self.progress = source, model, progress
        size = model.config.image_size
        self.side = size if isinstance(size, int) else size[0]
        self.cache = Sam2VideoInferenceCache(inference_device=model.device, inference_state_device="cpu")
        self._masks: dict[int, MaskTrack] = {}

    def begin(self, objects: list[_Object]) -> None:
        """Every object's first mask, before anything is followed: later frames attend to all of them."""
        for t in sorted({one.first for one in objects}):
            pixels = self.pixels(self.source[t])
            for one in objects:
                if one.first == t:
                    one.start(t, pixels)

    def backward(self, objects: list[_Object]) -> None:
        """What lies before the first prompts."""
        for t, frame in self.reversed(max(one.first for one in objects)):
            pixels = self.pixels(frame)
            for one in objects:
                if t < one.first:
                    one.follow(t, pixels, reverse=True)
        for one in objects:
            one.forget()

    def forward(self, objects: list[_Object]) -> None:
        """What lies after them, corrected where later prompts say so."""
        for t in range(min(one.first for one in objects) + 1, len(self.source)):
            pixels = self.pixels(self.source[t])
            for one in objects:
                if t > one.first:
                    one.advance(t, pixels)

    def reversed(self, end: int) -> Iterator[tuple[int, np.ndarray]]:
        """(number, frame) from `end` - 1 down to 0."""
        for stop in range(end, 0, -BACKWARD):
            start = max(stop - BACKWARD, 0)
            frames = self.source[start:stop]
            for t in range(stop - 1, start - 1, -1):
                yield t, frames[t - start]

    def pixels(self, frame: np.ndarray) -> torch.Tensor:
        return pixel_values(frame, self.side)

    def put(self, t: int, mask: np.ndarray) -> None:
        """Join a mask to what the other objects have in frame `t`."""
        if t in self._masks:
            mask = mask | self._masks[t][0]
        self._masks[t] = MaskTrack.build([mask])
        if self.progress:
            self.progress(len(self._masks), len(self.source))

    def masks(self) -> MaskTrack:
        empty = np.zeros(self.source.size, bool)
        return MaskTrack.build(
            self._masks[t][0] if t in self._masks else empty for t in range(len(self.source))
        )


class _Object:
    """One object: its session, its prompts, and in which frames it was found."""

    def __init__(self, run: _Run, hints: dict[int, _Points]):
        self.run = run
        self.first = min(frame for frame, points in hints.items() if points.positive)
        self.hints = {frame: points for frame, points in hints.items() if frame >= self.first}
        self.found: dict[int, bool] = {}
        model = run.model
        self.session = Sam2VideoInferenceSession(
            video_height=run.source.height,
            video_width=run.source.width,
            inference_device=model.device,
            inference_state_device="cpu",
            video_storage_device="cpu",
            dtype=model.dtype,
        )
        self.session.cache = run.cache
        self.session.obj_id_to_idx(1)
        self.outputs = self.session.output_dict_per_obj[0]

    def start(self, t: int, pixels: torch.Tensor) -> None:
        """Take the prompts of frame `t` as they are, without regard to what came before."""
        self.session.frames_tracked_per_obj[0].pop(t, None)
        self.outputs["non_cond_frame_outputs"].pop(t, None)
        self._keep(t, self._step(t, pixels, self.hints[t]))

    def follow(self, t: int, pixels: torch.Tensor, reverse: bool = False) -> bool:
        """Find the object of the frames before (with `reverse`: after) in frame `t`; whether it is there."""
        return self._keep(t, self._step(t, pixels, reverse=reverse))

    def advance(self, t: int, pixels: torch.Tensor) -> None:
        """Follow into frame `t` and heed what the user says there."""
        points = self.hints.get(t)
        if points is None:
            self.follow(t, pixels)
            return
        # Followed first, then prompted: so the network knows the object that a click corrects.
        mask = self._step(t, pixels)
        if points.box or (points.positive and not mask.any()):
            self.start(t, pixels)
            self._fill_gap(t)
        else:
            self._keep(t, self._step(t, pixels, points))

    def lost(self) -> list[int]:
        """First frame of each stretch without the object."""
        return [t for t, there in sorted(self.found.items()) if not there and self.found.get(t - 1, True)]

    def forget(self) -> None:
        """Drop what was followed; the prompted frames stay."""
        self.outputs["non_cond_frame_outputs"].clear()
        self.session.frames_tracked_per_obj[0].clear()

    def _fill_gap(self, t: int) -> None:
        """Follow the object back from `t` through the frames in which it was lost."""
        for i, frame in self.run.reversed(t):
            if self.found[i] or not self.follow(i, self.run.pixels(frame), reverse=True):
                break

    def _step(
        self, t: int, pixels: torch.Tensor, points: _Points | None = None, reverse: bool = False
    ) -> np.ndarray:
        """The network's mask of frame `t`, bool (height, width) of the source."""
        session = self.session
        if points is not None:
            session.add_point_inputs(0, t, self._inputs(points))
            session.obj_with_new_inputs = [1]
        # The frame is given even where it has just been seen: without it the session would count its frames.
        result = self.run.model(session, frame_idx=t, frame=pixels, reverse=reverse)
        session.remove_point_inputs(0, t)
        session.processed_frames = None  # the next one comes with the next call
        self._prune(t)
        size = self.run.source.size
        logits = F.interpolate(result.pred_masks.float(), size, mode="bilinear", align_corners=False)
        return (logits[0, 0] > 0).cpu().numpy()

    def _prune(self, t: int) -> None:
        """Let go of what no later frame attends to."""
        for outputs in self.outputs.values():
            if t in outputs:
                for name in ("pred_masks", "high_res_masks"):
                    outputs[t].pop(name, None)
        tracked = self.session.frames_tracked_per_obj[0]
        for kept in (self.outputs["non_cond_frame_outputs"], tracked):
            for old in [i for i in kept if abs(i - t) > REACH]:
                del kept[old]

    def _inputs(self, points: _Points) -> dict[str, torch.Tensor]:
        """Prompts in pixels of the network's square, whose pixel centres lie at whole numbers as ours do."""
        height, width = self.run.source.size
        scale = torch.tensor([self.run.side / width, self.run.side / height])
        places = (torch.tensor(points.places) + 0.5) * scale - 0.5
        labels = torch.tensor(points.labels, dtype=torch.int32)
        return {"point_coords": places[None, None], "point_labels": labels[None, None]}

    def _keep(self, t: int, mask: np.ndarray) -> bool:
        self.found[t] = bool(mask.any())
        self.run.put(t, mask)
        return self.found[t]


def pixel_values(frame: np.ndarray, side: int) -> torch.Tensor:
    """What the network sees: float32 (3, side, side), stretched to a square and normalised.

    `frame`: uint8 (height, width, 3) RGB.
    """
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)[0]
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
