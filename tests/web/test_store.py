"""Projects on disk: edits with undo, masks, and the queue of jobs."""

import subprocess
import sys
import threading

import pytest
from served import ROOT

from videopainter.web.store import NotThere, Outdated, Store

FACTS = {"frames": 10, "width": 8, "height": 6, "fps": 25.0}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "workspace")


@pytest.fixture
def project(store):
    return store.add_project("a clip", "projects/x/video.mp4", FACTS)


def thing(number, name="thing"):
    return {"id": number, "name": name}


def test_a_project_is_there_for_the_next_server(store, project):
    store.set_settings(project, {"in": 2})
    store.rename(project, "other")
    again = Store(store.workspace).project(project)
    assert (again["name"], again["settings"], again["facts"]) == ("other", {"in": 2}, FACTS)


def test_undo_and_redo(store, project):
    states = [[], [thing(1)], [thing(1), thing(2)], [thing(2)]]
    for state in states[1:]:
        store.edit(project, state)
    for state in reversed(states[:-1]):
        assert store.undo(project) and store.objects(project) == state
    assert not store.undo(project) and store.history(project) == (False, True)
    for state in states[1:]:
        assert store.redo(project) and store.objects(project) == state
    assert not store.redo(project) and store.history(project) == (True, False)


def test_settings_are_undone_like_anything_else(store, project):
    store.edit(project, [thing(1)])
    store.set_settings(project, {"dilate_size": 8})
    store.set_settings(project, {"in": 3})
    store.set_settings(project, {"in": 3})  # no change, no step
    store.edit(project, [])
    seen = []
    while store.undo(project):
        seen.append((len(store.objects(project)), store.project(project)["settings"]))
    assert seen == [(1, {"dilate_size": 8, "in": 3}), (1, {"dilate_size": 8}), (1, {}), (0, {})]
    while store.redo(project):
        pass
    assert store.project(project)["settings"] == {"dilate_size": 8, "in": 3}


def test_a_workspace_of_before_settings_were_undone(store, project):
    store.edit(project, [thing(1)])
    store.set_settings(project, {"in": 2})
    with store._write() as db:
        for column in ("settings", "mark"):
            db.execute(f"ALTER TABLE edits DROP COLUMN {column}")
    again = Store(store.workspace)
    assert again.objects(project) == [thing(1)] and again.project(project)["settings"] == {"in": 2}
    again.set_settings(project, {"in": 4})
    assert again.undo(project) and again.project(project)["settings"] == {"in": 2}
    again.edit(project, [], after=again.mark(project))
    assert again.objects(project) == []


def test_an_edit_of_what_has_changed_meanwhile_is_refused(store, project):
    mark = store.mark(project)
    store.edit(project, [thing(1)], after=mark)
    store.set_settings(project, {"in": 3})  # which are no objects
    store.edit(project, [thing(1)], after=store.mark(project))
    with pytest.raises(Outdated, match="somebody else"):
        store.edit(project, [thing(2)], after=mark)
    assert store.objects(project) == [thing(1)]


def test_an_edit_forgets_what_was_undone(store, project):
    store.edit(project, [thing(1)])
    store.undo(project)
    store.edit(project, [thing(1, "other")])
    assert not store.redo(project)
    assert store.objects(project) == [thing(1, "other")]


def test_undo_goes_back_so_many_steps(store, project, monkeypatch):
    monkeypatch.setattr("videopainter.web.store.MOST_EDITS", 8)
    for i in range(12):
        store.edit(project, [thing(1, str(i))])
    steps = 0
    while store.undo(project):
        steps += 1
    assert steps == 8


def test_a_number_that_undo_can_bring_back_is_not_given_again(store, project):
    assert store.next_object(project) == 1
    store.edit(project, [thing(1)])
    store.edit(project, [])
    assert store.next_object(project) == 2
    store.undo(project)
    store.undo(project)
    assert store.next_object(project) == 1
    store.edit(project, [thing(255)])
    assert store.next_object(project) == 1
    store.edit(project, [thing(i) for i in range(1, 256)])
    assert store.next_object(project) is None


