"""The benchmark of the stream, with a tiny network: every table has its lines."""

import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import dstt as benchmark  # noqa: E402


def test_smoke(capsys):
    benchmark.main(["smoke"])
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| tiny |")]
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["3 of 48 x 32"] * 2
    for library in ("PyTorch", "onnxruntime"):
        assert sum(library in line for line in lines) == 1 + 1 + 1 + 2  # speed, latency, memory, gpu
    assert len(lines) == 10 and all(re.search(r"\d", line) for line in lines)
    memory = [
        float(mib) for mib in re.findall(r"([\d.]+) MiB", next(x for x in lines if x.count("MiB") == 6))
    ]
    assert len(memory) == 6 and min(memory) > 10


def test_the_film_goes_on_for_ever_and_never_jumps():
    frames = benchmark.film((32, 48), 3)
    seen = [next(frames) for _ in range(9)]
    assert all(frame.shape == (32, 48, 3) and mask.shape == (32, 48) and mask.any() for frame, mask in seen)
    order = [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert all(np.array_equal(seen[i][0], seen[j][0]) for i, j in enumerate(order))


def test_the_clock_leaves_the_first_frames_out():
    calls = []
    assert (
        benchmark.times_of(lambda: calls.append(0), 4).wall.shape == (4,) and len(calls) == benchmark.WARM + 4
    )
