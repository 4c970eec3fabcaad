"""What the VideoPainter golden data says of itself: models from its configurations, weights from its seeds."""

from functools import cache
from pathlib import Path

import golden
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler

from videopainter.diffusion import VideoPainterBranchModel, VideoPainterTransformer3DModel

FOLDER = golden.folder("videopainter", "config_*.json")
CLASSES = {
    "transformer": VideoPainterTransformer3DModel,
    "branch": VideoPainterBranchModel,
    "vae": AutoencoderKLCogVideoX,
}


def cases(component: str) -> list[Path]:
    """The cases of one component; those whose component is unknown come with every one, to fail there."""
    found = []
    for path in golden.cases(FOLDER):
        named = golden.read_json(path.with_suffix(".json")).get("options", {}).get("component")
        if named == component or named not in ("branch", "transformer", "pipeline"):
            found.append(path)
    return found


@cache
def config(profile: str) -> dict:
    return golden.read_json(FOLDER / f"config_{profile}.json")


def model(component: str, profile: str, seeds: dict) -> torch.nn.Module:
    """A network with the weights of the golden data."""
    fill = golden.module("fill")
    built = CLASSES[component].from_config(config(profile)[component]).eval()
    fill.fill_module_(built, seeds[component])
    return fill.make_vae_deterministic_(built) if component == "vae" else built


def scheduler(profile: str) -> CogVideoXDPMScheduler:
    return CogVideoXDPMScheduler.from_config(config(profile)["scheduler"])


def lora_file(case: str) -> Path:
    """The JSON file that describes a case's adapter: ``h_lora.json`` for the cases ``h_lora_*``."""
    names = sorted(FOLDER.glob("*lora*.json"), key=lambda path: len(path.stem), reverse=True)
    described = [path for path in names if case.startswith(path.stem) and path.stem != case]
    assert described, f"{case}: no file describes its adapter"
    return described[0]


def lora_weights(case: str, seed: int) -> dict[str, torch.Tensor]:
    shapes = golden.read_json(lora_file(case))["shapes"]
    return golden.module("fill").fill_state_dict(shapes, seed)


def understood(options: dict, known: set[str], what: str) -> None:
    unknown = set(options) - known
    assert not unknown, f"{what} has options that this suite does not understand: {sorted(unknown)}"
