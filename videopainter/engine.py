"""What an engine is, and the table of those there are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from videopainter.e2fgvi.weights import missing as e2fgvi_missing
from videopainter.propainter.weights import missing as propainter_missing

Progress = Callable[[int, int], None]  # called as progress(done, total)


class EngineError(ValueError):
    """An engine that is not there, or lacks something it needs, in one sentence."""


@runtime_checkable
class Engine(Protocol):
    """Paints holes. It says how it likes its work, and never reads or writes a file."""

    name: str
    preferred_size: tuple[int, int] | None  # (height, width) it works at; None: any
    window: int | None  # frames it sees at once
    overlap: int  # frames two windows share

    def __call__(
        self, source, masks, prompt: str | None = None, generator=None, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """Yield len(source) finished frames in order, uint8 (height, width, 3) RGB at the source's size.

        `source`: a VideoSource; `masks`: a MaskTrack of the same length and size, True = repaint;
        `generator`: the only source of chance, so that a seed gives the same video again.
        """
        ...


@dataclass(frozen=True)
class EngineInfo:
    """A line of the table: how to get an engine, and what is right for it unless the user says otherwise."""

    name: str
    location: str | None  # "module:class"; None: not part of this version
    needs: str
    takes_prompt: bool = False
    options: tuple[str, ...] = ()  # what its class can be given
    dilate_size: int = 32  # pixels; see inpaint_video
    target_fps: float | None = None  # None: every frame
    max_seconds: float | None = None  # None: the whole length
    wants_gpu: bool = False  # runs without one, but too slowly for "auto" to choose it
    # Why it cannot run on this machine; it is given those of `options` that the user has set.
    missing: Callable[..., str | None] = field(default=lambda **options: None)

    def available(self, **options: Any) -> tuple[bool, str]:
        """(whether it can run here with these options, the reason in a few words)."""
        if self.location is None:
            return False, "not part of this version"
        reason = self.missing(**self._known(options))
        return (True, f"needs {self.needs}") if reason is None else (False, reason)

    def load(self, **options: Any) -> Engine:
        """Import and make the engine. Raises EngineError if it cannot run here."""
        can_run, reason = self.available(**options)
        if not can_run:
            there = [name for name, info in ENGINES.items() if info.available()[0]]
            raise EngineError(
                f"The engine '{self.name}' cannot be used: {reason}; there is {_listed(there)}."
            )
        module, name = self.location.split(":")
        return getattr(import_module(module), name)(**self._known(options))

    def _known(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name in self.options}


def _videopainter_missing(**options: Any) -> str | None:
    return import_module("videopainter.diffusion.requirements").missing(**options)


def _dstt_missing(**options: Any) -> str | None:
    return import_module("videopainter.dstt.loading").missing(**options)


# The best first: `auto` takes the first that can run.
ENGINES: dict[str, EngineInfo] = {
    info.name: info
    for info in (
        EngineInfo(
            name="videopainter",
            location="videopainter.diffusion:VideoPainterEngine",
            needs="a GPU and 22 GB of weights",
            takes_prompt=True,
            options=(
                *("num_inference_steps", "guidance_scale", "model_path", "branch", "id_adapter", "overlap"),
                *("prev_clip_weight", "conditioning_scale", "window", "memory", "compile", "cache"),
                *("first_frame", "first_frame_prompt", "first_frame_model", "device"),
            ),
            target_fps=8,
            max_seconds=6.0,
            missing=_videopainter_missing,
        ),
        EngineInfo(
            name="propainter",
            location="videopainter.propainter:ProPainterEngine",
            needs="a small GPU and 200 MB of weights",
            options=(
                "mask_dilation",
                "ref_stride",
                "neighbor_length",
                "subvideo_length",
                "raft_iter",
                "resize_ratio",
                "fp16",
                "device",
            ),
            wants_gpu=True,
            dilate_size=24,  # its material, too, is what other frames show: no more hole than hides the object
            missing=propainter_missing,
        ),
        EngineInfo(
            name="e2fgvi",
            location="videopainter.e2fgvi:E2FGVIEngine",
            needs="a small GPU and 160 MB of weights",
            options=(
                *("variant", "neighbor_stride", "ref_stride", "num_ref"),
                *("mask_dilation", "resize_ratio", "fp16", "device"),
            ),
            wants_gpu=True,
            dilate_size=24,  # as for ProPainter
            missing=e2fgvi_missing,
        ),
        EngineInfo(
            name="propagation",
            location="videopainter.propagation:PropagationEngine",
            needs="only a CPU",
            # Known pixels are its material, so it wants no more hole than hides the object: 12 px all around
            # in a 480-line picture, 6 px in one of 240, where click tracks were measured to be covered.
            dilate_size=24,
        ),
        # After `propagation`, so that "auto" never takes it: it is for live streams and cannot look ahead, which is
        # worth some decibels wherever the whole film is there (benchmarks/results/dstt_quality.md).
        EngineInfo(
            name="dstt",
            location="videopainter.dstt.engine:DSTTEngine",
            needs="PyTorch; its weights are part of the project",
            options=("weights", "threads", "device"),
            dilate_size=24,
            missing=_dstt_missing,
        ),
    )
}


def choose_engine(name: str = "auto", with_prompt: bool = True, **options: Any) -> tuple[EngineInfo, str]:
    """(a line of the table, why it was taken in one line). Raises EngineError for an unknown name.

    "auto" takes the first that can run with these options, without a prompt none that needs one, and without a GPU
    none that is slow then.
    """
    if name != "auto":
        if name not in ENGINES:
            raise EngineError(f"There is no engine '{name}'; the names are auto, {', '.join(ENGINES)}.")
        return ENGINES[name], "as asked for"
    passed_over = []
    for info in ENGINES.values():
        can_run, reason = info.available(**options)
        if can_run and info.takes_prompt and not with_prompt:
            can_run, reason = False, "needs a prompt"
        if can_run and info.wants_gpu and not has_gpu():
            can_run, reason = False, "slow without a GPU"
        if can_run:
            others = f"; better ones cannot run here ({_grouped(passed_over)})" if passed_over else ""
            return info, f"{reason}{others}"
        passed_over.append((info.name, reason))
    raise EngineError(f"No engine can run here: {_grouped(passed_over)}.")


def check_masks(source, masks) -> None:
    """Raise EngineError unless there is a mask of the source's size for each of its frames."""
    if len(masks) != len(source) or tuple(masks.size) != tuple(source.size):
        raise EngineError(
            f"There are {len(masks)} masks of {tuple(masks.size)} for {len(source)} frames of {tuple(source.size)} "
            f"(height, width)."
        )


def has_gpu() -> bool:
    """Whether PyTorch finds a GPU; imports it."""
    import torch

    return torch.cuda.is_available()


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "no other"


def _grouped(passed_over: list[tuple[str, str]]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in passed_over:
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
