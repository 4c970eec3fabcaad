"""`python -m videopainter.metrics` from folders to table and CSV, in the layouts of DAVIS and YouTube-VOS."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from videopainter.cli.metrics import main
from videopainter.metrics import evaluate as module
from videopainter.metrics.evaluate import COLUMNS, evaluate
from videopainter.metrics.frames import WarpingError, frame_psnr, frame_ssim
from videopainter.metrics.frechet import frechet_distance
from videopainter.metrics.layout import CHUNK, find_clips
from videopainter.metrics.vfid import VideoFeatures, load_i3d
from videopainter.weights import manifest

ROOT = Path(__file__).resolve().parents[2]
H, W = 80, 96
SMALL = ["--size", f"{W}x{H}"]
pytestmark = pytest.mark.filterwarnings("error")


def texture(n, seed):
    noise = np.random.default_rng(seed).normal(size=(H, W + 2 * n, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    wide = np.clip(128 + 45 * smooth / smooth.std(), 20, 230).astype(np.uint8)
    return np.stack([wide[:, 2 * i : 2 * i + W] for i in range(n)])


def holes(n, moving):
    masks = np.zeros((n, H, W), bool)
    for i in range(n):
        masks[i, 30:50, 20 + 2 * i * moving : 50 + 2 * i * moving] = True
    return masks


def write(folder, images, suffix=".png"):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:05d}{suffix}")


def arrays(n, seed, moving):
    """(result, truth, masks) of a clip; the result is wrong in the hole only."""
    truth, masks = texture(n, seed), holes(n, moving)
    result = truth.copy()
    result[masks] = np.random.default_rng(seed).integers(0, 256, (masks.sum(), 3), np.uint8)
    return result, truth, masks


CLIPS = {"bear": arrays(5, 0, False), "camel": arrays(3, 1, True)}


@pytest.fixture(params=["davis", "youtube-vos"])
def data(request, tmp_path):
    """(results, ground truth, masks)."""
    truths, masks, results = tmp_path / "data", tmp_path / "data", tmp_path / "results"
    for name, (result, truth, mask) in CLIPS.items():
        mask = mask.astype(np.uint8) * 255
        if request.param == "davis":
            write(truths / "JPEGImages" / "480p" / name, truth)
            write(masks / "Annotations" / "480p" / name, mask)
        else:
            write(truths / "JPEGImages" / name, truth)
            write(masks / "test_masks" / name, mask[:1] if name == "bear" else mask)
        write(results / name, result)
    return [str(path) for path in (results, truths, masks)]


def by_hand():
    """Each figure of each clip from the frame functions, frame by frame."""
    rows = {}
    for name, clip in CLIPS.items():
        warping = WarpingError()
        values = {column: [] for column in COLUMNS}
        for frames in zip(*clip):
            found = {"psnr": frame_psnr(*frames), "ssim": frame_ssim(*frames), "e_warp": warping(*frames)}
            for measure, pair in found.items():
                for column, value in zip((measure, f"{measure}_hole"), pair or ()):
                    values[column].append(value * 1e3 if measure == "e_warp" else value)
        rows[name] = values
    return rows


def read_csv(path):
    with open(path, newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


def figures(row):
    names = [c + "_x1e-3" if c.startswith("e_warp") else c for c in COLUMNS]
    return [float(row[name]) for name in names]


def test_table_and_csv(data, tmp_path, capsys):
    path = tmp_path / "figures.csv"
    assert main([*data, *SMALL, "--csv", str(path)]) == 0
    rows, expected = read_csv(path), by_hand()
    assert list(rows) == ["bear", "camel", "(mean of frames)", "(mean of clips)"]
    for name in CLIPS:
        np.testing.assert_allclose(
            figures(rows[name]), [np.mean(v) for v in expected[name].values()], rtol=1e-5
        )
        assert rows[name]["hole"] == f"{600 / (H * W):.6g}"
        assert rows[name]["vfid"] == ""
    pooled = [np.mean(expected["bear"][c] + expected["camel"][c]) for c in COLUMNS]
    np.testing.assert_allclose(figures(rows["(mean of frames)"]), pooled, rtol=1e-5)
    means = [np.mean([np.mean(expected[name][c]) for name in CLIPS]) for c in COLUMNS]
    np.testing.assert_allclose(figures(rows["(mean of clips)"]), means, rtol=1e-5)
    assert (rows["bear"]["frames"], rows["camel"]["frames"], rows["(mean of frames)"]["frames"]) == (
        "5",
        "3",
        "8",
    )
    assert (rows["bear"]["mask"], rows["camel"]["mask"]) == ("stationary", "moving")
    assert rows["bear"]["size"] == "96x80" and rows["bear"]["flow"] == "DIS"
    printed = capsys.readouterr().out
    for name in CLIPS:
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert f"{np.mean(expected[name]['psnr']):.2f}" in line
        assert f"{np.mean(expected[name]['e_warp_hole']):.3f}" in line
    assert "E_warp x 1e-3" in printed and "size 96x80" in printed and "VFID" not in printed
    assert [p for p in os.listdir(tmp_path) if p.startswith(".")] == []


def test_size_dilation_and_choice_of_clips(data, tmp_path):
    """At the published size with the published dilation, which makes holes larger; and at the frames' own."""
    path = tmp_path / "figures.csv"
    (tmp_path / "split.txt").write_text("camel\n\n")
    assert main([*data, "--clips", str(tmp_path / "split.txt"), "--dilate", "4", "--csv", str(path)]) == 0
    rows = read_csv(path)
    assert list(rows) == ["camel", "(mean of frames)", "(mean of clips)"]
    assert rows["camel"]["size"] == "432x240" and rows["camel"]["dilate"] == "4"
    assert float(rows["camel"]["hole"]) > 600 / (H * W)
    assert (
        main([*data, "--clips", "camel", "--size", "truth", "--resize", "bilinear", "--csv", str(path)]) == 0
    )
    rows = read_csv(path)
    assert (rows["camel"]["size"], rows["camel"]["resize"]) == ("truth", "bilinear")
    np.testing.assert_allclose(
        figures(rows["camel"]), [np.mean(v) for v in by_hand()["camel"].values()], rtol=1e-5
    )


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
    """Random weights in the released layout."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in manifest("i3d_rgb").items():
        value = torch.randn(shape, generator=generator)
        state[name] = value / np.sqrt(max(1, np.prod(shape[1:]))) if len(shape) > 1 else value.abs() + 0.5
    path = tmp_path_factory.mktemp("weights") / "i3d_rgb_imagenet.pt"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("statistics", ["stored", "clip"])
def test_vfid(data, i3d, tmp_path, capsys, statistics):
    path = tmp_path / "figures.csv"
    options = ["--i3d", str(i3d), "--i3d_statistics", statistics, "--csv", str(path)]
    assert main([*data, *SMALL, *options]) == 0
    row = read_csv(path)["(mean of clips)"]
    features = VideoFeatures(load_i3d(i3d), statistics)
    vectors = [
        [features([(a, masks)], len(a)) for a in (result, truth)] for result, truth, masks in CLIPS.values()
    ]
    for i, column in enumerate(("vfid", "vfid_hole")):
        result, truth = (np.stack([clip[which][i] for clip in vectors]) for which in (0, 1))
        assert float(row[column]) == pytest.approx(frechet_distance(result, truth), rel=1e-3)
        assert float(row[column]) > 0
    assert row["i3d_statistics"] == statistics
    assert f"VFID of 2 clips: {float(row['vfid']):.4f} over the frame" in capsys.readouterr().out


def test_perfect_results_have_no_vfid_to_speak_of(data, i3d, tmp_path):
    path = tmp_path / "figures.csv"
    assert (
        main([data[1], *data[1:], *SMALL, "--i3d", str(i3d), "--csv", str(path)]) == 2
    )  # no folder of clips
    truth = next(p for p in Path(data[1]).rglob("camel") if "JPEGImages" in p.parts).parent
    assert main([str(truth), *data[1:], *SMALL, "--i3d", str(i3d), "--csv", str(path)]) == 0
    row = read_csv(path)["(mean of clips)"]
    assert float(row["vfid"]) == pytest.approx(0, abs=1e-6) and float(row["psnr"]) == 60


def test_frames_stream(tmp_path, monkeypatch):
    """However long a clip is, a chunk of each kind is in memory, and the figures are those of all frames."""
    n = 2 * CHUNK + 3
    write(tmp_path / "truth", texture(n, 0)), write(tmp_path / "result", texture(n, 1))
    write(tmp_path / "masks", holes(1, False).astype(np.uint8))
    sizes = []

    class Watched(module.ClipFrames):
        def chunks(self):
            for chunk in super().chunks():
                sizes.append(len(chunk[0]))
                yield chunk

    monkeypatch.setattr(module, "ClipFrames", Watched)
    told = []
    clips = find_clips(tmp_path / "result", tmp_path / "truth", tmp_path / "masks")
    report = evaluate(clips, size=None, progress=lambda name, count: told.append((name, count)))
    assert sizes == [CHUNK, CHUNK, 3]
    assert sum(count for _, count in told) == n == module.count_frames(clips, False)
    pairs = [frame_psnr(*frames) for frames in zip(texture(n, 1), texture(n, 0), holes(n, False))]
    np.testing.assert_allclose(
        [report.by_frame()[c] for c in ("psnr", "psnr_hole")], np.mean(pairs, axis=0), rtol=1e-9
    )


def test_one_frame_has_no_warping_error(tmp_path, capsys):
    write(tmp_path / "truth", texture(1, 0)), write(tmp_path / "result", texture(1, 1))
    write(tmp_path / "masks", holes(1, False).astype(np.uint8))
    folders = [str(tmp_path / name) for name in ("result", "truth", "masks")]
    assert main([*folders, *SMALL, "--csv", str(tmp_path / "a.csv")]) == 0
    assert read_csv(tmp_path / "a.csv")["result"]["e_warp_x1e-3"] == ""
    assert " - " in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("result"))


# -- what can go wrong --


def refused(arguments, capsys):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == ""
    return captured.err


def test_errors_are_one_sentence_and_leave_the_csv_alone(data, tmp_path, capsys, i3d):
    path = tmp_path / "figures.csv"
    path.write_text("before")
    assert "nothing at" in refused([*data[:2], tmp_path / "nowhere", "--csv", path], capsys)
    assert "no folder" in refused([*data, "--csv", tmp_path / "none" / "a.csv"], capsys)
    assert "is a folder, not a file" in refused([*data, "--csv", tmp_path], capsys)
    assert "no result for 1 of 1 clips: cow" in refused([*data, "--clips", "cow", "--csv", path], capsys)
    assert "There is no file" in refused([*data, "--i3d", tmp_path / "i3d.pt", "--csv", path], capsys)
    found = refused([*data, *SMALL, "--i3d", i3d, "--clips", "camel", "--csv", path], capsys)
    assert "sets of 2 clips or more, and there is 1" in found
    found = refused([*data, "--size", "64x60", "--csv", path], capsys)
    assert "bear: The window of SSIM is 65 x 65 pixels, more than frames of 64 x 60" in found
    assert "I3D cannot run on 'abacus'" in refused([*data, "--i3d", i3d, "--device", "abacus"], capsys)
    (Path(data[0]) / "camel" / "00001.png").unlink()
    assert "camel: " in (found := refused([*data, *SMALL, "--csv", path], capsys)) and "no 00001" in found
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--size", "432", "'432' is neither WIDTHxHEIGHT"),
        ("--size", "0x240", "'0x240' is neither WIDTHxHEIGHT"),
        ("--dilate", "-1", "'-1' is not a whole number"),
        ("--resize", "nearest", "invalid choice: 'nearest'"),
    ],
)
def test_options_are_checked(option, value, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["a", "b", "c", f"{option}={value}"])
    assert message in capsys.readouterr().err


def test_without_scikit_image(data, monkeypatch, capsys):
    monkeypatch.setattr("videopainter.cli.metrics.find_spec", lambda name: None)
    assert "pip install 'videopainter[metrics]' gets it." in refused([*data, *SMALL], capsys)


def test_help_tells_the_protocol():
    command = [sys.executable, "-m", "videopainter.metrics", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    for word in ("432 x 240", "FlowNet2", "win_size=65", "Mixed_5c", "--dilate 4", "stationary"):
        assert word in done.stdout


def test_importing_the_package_brings_nothing_heavy():
    program = "import sys, videopainter.metrics, videopainter.metrics.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    loaded = done.stdout.split()
    assert "videopainter.metrics.protocol" in loaded
    assert not {"torch", "skimage", "scipy", "numpy"} & set(loaded)
