"""Clips to train on: which frames of which video, with which masks and text, follows from the seed and a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from videopainter.diffusion.training.config import TrainingConfig
from videopainter.diffusion.training.masks import changed_masks, random_masks
from videopainter.masks import load_masks
from videopainter.ops.resize import resize, resize_mask
from videopainter.video import open_video

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Clip:
    """A video, or a picture, and what is known of it.

    Frames `start` to `end` (not included; None: the last). `fps`: the video's rate, where a table says so.
    """

    video: Path
    prompt: str = ""
    mask: Path | None = None
    mask_id: int | None = None
    start: int = 0
    end: int | None = None
    fps: Fraction | None = None


@dataclass(frozen=True)
class Sample:
    """One training example.

    video: float32 ``(frames, 3, height, width)`` in -1..1. masked: the same, with `TrainingConfig.hole` in the hole.
    mask: float32 ``(frames, 1, height, width)``, 1 = inpaint. number: of the example in the whole run.
    """

    video: torch.Tensor
    masked: torch.Tensor
    mask: torch.Tensor
    prompt: str
    number: int


def find_clips(folder: Path, prompt: str | None = None) -> list[Clip]:
    """The videos and pictures of a folder, at any depth, in the order of their names.

    ``NAME.txt`` beside ``NAME.mp4`` is its text, ``NAME.npz`` or a folder ``NAME_masks`` its masks. ``prompt``: of
    those without one. Raises ValueError where there is no video.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder '{folder}'.")
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part.endswith("_masks") for part in inside)
        if hidden or path.suffix.lower() not in (*VIDEOS, *PICTURES):
            continue
        text, masks = path.with_suffix(".txt"), path.with_suffix(".npz")
        said = text.read_text(encoding="utf-8").strip() if text.is_file() else prompt or ""
        folder_of_masks = path.with_name(f"{path.stem}_masks")
        mask = masks if masks.is_file() else folder_of_masks if folder_of_masks.is_dir() else None
        found.append(Clip(path, said, mask))
    if not found:
        raise ValueError(f"There is no video in '{folder}'.")
    return found


