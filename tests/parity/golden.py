"""Golden data of the public reference implementations: where it lies, and how to read it.

``PARITY_DATA=<folder> pytest tests/parity`` runs another set of the same layout: a folder with one folder for
each system (``videopainter``, ``propainter``, ``e2fgvi``), or the folder of one system itself.
"""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.torch import load_file

OWN = Path(__file__).parent / "data"
SYSTEMS = ("videopainter", "propainter", "e2fgvi")


def root() -> Path:
    """The folder named by ``PARITY_DATA``, or the data that comes with the tests."""
    path = Path(os.environ.get("PARITY_DATA") or OWN).resolve()
    if not path.is_dir():
        pytest.exit(f"PARITY_DATA: there is no folder {path}", returncode=2)
    return path


def folder(system: str, marker: str) -> Path | None:
    """Where one system's data lies; a file that matches ``marker`` tells its folder. None if the set has none."""
    for path in (root() / system, root()):
        if any(path.glob(marker)):
            return path
    return None


def cases(path: Path | None) -> list[Path]:
    """The tensor files of a folder, each of which is one case with a JSON file beside it."""
    return sorted(path.glob("*.safetensors")) if path else []


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_case(path: Path) -> tuple[dict, dict]:
    """Options and tensors of one case."""
    return read_json(path.with_suffix(".json")), load_file(path)


def module(name: str) -> ModuleType:
    """``fill`` or ``fill_flow``: weights as a function of seed, name and shape."""
    spec = importlib.util.spec_from_file_location(f"parity_{name}", OWN / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def assert_close(name: str, result, expected, limit: float) -> None:
    """No element differs by more than ``limit`` times the largest expected magnitude, and none is NaN."""
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    assert result.shape == expected.shape, f"{name}: {result.shape} instead of {expected.shape}"
    peak = float(np.abs(expected).max()) if expected.size else 0.0
    worst = float(np.abs(result - expected).max()) if expected.size else 0.0
    assert worst <= limit * peak, f"{name}: off by {worst:.3g}, limit {limit:g} x peak {peak:.3g}"
