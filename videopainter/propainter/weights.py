"""Where ProPainter's weights lie, and whether they are there; imports nothing heavy."""

import os
from importlib.util import find_spec
from pathlib import Path

from videopainter.propainter.names import RELEASED
from videopainter.weights import command, weights_folder

CONVERTED = ("config.json", "model.safetensors")


def folder_of(folder: str | os.PathLike | None = None) -> Path:
    """``folder``, or ``propainter`` in the weights folder."""
    return weights_folder() / "propainter" if folder is None else Path(folder)


def is_converted(folder: str | os.PathLike) -> bool:
    """Whether the folder is one that `convert` (or `save_pretrained`) has written."""
    return all((Path(folder) / name).is_file() for name in CONVERTED)


def missing(folder: str | os.PathLike | None = None, **options) -> str | None:
    """Why ProPainter cannot run with the weights in ``folder`` (None: the usual one), or None if it can.

    ``options`` of the engine change nothing about that.
    """
    for module, name in (("torch", "PyTorch"), ("transformers", "transformers")):
        if find_spec(module) is None:
            return f"{name} is not installed"
    folder = folder_of(folder)
    absent = [name for name in RELEASED if not (folder / name).is_file()]
    if is_converted(folder) or not absent:
        return None
    if len(absent) < len(RELEASED):
        return f"there is no {absent[0]} in '{folder}'; {command(['propainter'])} gets it"
    return f"there are no weights in '{folder}'; {command(['propainter'])} gets them"
