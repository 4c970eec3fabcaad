"""What killed processes leave half written goes at the next run; what the living write stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videopainter.steps.output import RunFiles
from videopainter.utils import atomic

ROOT = Path(__file__).resolve().parents[2]
CODE = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from videopainter.utils.atomic import temporary_name, whole_file
os.mkdir(temporary_name(sys.argv[1] + "/frames"))
with whole_file(sys.argv[1] + "/result.mp4") as file:
    print("writing", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def writer(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_the_dead_left_goes_and_what_the_living_write_stays(tmp_path, writer):
    (tmp_path / "result.mp4").write_text("whole")
    (tmp_path / ".mine.part").write_text("mine")
    atomic.sweep(tmp_path)
    assert len(list(tmp_path.glob(".*-*.part"))) == 2
    writer.kill()
    writer.wait()
    atomic.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"result.mp4", ".mine.part"}


def test_of_other_machines_only_what_is_old_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_place", lambda: "deadbeef")
    path = Path(atomic.temporary_name(tmp_path / "result.mp4"))
    path.touch()
    monkeypatch.undo()
    atomic.sweep(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 90000,) * 2)
    atomic.sweep(tmp_path)
    assert not path.exists()


def test_another_process_of_the_same_number_is_another(tmp_path):
    """Numbers are given again; when a process was started tells them apart."""
    place = atomic._place()
    again = tmp_path / f".result.mp4.{place}-{os.getpid()}-1-0123abcd.part"
    again.touch()
    ours = Path(atomic.temporary_name(tmp_path / "result.mp4"))
    ours.touch()
    atomic.sweep(tmp_path)
    assert not again.exists() and ours.exists()


def test_a_run_sweeps_its_folder(tmp_path):
    left = tmp_path / f".result.mp4.{atomic._place()}-1-1-0123abcd.part"
    left.touch()
    with RunFiles(None, tmp_path) as files:
        assert left.exists()
        files._new("frame0_original.png")
    assert not left.exists()
    atomic.sweep(tmp_path / "gone")
