"""One clip on two processes: what one process makes of it, within rounding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import ROOT, results

from videopainter.cli.parallel import main
from videopainter.diffusion.parallel import Parallelism, processes_of_launcher
from videopainter.engines.base import EngineError

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def alone():
    return results(None)


@pytest.mark.parametrize("mode", ["ulysses", pytest.param("guidance", marks=pytest.mark.slow)])
def test_two_processes_give_what_one_gives(mode, alone, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # Two processes, whether or not there are two GPUs for them.
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [*launch, str(SCRIPT), str(tmp_path / "found.pt"), mode],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for found in torch.load(tmp_path / "found.pt"):
        for name, expected in alone.items():
            torch.testing.assert_close(
                found[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize(
    "how, heads, count, words",
    [
        (Parallelism(), 4, 2, "are 1 processes, but 2 were started"),
        (Parallelism(2, True), 4, 2, "2 (ulysses) x 2 (guidance) are 4 processes, but 2"),
        (Parallelism(3), 4, 3, "must divide the 4 heads of the attention; 3 does not"),
        (Parallelism(0), 4, 0, "is 1 or more"),
    ],
)
def test_what_cannot_be_divided(how, heads, count, words):
    with pytest.raises(EngineError) as raised:
        how.check(heads, count)
    assert words in str(raised.value)


def test_without_a_launcher_it_is_one_sentence(monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(EngineError, match="torchrun"), processes_of_launcher():
        pass
    assert main(["--ulysses", "2", "--", "--video", "x.mp4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
