"""Names that are no text, files that may not be read, no environment, arguments without end."""

import errno
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videopainter.cli.stream import main as stream
from videopainter.dstt import run_onnx
from videopainter.masks import MaskError, load_masks, save_masks
from videopainter.masks.track import MaskTrack
from videopainter.utils.sentences import LONGEST
from videopainter.utils.size import parse_size
from videopainter.video import VideoError, VideoWriter, open_video

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402

N, H, W = 3, 48, 64
NO_TEXT = os.fsdecode(b"\xff\xfe")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (N, H, W, 3), np.uint8)
    with VideoWriter("a.mp4", Fraction(10), (H, W)) as writer:
        writer.write(frames)
    masks = np.zeros((N, H, W), np.uint8)
    masks[:, 10:20, 10:20] = 4
    np.savez("a.npz", masks)
    return tmp_path


def demo(*more, video="a.mp4", mask="a.npz", out="out"):
    arguments = ["--video", video, "--output_dir", out, "--engine", "propagation", *more]
    try:
        return run_demo.main([*arguments, "--mask", mask] if mask else arguments)
    except SystemExit as stop:
        return stop.code


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["video", "mask", "folder", "mask video", "mask folder", "prompt"])
def test_names_that_are_no_utf8(folder, what):
    given = {}
    if what in ("video", "mask video"):
        os.link("a.mp4", NO_TEXT + ".mp4")
        given = {"video" if what == "video" else "mask": NO_TEXT + ".mp4"}
    elif what == "mask":
        os.link("a.npz", NO_TEXT + ".npz")
        given = {"mask": NO_TEXT + ".npz"}
    elif what == "mask folder":
        save_masks(MaskTrack.from_array(np.load("a.npz")["arr_0"]), NO_TEXT)
        given = {"mask": NO_TEXT}
    elif what == "folder":
        given = {"out": NO_TEXT}
    assert demo(*(["--prompt", NO_TEXT] if what == "prompt" else []), **given) == 0
    report = json.loads((folder / given.get("out", "out") / "run.json").read_text())
    assert report["frames"] == N
    if what == "prompt":
        assert report["settings"]["prompt"] == NO_TEXT


def test_a_stream_of_names_that_are_no_utf8(folder):
    os.link("a.mp4", NO_TEXT + ".mp4")
    assert stream(["--source", NO_TEXT + ".mp4", "--mask", "a.npz", "--output", NO_TEXT + "o.mp4"]) == 0
    with open_video(NO_TEXT + "o.mp4") as video:
        assert len(video) == N


def test_decord_takes_no_name_that_is_no_utf8(folder):
    pytest.importorskip("decord")
    os.link("a.mp4", NO_TEXT + ".mp4")
    with pytest.raises(VideoError, match="decord cannot read"):
        open_video(NO_TEXT + ".mp4", backend="decord")


# -- what may not be read ----------------------------------------------------------------------------------


@pytest.fixture
def forbidden(monkeypatch):
    """Whatever has "secret" in its name may not be looked at: as root everything may, so it is made up."""
    import builtins

    def guarded(real):
        def call(path, *more, **settings):
            if isinstance(path, str | os.PathLike) and "secret" in os.fspath(path):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return real(path, *more, **settings)

        return call

    for place, name in ((os, "stat"), (os, "listdir"), (os, "scandir"), (os, "mkdir"), (builtins, "open")):
        monkeypatch.setattr(place, name, guarded(getattr(place, name)))


@pytest.mark.parametrize(
    "given", [{"video": "secret.mp4"}, {"video": "secret/a.mp4"}, {"mask": "secret.npz"}]
)
def test_what_may_not_be_read_is_said_to_be(folder, forbidden, capsys, given):
    assert demo(**given) == 2
    assert "Permission denied" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not Path("out").exists()


def test_a_file_that_may_be_seen_and_not_read(folder, monkeypatch):
    import builtins

    real = builtins.open

    def guarded(path, *more, **settings):
        if path == "a.mp4":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *more, **settings)

    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(VideoError, match="'a.mp4' cannot be read: Permission denied"):
        open_video("a.mp4")


