"""The command line: its flags, its outputs, its exit statuses, from any directory."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from halted import start_halting

from videopainter.masks import MaskTrack
from videopainter.video import VideoWriter, open_video

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402

FPS, H, W = Fraction(10), 96, 144


def make_video(path, count):
    """A dark square crosses a still, coloured texture; returns its masks, bool (count, H, W)."""
    rng = np.random.default_rng(3)
    ground = np.kron(rng.integers(90, 220, (H // 4, W // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    masks = np.zeros((count, H, W), bool)
    with VideoWriter(path, FPS, (H, W)) as writer:
        for i in range(count):
            left = 10 + 2 * i % 90
            masks[i, 30:62, left : left + 26] = True
            frame = ground.copy()
            frame[masks[i]] = (20, 20, 60)
            writer.write(frame)
    return masks


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    masks = make_video(folder / "clip.mp4", 12)
    MaskTrack.from_array(masks).save_npz(folder / "masks.npz")
    return folder / "clip.mp4", folder / "masks.npz", masks


def command(*arguments, cwd, **more):
    full = [sys.executable, str(ROOT / "run_demo.py"), *map(str, arguments)]
    return subprocess.run(full, cwd=cwd, capture_output=True, text=True, timeout=120, **more)


def test_help_says_every_flag_and_imports_nothing_heavy(tmp_path):
    done = command("--help", cwd=tmp_path, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0 and not done.stderr
    flags = """video click_x click_y click negative_click box mask mask_id invert_mask mask_only prompt
        output_dir num_inference_steps guidance_scale seed dilate_size target_fps max_seconds engine
        region first_frame first_frame_prompt conditioning_scale overlap id_adapter prev_clip_weight memory compile
        cache device model_path branch first_frame_model window"""
    for flag in flags.split():
        assert f"--{flag} " in done.stdout
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run_demo, videopainter; "
        "run_demo.build_parser(); print([m for m in ('numpy', 'cv2', 'av', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_whole_run_from_another_directory(clip, tmp_path):
    video, npz, masks = clip
    done = command("--video", video, "--mask", npz, "--prompt", "a wall", "--guidance_scale", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "output"  # the default, where the command was given
    pictures = ["frame0_original.png", "frame0_with_mask.png", "mask0.png"]
    assert sorted(p.name for p in out.iterdir()) == [*pictures, "result.mp4", "result_vis.mp4", "run.json"]
    assert "Engine: propagation (" in done.stdout and "leaves the prompt aside" in done.stdout
    assert "no use for guidance_scale" in done.stdout
    assert "inpaint: 100%" in done.stderr
    with open_video(out / "result.mp4") as result, open_video(video) as source:
        assert (len(result), result.size, result.fps) == (12, (H, W), FPS)
        hole = masks[6]
        assert result[6][hole].mean() > source[6][hole].mean() + 50  # the dark square is gone
    report = json.loads((out / "run.json").read_text())
    assert report["settings"]["video"] == str(video) and report["settings"]["guidance_scale"] == 3


def test_click_to_masks_and_back(clip, tmp_path):
    video, _, masks = clip
    out = tmp_path / "out"
    x, y = (23 + 0.5) * 720 / W - 0.5, (46 + 0.5) * 480 / H - 0.5  # the square, in the guide's frame
    arguments = ["--video", str(video), "--output_dir", str(out)]
    assert run_demo.main([*arguments, "--click_x", str(x), "--click_y", str(y), "--mask_only"]) == 0
    assert {"masks.npz", "masks_vis.mp4"} <= {p.name for p in out.iterdir()}
    assert not (out / "result.mp4").exists()
    with np.load(out / "masks.npz") as archive:
        found = archive["arr_0"] != 0
    assert found.shape == masks.shape
    assert found[0][masks[0]].mean() > 0.9 and found[0].mean() < 0.25
    assert run_demo.main([*arguments, "--mask", str(out / "masks.npz"), "--max_seconds", "0.5"]) == 0
    with open_video(out / "result.mp4") as result:
        assert len(result) == 5


def test_prompts_reach_the_tracker(clip, tmp_path, monkeypatch, capsys):
    from videopainter.segmentation import BoxPrompt, ClickPrompt, TrackResult
    from videopainter.steps import selection

    video, _, masks = clip
    seen = []

    def select_objects(source, prompts, segmenter, progress, extent, size):
        seen.extend(prompts)
        return TrackResult(MaskTrack.from_array(masks), [7])

    monkeypatch.setattr(selection, "select_objects", select_objects)
    done = run_demo.main(
        [
            "--video",
            str(video),
            "--output_dir",
            str(tmp_path),
            "--mask_only",
            "--click_x",
            "719",
            "--click_y",
            "0",
        ]
        + ["--click", "5,6", "--click", "7.5,8,3", "--negative_click", "9,10,2,5", "--box", "1,2,30,40,4"]
    )
    assert done == 0
    assert seen == [
        ClickPrompt(W - 1, 0),  # the last pixel
        ClickPrompt(5, 6),
        ClickPrompt(7.5, 8, 3),
        ClickPrompt(9, 10, 2, positive=False, object_id=5),
        BoxPrompt(1, 2, 30, 40, 4),
    ]
    assert (
        "out of sight from frame 7 on; if it is there, click it. The flag is --click X,Y,7."
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "place, size, new_size, expected",
    [(359.5, 720, 1440, 719.5), (0, 720, 1440, 0.5), (479, 480, 240, 239), (0, 480, 96, 0)],
)
def test_the_guides_frame(place, size, new_size, expected):
    assert run_demo.rescale(place, size, new_size) == pytest.approx(expected)


@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_no_half_written_output(tmp_path, sent, status):
    masks = make_video(tmp_path / "long.mp4", 120)
    MaskTrack.from_array(masks).save_npz(tmp_path / "masks.npz")
    out = tmp_path / "out"
    arguments = ["--video", "long.mp4", "--mask", "masks.npz", "--output_dir", "out"]
    process = start_halting("run_demo", arguments, "result.mp4", tmp_path / "begun", cwd=tmp_path)
    try:
        assert list(out.glob(".result.mp4*"))
        process.send_signal(sent)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert sorted(p.name for p in out.iterdir()) == [
        "frame0_original.png",
        "frame0_with_mask.png",
        "mask0.png",
    ]
