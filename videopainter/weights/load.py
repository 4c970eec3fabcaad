"""The one way in which a network's tensors come from a file: checked before they are read, and strict.

`.safetensors` and files of `torch.save`. Nothing in a file is ever run, nothing takes more memory than the file is
long, and what does not fit is a `WeightsError` of one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.utils.sentences import first_line
from videopainter.weights.check import compare, safetensors_header, unwrapped
from videopainter.weights.errors import WeightsError, plain_file
from videopainter.weights.pickles import scan

if TYPE_CHECKING:
    from torch import Tensor


def load_tensors(
    path: str | os.PathLike,
    like: Mapping[str, Tensor] | None = None,
    device: str | None = None,
    dtype=None,
) -> dict[str, Tensor]:
    """A network's tensors by name.

    Args:
        path: a `.safetensors` file, or one of `torch.save` with the tensors directly or under "model" or
            "state_dict".
        like: what is expected, such as the `state_dict()` of a network, which may be on the meta device: the file
            must have the same names and shapes, floating point where it is. None: any tensors.
        device: None: the CPU. dtype: to convert floating point values to; None: as they are.

    Raises WeightsError for a file that is missing, damaged, holds anything but plain tensors or does not fit `like`,
    and for values that are not finite numbers.
    """
    path = plain_file(path)
    if path.suffix == ".safetensors":
        shapes, _ = safetensors_header(path)
    else:
        shapes = {name: stored.shape for name, stored in unwrapped(scan(path), path).items()}
    if like is not None:
        compare(shapes, {name: tuple(value.shape) for name, value in like.items()}, path)
    tensors = (
        _read_safetensors(path) if path.suffix == ".safetensors" else unwrapped(_read_pickle(path), path)
    )
    check_values(tensors, path)
    for name, expected in (like or {}).items():
        if tensors[name].is_floating_point() != expected.is_floating_point():
            raise WeightsError(
                f"'{path}' is not the published network: '{name}' holds {tensors[name].dtype}."
            )
    return {
        name: value.to(device or "cpu", dtype if value.is_floating_point() else None)
        for name, value in tensors.items()
    }


def load_checkpoint(path: str | os.PathLike, device: str | None = None) -> dict[str, Any]:
    """What a training has written with `torch.save`: a table of tables, lists, numbers, texts and tensors.

    Raises WeightsError for a file that is missing, damaged or holds anything else.
    """
    path = plain_file(path)
    scan(path)
    content = _read_pickle(path, device or "cpu")
    if not isinstance(content, dict):
        raise WeightsError(f"'{path}' is not a checkpoint of a training.")
    return content


def check_values(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Raises WeightsError for a tensor that is no dense one of usual numbers, or that holds NaN or infinity."""
    import torch

    usual = (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
        *(torch.uint16, torch.uint32, torch.uint64),
    )
    for name, value in tensors.items():
        if value.dtype not in usual or value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise WeightsError(
                f"'{os.fspath(path)}' cannot be used: '{name}' is no plain tensor, but {value.dtype}."
            )
        # A finite sum has finite terms, and is found without a second tensor of that size.
        if value.is_floating_point() and not (
            value.sum(dtype=torch.float64).isfinite() or value.isfinite().all()
        ):
            raise WeightsError(
                f"'{os.fspath(path)}' cannot be used: '{name}' holds values that are no numbers."
            )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"'{path}' cannot be read as safetensors: {first_line(error)}.") from None


def _read_pickle(path: Path, device: str = "cpu") -> Any:
    """What `scan` has let through. PyTorch's own words are left out: they end in how to switch its guard off."""
    import torch

    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its reader stumbles over
        raise WeightsError(
            f"'{path}' cannot be read as weights: PyTorch gives up ({type(error).__name__})."
        ) from None
