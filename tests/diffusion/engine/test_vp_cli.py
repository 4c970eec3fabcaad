"""The whole way, through run_demo.py: click, mask, first frame, windows, paste back, files. Weights are random."""

import json
import re
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.video import open_video

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402

FILES = [
    *("frame0_original.png", "frame0_with_mask.png", "mask0.png"),
    *("result.mp4", "result_vis.mp4", "run.json"),
]


def demo(clip, out, *arguments):
    given = ["--video", clip.video, "--output_dir", out, *arguments]
    return run_demo.main([str(argument) for argument in given])


def test_click_to_files(cpu, clip, tmp_path, capsys):
    """Clicked in the guide's frame, tracked without weights, at 8 frames a second, over two windows."""
    x, y = (clip.masks.shape[2] * 0.3 + 0.5) * 720 / 200 - 0.5, 240
    status = demo(clip, tmp_path / "out", "--click_x", x, "--click_y", y, "--prompt", "a red wall",
                  "--num_inference_steps", 2, "--dilate_size", 6, "--guidance_scale", 3)  # fmt: skip
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "Engine: videopainter" in said.out and "Memory mode: fast" in said.out
    assert "First frame: propagation" in said.out and "Region: " in said.out
    assert re.search(r"inpaint: 100%.*4/4", said.err)
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == FILES
    with open_video(out / "result.mp4") as result, open_video(clip.video) as source:
        assert (len(result), result.size, result.fps) == (14, source.size, Fraction(8))
        for i in (0, 7, 13):
            hole = MaskTrack.from_array(clip.masks[3 * i : 3 * i + 1]).dilate(16)[0]
            difference = np.abs(result[i].astype(int) - source[3 * i])
            assert difference[~hole].mean() < 5  # what the codec does
            assert difference[clip.masks[3 * i]].mean() > 20
    report = json.loads((out / "run.json").read_text())
    assert report["settings"]["engine"] == "videopainter" and report["settings"]["target_fps"] == 8
    assert {"torch", "diffusers"} <= set(report["versions"])


def test_every_frame_with_every_option(cpu, clip, tmp_path, capsys):
    options = (
        *("--engine", "videopainter", "--mask", clip.npz, "--prompt", "a dog", "--target_fps", "source"),
        *("--max_seconds", 0.5, "--num_inference_steps", 1, "--first_frame", "none", "--memory", "low"),
        *("--cache", "first_block", "--overlap", 5, "--prev_clip_weight", 0.3, "--id_adapter"),
        *("--conditioning_scale", 0.8, "--device", "cpu", "--region", "frame", "--seed", 7),
        *("--model_path", cpu / "CogVideoX-5b-I2V", "--branch", cpu / "VideoPainter/checkpoints/branch"),
    )
    assert demo(clip, tmp_path / "out", *options) == 0, capsys.readouterr().err
    with av.open(str(tmp_path / "out" / "result.mp4")) as result:
        assert result.streams.video[0].frames == 12 and result.streams.video[0].average_rate == 24
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["memory"] == "low" and settings["id_adapter"] is True and settings["region"] == "frame"
    assert settings["guidance_scale"] == 6.0 and settings["device"] == "cpu"  # what was not said, too


FAULTS = {
    "no prompt": ((), "needs a prompt"),
    "wrong model": (("--prompt", "x", "--model_path", "."), "not a folder of CogVideoX-5b-I2V.*download.py"),
    "wrong branch": (("--prompt", "x", "--branch", "gone"), "no folder 'gone'.*--only branch"),
    "no adapter": (("--prompt", "x", "--id_adapter", "gone"), "no ID adapter at 'gone'.*--only id"),
    "no flux": (("--prompt", "x", "--first_frame", "flux"), "FLUX's weights.*--only flux"),
    "first frame": (("--prompt", "x", "--first_frame", "dream"), "not 'dream'"),
    "device": (("--prompt", "x", "--device", "abacus"), "not 'abacus'"),
    "memory": (("--prompt", "x", "--memory", "huge"), "not 'huge'"),
    "cache": (("--prompt", "x", "--cache", "some"), "not 'some'"),
    "region": (("--prompt", "x", "--region", "face"), "not 'face'"),
    "rate": (("--prompt", "x", "--target_fps", "fast"), "'fast' is neither a number nor source"),
    "no rate": (("--prompt", "x", "--target_fps", "0"), "above 0, not 0"),
    "steps": (("--prompt", "x", "--num_inference_steps", "0"), "1 or more, not 0"),
    "overlap": (("--prompt", "x", "--overlap", "3"), "is 3"),
    "weight": (("--prompt", "x", "--prev_clip_weight", "2"), "0 to 1, not 2"),
    "outside": (("--prompt", "x", "--click", "500,5"), "500"),
    "empty mask": (("--prompt", "x", "--mask", "empty.npz"), "no pixel"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(cpu, clip, tmp_path, monkeypatch, capsys, name):
    arguments, words = FAULTS[name]
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "empty.npz", np.zeros(clip.masks.shape, np.uint8))
    if not {"--click", "--mask"} & set(arguments):
        arguments = (*arguments, "--mask", clip.npz)
    try:
        status = demo(clip, tmp_path / "out", "--engine", "videopainter", *arguments)
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    assert status == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("run_demo.py: error: ") and re.search(words, last), last
    assert not (tmp_path / "out").exists()


def test_without_weights_it_says_what_gets_them(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    arguments = ("--mask", clip.npz, "--prompt", "a wall", "--engine", "videopainter")
    assert demo(clip, tmp_path / "out", *arguments) == 2
    assert "python ckpt/download.py --only base,branch" in capsys.readouterr().err


def test_weights_that_do_not_fit_leave_no_result(cpu, clip, tmp_path, monkeypatch, capsys):
    import shutil

    shutil.copytree(cpu, tmp_path / "ckpt")
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    path = tmp_path / "ckpt/VideoPainter/checkpoints/branch/diffusion_pytorch_model.safetensors"
    path.write_bytes(b"")
    out = tmp_path / "out"
    assert demo(clip, out, "--mask", clip.npz, "--prompt", "a wall", "--first_frame", "none") == 2
    assert "cannot be used" in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(p.name for p in out.iterdir()) == FILES[:3]
