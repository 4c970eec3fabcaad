"""`torchrun -m videopainter.cli.parallel`: the same command on two processes, and its result once."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from videopainter.video import open_video


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--guidance"], ["--ulysses", "2"]], ids=["guidance", "ulysses"])
def test_two_processes_write_one_result(cpu, clip, tmp_path, tiny, how):
    given = ["--video", clip.video, "--mask", clip.npz, "--prompt", "a dog", "--engine", "videopainter"]
    given += ["--num_inference_steps", 1, "--first_frame", "none", "--memory", "fast", "--max_seconds", 0.5]
    given += ["--codec", "ffv1"]  # what rounding changes is not made more of by the codec
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tiny.root)}
    alone = [sys.executable, str(tiny.root / "run_demo.py"), "--device", "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += ["-m", "videopainter.cli.parallel", *how, "--"]
    for name, command in (("one", alone), ("two", launch)):
        full = list(map(str, [*command, *given, "--output_dir", tmp_path / name]))
        done = subprocess.run(
            full, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=550
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "two/run.json").read_text())["settings"]["engine"] == "videopainter"
    with open_video(tmp_path / "one/result.mkv") as one, open_video(tmp_path / "two/result.mkv") as two:
        assert len(one) == len(two) and np.abs(one[:].astype(int) - two[:]).max() <= 2