class Clips(torch.utils.data.Dataset):
    """Number of an example -> `Sample`; the same number gives the same sample, in whatever process.

    Clips that are too short for the shortest length, or have too short a text, are left out. All examples of one
    update have one length. Raises ValueError where nothing is left.
    """

    def __init__(self, clips: Sequence[Clip], config: TrainingConfig, examples_an_update: int):
        self.config, self.each = config, examples_an_update
        self._lengths: dict[Clip, int] = {}
        usable: dict[int, list[Clip]] = {}
        for clip in clips:
            if len(clip.prompt) < config.min_caption:
                continue
            numbers = len(frame_numbers(clip, config))
            fits = [length for length in config.frames if length <= numbers]
            if fits:
                usable.setdefault(max(fits), []).append(clip)
        if not usable:
            raise ValueError(
                f"None of {len(clips)} clips has {min(config.frames)} frames at {config.fps:g} a second and a text of "
                f"{config.min_caption} letters or more."
            )
        self.buckets = dict(sorted(usable.items()))

    @property
    def clips(self) -> list[Clip]:
        """Those that are trained on."""
        return [clip for clips in self.buckets.values() for clip in clips]

    def __len__(self) -> int:
        return self.config.steps * self.each

    def variants(self) -> list[int]:
        """Numbers of examples that `cache_latents` makes do with: of every clip so many."""
        return list(range(len(self.clips) * self.config.cache_latents))

    def __getitem__(self, number: int) -> Sample:
        config = self.config
        if config.cache_latents:
            pick = np.random.default_rng((config.seed, 3, number))
            bucket = self._bucket(number // self.each)
            offset = sum(len(clips) for length, clips in self.buckets.items() if length < bucket)
            count = len(self.buckets[bucket]) * config.cache_latents
            return self.variant(offset * config.cache_latents + int(pick.integers(count)))
        length = self._bucket(number // self.each)
        rng = np.random.default_rng((config.seed, 1, number))
        clips = self.buckets[length]
        return self._cut(clips[int(rng.integers(len(clips)))], length, rng, number)

    def variant(self, number: int) -> Sample:
        """One of the fixed examples of `cache_latents`."""
        clip = self.clips[number // self.config.cache_latents]
        length = next(length for length, clips in self.buckets.items() if clip in clips)
        return self._cut(clip, length, np.random.default_rng((self.config.seed, 2, number)), number)

    def _bucket(self, update: int) -> int:
        rng = np.random.default_rng((self.config.seed, 0, update))
        weights = np.array([len(clips) for clips in self.buckets.values()], float)
        return list(self.buckets)[int(rng.choice(len(weights), p=weights / weights.sum()))]

    def _cut(self, clip: Clip, length: int, rng: np.random.Generator, number: int) -> Sample:
        config, size = self.config, (self.config.height, self.config.width)
        numbers = frame_numbers(clip, config)
        begin = int(rng.integers(len(numbers) - length + 1))
        numbers = numbers[begin : begin + length]
        frames, given = read_frames(clip, numbers)
        place = tuple(rng.random(2)) if config.resize == "random" else (0.5, 0.5)
        whole = config.resize == "resize"
        frames = np.stack([_fit(frame, size, whole, place) for frame in frames])
        if given is None:
            masks = random_masks(rng, length, size, config)
        else:
            masks = np.stack([_fit(mask, size, whole, place) for mask in given])
            if rng.random() < config.mask_transform_prob:
                masks = changed_masks(rng, masks, config)
        if config.random_flip and rng.random() < 0.5:
            frames, masks = frames[:, :, ::-1].copy(), masks[:, :, ::-1].copy()
        if config.mask_background:
            masks = ~masks
        if config.first_frame_gt and length > 1:
            masks[0] = False
        prompt = "" if rng.random() < config.proportion_empty_prompts else clip.prompt
        video = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(masks)[:, None].float()
        empty = -1.0 if config.hole == "black" else 0.0
        return Sample(video, torch.where(mask > 0, empty, video), mask, prompt, number)


def frame_numbers(clip: Clip, config: TrainingConfig) -> list[int]:
    """Numbers of a clip's frames at the training's rate; a picture is one frame."""
    if clip.video.suffix.lower() in PICTURES and clip.video.is_file():
        return [0]
    with open_video(clip.video) as source:
        end = min(len(source), len(source) if clip.end is None else clip.end)
        own = float(clip.fps or source.fps)
    every = max(1, int(own // config.fps)) if config.fps else 1  # as published
    return list(range(clip.start, end, every))


def read_frames(clip: Clip, numbers: list[int]) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Frames, uint8 ``(height, width, 3)``, and masks, bool ``(height, width)``; None where the clip has none."""
    if clip.video.suffix.lower() in PICTURES and clip.video.is_file():
        from PIL import Image

        from videopainter.video import ArraySource

        source = ArraySource(np.asarray(Image.open(clip.video).convert("RGB"))[None])
    else:
        source = open_video(clip.video)
    with source:
        frames = [np.asarray(source[i : i + 1][0]) for i in numbers]
        if clip.mask is None:
            return frames, None
        track = load_masks(clip.mask, source, clip.mask_id)
        return frames, [track[i] for i in numbers]


def _fit(picture: np.ndarray, size: tuple[int, int], whole: bool, place: tuple[float, float]) -> np.ndarray:
    """At another size: squeezed, or the largest part of its form; `place`: where, 0 to 1 downwards and rightwards."""
    if not whole:
        height, width = picture.shape[:2]
        scale = min(height / size[0], width / size[1])
        rows, columns = round(size[0] * scale), round(size[1] * scale)
        top, left = int(place[0] * (height - rows)), int(place[1] * (width - columns))
        picture = picture[top : top + rows, left : left + columns]
    if picture.dtype == bool:
        return resize_mask(np.ascontiguousarray(picture), size)
    return resize(np.ascontiguousarray(picture), size, "area-or-cubic")
