"""What the engine `dstt` is and takes; imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from videopainter.engines.base import EngineSpec, option


@dataclass(frozen=True)
class DSTTOptions:
    """Options of `DSTTEngine`."""

    weights: str | os.PathLike | None = option(
        None,
        "its network: .safetensors or .onnx",
        default_text="the one that is part of the project",
        metavar="FILE",
        type=str,
    )
    threads: int | None = option(
        None,
        "threads of the network on a CPU",
        default_text="one for the network of the project",
        metavar="N",
    )
    device: str | None = option(None, "where it runs: cuda, cuda:1, ..., cpu", default_text="the first GPU")


def missing(**options: Any) -> str | None:
    """See `videopainter.dstt.loading.missing`."""
    from videopainter.dstt.loading import missing

    return missing(**options)


SPEC = EngineSpec(
    name="dstt",
    location="videopainter.dstt.engine:DSTTEngine",
    summary="live streams, frame in, frame out; for films `propagation`, which looks ahead, is better",
    needs="PyTorch; its weights are part of the project",
    options=DSTTOptions,
    missing=missing,
    dilate_size=24,
)
