"""The memory benchmark runs, and its two ways of keeping the pool differ as they should."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("pool", ["reference", "ours"])
def test_one_row(pool, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("diffusion_memory", "random_videopainter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import diffusion_memory

    found = diffusion_memory.probe("tiny", "cpu", 17, mode="plain", pool=pool, tiling=False, steps=2)
    if pool == "reference":
        assert found["held_mb"] == pytest.approx(found["formula_mb"])
    else:
        # Two windows: the hole's tokens of the first, about a quarter of them, and no text.
        everything = 4 * 2 * 88 * 32 * 4 / 2**20
        assert 0 < found["held_mb"] < 0.4 * everything
