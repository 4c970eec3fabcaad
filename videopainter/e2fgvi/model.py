"""`E2FGVIModel`: the network, and its weights in files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from videopainter.e2fgvi import streaming
from videopainter.e2fgvi.configuration import E2FGVIConfig
from videopainter.e2fgvi.generator import Generator
from videopainter.e2fgvi.propagation import SecondOrderAlignment
from videopainter.e2fgvi.weights import CONFIG, WEIGHTS, find
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, read_json, tensor_shapes
from videopainter.weights.load import load_tensors

MODEL_CARD = "README.md"  # one that is there already is kept
_STD = 0.02  # of fresh weights


class E2FGVIModel(
    Generator,
    PyTorchModelHubMixin,
    library_name="videopainter",
    repo_url="https://github.com/MCG-NKU/E2FGVI",
    tags=["video-inpainting"],
):
    """E2FGVI or E2FGVI-HQ (Li et al. 2022, "Towards An End-to-End Framework for Flow-Guided Video Inpainting").

    Example::

        model = E2FGVIModel.from_pretrained("ckpt/e2fgvi/E2FGVI-HQ-CVPR22.pth")
        painted, forward, backward = model(masked_frames, local=5)

    A new one has random weights and is set to `eval()`, as is a loaded one. `paint_video` works through a video of
    any length and size. `save_pretrained` and `push_to_hub` are those of `huggingface_hub.PyTorchModelHubMixin`.
    """

    def __init__(self, config: E2FGVIConfig | None = None):
        super().__init__(config or E2FGVIConfig())
        self.apply(_fresh)
        for align in self.feat_prop_module.deform_align.values():  # at first taps lie where the flow points
            nn.init.zeros_(align.conv_offset[-1].weight)
        for block in self.transformer:  # and a window is seen coarsely as its mean
            nn.init.constant_(block.pool_layers[0].weight, 1 / block.pool_layers[0].in_features)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike | None = None, variant: str | None = None, **hub
    ) -> E2FGVIModel:
        """A model with weights of a file or folder, on the CPU in float32, set to `eval()`.

        Args:
            path: a released file (which variant it is shows in its tensors), a folder that `save_pretrained`
                wrote, a folder with released files, of which HQ is taken first, or a repository "owner/name" of the
                Hugging Face Hub where `push_to_hub` put one; None: `ckpt/e2fgvi`.
            variant: "hq" or "base", to take no other; None: either.
            hub: for a repository, what `huggingface_hub.hf_hub_download` takes: `revision`, `token`, `cache_dir`,
                `local_files_only`, `force_download`.

        Raises WeightsError (a ValueError), one sentence, if nothing is there, a file is damaged or cut off, is of
        the other variant, or lacks, adds or misshapes a tensor. Nothing but tensors is ever unpickled.
        """
        if path is not None and not Path(path).exists() and _is_repository(path):
            file, config_file = _download(os.fspath(path), hub)
        else:
            file, config_file = find(path, variant)
        if config_file is None:
            config = E2FGVIConfig(variant="base" if "sc.bias" in tensor_shapes(file) else "hq")
        else:
            config = _read_config(config_file)
        if variant not in (None, config.variant):
            raise WeightsError(f"'{file}' is of the {config.variant} variant of E2FGVI, not {variant}.")
        with torch.device("meta"):  # a configuration may ask for any size; the file decides
            model = cls(config)
        own = model.state_dict()
        state = load_tensors(file, own, dtype=torch.float32)
        for name, value in own.items():
            # Tables of integers are of the windows' making, and never of the meta device.
            if not value.is_floating_point() and not torch.equal(value, state[name]):
                raise WeightsError(
                    f"'{file}' is not the published network: '{name}' is of other attention windows."
                )
        model.load_state_dict(state, assign=True)
        return model

    def save_pretrained(self, save_directory: str | os.PathLike, **options) -> str | None:
        """Write `model.safetensors`, a model card and `config.json`, each only when all are complete, in that order.

        ``options``: those of `PyTorchModelHubMixin.save_pretrained`, such as ``push_to_hub=True``.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving.") as unfinished:
            defaults = {"config": asdict(self.config), "repo_id": folder.name}
            answer = super().save_pretrained(unfinished, **{**defaults, **options})
            for name in (WEIGHTS, MODEL_CARD, CONFIG):
                if name != MODEL_CARD or not (folder / name).exists():
                    os.replace(Path(unfinished, name), folder / name)
        return answer

    def paint_video(
        self, clip: streaming.Clip, settings: streaming.Settings | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the finished frames of a clip in order; see `streaming.paint`."""
        return streaming.paint(self, clip, settings or streaming.Settings())


def _fresh(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.normal_(module.weight, std=_STD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, SecondOrderAlignment):
        nn.init.kaiming_uniform_(module.weight, a=5**0.5)


def _is_repository(path: str | os.PathLike) -> bool:
    """Whether it can be the name of a repository, "owner/name", rather than of a file or folder."""
    owner, slash, name = os.fspath(path).partition("/")
    return bool(
        slash and owner.strip(".") and name and "/" not in name and not Path(name).suffix[1:].isalpha()
    )


def _download(repository: str, options: dict) -> tuple[Path, Path]:
    """(weights, configuration) of a repository, in the hub's cache."""
    try:
        weights, config = (Path(hf_hub_download(repository, name, **options)) for name in (WEIGHTS, CONFIG))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"'{repository}' is no file or folder, and cannot be had from the Hugging Face Hub: {first_line(error)}."
        ) from None
    return weights, config


def _read_config(path: Path) -> E2FGVIConfig:
    values = read_json(path)
    known = {field.name for field in fields(E2FGVIConfig)}
    if not isinstance(values, dict) or set(values) != known:
        raise WeightsError(
            f"'{path}' is not a configuration of E2FGVI, which says {', '.join(sorted(known))}."
        )
    try:
        return E2FGVIConfig(**values)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"'{path}' cannot be used: {error}") from None
