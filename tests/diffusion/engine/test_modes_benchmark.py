"""benchmarks/modes.py, tried on tiny networks: what it measures on a GPU runs through."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights

from videopainter.diffusion import VideoPainterBranchModel, VideoPainterTransformer3DModel
from videopainter.weights import manifest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
import modes  # noqa: E402
import random_videopainter  # noqa: E402


def test_it_runs_and_writes_its_table(tmp_path):
    out = tmp_path / "modes.md"
    command = [
        sys.executable,
        str(ROOT / "benchmarks/modes.py"),
        "--tiny",
        "--steps",
        "2",
        "--output",
        str(out),
    ]
    command += ["--variants", "low+first_block"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [line for line in out.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 1 and rows[0].startswith("| low+first_block | ")
    assert float(rows[0].split(" | ")[4]) > 0


@pytest.mark.parametrize("variant", ["fast", "balanced"])
def test_every_mode_is_measured(variant):
    result = modes.measure(variant, 2, tiny=True, limit=None)
    assert result["variant"] == variant and result["step_seconds"] > 0


@pytest.mark.parametrize(
    "name, kind", [("transformer", VideoPainterTransformer3DModel), ("branch", VideoPainterBranchModel)]
)
def test_its_networks_have_the_published_size(name, kind):
    with init_empty_weights(include_buffers=True), torch.device("meta"):
        network = kind(**random_videopainter.configuration("real", name))
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == manifest(name)
