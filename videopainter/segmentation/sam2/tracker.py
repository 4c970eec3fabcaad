"""Click to mask with SAM 2 (Ravi et al. 2024, arXiv:2408.00714), through transformers' Sam2VideoModel.

Frames are streamed: at any time the session of an object holds one frame, one frame's features (shared by all
objects, on the host) and what later frames can attend to, the memories of the last `REACH` frames and of the
prompted ones. Our own preprocessing, as transformers' needs torchvision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoInferenceCache,
    Sam2VideoInferenceSession,
)

from videopainter.masks import MaskError, MaskTrack
from videopainter.segmentation.base import Candidate, Segmenter, Step, agrees, stretch, with_strokes
from videopainter.segmentation.pixels import normalised
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, Prompt, clipped, stroke_clicks
from videopainter.segmentation.sam2.checkpoint import load

REACH = 16  # frames back to which object pointers are attended; spatial memories reach back 6 (section 4)
BACKWARD = 8  # frames decoded at a time when a video is walked backwards
BESIDE, ON, FIRST_CORNER, SECOND_CORNER = 0, 1, 2, 3  # the prompt encoder's labels of points


class Sam2Segmenter(Segmenter):
    """Follows each object with a session of its own; the objects share the features of a frame.

    `model`: a `Sam2VideoModel` on its device; None: the released one of `size`, loaded when it is first needed. `size`:
    "tiny", "small", "base-plus", "large", or "auto": the largest that is there on a GPU, the smallest elsewhere.

    Raises WeightsError, at the first preview or frame, if there are no weights, or they cannot be used.
    """

    name = "sam2"

    def __init__(self, source, model=None, size: str = "auto"):
        super().__init__(source)
        self._model, self._run, self._size = model, None, size

    @property
    def run(self) -> _Run:
        """What the objects share."""
        if self._run is None:
            self._run = _Run(self.source, self._model or self._loaded())
        return self._run

    def _loaded(self):
        return load(size=self._size)

    def _candidates(self, frame: int, prompts: Sequence[Prompt]) -> list[Candidate]:
        points = _points(prompts, self.source)
        mask, confidence = _Object(self.run, {frame: points}).start(frame)
        return [Candidate(with_strokes(mask, prompts) if points.painted else mask, confidence)]

    def _follow(
        self, prompts: Sequence[Prompt], start: int | None, known: MaskTrack | None
    ) -> Iterator[Step]:
        by_frame: dict[int, list[Prompt]] = {}
        for p in prompts:
            by_frame.setdefault(int(p.frame), []).append(p)
        points = {frame: _points(own, self.source) for frame, own in by_frame.items()}
        one = _Object(self.run, points)
        steps = (
            one.all()
            if start is None
            else one.renew(start, known, *stretch(prompts, start, len(self.source)))
        )
        for step in steps:
            painted = step.frame in points and points[step.frame].painted
            yield step._replace(mask=with_strokes(step.mask, by_frame[step.frame])) if painted else step


@dataclass
class _Points:
    """One object's prompts in one frame: rows of x, y in source pixels, and their labels; `whole`, its mask."""

    places: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    whole: np.ndarray | None = None
    painted: bool = (
        False  # some pixels were painted, so they are in the mask, or out of it, whatever the network says
    )

    @property
    def box(self) -> bool:
        return FIRST_CORNER in self.labels

    @property
    def positive(self) -> bool:
        return self.box or ON in self.labels or self.whole is not None

    def add(self, labels, places, at: int | None = None) -> None:
        at = len(self.labels) if at is None else at
        self.labels[at:at], self.places[at:at] = labels, places


def _points(prompts: Sequence[Prompt], source) -> _Points:
    """One object's prompts of one frame. Raises MaskError for a second box."""
    points = _Points()
    for prompt in prompts:
        if isinstance(prompt, BoxPrompt):
            if points.box:
                name = "One object" if prompt.object_id is None else f"Object {prompt.object_id}"
                raise MaskError(
                    f"{name} has two boxes on frame {prompt.frame}; SAM 2 takes one an object, so "
                    "give the second box an object of its own."
                )
            x0, y0, x1, y1 = clipped(prompt, source)
            # The network wants the corners first.
            points.add((FIRST_CORNER, SECOND_CORNER), ((x0, y0), (x1, y1)), at=0)
        elif isinstance(prompt, MaskPrompt) and prompt.mode == "is":
            points.whole = prompt.mask if points.whole is None else points.whole | prompt.mask
        else:
            points.painted |= isinstance(prompt, MaskPrompt)
            for click in stroke_clicks(prompt) if isinstance(prompt, MaskPrompt) else [prompt]:
                points.add((ON if click.positive else BESIDE,), ((click.x, click.y),))
    return points


