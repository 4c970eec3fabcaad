"""From a file to a network that a stream can run; imports nothing heavy by itself."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from videopainter.dstt.runner import Runner, TorchRunner, check_threads
from videopainter.dstt.weights import WEIGHTS, load_model
from videopainter.weights import WeightsError

_LIBRARY = {
    ".safetensors": ("torch", "PyTorch"),
    ".onnx": ("onnxruntime", "onnxruntime"),
    **dict.fromkeys((".pt2", ".ts", ".pt"), ("torch", "PyTorch")),
}


def load_runner(
    weights: str | os.PathLike | None = None,
    device: str | None = None,
    threads: int | None = None,
    allow_code: bool = False,
) -> Runner:
    """The network in ``weights``, ready for `DSTTStream`.

    Args:
        weights: a file of `weights.save_model`, an exported ``.onnx``, ``.pt2`` (torch.export), ``.ts`` or ``.pt``
            (TorchScript); None: the shipped weights.
        device: "cpu", "cuda", "cuda:1", ...; None: a GPU if there is one.
        threads: that the network uses on a CPU; None: in PyTorch one for small networks, see `runner.torch_threads`,
            else what the library thinks best. PyTorch's own setting stays what it is.
        allow_code: without it no program of PyTorch is loaded, since reading one runs whatever code is in it.

    Raises WeightsError for files that cannot be used, ValueError for devices and numbers that make no sense.
    """
    check_threads(threads)
    suffix = Path(weights or WEIGHTS).suffix.lower()
    if suffix not in _LIBRARY:
        raise WeightsError(f"A network's file ends in {', '.join(_LIBRARY)}, unlike '{weights}'.")
    if reason := missing(weights):
        raise WeightsError(f"The network cannot be loaded: {reason}.")
    if suffix == ".onnx":
        from videopainter.dstt.runner_onnx import OnnxRunner

        return OnnxRunner(weights, threads, device)
    device = _device(device)
    if suffix != ".safetensors":
        from videopainter.dstt.runner_program import ProgramRunner

        return ProgramRunner(weights, device, threads, allow_code=allow_code)
    return TorchRunner(load_model(weights, device), threads)


def _device(name: str | None) -> str:
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # not a device's name, or none that is here
        raise ValueError(f"There is no device '{name}' here.") from error
    return str(device)


def missing(weights: str | os.PathLike | None = None, **options: Any) -> str | None:
    """Why no stream can run with these weights, or None if one can."""
    path = Path(weights or WEIGHTS)
    module, name = _LIBRARY.get(path.suffix.lower(), _LIBRARY[".safetensors"])
    if find_spec(module) is None:
        return f"{name} is not installed"
    return None if path.is_file() else f"there are no weights at '{path}'"
