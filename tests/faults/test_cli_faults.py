"""Whatever the user gets wrong: exit status 2, one sentence, no traceback, no output folder."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videopainter.video import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402

N, H, W = 6, 48, 64


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    rng = np.random.default_rng(0)
    with VideoWriter(folder / "good.mp4", Fraction(10), (H, W)) as writer:
        writer.write(rng.integers(0, 255, (N, H, W, 3), np.uint8))
    (folder / "text.mp4").write_text("This is no video.")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "head.mp4").write_bytes((folder / "good.mp4").read_bytes()[:60])
    (folder / "nothing").mkdir()
    mask = np.zeros((N, H, W), np.uint8)
    mask[:, 10:20, 10:20] = 4
    np.savez(folder / "good.npz", mask)
    np.savez(folder / "nine.npz", mask[[0, 1, 2, 3, 4, 5, 0, 1, 2]])
    np.savez(folder / "wide.npz", np.pad(mask, ((0, 0), (0, 0), (0, 6))))
    np.savez(folder / "empty.npz", mask * 0)
    np.savez(folder / "pickle.npz", np.array([{"a": 1}], dtype=object))
    np.savez(folder / "named.npz", frames=mask, depth=mask)
    (folder / "text.npz").write_text("no archive")
    Image.fromarray(mask[0, :20]).save(folder / "small.png")
    return folder


FAULTS = {
    "no video": (["--video", "gone.mp4", "--click", "5,5"], "gone.mp4"),
    "text": (["--video", "text.mp4", "--click", "5,5"], "text.mp4"),
    "empty file": (["--video", "empty.mp4", "--click", "5,5"], "empty.mp4"),
    "only the head": (["--video", "head.mp4", "--click", "5,5"], "head.mp4"),
    "empty folder": (["--video", "nothing", "--click", "5,5"], "nothing"),
    "nothing selected": ([], "say what should go"),
    "only a negative click": (["--negative_click", "5,5"], "say what should go"),
    "half a click": (["--click_x", "5"], "need each other"),
    "outside the guide's frame": (["--click_x", "720", "--click_y", "5"], "--click_x must be 0 to 719.*720$"),
    "below the guide's frame": (["--click_x", "5", "--click_y", "480"], "--click_y must be 0 to 479.*480$"),
    "outside the video": (["--click", "64,5"], "64,5"),
    "past the end": (["--click", "5,5,6"], "6"),
    "no numbers": (["--click", "left"], "'left' is not X,Y"),
    "five numbers": (["--click", "1,2,3,4,5"], "'1,2,3,4,5' is not X,Y"),
    "unknown segmenter": (["--click", "5,5", "--segmenter", "magic"], "no segmenter 'magic'"),
    "box of two": (["--box", "1,2"], "'1,2' is not X0,Y0"),
    "clicks and masks": (["--click", "5,5", "--mask", "good.npz"], "--mask cannot"),
    "no masks": (["--mask", "gone.npz"], "gone.npz"),
    "too many masks": (["--mask", "nine.npz"], "9 masks.*6 frames"),
    "masks too wide": (["--mask", "wide.npz"], "70 x 48.*64 x 48"),
    "empty masks": (["--mask", "empty.npz"], "no pixel"),
    "pickled masks": (["--mask", "pickle.npz"], "pickled"),
    "no masks among the arrays": (["--mask", "named.npz"], "named.npz.*frames, depth"),
    "text as masks": (["--mask", "text.npz"], "text.npz"),
    "text as mask video": (["--mask", "text.mp4"], "text.mp4"),
    "small still mask": (["--mask", "small.png"], "64 x 20.*64 x 48"),
    "no such label": (["--mask", "good.npz", "--mask_id", "1"], "no label 1 .*it has 4"),
    "label of a click": (["--click", "15,15", "--mask_id", "1"], "Mask id 1"),
    "unknown engine": (["--mask", "good.npz", "--engine", "magic"], "'magic'"),
    "engine without weights": (
        ["--mask", "good.npz", "--engine", "propainter"],
        "download.py --only propainter",
    ),
    "engine by hand": (["--mask", "good.npz", "--engine", "e2fgvi"], "E2FGVI-HQ-CVPR22.pth"),
    "option and no weights": (
        ["--mask", "good.npz", "--engine", "propainter", "--ref_stride", "5"],
        "download.py --only propainter",
    ),
    "dilation": (["--mask", "good.npz", "--dilate_size", "-1"], "-1"),
    "no time": (["--mask", "good.npz", "--max_seconds", "0"], "above 0, not 0"),
    "no rate": (["--mask", "good.npz", "--target_fps", "nan"], "above 0, not nan"),
    "seed": (["--mask", "good.npz", "--seed", "-5"], "-5"),
    "output is a file": (["--mask", "good.npz", "--output_dir", "good.npz"], "good.npz.*is a file"),
    "output below a file": (["--mask", "good.npz", "--output_dir", "good.npz/out"], "good.npz"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(files, monkeypatch, capsys, name):
    import re

    arguments, words = FAULTS[name]
    monkeypatch.chdir(files)
    if "--video" not in arguments:
        arguments = ["--video", "good.mp4", *arguments]
    if "--output_dir" not in arguments:
        arguments = [*arguments, "--output_dir", f"output of {name}"]
    try:
        status = run_demo.main(arguments)
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    assert status == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("run_demo.py: error: ") and re.search(words, last), last
    assert not (files / f"output of {name}").exists()


def test_no_traceback_for_real(files):
    full = [sys.executable, str(ROOT / "run_demo.py"), "--video", "text.mp4", "--click", "5,5"]
    done = subprocess.run(full, cwd=files, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
