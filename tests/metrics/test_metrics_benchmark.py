"""VPBench and DAVIS in their published layouts: from results to the paper's row; nothing is measured twice."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest

from videopainter.cli import metrics
from videopainter.cli.benchmark import main
from videopainter.video import VideoWriter

H, W, COUNT = 32, 48, 9


def frames(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(60, 200, (COUNT, H // 8, W // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def masks():
    holes = np.zeros((COUNT, H, W), np.uint8)
    holes[:, 8:16, 8:24] = 2
    return holes


@pytest.fixture
def vpbench(tmp_path):
    data = tmp_path / "data"
    for video, mask, seed in (
        ("videovo/raw_video/123/123456.0.mp4", "videovo/123456", 1),
        ("pexels/pexels/raw_video/123456789/1234567890.mp4", "pexels/1234567890", 2),
    ):
        (data / video).parent.mkdir(parents=True)
        with VideoWriter(data / video, Fraction(8), (H, W), quality=100) as writer:
            writer.write(frames(seed))
        folder = data / "video_inpainting" / mask
        folder.mkdir(parents=True)
        np.savez_compressed(folder / "all_masks.npz", masks())
    with open(data / "bench.csv", "w", newline="") as file:
        names = "path mask_id start_frame end_frame fps caption".split()
        rows = [["123456.0.mp4", 2, 0, 9, 8, "a wall"], ["1234567890.mp4", 2, 0, 9, 8, "a road"]]
        csv.writer(file).writerows([names, *rows])
    return data


def run(*arguments):
    return main([str(one) for one in arguments])


def test_vpbench_from_nothing_to_the_row(vpbench, tmp_path, capsys):
    """One command runs the generation and measures it; the second start does neither again."""
    results, out = tmp_path / "results", tmp_path / "figures"
    arguments = ("--benchmark", "vpbench", "--csv", vpbench / "bench.csv", "--results", results, "--output_dir", out,
                 "--lpips", "none", "--clip", "none", "--size", f"{W}x{H}", "--method", "propagation")  # fmt: skip
    batch = ("--run", "--", "--engine", "propagation", "--down_sample_fps", 4)
    assert run(*arguments, *batch) == 0, capsys.readouterr().err
    with open(out / "figures.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["00000_123456", "00001_1234567890", "mean"]
    # Half of the frames were worked on, and compared with the same ones.
    assert all(float(row["psnr_known"]) > 35 for row in rows.values())
    assert all(float(row["psnr"]) < 45 for row in rows.values())
    assert (out / "table.md").read_text().splitlines()[2].startswith("| propagation | ")
    assert "propagation &" in (out / "table.tex").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert metrics.main([str(one) for one in arguments]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (out / "clips").iterdir()} == before
    json.loads((out / "clips/00000_123456.json").read_text())


def test_published_files_of_results(vpbench, tmp_path, capsys):
    """`0.mp4`, `1.mp4`, ... of the published script."""
    results = tmp_path / "results"
    results.mkdir()
    for number, seed in ((0, 1), (1, 2)):
        with VideoWriter(results / f"{number}.mp4", Fraction(8), (H, W), quality=100) as writer:
            writer.write(frames(seed))
    arguments = ("--benchmark", "vpbench", "--csv", vpbench / "bench.csv", "--results", results,
                 "--output_dir", tmp_path / "figures", "--lpips", "none", "--clip", "none")  # fmt: skip
    assert run(*arguments) == 0, capsys.readouterr().err
    (results / "1.mp4").unlink()
    assert run(*arguments) == 2
    assert "1 of 2 clips have no result; the first is '00001_1234567890'" in capsys.readouterr().err


def test_davis(tmp_path, capsys):
    import cv2

    for folder in ("JPEGImages/cat", "test_masks/cat", "results/cat"):
        (tmp_path / folder).mkdir(parents=True)
    for i, (frame, mask) in enumerate(zip(frames(3), masks())):
        cv2.imwrite(str(tmp_path / f"JPEGImages/cat/{i:05d}.jpg"), frame)
        cv2.imwrite(
            str(tmp_path / f"test_masks/cat/{i:05d}.png"), np.where(mask > 0, 255, 0).astype(np.uint8)
        )
        cv2.imwrite(str(tmp_path / f"results/cat/{i:05d}.png"), np.where(mask[..., None] > 0, 0, frame))
    (tmp_path / "captions.csv").write_text("video_name,caption\ncat,a cat\n")
    root = tmp_path
    arguments = ("--benchmark", "davis", "--video_root", root / "JPEGImages", "--mask_root", root / "test_masks",
                 "--results", root / "results", "--output_dir", root / "out", "--lpips", "none", "--clip", "none",
                 "--caption_path", root / "captions.csv", "--max_video_length", 4)  # fmt: skip
    assert run(*arguments) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "out/clips/cat.json").read_text())["figures"]
    assert figures["psnr_known"] > 30 and figures["psnr"] < 25


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--benchmark", "vpbench"), "needs --csv"),
        (("--benchmark", "davis"), "needs --video_root and --mask_root"),
        (("--benchmark", "davis", "--video_root", ".", "--mask_root", ".", "--run"), "--run is for vpbench"),
        (("--benchmark", "other"), "invalid choice: 'other'"),
        (("--benchmark", "davis", "--height", 240), "--height and --width go together"),
    ],
)
def test_what_cannot_be(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        run(*arguments, "--results", tmp_path, "--output_dir", tmp_path / "out")
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_missing_weights_are_one_sentence(vpbench, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    for number in (0, 1):
        (results / f"{number}.mp4").touch()
    arguments = ("--benchmark", "vpbench", "--csv", vpbench / "bench.csv", "--results", results,
                 "--output_dir", tmp_path / "out", "--weights", tmp_path)  # fmt: skip
    assert run(*arguments) == 2
    assert "torchvision's weights that LPIPS uses" in capsys.readouterr().err.splitlines()[-1]
