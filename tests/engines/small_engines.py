"""A small engine for each row of the table, for the suite that all engines must pass."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from small_e2fgvi import lively_model
from small_propainter import small_model

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class SmallEngine:
    """How to make one, and what its own contract says beyond everybody's.

    make: called with a folder for weights; the engine. exact: known pixels are the source's before the composite, too.
    beats: it is heard of several times within a step. call: what it is called with beyond source and masks.
    """

    make: Callable[[Path], Any]
    exact: bool = True
    beats: bool = True
    call: dict[str, Any] = field(default_factory=dict)


def load(path: str) -> ModuleType:
    """A file of the tests as a module; folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_of_another_folder", TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _videopainter(folder: Path):
    from videopainter.diffusion import VideoPainterEngine

    root = folder
    if not (root / "CogVideoX-5b-I2V").exists():
        load("diffusion/engine/conftest.py").write_weights(root)
    return VideoPainterEngine(
        model_path=root / "CogVideoX-5b-I2V",
        branch=root / "VideoPainter/checkpoints/branch",
        id_adapter=root / "VideoPainterID/checkpoints",
        num_inference_steps=1,
        window=5,
        first_frame="none",
        device="cpu",
    )


def _propainter(folder: Path):
    from videopainter.propainter import ProPainterEngine

    return ProPainterEngine(model=small_model(), device="cpu", raft_iter=1, neighbor_length=4)


def _e2fgvi(folder: Path):
    from videopainter.e2fgvi import E2FGVIEngine

    return E2FGVIEngine(model=lively_model(), device="cpu", neighbor_stride=2, ref_stride=3)


def _propagation(folder: Path):
    from videopainter.propagation import PropagationEngine

    return PropagationEngine(radius=4)


def _hybrid(folder: Path):
    from videopainter.hybrid import HybridEngine

    # Every pixel counts, so that both engines have work.
    return HybridEngine(
        first=_propagation(folder), second=_propainter(folder), least_pixels=1, least_share=0.0, threshold=0.3
    )


def _dstt(folder: Path):
    from videopainter.dstt.config import preset
    from videopainter.dstt.engine import DSTTEngine
    from videopainter.dstt.model import DSTT
    from videopainter.dstt.weights import save_model

    file = folder / "tiny.safetensors"
    if not file.exists():
        save_model(load("dstt/small_dstt.py").lively(DSTT(preset("tiny"))), file)
    return DSTTEngine(file, device="cpu", threads=1)


SMALL_ENGINES: dict[str, SmallEngine] = {
    "videopainter": SmallEngine(_videopainter, exact=False, call={"prompt": "a red wall"}),
    "propainter": SmallEngine(_propainter),
    "e2fgvi": SmallEngine(_e2fgvi),
    "propagation": SmallEngine(_propagation),
    "hybrid": SmallEngine(_hybrid),
    "dstt": SmallEngine(_dstt, beats=False),  # a frame is a step, and a stream's steps are short
}
