"""Leases: one worker a row, whatever the machines' names, clocks and file systems are like; none is lost."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from videopainter.batch import workers
from videopainter.batch.leases import Leases
from videopainter.batch.records import Records
from videopainter.batch.workers import Worker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["links", "copies"])
def files(request, monkeypatch):
    """A file system where files may have two names, and one where they may not."""
    if request.param == "copies":

        def link(*places, **more):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    return request.param


def joined(folder, **more) -> tuple[Worker, Leases]:
    worker = Worker(folder / "l", **more)
    worker.join()
    return worker, Leases(worker)


def died(worker: Worker) -> None:
    """The end of a worker, as by SIGKILL: the system takes its lock back, and it renews nothing any more."""
    worker._left.set()
    with worker._renewing:
        os.close(worker._lock._handle)
        worker._lock = None


def older(folder, seconds, *names) -> None:
    """Let the server have seen files for the last time so long ago."""
    for path in {p for name in names for p in (folder / "l").glob(name)}:
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, int(status.st_mtime_ns - seconds * 1e9)))


def test_one_lease_a_row(tmp_path, files):
    (one, ours), (two, theirs) = joined(tmp_path), joined(tmp_path)
    lease = ours.claim("a")
    assert lease is not None and lease.deaths == 0
    assert theirs.claim("a") is None and not theirs.free("a") and theirs.free("b")
    assert theirs.claim("b") is not None
    ours.give_back(lease)
    assert theirs.free("a") and theirs.claim("a") is not None
    one.leave()
    two.leave()
    assert {p.name for p in (tmp_path / "l").iterdir()} == {"a@0", "b@0"}


def test_many_at_once(tmp_path, files):
    found, start = [], threading.Barrier(8)

    def claim():
        _, leases = joined(tmp_path)
        start.wait()
        found.extend(filter(None, (leases.claim(str(i)) for i in range(40))))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.name for lease in found) == sorted(map(str, range(40)))


def test_on_one_machine_a_death_is_known_at_once(tmp_path):
    (one, ours), (two, theirs) = joined(tmp_path), joined(tmp_path)
    ours.claim("a")
    died(one)
    assert theirs.free("a") and not theirs.free("a", untouched=True)
    lease = theirs.claim("a")
    assert lease.path.name == "a@1" and lease.deaths == 1
    theirs.give_back(lease)
    two.sweep()
    assert [p.suffix for p in (tmp_path / "l").iterdir()] == [".worker"]


def test_of_another_machine_only_the_file_servers_clock_counts(tmp_path, files, monkeypatch):
    monkeypatch.setattr(workers, "KERNEL", "there")
    one, ours = joined(tmp_path, lease=50)
    ours.claim("a")
    died(one)
    monkeypatch.setattr(workers, "KERNEL", "here")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # whatever the clock here says
    _, theirs = joined(tmp_path, lease=5)
    older(tmp_path, 40, "a@0")
    assert not theirs.free("a")  # the lease that it was given counts, not our own
    older(tmp_path, 20, "a@0")
    assert theirs.free("a") and theirs.claim("a").path.name == "a@1"


def test_work_renews_the_lease(tmp_path, files, monkeypatch):
    monkeypatch.setattr(workers, "KERNEL", "there")
    one, ours = joined(tmp_path, lease=1.2)
    lease = ours.claim("a")
    monkeypatch.setattr(workers, "KERNEL", "here")
    two, theirs = joined(tmp_path)
    before = lease.path.stat().st_mtime_ns
    deadline = time.monotonic() + 60
    while lease.path.stat().st_mtime_ns - before < 3e9 and time.monotonic() < deadline:
        time.sleep(0.1)
    two.renew()
    one.renew()
    assert not theirs.free("a") and lease.path.stat().st_mtime_ns - before >= 3e9


def test_who_was_suspended_takes_nothing_away(tmp_path):
    """Its lease is another's when it goes on: that one keeps the row, and what is done first stays."""
    (one, ours), (two, theirs) = joined(tmp_path), joined(tmp_path)
    first = ours.claim("a")
    older(tmp_path, 1000, "a@0")
    second = theirs.claim("a")
    assert second.path.name == "a@1"
    one.renew()
    two.sweep()
    ours.give_back(first)
    assert [p.name for p in (tmp_path / "l").glob("a@*")] == ["a@1"]
    assert ours.claim("a") is None
    theirs.give_back(second)
    assert not list((tmp_path / "l").glob("a@*"))


def test_who_was_swept_joins_again(tmp_path):
    worker, leases = joined(tmp_path)
    os.unlink(worker._lock.path)
    assert leases.claim("a") is not None and len(list((tmp_path / "l").glob("*.worker"))) == 1


def test_deaths_before_this_run_are_not_counted(tmp_path):
    for _ in range(3):
        worker, leases = joined(tmp_path)
        lease = leases.claim("a")
        assert lease is not None and lease.deaths == 0
        died(worker)
        older(tmp_path, 1, "*")
    watching, _ = joined(tmp_path)
    for number in range(2):
        worker, leases = joined(tmp_path)
        assert worker.since == watching.since and leases.claim("a").deaths == number
        died(worker)


def test_an_empty_lease_ends_too(tmp_path):
    """What a kill leaves between making a file and writing it, where files have one name only."""
    _, leases = joined(tmp_path)
    (tmp_path / "l/a@0").touch()
    assert not leases.free("a")
    older(tmp_path, 1000, "a@0")
    assert leases.claim("a").path.name == "a@1"


def test_the_end_sweeps_what_the_dead_left(tmp_path):
    one, ours = joined(tmp_path)
    for name in "ab":
        ours.claim(name)
    died(one)
    two, theirs = joined(tmp_path)
    theirs.sweep()
    two.leave()
    assert not (tmp_path / "l").exists()


def test_a_failure_of_this_run_is_not_tried_by_all(tmp_path):
    before = Records(tmp_path)
    before.fail("a", "key", {})
    before.leave()
    os.utime(tmp_path / "failed/a.json", (0, 0))
    here, there = Records(tmp_path), Records(tmp_path)
    here.worker.join()
    there.worker.join()
    assert not here.settled("a", "key") and not there.settled("a", "key")
    here.fail("a", "key", {})
    assert here.settled("a", "key") and there.settled("a", "key") and not there.settled("a", "other")


def test_what_is_done_first_stays(tmp_path):
    records = Records(tmp_path)
    for text in ("first", "second"):
        with records.begin("a") as place:
            (place / "file").write_text(text)
            assert records.finish("a", "key", place, {})["files"] == {"file": 5}
    assert (tmp_path / "a/file").read_text() == "first"


def test_fifty_kills_of_several_workers_lose_and_repeat_nothing(tmp_path, folder):
    script = [sys.executable, str(Path(__file__).with_name("kill_workers.py")), str(folder), "50"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
