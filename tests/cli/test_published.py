"""infer/inpaint.py under the published script's flags, inpaint.sh under its variables, the guide's folder."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videopainter import engine as engines
from videopainter.cli import published
from videopainter.engines.base import NoOptions
from videopainter.video import VideoWriter, open_video

ROOT = Path(__file__).resolve().parents[2]
COUNT, H, W = 9, 32, 48
NAMES = ["path", "mask_id", "start_frame", "end_frame", "fps", "caption"]


class Grey:
    """An engine that paints holes in a grey of its own for every seed."""

    spec = engines.ENGINES["propagation"]
    made: list[dict] = []

    def __init__(self, **options):
        Grey.made.append(options)
        self.options = NoOptions()

    def __call__(self, source, masks, prompt=None, generator=None, **_):
        grey = generator.integers(60, 200, dtype=np.uint8)
        for frame, mask in zip(source, masks):
            yield np.where(mask[..., None], grey, frame)


@pytest.fixture
def grey(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Grey", Grey)
    info = dataclasses.replace(engines.ENGINES["propagation"], location=f"{__name__}:Grey")
    monkeypatch.setitem(engines.ENGINES, "propagation", info)
    Grey.made = []


@pytest.fixture
def data(tmp_path):
    """The published layout with one row of each source."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    for video, masks in (
        ("videovo/raw_video/123/123456.0.mp4", "video_inpainting/videovo/123456/all_masks.npz"),
        (
            "pexels/pexels/raw_video/123456789/1234567890.mp4",
            "video_inpainting/pexels/1234567890/all_masks.npz",
        ),
    ):
        for path in (video, masks):
            (folder / path).parent.mkdir(parents=True)
        frames = rng.integers(60, 200, (COUNT, H // 8, W // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        with VideoWriter(folder / video, Fraction(10), (H, W)) as writer:
            writer.write(frames)
        labels = np.zeros((COUNT, H, W), np.uint8)
        labels[:, 8:16, 8:24] = 2
        np.savez_compressed(folder / masks, labels)
    with open(folder / "test.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [NAMES, ["123456.0.mp4", 2, 0, 9, 10, "a wall"], ["1234567890.mp4", 2, 0, 9, 10, "a road"]]
        )
    return folder


def run(data, *more):
    fixed = ["--prompt", "", "--inpainting_mask_meta", data / "test.csv", "--engine", "propagation"]
    return published.main([str(one) for one in (*fixed, *more)])


THEIRS = (  # what infer/inpaint.sh of the authors gives, but for the folders of weights
    *(
        "--num_inference_steps",
        50,
        "--guidance_scale",
        6.0,
        "--num_videos_per_prompt",
        1,
        "--dtype",
        "bfloat16",
    ),
    *("--generate_type", "i2v_inpainting", "--first_frame_gt", "--replace_gt", "--mask_add"),
    *("--down_sample_fps", 5, "--overlap_frames", 0, "--prev_clip_weight", 0.0, "--llm_model", "None"),
    *("--dilate_size", 4, "--lora_rank", 256),
)


def test_one_row_to_one_file(grey, data, capsys):
    out = data / "out" / "1.mp4"
    videos = ("--image_or_video_path", data / "videovo/raw_video")
    arguments = (
        *THEIRS,
        *videos,
        "--inpainting_sample_id",
        1,
        "--inpainting_frames",
        3,
        "--output_path",
        out,
    )
    assert run(data, *arguments) == 0, capsys.readouterr().err
    assert sorted(path.name for path in out.parent.iterdir()) == ["1.json", "1.mp4", "1_vis.mp4"]
    with open_video(out) as result:
        assert (len(result), result.size, result.fps) == (3, (H, W), 5)  # without --long_video: one window
        assert result[0][10:14, 12:20].std() < 4  # within the rim that fades
    asked = json.loads((out.parent / "1.json").read_text())
    assert (
        asked["path"] == "1234567890.mp4"
        and asked["video_inpainting_prompt"] is None
        and asked["mask_id"] == 2
    )
    assert run(data, *arguments, "--long_video") == 0
    with open_video(out) as result:
        assert len(result) == 5


def test_several_videos_and_the_background(grey, data):
    out = data / "x.mp4"
    arguments = ("--inpainting_sample_id", 0, "--num_videos_per_prompt", 2, "--output_path", out)
    assert run(data, *arguments, "--mask_background") == 0
    greys = []
    for path in (out, data / "x_1.mp4"):
        with open_video(path) as result:
            greys.append(float(result[0][24:].mean()))
            assert result[0][26:, 30:].std() < 4  # what was outside the masks
    assert abs(greys[0] - greys[1]) > 3 and len(Grey.made) == 1


def test_a_video_of_ones_own_in_place_of_the_row_s(grey, data):
    own = data / "own" / "other.mp4"
    own.parent.mkdir()
    with VideoWriter(own, Fraction(10), (H, W)) as writer:
        writer.write(np.full((COUNT, H, W, 3), 30, np.uint8))
    arguments = ("--data_dir", data, "--inpainting_sample_id", 0, "--output_path", data / "x.mp4")
    assert run(data, *arguments, "--image_or_video_path", own) == 0
    with open_video(data / "x.mp4") as result:
        assert abs(float(result[0][24:].mean()) - 30) < 3
    (data / "own" / "123456.0.mp4").write_bytes(own.read_bytes())
    assert run(data, *arguments, "--image_or_video_path", own.parent) == 0


def test_rows_to_folders(grey, data, tmp_path, capsys):
    """Without --output_path it is the batch, under the same flags."""
    out = tmp_path / "out"
    arguments = ("--image_or_video_path", data / "videovo/raw_video", "--output_dir", out, "--long_video")
    assert run(data, *THEIRS, *arguments, "--inpainting_sample_id", 1) == 0, capsys.readouterr().err
    assert [path.name for path in out.glob("0*")] == ["00001_1234567890"]
    assert run(data, *THEIRS, *arguments) == 0 and len(list(out.glob("0*"))) == 2
    assert run(data, *arguments[:2], "--output_dir", tmp_path / "around", "--mask_background") == 0
    with open_video(next((tmp_path / "around").glob("*/result.mp4"))) as result:
        assert result[0][26:, 30:].std() < 4


FAULTS = {
    "llm": (
        ("--output_dir", "o", "--llm_model", "gpt-4o"),
        "no language model is asked .*--first_frame_prompt",
    ),
    "kind": (("--output_dir", "o", "--generate_type", "t2v"), "--generate_type is i2v_inpainting .*not t2v"),
    "nowhere": ((), "--output_dir, or --output_path"),
    "no row": (("--output_path", "x.mp4"), "--output_path needs --inpainting_sample_id"),
    "suffix": (("--output_path", "x.gif", "--inpainting_sample_id", 0), "ends in .mp4, unlike 'x.gif'"),
    "row": (
        ("--output_path", "x.mp4", "--inpainting_sample_id", 7),
        "--inpainting_sample_id is 7, but .* 2 rows",
    ),
    "negative": (
        ("--output_path", "x.mp4", "--inpainting_sample_id", -1),
        "--inpainting_sample_id is 0 or more",
    ),
    "none": (
        ("--output_dir", "o", "--num_videos_per_prompt", 0),
        "--num_videos_per_prompt is 1 or more, not 0",
    ),
    "copies": (
        ("--output_dir", "o", "--num_videos_per_prompt", 2),
        "--num_videos_per_prompt is for --output_path",
    ),
    "videos": (
        ("--output_dir", "o", "--image_or_video_path", "v"),
        "does not end in videovo/raw_video; .*--data_dir",
    ),
    "gone": (
        ("--output_path", "x.mp4", "--inpainting_sample_id", 0, "--image_or_video_path", "gone"),
        "There is no 'gone', which --image_or_video_path names",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_is_one_sentence(grey, data, capsys, monkeypatch, name):
    import re

    monkeypatch.chdir(data)
    arguments, said = FAULTS[name]
    try:
        status = run(data, *arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2 and re.search(said, capsys.readouterr().err.splitlines()[-1])
    assert not list(data.glob("x*")) and not (data / "o").exists()


def test_every_published_flag_is_known():
    """Those of the authors' infer/inpaint.py."""
    flags = """prompt image_or_video_path model_path lora_path lora_rank output_path guidance_scale num_inference_steps
        num_videos_per_prompt generate_type dtype seed inpainting_branch inpainting_mask_meta inpainting_sample_id
        inpainting_frames mask_background add_first first_frame_gt replace_gt mask_add down_sample_fps overlap_frames
        prev_clip_weight img_inpainting_model llm_model long_video dilate_size
        id_adapter_resample_learnable_path""".split()
    known = {flag for action in published.build_parser()._actions for flag in action.option_strings}
    assert {f"--{flag}" for flag in flags} <= known


def shell(script, settings, *, cwd):
    """What a script would run, one line a command: `python` is a program that says its arguments."""
    python = cwd / "python"
    python.write_text('#!/usr/bin/env bash\necho "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "python": str(python), **settings}
    return subprocess.run(
        ["bash", str(ROOT / "infer" / script)], env=environment, cwd=cwd, capture_output=True, text=True
    )


def test_no_variable_of_inpaint_sh_is_ignored(tmp_path):
    settings = {
        "data_kind": "val",
        "id_adapter_resample_learnable_path": "id",
        "image_or_video_path": "d/videovo/raw_video",
        "llm_model": "gpt-4o",
        "dtype": "float16",
        "lora_rank": "256",
        "lora_path": "style",
    }
    (said,) = shell("inpaint.sh", settings, cwd=tmp_path).stdout.splitlines()
    for part in (
        *(
            "--csv d/pexels_videovo_val_dataset.csv",
            "--data_dir d ",
            "--id_adapter_resample_learnable_path id ",
        ),
        *("--llm_model gpt-4o", "--dtype float16", "--lora_rank 256", "--lora_path style"),
    ):
        assert part in said, part
    several = {"inpainting_branches": "a/branch b/branch", "num_videos_per_prompt": "2", "seed": "5"}
    lines = shell("inpaint.sh", {**several, "output_base_path": "out"}, cwd=tmp_path).stdout.splitlines()
    assert [line.partition("--output_dir ")[2] for line in lines] == [
        "out_a_branch --seed 5 --inpainting_branch a/branch",
        "out_a_branch_1 --seed 6 --inpainting_branch a/branch",
        "out_b_branch --seed 5 --inpainting_branch b/branch",
        "out_b_branch_1 --seed 6 --inpainting_branch b/branch",
    ]
    (other,) = shell("inpaint.sh", {"engine": "propagation"}, cwd=tmp_path).stdout.splitlines()
    assert "--inpainting_branch" not in other and "--lora" not in other
    for wrong, word in (
        ({"data_kind": "some"}, "data_kind is"),
        ({"image_or_video_path": "v"}, "set data_dir"),
    ):
        done = shell("inpaint.sh", wrong, cwd=tmp_path)
        assert done.returncode == 2 and word in done.stderr and not done.stdout


def test_inpaint_id_resample_sh(tmp_path):
    (said,) = shell("inpaint_id_resample.sh", {}, cwd=tmp_path).stdout.splitlines()
    for part in ("--id_adapter_resample_learnable_path ../ckpt/VideoPainterID/checkpoints", "--lora_rank 256",
                 "--prev_clip_weight 0.5", "--output_dir ../output/inp_IP_videopainter"):  # fmt: skip
        assert part in said, part


def test_the_guide_s_folder(tmp_path):
    """`cd infer; python run_demo.py ...`"""
    command = [sys.executable, "run_demo.py", "--video", str(tmp_path / "gone.mp4"), "--click", "3,4"]
    done = subprocess.run(command, cwd=ROOT / "infer", capture_output=True, text=True)
    assert (
        done.returncode == 2 and done.stderr.startswith("run_demo.py: error: ") and "gone.mp4" in done.stderr
    )


def test_an_edit_of_a_row(grey, data, capsys):
    """infer/edit.py: what the instruction makes of the row's caption, and 48 pixels around the masks."""
    out = data / "e.mp4"
    arguments = ("--inpainting_sample_id", 0, "--output_path", out)
    edit = ("--video_editing_instruction", "Change the wall into a hedge.")
    assert run(data, *arguments, *edit) == 0, capsys.readouterr().err
    asked = json.loads((data / "e.json").read_text())
    assert asked["Original_video_caption"] == "a wall" and asked["Edited_video_caption"] == "A hedge."
    assert asked["Edited_image_caption"] == "a hedge"
    (data / "said.json").write_text(
        json.dumps({"Edited_video_caption": "One.", "Edited_image_caption": "two"})
    )
    assert run(data, *arguments, "--captions", data / "said.json") == 0
    assert json.loads((data / "e.json").read_text())["Edited_video_caption"] == "One."
    (data / "said.json").write_text("{}")
    assert run(data, *arguments, "--captions", data / "said.json") == 2
    assert "Edited_video_caption and Edited_image_caption" in capsys.readouterr().err


def test_edit_sh(tmp_path):
    settings = {
        "inpainting_sample_ids": "3 4",
        "video_editing_instructions": "Make the car red.\n  Turn it into a b.",
    }
    lines = shell("edit.sh", settings, cwd=tmp_path).stdout.splitlines()
    ends = [line.partition("--inpainting_sample_id ")[2] for line in lines]
    base = "../output/edit_fps8_dilate_48"
    assert ends == [
        f"3 --output_path {base}/3.mp4 --video_editing_instruction Make the car red.",
        f"4 --output_path {base}/4.mp4 --video_editing_instruction Turn it into a b.",
    ]
    assert all(
        " --dilate_size 48 " in line and " --first_frame_gt --replace_gt --mask_add " in line
        for line in lines
    )
    done = shell("edit.sh", {**settings, "inpainting_sample_ids": "1 2 3"}, cwd=tmp_path)
    assert done.returncode == 2 and "2 instructions for 3 rows" in done.stderr
    (line,) = shell(
        "edit.sh", {"captions": "c", "inpainting_sample_ids": "5"}, cwd=tmp_path
    ).stdout.splitlines()
    assert line.endswith("--captions c/5.json")


def test_edit_bench_sh(tmp_path):
    """Every ROW.json of a folder is an edit of that row."""
    folder = tmp_path / "edits"
    folder.mkdir()
    for name in ("7.json", "12.json", "notes.json"):
        (folder / name).write_text("{}")
    lines = shell("edit_bench.sh", {"captions": str(folder)}, cwd=tmp_path).stdout.splitlines()
    assert sorted(line.rpartition("--captions ")[2] for line in lines) == [
        f"{folder}/12.json",
        f"{folder}/7.json",
    ]
    done = shell("edit_bench.sh", {"captions": str(tmp_path / "gone")}, cwd=tmp_path)
    assert done.returncode == 2 and "there is no folder" in done.stderr