class _Run:
    """What all objects of a video share: the network, and the last frame as it sees it."""

    def __init__(self, source, model):
        self.source, self.model = source, model
        size = model.config.image_size
        self.side = size if isinstance(size, int) else size[0]
        self.cache = Sam2VideoInferenceCache(inference_device=model.device, inference_state_device="cpu")
        self._last: tuple[int, torch.Tensor] | None = None

    def pixels(self, t: int) -> torch.Tensor:
        """Frame `t` as the network sees it."""
        if self._last is None or self._last[0] != t:
            self._last = t, pixel_values(self.source[t], self.side)
        return self._last[1]

    def backward(self, end: int, first: int = 0) -> Iterator[int]:
        """The numbers from `end` - 1 down to `first`; their frames are decoded some at a time."""
        for stop in range(end, first, -BACKWARD):
            start = max(stop - BACKWARD, first)
            frames = self.source[start:stop]
            for t in range(stop - 1, start - 1, -1):
                self._last = t, pixel_values(frames[t - start], self.side)
                yield t


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

    def all(self) -> Iterator[Step]:
        """The first mask, what lies before it, what lies after it, corrected where later prompts say so."""
        yield self._keep(self.first, *self.start(self.first))
        for t in self.run.backward(self.first):
            yield self.follow(t, reverse=True)
        self.forget()
        for t in range(self.first + 1, len(self.run.source)):
            yield from self.advance(t)

    def renew(self, f: int, known: MaskTrack, first: int, end: int) -> Iterator[Step]:
        """The frames from `first` to `end` that change when frame `f` is corrected, of a track that is `known`."""
        for t in sorted({self.first, f}):
            if known[t].any():
                self._step(t, whole=known[t])
        points = self.hints.get(f) or _Points()
        if not points.labels and points.whole is None:  # beside an object that begins later
            yield self._keep(f, known[f], 1.0)
        elif known[f].any() and not points.box and points.whole is None:
            yield self._keep(f, *self._corrected(f, points))
        else:
            yield self._keep(f, *self.start(f))
        for t in range(f + 1, end):
            yield self.follow(t)
        self.forget()
        for t in self.run.backward(f, first):
            step = self.follow(t, reverse=True)
            if not step.mask.any() or agrees(step.mask, known[t]):
                return
            yield step

    def start(self, t: int) -> tuple[np.ndarray, float]:
        """(mask, confidence): the prompts of frame `t` as they are, without regard to what came before."""
        self.session.frames_tracked_per_obj[0].pop(t, None)
        self.outputs["non_cond_frame_outputs"].pop(t, None)
        points = self.hints[t]
        if points.whole is None:
            return self._step(t, points)
        given = self._step(t, whole=points.whole)
        # The network gives back the mask at a quarter of its size; the user's is finer.
        return self._corrected(t, points) if points.labels else (points.whole, given[1])

    def _corrected(self, t: int, points: _Points) -> tuple[np.ndarray, float]:
        """Clicks on frame `t` after a mask was given there: as if that had been followed to."""
        self.session.frames_tracked_per_obj[0][t] = {"reverse": False}
        found = self._step(t, points)
        corrected = self.outputs["non_cond_frame_outputs"].pop(t, None)
        if corrected is not None and t in self.outputs["cond_frame_outputs"]:
            self.outputs["cond_frame_outputs"][t].update(corrected)  # the memory of the mask is there already
        return found

    def follow(self, t: int, reverse: bool = False) -> Step:
        """Find the object of the frames before (with `reverse`: after) in frame `t`."""
        return self._keep(t, *self._step(t, reverse=reverse))

    def advance(self, t: int) -> Iterator[Step]:
        """Follow into frame `t` and heed what the user says there."""
        points = self.hints.get(t)
        if points is None:
            yield self.follow(t)
            return
        # Followed first, then prompted: so the network knows the object that a click corrects.
        mask, _ = self._step(t)
        if points.box or points.whole is not None or (points.positive and not mask.any()):
            yield self._keep(t, *self.start(t))
            yield from self._fill_gap(t)
        else:
            yield self._keep(t, *self._step(t, points))

    def forget(self) -> None:
        """Drop what was followed; the prompted frames stay."""
        self.outputs["non_cond_frame_outputs"].clear()
        self.session.frames_tracked_per_obj[0].clear()

    def _fill_gap(self, t: int) -> Iterator[Step]:
        """Follow the object back from `t` through the frames in which it was lost."""
        for i in self.run.backward(t):
            if self.found[i]:
                return
            step = self.follow(i, reverse=True)
            yield step
            if not self.found[i]:
                return

    def _step(
        self,
        t: int,
        points: _Points | None = None,
        reverse: bool = False,
        whole: np.ndarray | None = None,
    ) -> tuple[np.ndarray, float]:
        """(the network's mask of frame `t`, bool (height, width) of the source, its confidence 0..1)."""
        session = self.session
        if whole is not None:
            session.add_mask_inputs(0, t, self._mask_input(whole))
            session.obj_with_new_inputs = [1]
        elif points is not None:
            session.add_point_inputs(0, t, self._inputs(points))
            session.obj_with_new_inputs = [1]
        # The frame is given even where it has just been seen: without it the session would count its frames.
        result = self.run.model(session, frame_idx=t, frame=self.run.pixels(t), reverse=reverse)
        session.remove_point_inputs(0, t)
        session.remove_mask_inputs(0, t)
        session.processed_frames = None  # the next one comes with the next call
        self._prune(t)
        size = self.run.source.size
        logits = F.interpolate(result.pred_masks.float(), size, mode="bilinear", align_corners=False)[0, 0]
        mask = logits > 0
        confidence = logits[mask].sigmoid().mean().item() if mask.any() else 0.0
        return mask.cpu().numpy(), confidence

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

    def _mask_input(self, mask: np.ndarray) -> torch.Tensor:
        """A mask of the source as the network takes it: (1, 1, side, side)."""
        whole = torch.from_numpy(mask)[None, None].float()
        side = (self.run.side, self.run.side)
        return F.interpolate(whole, side, mode="bilinear", align_corners=False, antialias=True)

    def _keep(self, t: int, mask: np.ndarray, confidence: float) -> Step:
        self.found[t] = bool(mask.any())
        return Step(t, mask, confidence)


def pixel_values(frame: np.ndarray, side: int) -> torch.Tensor:
    """What the network sees: float32 (3, side, side), stretched to a square and normalised.

    `frame`: uint8 (height, width, 3) RGB.
    """
    return normalised(frame, (side, side))
