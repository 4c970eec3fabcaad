"""The pipeline on a GPU that is not there: what it takes in, waits for, copies and keeps, without a number computed.

Every check is a process of its own, as PyTorch has to be made to believe in a GPU before anything else is imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent

# Multiplications and additions of one step at the released size, with both rows of the guidance.
ROWS, TEXT, VIDEO, WIDTH, TIME = 2, 226, 13 * 30 * 45, 3072, 512
TOKENS = TEXT + VIDEO
BLOCK = (
    2
    * ROWS
    * (
        TOKENS * 12 * WIDTH * WIDTH  # four projections, and two layers of four times the width
        + 2 * TOKENS * TOKENS * WIDTH  # attention
        + 2 * TIME * 6 * WIDTH  # modulation
    )
)
TIME_EMBEDDING = 2 * ROWS * (WIDTH * TIME + TIME * TIME)
TEXT_PROJECTION = 2 * ROWS * TEXT * 4096 * WIDTH
PATCHES = 2 * ROWS * VIDEO * 4 * WIDTH  # for each channel of the latents
HEAD = 2 * ROWS * (TIME * 2 * WIDTH + VIDEO * WIDTH * 64)


def last_block(kept: int) -> int:
    """All tokens are looked at (keys and values), but only those that are used look, and text does not."""
    return (
        2
        * ROWS
        * (
            TOKENS * 2 * WIDTH * WIDTH
            + kept * 10 * WIDTH * WIDTH  # queries, output, and the feed-forward layers
            + 2 * kept * TOKENS * WIDTH
            + 2 * TIME * 6 * WIDTH
        )
    )


def transformer(blocks: int) -> int:
    return blocks * BLOCK + TIME_EMBEDDING + TEXT_PROJECTION + 32 * PATCHES + HEAD


def branch(blocks: int) -> int:
    output = 2 * ROWS * VIDEO * WIDTH * WIDTH
    return blocks * (BLOCK + output) + TIME_EMBEDDING + TEXT_PROJECTION + 33 * PATCHES


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU here")


def run(*command) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def full_size(**changes) -> dict[str, dict]:
    """Stages by name of a run at the released size; see `benchmarks/full_size.py`."""
    case = {"engine": "videopainter", "mode": "fast", "frames": 49, "id_pool": False, "lora": False}
    case |= {"steps": 1, "blocks": 2, "cache": "none", **changes}
    found = run(HERE.parents[1] / "benchmarks" / "full_size.py", "--one", json.dumps(case))
    return {stage["stage"]: stage for stage in found["stages"]}


def test_one_step_at_the_released_size():
    """Two of 42 blocks: FLOPs are known exactly, attention is flash, and nothing large is copied."""
    assert round(transformer(42) / 1e12, 2) == 664.41 and round(branch(2) / 1e12, 2) == 33.00
    stages = full_size()
    denoise, decode = stages["denoise 1"], stages["decode 1"]
    # The fake device finds 22 % of anything: of the tokens in the hole, for the transformer, and of those outside it.
    kept = int(0.22 * VIDEO)
    head, output = 2 * ROWS * VIDEO * WIDTH * 64, 2 * ROWS * VIDEO * WIDTH * WIDTH
    saved = 2 * (BLOCK - last_block(kept)) + (head + output) * (VIDEO - kept) // VIDEO
    assert denoise["flops"] == transformer(2) + branch(2) - saved
    assert denoise["attention"] == {"flash_attention": 4}
    assert denoise["largest_copy_mb"] <= 4
    assert set(denoise["waits"]) <= {"pageable upload"}  # the scheduler's draws, from a generator of the host
    assert decode["down_gb"] == 0  # a single window has nothing to keep


@pytest.mark.slow
def test_every_form_of_input():
    """A float video on the GPU crashed where its masks were on the CPU."""
    found = run(HERE / "probe.py", "inputs")
    assert found and all(shapes == [[1, 9, 3, 64, 96]] for shapes in found.values()), found


@pytest.mark.slow
def test_the_first_block_cache_works_in_every_mode():
    """It did nothing where blocks are streamed: diffusers' streaming took its hook away."""
    calls = run(HERE / "probe.py", "first_block")
    for mode in ("fast", "balanced", "low", "minimum"):
        # Of four blocks in four steps: the first one always, the others in the first and in the collecting step.
        assert calls[f"{mode} first_block"] < 0.75 * calls[f"{mode} none"], calls


@pytest.mark.slow
def test_nothing_is_left_and_nothing_waits_between_steps():
    found = run(HERE / "probe.py", "loop")
    for mode, one in found.items():
        # Outside the loop: which tokens a window keeps, twice; frames that are finished.
        assert one["waits"].get("item", 0) <= 3 and one["waits"].get("nonzero", 0) <= 4, (mode, one)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "balanced", "low", "minimum"])
def test_peaks_are_below_what_memory_says(mode):
    from videopainter.diffusion.memory import GIB, Work, bytes_needed

    stages = full_size(mode=mode, frames=97, id_pool=True, blocks=42)
    peak = max(stage["gpu_gib"] for stage in stages.values())
    assert peak <= bytes_needed(mode, Work(0.22, 2, True, True)) / GIB
    assert peak <= {"fast": 22, "balanced": 16, "low": 7, "minimum": 4}[mode]
    first, second = (
        max(stages[f"{name} {number}"]["gpu_gib"] for name in ("encode", "denoise", "decode"))
        for number in (1, 2)
    )
    assert second <= first + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["propainter", "e2fgvi"])
def test_flow_engines_wait_for_what_they_hand_out_only(engine):
    """ProPainter asked the GPU 34 times a frame which pixels lie in the hole; both uploaded from pageable memory."""
    found = run(HERE / "flow_probe.py", engine, 12)
    assert found["frames"] == 12 and found["kernels"] > 1000
    waits = found["waits"]
    assert not set(waits) & {"boolean index", "nonzero", "item"}, waits
    # Painted windows come down; in ProPainter flows of pairs too, which wait in pageable memory for their completion.
    assert waits["download"] <= {"propainter": 24, "e2fgvi": 3}[engine], waits
    assert waits.get("pageable upload", 0) <= {"propainter": 36, "e2fgvi": 0}[engine], waits
