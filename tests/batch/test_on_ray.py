"""Rows on a real local Ray of two workers: killed, hanging, too large, stopped; nothing lost, nothing repeated."""

import subprocess
import sys
from pathlib import Path

import pytest
from batch_folder import run, summary, table
from halted import wait_for

SCRIPT = Path(__file__).with_name("ray_batch.py")


def command(folder, *prompts, more=()):
    rows = [["a.mp4", "a.npz", prompt] for prompt in prompts]
    table(folder, *rows, header="video,mask,prompt")
    arguments = ["--csv", folder / "a.csv", "--output_dir", folder / "out", "--engine", "propagation"]
    return [sys.executable, str(SCRIPT), str(folder), *map(str, [*arguments, "--ray", *more])]


def names(folder):
    return {p.name for p in (folder / "out").iterdir()}


def test_a_worker_that_is_killed_is_replaced(folder):
    full = command(folder, "once", "x", "y", "z")
    done = subprocess.run(full, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["status"] for line in summary(folder)] == ["done"] * 4
    assert "A worker has died at 00000_a; another one takes its place." in done.stderr
    assert "(4 of 4, 0 s left)" in done.stdout and "4 of 4 rows are done" in done.stdout
    assert sorted((folder / "tried").read_text().split()) == ["once", "once", "x", "y", "z"]
    assert {n for n in names(folder) if not n.startswith("0000")} == {
        "batch.json",
        "manifest.json",
        "summary.csv",
    }
    assert not list((folder / "out").rglob("half"))


@pytest.mark.slow
def test_what_rows_may_do_to_workers(folder):
    full = command(folder, "deadly", "x", "hangs", "memory", "y", more=["--row_timeout", 60])
    done = subprocess.run(full, capture_output=True, text=True, timeout=550)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = summary(folder)
    assert [line["status"] for line in lines] == ["failed", "done", "failed", "failed", "done"]
    assert lines[0]["error"].startswith("2 processes ended while they were at it")
    assert lines[2]["error"] == "It took longer than 60 seconds."
    assert "allocate" in lines[3]["error"]
    tried = (folder / "tried").read_text().split()
    assert sorted(tried) == ["deadly", "deadly", "hangs", "memory", "x", "y"]
    assert not (folder / "out/.leases").exists() and not (folder / "out/.unfinished").exists()


@pytest.mark.slow
def test_a_stop_leaves_nothing_half_written(folder):
    full = command(folder, "x", "stop", "y")
    process = subprocess.Popen(full, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for((folder / "stopped").exists, process)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert not list((folder / "out").glob(".unfinished/*")) and not (folder / "out/00001_a").exists()
    assert run(folder) == 0  # without Ray it goes on from there


def test_without_ray_it_is_one_sentence(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    table(folder, ["a.mp4", "a.npz"])
    assert run(folder, "--ray") == 2
    said = capsys.readouterr().err
    assert said.endswith("error: Ray is not installed; pip install 'videopainter[ray]' gets it.\n")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("cpus", ["0", "-1", "x", "1e9", ""])
def test_cpus_that_are_none(folder, capsys, cpus):
    with pytest.raises(SystemExit) as stop:
        run(folder, "--ray", "--cpus_per_worker", cpus)
    assert stop.value.code == 2 and "a number from 0.1 to 1000" in capsys.readouterr().err
