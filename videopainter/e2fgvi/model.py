"""`E2FGVIModel`: the network, and its weights in files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from videopainter.e2fgvi import streaming
from videopainter.e2fgvi.configuration import E2FGVIConfig
from videopainter.e2fgvi.generator import Generator
from videopainter.e2fgvi.propagation import SecondOrderAlignment
from videopainter.e2fgvi.weights import CONFIG, WEIGHTS, find
from videopainter.utils.atomic import whole_file
from videopainter.weights import WeightsError, compare, tensor_shapes

_STD = 0.02  # of fresh weights


class E2FGVIModel(Generator):
    """E2FGVI or E2FGVI-HQ (Li et al. 2022, "Towards An End-to-End Framework for Flow-Guided Video Inpainting").

    Example::

        model = E2FGVIModel.from_pretrained("ckpt/e2fgvi/E2FGVI-HQ-CVPR22.pth")
        painted, forward, backward = model(masked_frames, local=5)

    A new one has random weights and is set to `eval()`, as is a loaded one. `paint_video` works through a video of
    any length and size.
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
        cls, path: str | os.PathLike | None = None, variant: str | None = None
    ) -> E2FGVIModel:
        """A model with weights of a file or folder, on the CPU in float32, set to `eval()`.

        Args:
            path: a released file (which variant it is shows in its tensors), a folder that `save_pretrained`
                wrote, or a folder with released files, of which HQ is taken first; None: `ckpt/e2fgvi`.
            variant: "hq" or "base", to take no other; None: either.

        Raises WeightsError (a ValueError), one sentence, if nothing is there, a file is damaged or cut off, is of
        the other variant, or lacks, adds or misshapes a tensor. Nothing but tensors is ever unpickled.
        """
        file, config_file = find(path, variant)
        shapes = tensor_shapes(file)
        if config_file is None:
            config = E2FGVIConfig(variant="base" if "sc.bias" in shapes else "hq")
        else:
            config = _read_config(config_file)
        if variant not in (None, config.variant):
            raise WeightsError(f"'{file}' is of the {config.variant} variant of E2FGVI, not {variant}.")
        model = cls(config)
        own = model.state_dict()
        compare(shapes, {name: tuple(value.shape) for name, value in own.items()}, file)
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        for name, value in state.items():
            if value.is_floating_point() != own[name].is_floating_point():
                raise WeightsError(f"'{file}' is not the published network: '{name}' holds {value.dtype}.")
            if not value.is_floating_point() and not torch.equal(value, own[name]):
                raise WeightsError(
                    f"'{file}' is not the published network: '{name}' is of other attention windows."
                )
        model.load_state_dict(state)
        return model

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write `config.json` and `model.safetensors`; each appears only when it is complete, the former last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with whole_file(folder / WEIGHTS) as file:
            file.write(save(state))
        with whole_file(folder / CONFIG) as file:
            file.write(json.dumps(asdict(self.config), indent=2).encode() + b"\n")

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


def _read_config(path: Path) -> E2FGVIConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise WeightsError(f"'{path}' is not JSON.") from None
    known = {field.name for field in fields(E2FGVIConfig)}
    if not isinstance(values, dict) or set(values) != known:
        raise WeightsError(
            f"'{path}' is not a configuration of E2FGVI, which says {', '.join(sorted(known))}."
        )
    try:
        return E2FGVIConfig(**values)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"'{path}' cannot be used: {error}") from None