def test_previews_cover_what_was_tracked(store, project):
    store.put_masks(project, "track", 1, [(i, b"t", 0.1, 0.9, "found") for i in range(4)])
    store.put_masks(project, "preview", 1, [(2, b"p", 0.2, 0.8, "found")])
    assert store.masks_of(project, 1) == {0: b"t", 1: b"t", 2: b"p", 3: b"t"}
    assert store.masks_of(project, 1, "track")[2] == b"t"
    assert store.masks_at(project, 2) == {1: b"p"}
    assert store.timeline(project)[1][2]["layer"] == "preview"
    store.drop_masks(project, "preview", 1, range(2, 3))
    assert store.masks_at(project, 2) == {1: b"t"}


def test_masks_of_a_deleted_project_are_not_kept(store, project):
    store.remove_project(project)
    with pytest.raises(NotThere):
        store.put_masks(project, "track", 1, [(0, b"", 0.0, 1.0, "found")])
    assert store.timeline(project) == {}


def test_jobs_in_order_and_by_kind(store, project):
    proxy = store.add_job(project, "proxy", {})
    first, second = (store.add_job(project, "track", {}) for _ in range(2))
    assert store.waiting(("track",)) and not store.waiting(("inpaint",))
    assert store.claim(11, ("track", "inpaint"))["id"] == first
    assert store.claim(12, ("track", "inpaint"))["id"] == second
    assert store.claim(13, ("track", "inpaint")) is None
    assert store.claim(13, ("proxy",))["id"] == proxy


def test_two_workers_never_get_one_job(store, project):
    jobs = {store.add_job(project, "track", {}) for _ in range(20)}
    found, lock = [], threading.Lock()

    def take():
        while (job := store.claim(1, ("track",))) is not None:
            with lock:
                found.append(job["id"])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and set(found) == jobs


def test_what_a_dead_worker_left_waits_again_three_times(store, project):
    job = store.add_job(project, "inpaint", {})
    for _ in range(2):
        assert store.claim(1, ("inpaint",))["id"] == job
        assert store.requeue(1) == [job] and store.job(job)["state"] == "queued"
    store.claim(1, ("inpaint",))
    assert store.requeue(2) == []  # another one's
    assert store.requeue(1, again=True) == [job] and store.job(job)["state"] == "queued"
    store.claim(1, ("inpaint",))
    store.requeue()
    assert store.job(job)["state"] == "failed" and "memory" in store.job(job)["message"]


def test_cancelling(store, project):
    queued, running = store.add_job(project, "track", {}), store.add_job(project, "inpaint", {})
    store.ask_cancel(queued)
    assert store.job(queued)["state"] == "cancelled"
    store.claim(1, ("inpaint",))
    assert store.report(running, "inpaint", 1, 2) and not store.cancelled(running)
    store.ask_cancel(running)
    assert not store.report(running, "inpaint", 2, 2) and store.cancelled(running)
    store.end(running, "cancelled")
    store.end(running, "done")  # too late
    assert store.job(running)["state"] == "cancelled"
    store.remove_job(running)
    with pytest.raises(NotThere, match="There is no job"):
        store.job(running)


def test_a_job_at_work_is_not_removed(store, project):
    job = store.add_job(project, "track", {})
    with pytest.raises(ValueError, match="only be cancelled"):
        store.remove_job(job)


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc", "0123456789abcdeg", "0123456789abcde/", "A" * 16, None]
)
def test_nothing_but_an_id_is_a_folder(store, name):
    for look in (store.folder, store.project, store.job, store.objects):
        with pytest.raises(NotThere):
            look(name)


def test_one_server_a_workspace(store):
    with store.hold():
        code = f"from videopainter.web.store import Store; Store({str(store.workspace)!r}).hold()"
        other = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert other.returncode == 1 and "Another server is at work" in other.stderr
    store.hold().close()


def test_a_write_that_fails_changes_nothing(store, project):
    with pytest.raises(RuntimeError), store._write() as db:
        db.execute("DELETE FROM projects")
        raise RuntimeError
    assert store.project(project)["name"] == "a clip"
