"""The network in a file: safetensors, its configuration in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from videopainter.dstt.config import DSTTConfig
from videopainter.weights import WeightsError, parse_json
from videopainter.weights.check import safetensors_header
from videopainter.weights.load import load_tensors

# Shipped, trained by us: see MODEL_CARD.md beside it.
WEIGHTS = Path(__file__).parent / "trained" / "small.safetensors"


def save_model(
    model, path: str | os.PathLike, fp16: bool = True, facts: Mapping[str, str] | None = None
) -> None:
    """Write ``model`` (a `model.DSTT`) whole or not at all; ``facts`` go into the header."""
    import torch
    from safetensors.torch import save

    from videopainter.utils.atomic import whole_file

    dtype = torch.float16 if fp16 else torch.float32
    state = {
        name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()
    }
    header = {**(facts or {}), "config": json.dumps(model.config.to_dict())}
    with whole_file(path) as file:
        file.write(save(state, metadata=header))


def load_model(path: str | os.PathLike | None = None, device: str | None = None, dtype=None):
    """A `model.DSTT` from a file of `save_model`; None: the shipped one. In float32 unless ``dtype`` says otherwise.

    Raises WeightsError, in one sentence, for a file that is missing, cut off or of another network.
    """
    import torch

    from videopainter.dstt.model import DSTT

    path = WEIGHTS if path is None else Path(path)
    if not path.is_file():
        raise WeightsError(f"There are no weights of DSTT at '{path}'.")
    if path.suffix != ".safetensors":
        raise WeightsError(f"The weights of DSTT are a .safetensors file, unlike '{path}'.")
    _, metadata = safetensors_header(path)
    with torch.device("meta"):
        model = DSTT(read_config(metadata, path))
    state = load_tensors(path, model.state_dict(), device, dtype or torch.float32)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def read_config(metadata: Mapping[str, str] | None, path: Path) -> DSTTConfig:
    """The configuration in the header of ``path``. Raises WeightsError if there is none."""
    if not metadata or "config" not in metadata:
        raise WeightsError(f"'{path}' is not a DSTT network: its header has no configuration.")
    try:
        return DSTTConfig.from_dict(parse_json(metadata["config"], path))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"'{path}' is not a DSTT network: {error}") from None
