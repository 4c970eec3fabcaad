"""What VideoPainter needs before it can run, checked without loading anything: packages, weights, a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from videopainter.weights import command, complete_set, weights_folder, why_missing

DEVICE = "VIDEOPAINTER_DEVICE"  # environment: another device than the first GPU, such as cuda:1 or cpu
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "sentencepiece", "google.protobuf")
FIRST_FRAMES = ("auto", "flux", "propagation", "none")

MODEL, BRANCH, ADAPTER, FLUX = (  # in the weights folder
    "CogVideoX-5b-I2V",
    "VideoPainter/checkpoints/branch",
    "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors",
    "flux_inp",
)
MODEL_FILES = tuple(f"{name}/config.json" for name in ("transformer", "vae", "text_encoder")) + (
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
)


class MissingRequirement(ValueError):
    """Something that VideoPainter needs is not there; a clause, without a full stop."""


@dataclass(frozen=True)
class WeightPaths:
    """Where the weights lie. `id_adapter`, `flux`: None if they are not to be used, or not there."""

    model: Path
    branch: Path
    id_adapter: Path | None
    flux: Path | None


def missing(
    model_path: str | os.PathLike | None = None,
    branch: str | os.PathLike | None = None,
    id_adapter: str | os.PathLike | bool | None = None,
    first_frame: str = "auto",
    first_frame_model: str | os.PathLike | None = None,
    device: str | None = None,
    **_,
) -> str | None:
    """Why `VideoPainterEngine` cannot run with these options, in a clause; None if it can."""
    lacking = [package for package in PACKAGES if not _installed(package)]
    if lacking:
        are = "is" if len(lacking) == 1 else "are"
        return f"{', '.join(lacking)} {are} not installed; the extra [diffusion] has them"
    try:
        find_weights(model_path, branch, id_adapter, first_frame, first_frame_model)
        find_device(device)
    except MissingRequirement as reason:
        return str(reason)
    return None


def find_weights(
    model_path=None, branch=None, id_adapter=None, first_frame: str = "auto", first_frame_model=None
) -> WeightPaths:
    """Where the weights lie that these options of `VideoPainterEngine` name.

    Raises MissingRequirement if they are not there.
    """
    if model_path is None and branch is None:
        if reason := why_missing("videopainter"):
            raise MissingRequirement(reason)
    root = weights_folder()
    model = Path(model_path).expanduser() if model_path is not None else root / MODEL
    _require_files(model, MODEL_FILES, "a folder of CogVideoX-5b-I2V", "base")
    branch = Path(branch).expanduser() if branch is not None else root / BRANCH
    _require_files(branch, ("config.json",), "a folder of VideoPainter's branch", "branch")
    adapter = None
    if id_adapter is not None and id_adapter is not False:
        adapter = root / ADAPTER if id_adapter is True else Path(id_adapter).expanduser()
        adapter = adapter / Path(ADAPTER).name if adapter.is_dir() else adapter
        if not adapter.is_file():
            raise MissingRequirement(f"there is no ID adapter at '{adapter}'; {command(['id'])} gets it")
    if first_frame not in FIRST_FRAMES:
        raise MissingRequirement(
            f"the first frame is {', '.join(FIRST_FRAMES[:-1])} or none, not '{first_frame}'"
        )
    if first_frame_model is not None:
        flux = Path(first_frame_model).expanduser()
        _require_files(flux, ("model_index.json",), "a folder of FLUX.1-Fill-dev", "flux")
    else:
        flux = root / FLUX if complete_set("flux") else None
    if first_frame == "flux" and flux is None:
        raise MissingRequirement(f"FLUX's weights are missing in '{root}'; {command(['flux'])} gets them")
    return WeightPaths(model, branch, adapter, flux if first_frame in ("auto", "flux") else None)


def find_device(device: str | None = None):
    """The torch.device to run on: `device`, else the environment's, else the first GPU. Raises MissingRequirement."""
    set_environment()
    import torch

    name = device or os.environ.get(DEVICE) or "cuda"
    try:
        found = torch.device(name)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cuda", "cpu"):
        raise MissingRequirement(f"the device is cuda, cuda:1 and so on, or cpu, not '{name}'")
    if found.type == "cpu":
        return found
    if not torch.cuda.is_available():
        raise MissingRequirement(
            f"PyTorch {torch.__version__} finds no GPU (with {DEVICE}=cpu it runs without one, for hours)"
        )
    count = torch.cuda.device_count()
    if (found.index or 0) >= count:
        raise MissingRequirement(f"there is no GPU '{name}'; PyTorch finds {count}")
    # Where nothing is said the present GPU: `accelerate launch` gives each process one of its own.
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a.b where there is no a
        return False


def set_environment() -> None:
    """Let PyTorch's allocator grow its segments, which leaves far less of a GPU's memory unusable.

    To be called before PyTorch is imported: it may read this then. What the user has set stays.
    """
    if "PYTORCH_ALLOC_CONF" not in os.environ:  # its newer name
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def _require_files(folder: Path, files: tuple[str, ...], what: str, part: str) -> None:
    if not folder.is_dir():
        raise MissingRequirement(f"there is no folder '{folder}'; {command([part])} gets {what}")
    for name in files:
        if not (folder / name).is_file():
            raise MissingRequirement(
                f"'{folder}' is not {what}, as it has no {name}; {command([part])} gets one"
            )
