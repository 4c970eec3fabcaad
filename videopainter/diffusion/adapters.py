"""Adapters of the engine: the ID adapter, and one of the user's own."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from videopainter.engines.base import EngineError
from videopainter.weights.check import safetensors_header

FILE = "pytorch_lora_weights.safetensors"

log = logging.getLogger("videopainter")


def find_adapter(path: str | os.PathLike | None) -> Path | None:
    """The file of an adapter, which may be given as its folder. Raises EngineError if there is none."""
    if path is None:
        return None
    file = Path(path).expanduser()
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise EngineError(f"There is no adapter at '{file}'.")
    return file


def check_rank(files: list[Path], rank: int | None) -> None:
    """Raises EngineError for an adapter of another rank than the one that is expected."""
    if rank is not None and not files:
        log.info("A rank of %d is expected of adapters, but there is none.", rank)
    for file in files if rank is not None else ():
        shapes, _ = safetensors_header(file)
        found = sorted({min(shape) for name, shape in shapes.items() if ".lora_" in name and len(shape) == 2})
        if found and found != [rank]:
            raise EngineError(
                f"The adapter '{file}' has the rank {', '.join(map(str, found))}, not the expected {rank}."
            )


def load_adapters(pipe, files: dict[str, Path]) -> None:
    """Load adapters by name into a `VideoPainterPipeline`; all of them count."""
    for name, file in files.items():
        pipe.load_lora_weights(file.parent, weight_name=file.name, local_files_only=True, adapter_name=name)
    if len(files) > 1:
        pipe.set_adapters(list(files))
