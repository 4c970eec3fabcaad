"""What docs/pipeline.md shows runs as it stands, apart from what a tiny model on a CPU cannot be."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from videopainter import VideoWriter, open_video

PAGE = (Path(__file__).parents[2] / "docs/pipeline.md").read_text(encoding="utf-8")


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """my.mp4, 11 frames of 80 x 112, and masks/ in the working directory."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (11, 10, 14, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    with VideoWriter("my.mp4", fps=10, size=(80, 112)) as file:
        file.write(frames)
    Path("masks").mkdir()
    mask = np.zeros((80, 112), np.uint8)
    mask[20:50, 30:70] = 255
    for number in range(11):
        cv2.imwrite(f"masks/{number:03}.png", mask)


def test_the_diffusers_example(clip, base_folder, branch_folder):
    (code,) = re.findall(r"```python\n(import torch.*?)```", PAGE, re.S)
    assert "pipe.enable_model_cpu_offload()" in code and "size=(480, 720)" in code
    code = code.replace("pipe.enable_model_cpu_offload()", "")  # wants an accelerator
    code = code.replace("pipe.vae.enable_tiling()", "")  # too small to be cut
    code = code.replace("size=(480, 720)", "size=(64, 96)")  # the tiny model's own
    Path("ckpt/VideoPainter/checkpoints").mkdir(parents=True)
    Path("ckpt/VideoPainter/checkpoints/branch").symlink_to(branch_folder)
    Path("ckpt/CogVideoX-5b-I2V").symlink_to(base_folder)
    exec(compile(code, "docs/pipeline.md", "exec"), {})
    painted = open_video("painted.mp4")
    assert len(painted) == 11 and painted.size == (64, 96) and painted.fps == 10
