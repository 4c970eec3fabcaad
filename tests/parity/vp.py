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


def profiles() -> list[str]:
    """Names of the configurations, "tiny" for ``config_tiny.json``."""
    return (
        [path.stem.removeprefix("config_") for path in sorted(FOLDER.glob("config_*.json"))] if FOLDER else []
    )


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


def lora_weights(case: dict, seeds: dict) -> dict[str, torch.Tensor]:
    """The adapter of a case, from the file of shapes that its note or its options name, or the only one there."""
    said = f"{case.get('note')} {case['options'].get('lora')}"
    described = [path for path in FOLDER.glob("*lora*.json") if not path.name.startswith("manifest_")]
    described = {path.name: golden.read_json(path) for path in described}
    described = {name: shapes for name, shapes in described.items() if "shapes" in shapes}
    named = [name for name in described if name in said] or list(described)
    assert len(named) == 1, f"{case['case']}: no single file describes its adapter: {named}"
    return golden.module("fill").fill_state_dict(described[named[0]]["shapes"], seeds["lora"])


def understood(options: dict, known: set[str], what: str) -> None:
    unknown = set(options) - known
    assert not unknown, f"{what} has options that this suite does not understand: {sorted(unknown)}"
