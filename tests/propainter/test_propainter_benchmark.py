"""benchmarks/propainter.py: what it measures on a GPU runs through, small and on the CPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_gpu_table_on_the_cpu():
    command = [sys.executable, str(ROOT / "benchmarks" / "propainter.py"), "smoke", "--raft_iter", "1"]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert found.returncode == 0, found.stderr
    *_, heads, _, row = found.stdout.strip().splitlines()
    assert heads == "| size | precision | 4 frames | 8 frames |"
    assert re.fullmatch(r"\| 64 x 48 \| fp32 (\| \d+\.\d\d GB, \d+\.\d+ s ){2}\|", row)
