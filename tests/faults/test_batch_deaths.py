"""Stops, deaths and several processes: no row is lost, none is done twice, nothing half-written is left."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from batch_folder import ROOT, H, W, run, summary, table
from halted import start_halting, wait_for

from videopainter.batch.records import Records
from videopainter.utils import atomic
from videopainter.utils.signals import stoppable
from videopainter.video import VideoWriter

# -- what others are at, and what they left ---------------------------------------------------------------


def test_the_sweep_spares_the_living_whatever_their_number(tmp_path, monkeypatch):
    """A container has the same host's name and the same process numbers as another one."""
    code = f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from videopainter.batch.records import Records\n"
    code += "from pathlib import Path\nwith Records(Path(sys.argv[1])).begin('a') as place:\n"
    code += "    print(place, flush=True)\n    time.sleep(3600)"
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        place = Path(other.stdout.readline().strip())
        monkeypatch.setattr(
            os, "kill", lambda *a: (_ for _ in ()).throw(ProcessLookupError)
        )  # it cannot be seen
        monkeypatch.setattr("socket.gethostname", lambda: "another")
        Records(tmp_path).sweep()
        assert place.is_dir()
    finally:
        monkeypatch.undo()
        other.kill()
        other.wait()
    Records(tmp_path).sweep()
    assert not place.exists() and not list((tmp_path / ".unfinished").iterdir())


def test_the_same_row_done_twice_at_once(tmp_path):
    records = Records(tmp_path)
    with records.begin("a") as first, records.begin("a") as second:
        for place in (first, second):
            (place / "file").write_text("x")
            records.finish("a", "key", place, {})
    assert records.done("a", "key")["files"] == {"file": 1}
    assert [path.name for path in (tmp_path / "a").iterdir() if path.name != "row.json"] == ["file"]


# -- stops -------------------------------------------------------------------------------------------------


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]


@pytest.mark.parametrize("number, status", STOPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_stop_during_any_rename_is_heard(folder, monkeypatch, heeds_sigint, number, status, after):
    """The signal comes just before or after each rename, through which every file comes into being."""
    real, count = os.replace, 0

    def replace(*places):
        nonlocal count
        count += 1
        if count == moment and not after:
            signal.raise_signal(number)
        real(*places)
        if count == moment and after:
            signal.raise_signal(number)

    monkeypatch.setattr(os, "replace", replace)
    moment = 0
    while True:
        moment, count = moment + 1, 0
        try:
            with stoppable():
                ended = run(folder, out=f"out{moment}")
        except SystemExit as stop:
            ended = stop.code
        left = [
            path.name
            for path in (folder / f"out{moment}").rglob("*")
            if "part" in path.name or "@" in path.name
        ]
        assert left == []
        if count < moment:
            assert ended == 0
            break
        assert ended == status
        assert not (folder / f"out{moment}" / "failed").exists()
    assert moment > 5


def test_what_was_done_before_is_not_lost_by_a_stop(tmp_path, monkeypatch):
    records = Records(tmp_path)
    with records.begin("a") as place:
        records.finish("a", "old", place, {})
    real = os.replace

    def replace(source, target):
        if Path(target) == tmp_path / "a" and Path(source).name != "before":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), records.begin("a") as place:
        records.finish("a", "new", place, {})
    assert records.done("a", "old") is not None


