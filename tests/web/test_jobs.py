"""Long work: progress while it runs, cancelling, and what a crash of either process leaves."""

import io
import json
import os
import signal

import httpx
import numpy as np
import pytest
from clips import write_clip
from served import COUNT, an_object, click, done, ended, thing, thing_masks, until

import videopainter.web.worker as worker_module
from videopainter.web.process import WorkerProcess
from videopainter.web.store import Store


@pytest.fixture
def long_job(remote) -> dict:
    """An inpainting of the example that takes a while, at work."""
    project = remote.post("/api/projects/example").json()["id"]
    file = io.BytesIO()
    mask = np.zeros((480, 640), bool)
    mask[100:380, 200:520] = True
    np.savez(file, mask[None].repeat(remote.get(f"/api/projects/{project}").json()["frames"], 0))
    assert remote.put(f"/api/projects/{project}/masks?name=m.npz", content=file.getvalue()).status_code == 201
    job = remote.post(
        f"/api/projects/{project}/jobs", json={"kind": "inpaint", "engine": "propagation"}
    ).json()
    until(lambda: remote.get(f"/api/jobs/{job['id']}").json()["done"] > 0)
    return job


def worker_of(server, job) -> int:
    return Store(server.workspace).job(job["id"])["worker"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_events_tell_masks_and_progress_as_they_come(remote, remote_project):
    remote.put(f"/api/projects/{remote_project}/objects", json={"objects": [an_object(click())]})
    kinds, steps, frames = set(), set(), set()
    with remote.stream("GET", f"/api/projects/{remote_project}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        job = remote.post(f"/api/projects/{remote_project}/jobs", json={"kind": "track"}).json()
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                kinds.add(kind)
                data = json.loads(line.removeprefix("data: "))
                jobs = data["jobs"] if kind == "project" else data
                if kind == "project" and data["timeline"]:
                    frames.add(json.dumps(data["timeline"][0]["frames"]))
                (now,) = [one for one in jobs if one["id"] == job["id"]] or [{"state": "", "done": 0}]
                steps.add(now["done"])
                if now["state"] == "done":
                    break
    assert kinds == {"project", "jobs"} or kinds == {"project"}
    assert json.dumps([[0, COUNT - 1]]) in frames and len(frames) > 1
    assert len(steps) > 1


def test_events_say_that_a_project_is_gone(remote, remote_project):
    with remote.stream("GET", f"/api/projects/{remote_project}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: project"
        remote.delete(f"/api/projects/{remote_project}")
        assert "event: gone" in list(lines)


def test_cancelling_ends_the_work_and_leaves_nothing(server, remote, long_job):
    before = worker_of(server, long_job)
    remote.post(f"/api/jobs/{long_job['id']}/cancel")
    found = ended(remote, long_job)
    assert found["state"] == "cancelled" and found["ended"] - found["started"] > 0
    folder = server.workspace / "projects" / long_job["project"] / "results"
    until(lambda: not list(folder.glob("*")) and not list(folder.glob(".*")))
    again = {"kind": "inpaint", "engine": "propagation", "seconds": 0.1}
    job = remote.post(f"/api/projects/{long_job['project']}/jobs", json=again).json()
    done(remote, job)
    assert worker_of(server, job) == before or not alive(before)


def test_work_that_does_not_listen_is_ended(tmp_path):
    """A worker that never looks whether it is to stop, as a long call into a library does not."""
    store = Store(tmp_path / "workspace")
    project = store.add_project("x", "x", {})
    job = store.add_job(project, "inpaint", {})
    process = WorkerProcess(store, ("track", "inpaint"))
    code = "import sys, time; from videopainter.web.store import Store; import os\n"
    code += "Store(sys.argv[1]).claim(os.getpid(), ('inpaint',)); time.sleep(600)"
    process._command = lambda: [worker_module.sys.executable, "-c", code, str(store.workspace)]
    process.start()
    try:
        until(lambda: store.job(job)["state"] == "running")
        pid = store.job(job)["worker"]
        process.cancel(job)
        until(lambda: store.job(job)["state"] == "cancelled")
        until(lambda: not alive(pid))
    finally:
        process.close()


def test_a_crash_of_the_work_is_a_message(server, remote, long_job):
    os.kill(worker_of(server, long_job), signal.SIGKILL)
    found = ended(remote, long_job)
    assert found["state"] == "failed"
    assert found["message"].startswith("The work ended unexpectedly (perhaps memory ran out);")
    assert remote.get("/api/projects").status_code == 200
    folder = server.workspace / "projects" / long_job["project"] / "results"
    assert not list(folder.glob(".*")) and not list(folder.glob("*"))
    again = {"kind": "inpaint", "engine": "propagation", "seconds": 0.1}
    done(remote, remote.post(f"/api/projects/{long_job['project']}/jobs", json=again).json())


def test_a_server_that_is_killed_takes_its_work_up_again(server, remote, long_job, clip):
    worker = worker_of(server, long_job)
    objects = remote.get(f"/api/projects/{long_job['project']}").json()["objects"]
    server.kill()
    until(lambda: not alive(worker))
    with pytest.raises(httpx.HTTPError):
        remote.get("/api/projects")
    (server.workspace / "projects" / ("0" * 16)).mkdir()  # an upload that was not finished
    server.start()
    found = until(
        lambda: (now := remote.get(f"/api/jobs/{long_job['id']}").json())["state"] == "running" and now
    )
    assert found["id"] == long_job["id"]
    assert remote.get(f"/api/projects/{long_job['project']}").json()["objects"] == objects
    assert [path.name for path in (server.workspace / "projects").iterdir()] == [long_job["project"]]
    remote.post(f"/api/jobs/{long_job['id']}/cancel")
    assert ended(remote, long_job)["state"] == "cancelled"


def test_a_server_that_is_stopped_ends_its_work_and_goes_on_later(server, remote, long_job):
    worker = worker_of(server, long_job)
    server.stop()
    assert not alive(worker)
    assert Store(server.workspace).job(long_job["id"])["state"] == "queued"
    assert Store(server.workspace).job(long_job["id"])["attempts"] == 0


def test_a_second_server_in_one_workspace_is_refused(server):
    import subprocess
    import sys

    from served import ROOT

    command = [
        sys.executable,
        "-m",
        "videopainter.cli.web",
        "--workspace",
        str(server.workspace),
        "--port",
        "0",
    ]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "Another server is at work" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_that_is_taken_is_one_sentence(server, tmp_path):
    import subprocess
    import sys

    from served import ROOT

    command = [sys.executable, "-m", "videopainter.cli.web", "--workspace", str(tmp_path / "other")]
    refused = subprocess.run(
        [*command, "--port", str(server.port)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2 and "cannot be listened on" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_video_named_on_the_command_line_stays_where_it_is(workspace, clip):
    from served import Server

    found = []
    for _ in range(2):  # the second time its masks and results are found again
        server = Server(workspace, str(clip))
        url = server.start()
        found.append(url.partition("#project=")[2])
        project = httpx.get(f"{url.partition('#')[0]}api/projects/{found[-1]}").json()
        assert (project["name"], project["frames"]) == (clip.name, COUNT)
        server.stop()
    assert found[0] == found[1] and clip.is_file()


def test_faults_of_the_work_are_told(client, project):
    store = client.app.state.store
    for fault, says in (
        (ValueError("a sentence."), "a sentence."),
        (MemoryError(), "There was not enough memory for it."),
        (RuntimeError("odd"), "Something unexpected went wrong: odd"),
    ):
        worker = worker_module.Worker(store)

        def fail(*arguments, fault=fault):
            raise fault

        worker._track = fail
        job = store.add_job(project, "inpaint", {})
        worker.do({**store.job(job), "kind": "track"})
        assert client.get(f"/api/jobs/{job}").json()["message"] == says


def test_a_copy_for_playing_rests_while_somebody_clicks(client, tmp_path, monkeypatch):
    """It goes on by itself, and can be cancelled while it rests."""
    write_clip(tmp_path / "a.mp4", thing(6))
    content = (tmp_path / "a.mp4").read_bytes()
    project = client.post("/api/projects", params={"name": "a.mp4"}, content=content).json()["id"]
    store = client.app.state.store
    worker = worker_module.Worker(store)
    rests, now = [], [100.0]
    monkeypatch.setattr(worker_module.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        rests.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(worker_module.time, "sleep", sleep)
    worker.rest()
    job = {**store.job(store.add_job(project, "proxy", {})), "kind": "proxy"}
    part = tmp_path / "part"
    assert worker._proxy(job, part, lambda *told: None, worker_module.threading.Event()) == {}
    assert 0.99 < sum(rests) / worker_module.REST_SECONDS < 1.2
    worker.rest()
    stop, rests[:] = worker_module.threading.Event(), []
    stop.set()
    worker._proxy(job, tmp_path / "other", lambda *told: None, stop)
    assert rests == []  # whoever reports progress ends it then


def test_progress_is_written_down(client, project):
    store, masks = client.app.state.store, thing_masks()
    assert masks.shape[0] == COUNT
    job = store.add_job(project, "track", {})
    with store._write() as db:
        db.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (job,))
    stop = worker_module.threading.Event()
    report = worker_module.Worker(store)._reporter(job, stop)
    report("track", 3, 12)
    found = client.get(f"/api/jobs/{job}").json()
    assert (found["stage"], found["done"], found["total"]) == ("track", 3, 12)
    stop.set()
    from videopainter.engines.base import Cancelled

    with pytest.raises(Cancelled):
        report("track", 4, 12)
