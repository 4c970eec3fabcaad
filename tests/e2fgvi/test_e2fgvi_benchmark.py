"""benchmarks/e2fgvi.py: what it measures on a GPU runs through, small and on the CPU; what it counts is right."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "e2fgvi.py"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["smoke"], ["| size | precision | 4 frames | 8 frames |", "| 64 x 48 | fp32 | "]),
        (["reuse", "--lengths", "12"], ["| 12 | 3 | 26 | 12 | 2.17 | 1.91 |"]),
    ],
    ids=["smoke", "reuse"],
)
def test_it_runs(arguments, words):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300, check=True
    )
    assert all(word in done.stdout for word in words), done.stdout
