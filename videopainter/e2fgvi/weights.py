"""Where E2FGVI's weights lie, and whether they are there; imports nothing heavy."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from videopainter.e2fgvi.configuration import VARIANTS
from videopainter.weights import PARTS, WeightsError, weights_folder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
RELEASED = {"hq": "E2FGVI-HQ-CVPR22.pth", "base": "E2FGVI-CVPR22.pth"}


def folder_of(path: str | os.PathLike | None = None) -> Path:
    """``path``, or ``e2fgvi`` in the weights folder."""
    return weights_folder() / "e2fgvi" if path is None else Path(path)


def find(path: str | os.PathLike | None = None, variant: str | None = None) -> tuple[Path, Path | None]:
    """(the file of weights, the file of its configuration if it has one).

    Args:
        path: a file, or a folder with a saved model or released files; None: the usual folder.
        variant: "hq" or "base"; None: HQ if it is there.

    Raises WeightsError, one sentence, if there is none.
    """
    if variant not in (None, *VARIANTS):
        raise WeightsError(f"The variant of E2FGVI is {' or '.join(VARIANTS)}, not {variant!r}.")
    path = folder_of(path)
    if path.is_file():
        config = path.parent / CONFIG
        return path, config if path.name == WEIGHTS and config.is_file() else None
    if (path / WEIGHTS).is_file() and (path / CONFIG).is_file():
        return path / WEIGHTS, path / CONFIG
    wanted = [RELEASED[name] for name in VARIANTS if variant in (None, name)]
    for name in wanted:
        if (path / name).is_file():
            return path / name, None
    advice = PARTS["e2fgvi"].by_hand.format(folder=folder_of())
    raise WeightsError(f"There is no {' or '.join(wanted)} in '{path}'; {advice}")


def missing(variant: str | None = None, path: str | os.PathLike | None = None, **options) -> str | None:
    """Why E2FGVI cannot run with the weights at ``path`` (None: the usual folder), or None if it can.

    Other ``options`` of the engine change nothing about that.
    """
    for module, name in (("torch", "PyTorch"), ("safetensors", "safetensors")):
        if find_spec(module) is None:
            return f"{name} is not installed"
    try:
        find(path, variant)
    except WeightsError as error:
        text = str(error).rstrip(".")
        return text[0].lower() + text[1:]
    return None
