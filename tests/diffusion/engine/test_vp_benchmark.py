"""The editing benchmark in one command: VideoPainter makes what is not there, and the paper's row is written."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

from videopainter.batch.rows import read_rows
from videopainter.cli.benchmark import main

sys.path.insert(0, str(Path(__file__).parents[2] / "metrics"))
from tiny_measures import write_clip, write_dino  # noqa: E402

COLUMNS = (
    "path mask_id start_frame end_frame fps Editing_instruction Edited_video_caption Edited_image_caption"
)


@pytest.fixture
def bench(clip, tmp_path):
    """A table as VPBench-E has it, without the captions of what was there."""
    import numpy as np

    data = tmp_path / "data"
    video = data / "videovo/raw_video/123/123456.0.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(clip.video.read_bytes())
    masks = data / "video_inpainting/videovo/123456"
    masks.mkdir(parents=True)
    holes = clip.masks.astype(np.uint8)
    np.savez_compressed(masks / "all_masks.npz", holes)
    with open(data / "edit.csv", "w", newline="") as file:
        row = ["123456.0.mp4", 1, 0, len(holes), 8, "make the dog red", "a red dog on the road", "a red dog"]
        csv.writer(file).writerows([COLUMNS.split(), row])
    return data


def test_from_an_editing_table_to_the_row(cpu, bench, tmp_path, capsys):
    row = read_rows(bench / "edit.csv")[0]
    assert (row.prompt, row.thing, row.truth) == ("a red dog on the road", "a red dog", None)
    arguments = ("--benchmark", "vpbench", "--csv", bench / "edit.csv", "--results", tmp_path / "results",
                 "--output_dir", tmp_path / "figures", "--lpips", "none", "--clip", write_clip(tmp_path / "clip"),
                 "--dino", write_dino(tmp_path / "dino"), "--size", "96x64", "--method", "ours",
                 "--run", "--", "--engine", "videopainter", "--num_inference_steps", 1, "--window", 9)  # fmt: skip
    torch.manual_seed(0)
    assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
    said = json.loads((tmp_path / "results/00000_123456/run.json").read_text())
    settings = said["settings"]
    assert settings["dilate_size"] == 48 and settings["prompt"] == "a red dog on the road"
    assert (settings["first_frame"], settings["first_frame_prompt"]) == ("none", "a red dog")
    lines = (tmp_path / "figures/table.md").read_text().splitlines()
    for name in ("PSNR", "CLIP Sim", "CLIP Sim (M)", "CLIP Sim (thing)", "TC", "RC-S", "RC-T"):
        assert f"| {name} |" in lines[0]
    assert lines[2].startswith("| ours | ")
