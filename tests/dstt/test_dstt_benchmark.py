"""The benchmark of the stream, with a tiny network: every table has its lines."""

import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import dstt as benchmark  # noqa: E402
import dstt_ablation  # noqa: E402
from small_dstt import write_photos  # noqa: E402

from videopainter.dstt.training import generator  # noqa: E402
from videopainter.dstt.training.curriculum import curriculum  # noqa: E402
from videopainter.dstt.weights import load_model  # noqa: E402


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


def test_an_ablation_trains_each_variant_from_scratch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "_PACKAGED", {})  # as if no package had photographs
    write_photos(tmp_path / "photos")
    data = ["--data", f"photos={tmp_path / 'photos'}"]
    dstt_ablation.main(["--curriculum", "tiny", "--share", "0.04", *data, "--output", str(tmp_path)])
    assert capsys.readouterr().out.count(": 2 steps, loss ") == 3
    models = [
        load_model(tmp_path / f"{name}.safetensors") for name in ("both_paths", "no_tokens", "no_previous")
    ]
    last = [model.decoder.last.weight for model in models]
    assert all(weight.abs().max() > 0 for weight in last)
    assert (last[0] != last[1]).any() and (last[0] != last[2]).any()


def test_a_shortened_curriculum_keeps_its_proportions():
    config = curriculum("small")
    short = dstt_ablation.shortened(config, 0.1)
    assert [s.steps for s in short.stages] == [round(s.steps * 0.1) for s in config.stages]
    assert short.average == 1 - (1 - config.average) / 0.1 and short.learning_rate == config.learning_rate