@pytest.mark.parametrize("make", [atomic.whole_file, atomic.whole_folder])
def test_a_stop_just_after_a_rename(tmp_path, monkeypatch, make):
    real = os.replace

    def replace(*places):
        real(*places)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), make(tmp_path / ("画" * 80)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["画" * 80]


@pytest.mark.parametrize("number, status", STOPS[2:])  # of the others see tests/batch
def test_a_real_stop_leaves_nothing(folder, number, status):
    with VideoWriter(folder / "long.mp4", Fraction(10), (H, W)) as writer:
        writer.write(np.zeros((120, H, W, 3), np.uint8))
    masks = np.zeros((120, H, W), np.uint8)
    masks[:, 8:16, 8:24] = 1
    np.savez_compressed(folder / "long.npz", masks)
    table(folder, ["long.mp4", "long.npz"], ["a.mp4", "a.npz"])
    arguments = ["--csv", folder / "a.csv", "--output_dir", folder / "out", "--engine", "propagation"]
    process = start_halting("videopainter.batch.command", arguments, "00000_long@", folder / "begun")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status and "Traceback" not in errors
    assert not list((folder / "out").rglob("*.part")) and not list((folder / "out/.unfinished").glob("*"))


def test_nohup_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# -- several processes -------------------------------------------------------------------------------------

DIES = """
import os, sys
sys.path[:0] = {paths}
import dataclasses
from videopainter import engine
engine.ENGINES["propagation"] = dataclasses.replace(engine.ENGINES["propagation"], location="batch_painter:Painter")
from batch_painter import Painter
from videopainter.batch import command
from videopainter.cli.errors import door
"""


def with_painter(monkeypatch, code):
    """The processes that the command starts have the engine of `DIES`, with `code` besides."""
    from videopainter.batch import processes

    real = processes.launch
    code = DIES.format(paths=[str(ROOT), str(ROOT / "tests/batch")]) + code + "\ndoor(command.main)"
    monkeypatch.setattr(
        processes, "launch", lambda full, count: real([full[0], "-c", code, *full[3:]], count)
    )


def test_the_death_of_one_process_is_nothing_to_the_others(folder, monkeypatch, capfd):
    """It dies once, at its first row: another one does that, and a new process takes its place."""
    table(folder, *[["a.mp4", "a.npz"]] * 4)
    sign = folder / "died"
    code = f"""
whole = Painter.__call__
def dies_once(self, *a, **k):
    try:
        os.close(os.open({str(sign)!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return whole(self, *a, **k)
    os.kill(os.getpid(), 9)
Painter.__call__ = dies_once
"""
    with_painter(monkeypatch, code)
    assert run(folder, "--processes", 2) == 0
    assert [line["status"] for line in summary(folder)] == ["done"] * 4
    out, err = capfd.readouterr()
    assert "A process was ended by signal 9; another one takes its place." in err
    assert out.count("3 frames in") == 4  # nothing is done twice
    files = {"batch.json", "manifest.json", "summary.csv"}
    assert {p.name for p in (folder / "out").iterdir() if not p.name.startswith("0000")} == files
    monkeypatch.undo()
    assert run(folder, "--processes", 2) == 0
    assert capfd.readouterr().out.count("done before") == 4


def test_a_row_that_kills_whoever_tries_it_is_tried_twice(folder, monkeypatch, capfd):
    table(folder, *[["a.mp4", "a.npz", "x"]] * 2, ["a.mp4", "a.npz", "deadly"], header="video,mask,prompt")
    code = f"""
from videopainter.batch.work import Batch
paint = Batch._paint
def deadly(self, row, painter, place):
    if row.prompt == "deadly":
        open({str(folder / "tried")!r}, "a").write("x")
        os.kill(os.getpid(), 9)
    return paint(self, row, painter, place)
Batch._paint = deadly
"""
    with_painter(monkeypatch, code)
    assert run(folder, "--processes", 2) == 1
    lines = summary(folder)
    assert [line["status"] for line in lines] == ["done", "done", "failed"]
    assert lines[2]["error"].startswith("2 processes ended while they were at it, one after the other")
    assert (folder / "tried").read_text() == "xx"
    monkeypatch.undo()
    assert run(folder) == 0  # the next start tries again


@pytest.mark.slow
def test_a_row_that_hangs(folder, monkeypatch, capfd):
    table(folder, *[["a.mp4", "a.npz", "x"]] * 2, ["a.mp4", "a.npz", "hangs"], header="video,mask,prompt")
    code = """
import time
from videopainter.batch.work import Batch
paint = Batch._paint
def hangs(self, row, painter, place):
    if row.prompt == "hangs":
        time.sleep(3600)
    return paint(self, row, painter, place)
Batch._paint = hangs
"""
    with_painter(monkeypatch, code)
    assert run(folder, "--row_timeout", 20) == 1
    assert [line["status"] for line in summary(folder)] == ["done", "done", "failed"]
    assert summary(folder)[2]["error"] == "It took longer than 20 seconds."
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    assert run(folder, "--row_timeout", 600) == 0


def test_a_stop_ends_all_processes(folder):
    table(folder, *[["a.mp4", "a.npz"]] * 2)
    code = DIES.format(paths=[str(ROOT), str(ROOT / "tests/batch")])
    code += "import time\nif '--share' in sys.argv: Painter.__call__ = lambda *a, **k: time.sleep(3600)\n"
    code += "from videopainter.batch import processes\nreal = processes.launch\n"
    code += "code = sys.argv.pop() if '--share' not in sys.argv else None\n"
    code += "processes.launch = lambda full, count: real([full[0], '-c', code, *full[3:]], count)\ndoor(command.main)"
    full = ["--csv", "a.csv", "--output_dir", "out", "--engine", "propagation", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *full, code],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list((folder / "out").glob(".unfinished/0000?_a@*.lock"))) == 2, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)  # which the children's end of the pipe has to be closed for
    assert process.returncode == 143 and "Traceback" not in err
    assert not list((folder / "out/.unfinished").iterdir())