# -- surroundings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{}, {"PATH": ""}, {"HOME": "/nowhere", "PATH": "/nowhere"}], ids=str)
@pytest.mark.parametrize(
    "command",
    [
        ["run_demo.py", "--video", "a.mp4", "--mask", "a.npz"],
        [
            "infer/inpaint.py",
            "--csv",
            "a.csv",
            "--output_dir",
            "rows",
            "--processes",
            "2",
            "--engine",
            "propagation",
        ],
        ["ckpt/download.py", "--check"],
    ],
    ids=lambda command: command[0],
)
def test_without_an_environment(folder, environment, command):
    Path("a.csv").write_text("video,mask\na.mp4,a.npz\n")
    full = [sys.executable, str(ROOT / command[0]), *command[1:]]
    settings = {"OMP_NUM_THREADS": "1", "VIDEOPAINTER_CKPT": "none", **environment}
    done = subprocess.run(full, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


# -- arguments without end ---------------------------------------------------------------------------------

LONG = "x" * 100_000
ARGUMENTS = {
    "a flag": ["--" + LONG],
    "an engine": ["--engine", LONG],
    "a codec": ["--codec", LONG],
    "a region": ["--region", LONG],
    "a rate": ["--target_fps", LONG],
    "seconds": ["--max_seconds", LONG],
    "a number": ["--mask_id", "9" * 5000],
    "a large label": ["--mask_id", "9" * 100],
    "a quality": ["--quality", "nan"],
    "a dilation": ["--dilate_size", "inf"],
    "threads": ["--threads", "100000"],
    "more threads than numbers": ["--threads", "9" * 30],
    "an output folder": ["--output_dir", LONG],
    "weights": ["--engine", "dstt", "--weights", LONG],
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_without_end(folder, capsys, kind):
    more = ARGUMENTS[kind]
    if kind.endswith("threads") or "threads" in kind:
        more = ["--engine", "dstt", *more]
    assert demo(*more) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("run_demo.py: error: ") and len(last) <= LONGEST + 150


@pytest.mark.parametrize(
    "prompt",
    [
        ["--click", "1e300,5"],
        ["--click", "nan,inf"],
        ["--click", "5,5," + "9" * 30],
        ["--click", "5,5,0," + "9" * 30],
        ["--click", LONG],
        ["--box", "nan,nan,nan,nan"],
        ["--box", LONG],
        ["--click_x", "1e999", "--click_y", "5"],
    ],
    ids=range(8),
)
def test_clicks_that_are_none(folder, capsys, prompt):
    assert demo(*prompt, mask=None) == 2
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) <= LONGEST + 100


def test_a_box_without_end_is_the_frame(folder):
    """What of it lies in the frame is meant, and it is drawn so far as there is something to draw on."""
    assert demo("--box", "1,1,1e300,1e300", "--mask_only", mask=None) in (0, 2)
    assert demo("--dilate_size", "1e300", "--seed", "9" * 30) == 0


@pytest.mark.parametrize("text", ["9" * 5000 + "x1", "99999x99999", "0x0", "-1x5", "1x", LONG])
def test_sizes_that_are_none(text):
    import argparse

    with pytest.raises(argparse.ArgumentTypeError):
        parse_size(text)


@pytest.mark.parametrize(
    "more",
    [
        ["--source", "9" * 20, "--box", "1,1,5,5"],
        ["--source", "9" * 5000, "--box", "1,1,5,5"],
        ["--source", "a.mp4", "--mask", "a.npz", "--threads", "100000"],
        ["--source", "a.mp4", "--mask", "a.npz", "--threads", "0"],
        ["--source", "a.mp4", "--mask", "a.npz", "--dilate_size", "nan"],
        ["--source", "-", "--size", "99999x99999", "--box", "1,1,5,5"],
        ["--source", LONG, "--mask", "a.npz"],
        ["--source", "a.mp4", "--mask", LONG],
        ["--source", "a.mp4", "--mask", "a.npz", "--weights", LONG],
        ["--source", "a.mp4", "--mask", "a.npz", "--device", LONG],
    ],
    ids=range(10),
)
def test_streams_that_are_none(folder, capsys, more):
    try:
        status = stream([*more, "--output", "o.mp4"])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and not Path("o.mp4").exists()
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) <= LONGEST + 150


# -- the exported network's little command -----------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:9/a.mp4",
        "concat:a.mp4|a.mp4",
        "subfile,,start,0,end,0,,:a.mp4",
        "file:a.mp4",
        "pipe:0",
        "a%d.mp4",
    ]
    + ["pipe", ".", "", "/dev/zero", "9" * 20, "9" * 5000, NO_TEXT + ".mp4", LONG],
)
def test_run_onnx_opens_only_files(folder, source):
    os.mkfifo("pipe")
    os.link("a.mp4", NO_TEXT + ".mp4")
    assert not run_onnx._is_camera(source)
    for opened in (run_onnx._open, lambda name: next(run_onnx._masks(name))):
        with pytest.raises(ValueError, match="There is no file|cannot be used here"):
            opened(source)


@pytest.mark.parametrize(
    "output",
    [
        "a.txt",
        "x%03d.png",
        "nowhere/x.mp4",
        "a.npz/x.mp4",
        ".",
        "",
        NO_TEXT + "/x.mp4",
        "http://127.0.0.1:9/x.mp4",
        "50%d/x.mp4",
    ],
)
def test_run_onnx_writes_only_videos(folder, output):
    os.mkdir(NO_TEXT)
    os.mkdir("50%d")
    before = sorted(os.listdir())
    with pytest.raises(ValueError, match="cannot be written|cannot be used here"):
        run_onnx.paint("none.onnx", "a.mp4", "a.mp4", output)
    assert sorted(os.listdir()) == before


# -- the library's own sentences ---------------------------------------------------------------------------


def test_sentences_of_the_library_are_bounded(folder):
    from videopainter.weights.load import load_tensors

    for call in (
        lambda: open_video(LONG),
        lambda: open_video("a/" * 50_000),
        lambda: load_tensors(LONG),
    ):
        with pytest.raises(ValueError) as raised:
            call()
        assert len(str(raised.value)) <= LONGEST and "\n" not in str(raised.value)
    with pytest.raises((MaskError, OSError)):
        load_masks(LONG, None)
