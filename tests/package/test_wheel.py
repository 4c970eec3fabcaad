"""The wheel, installed into an empty folder and used from another one, where the checkout cannot be read."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videopainter.video import VideoWriter, open_video

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("inpaint", "web", "batch", "weights", "stream", "metrics", "convert")

# Ends a process that reads anything of the checkout but the environment that Python itself runs in.
GUARD = """
import os, sys
ROOT, ALLOWED = {root!r}, {allowed!r}
def guard(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(ROOT) and not path.startswith(ALLOWED):
            os.write(2, f"the checkout is read: {{path}}\\n".encode())
            os._exit(77)
sys.addaudithook(guard)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout; without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "videopainter", source / "videopainter", ignore=shutil.ignore_patterns("__pycache__")
    )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(build, check=True, timeout=300)
    return next(out.glob("videopainter-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    install = [
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=300)
    return folder


@pytest.fixture
def run(installed, tmp_path, tmp_path_factory):
    """(arguments of Python, or of the command) -> the finished process, run in an empty folder."""
    guard = tmp_path_factory.mktemp("guard")
    allowed = (os.path.join(sys.prefix, ""), str(installed))
    (guard / "sitecustomize.py").write_text(GUARD.format(root=str(ROOT), allowed=allowed))
    environment = {name: value for name, value in os.environ.items() if name != "VIDEOPAINTER_CKPT"}
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(guard), str(installed))),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments, python=False):
        program = [sys.executable] if python else [sys.executable, str(installed / "bin/videopainter")]
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        full = [*program, *map(str, arguments)]
        return subprocess.run(full, cwd=work, env=environment, capture_output=True, text=True, timeout=300)

    return run


def code(text: str) -> tuple[str, str]:
    return "-c", text


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "videopainter"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    wanted = {name for name in tracked if name and (ROOT / name).is_file()}
    if not wanted:  # a copy without its history
        files = (path for path in (ROOT / "videopainter").rglob("*") if path.is_file())
        wanted = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_nothing_else_is_in_the_wheel(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert len(tops) == 2 and "videopainter" in tops  # and what pip keeps about it


def test_the_guard_guards(run):
    done = run(*code(f"open({str(ROOT / 'pyproject.toml')!r})"), python=True)
    assert done.returncode == 77 and "the checkout is read" in done.stderr


def test_help_of_every_command(run, installed):
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
        said = run(name, "--help")
        assert said.returncode == 0 and said.stdout.startswith(f"usage: videopainter {name} "), said.stderr
    where = run(*code("import videopainter; print(videopainter.__file__)"), python=True)
    assert where.stdout.startswith(str(installed))
    version = run("--version")
    assert version.stdout.split() == ["videopainter", "0.1.0"]
    assert run("nonsense").returncode == 2


@pytest.mark.parametrize("module", ["metrics", "dstt.stream"])
def test_modules_that_are_commands(run, module):
    done = run("-m", f"videopainter.{module}", "--help", python=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr


def test_a_thing_is_taken_out_of_a_clip(run, tmp_path):
    ground = np.kron(np.random.default_rng(3).integers(90, 220, (12, 16, 3)), np.ones((4, 4, 1))).astype(
        np.uint8
    )
    frames = np.stack([ground] * 8)
    for i, frame in enumerate(frames):
        frame[12:28, 8 + 3 * i : 24 + 3 * i] = (20, 20, 60)
    with VideoWriter(tmp_path / "clip.mp4", Fraction(10), (48, 64)) as writer:
        writer.write(frames)
    done = run("inpaint", "--video", tmp_path / "clip.mp4", "--box", "8,12,23,27", "--engine", "propagation")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "work/output"
    assert {"result.mp4", "result_vis.mp4", "run.json"} <= {path.name for path in out.iterdir()}
    with open_video(out / "result.mp4") as result:
        assert len(result) == 8 and result.size == (48, 64)
        assert result[4][16:24, 22:34].mean() > 90  # what was dark is gone
    assert json.loads((out / "run.json").read_text())["settings"]["engine"] == "propagation"


def test_weights_lie_in_the_users_cache(run, tmp_path):
    done = run("weights", "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Weights in {tmp_path / 'cache/videopainter'}:\n")
    assert "propagation   yes" in done.stdout and "videopainter weights --only propainter" in done.stdout
    assert run("weights", "check").stdout == done.stdout


def test_an_engine_without_weights_says_how_to_get_them(run, tmp_path):
    (tmp_path / "gone.csv").write_text("video,mask\na.mp4,b.npz\n")
    done = run("batch", "--csv", tmp_path / "gone.csv", "--output_dir", "out", "--engine", "propainter")
    assert done.returncode == 2 and done.stderr.startswith("videopainter batch: error: ")
    assert "videopainter weights --only propainter" in done.stderr and "download.py" not in done.stderr


def test_the_networks_and_values_that_come_with_it(run):
    """DSTT's network, the clip that its export compares over, manifests, and what --verify-logits compares with."""
    done = run(
        *code(
            "import json\n"
            "from videopainter import open_video, weights\n"
            "from videopainter.dstt import export\n"
            "from videopainter.dstt.weights import load_model\n"
            "from videopainter.propainter import convert, verify\n"
            "from safetensors.torch import load_file\n"
            "print(sum(p.numel() for p in load_model(None).parameters()) > 0)\n"
            "print(export.real_clip(export.CLIP, 20)[0].shape[0])\n"
            "print(len(weights.manifest('branch')) > 0)\n"
            "print(sorted(path.stem for path in convert.RECORDED.glob('*.safetensors')))\n"
            "case = convert.RECORDED / 'image_propagation.json'\n"
            "options, tensors = json.loads(case.read_text()), load_file(case.with_suffix('.safetensors'))\n"
            "print(verify.misfits(options, tensors, convert.fill_network_state))\n"
        ),
        python=True,
    )
    assert done.returncode == 0, done.stderr
    names = ["flow_completion", "generator_refs", "generator_small_mask", "image_propagation", "raft"]
    assert done.stdout.splitlines() == ["True", "20", "True", str(names), "[]"]
