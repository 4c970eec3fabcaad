"""The interface without a browser: projects, frames, and what all of it has in common."""

import json

import pytest
from clips import write_clip
from served import (
    COUNT,
    HEIGHT,
    ROOT,
    WIDTH,
    an_object,
    click,
    done,
    picture,
    put,
    thing,
)

from videopainter.video import open_video
from videopainter.web import exports


def test_a_video_becomes_a_project(client, project, workspace):
    found = client.get(f"/api/projects/{project}").json()
    assert (found["frames"], found["width"], found["height"], found["fps"]) == (COUNT, WIDTH, HEIGHT, 12.0)
    assert (found["in"], found["out"], found["objects"], found["jobs"]) == (0, COUNT - 1, [], [])
    assert found["sound"] and not found["undo"] and not found["redo"]
    assert str(workspace) not in json.dumps(found)
    assert [one["id"] for one in client.get("/api/projects").json()] == [project]


def test_the_example_comes_with_the_package(client):
    found = client.post("/api/projects/example").json()
    assert (found["width"], found["height"]) == (640, 480)
    assert exports.example().read_bytes() == (ROOT / "examples/cup.mp4").read_bytes()


def test_every_frame_by_its_number(client, project, clip):
    with open_video(clip) as source:
        for number in (0, 7, COUNT - 1, 3):
            got = picture(client.get(f"/api/projects/{project}/frames/{number}", params={"kind": "png"}))
            assert (got == source[number]).all()
    for kind in ("jpeg", "webp"):
        small = client.get(f"/api/projects/{project}/frames/5", params={"width": 80, "kind": kind})
        assert small.headers["content-type"] == f"image/{kind}" and picture(small).shape == (60, 80, 3)
    assert picture(client.get(f"/api/projects/{project}/thumbnails/5")).shape[1] == WIDTH


@pytest.mark.parametrize("number, status", [(COUNT, 404), (-1, 404), ("x", 422)])
def test_frames_that_are_not_there(client, project, number, status):
    for kind in ("frames", "thumbnails"):
        assert client.get(f"/api/projects/{project}/{kind}/{number}").status_code == status


def test_settings(client, project):
    address = f"/api/projects/{project}"
    found = client.patch(address, json={"name": "<b>", "in": 3, "out": 9, "dilate_size": 12}).json()
    assert (found["name"], found["in"], found["out"], found["dilate_size"]) == ("<b>", 3, 9, 12)
    found = client.patch(address, json={"out": 10_000}).json()
    assert (found["in"], found["out"]) == (3, COUNT - 1)
    for wrong in ({"in": -1}, {"dilate_size": 501}, {"name": ""}, {"name": "x" * 201}):
        assert client.patch(address, json=wrong).status_code == 422
    nan = client.patch(address, content='{"dilate_size": NaN}', headers={"content-type": "application/json"})
    assert nan.status_code == 422


def test_settings_can_be_undone(client, project):
    for settings in ({"dilate_size": 40}, {"in": 3, "out": 9}, {"effects": "off"}):
        client.patch(f"/api/projects/{project}", json=settings)
    for expected in ((40, 3, 9, "auto"), (40, 0, COUNT - 1, "auto"), (None, 0, COUNT - 1, "auto")):
        now = client.post(f"/api/projects/{project}/undo").json()
        assert (now["dilate_size"], now["in"], now["out"], now["effects"]) == expected
    assert not now["undo"] and now["redo"]
    assert client.post(f"/api/projects/{project}/redo").json()["dilate_size"] == 40


def test_the_poster_is_there_without_the_video(client, project, workspace):
    address = f"/api/projects/{project}/poster"
    assert picture(client.get(address)).shape == (HEIGHT, WIDTH, 3)
    (workspace / "projects" / project / "poster.jpg").unlink()
    assert picture(client.get(address)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("data, says", [(b"no video at all", "'notes.mp4' is not a video"), (b"", "empty")])
def test_a_file_that_is_no_video(client, workspace, data, says):
    answer = client.post("/api/projects", params={"name": "notes.mp4"}, content=data)
    assert answer.status_code == 422 and says in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert str(workspace) not in answer.json()["detail"]
    assert client.get("/api/projects").json() == []
    assert list((workspace / "projects").iterdir()) == []


def test_a_deleted_project_leaves_nothing(client, project, workspace):
    put(client, project, an_object(click()))
    assert client.delete(f"/api/projects/{project}").status_code == 204
    assert client.get(f"/api/projects/{project}").status_code == 404
    assert list((workspace / "projects").iterdir()) == []


def test_a_large_video_gets_a_small_copy(client, tmp_path):
    path = tmp_path / "large.mp4"
    write_clip(path, thing(4, 720, 1280), stamps=[0, 1, 5, 6])
    project = client.post("/api/projects", params={"name": "large.mp4"}, content=path.read_bytes()).json()
    assert project["jobs"] == []
    (job,) = client.post(f"/api/projects/{project['id']}/proxy").json()["jobs"]
    assert len(client.post(f"/api/projects/{project['id']}/proxy").json()["jobs"]) == 1
    done(client, job)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(client.get(f"/api/projects/{project['id']}/proxy.mp4").content)
    with open_video(copy) as small, open_video(path) as source:
        assert (len(small), small.size) == (4, (360, 640))
        assert [float(t) for t in small.times] == pytest.approx([float(t) for t in source.times], abs=1e-3)
    answer = client.get(f"/api/projects/{project['id']}/thumbnails/3")
    assert picture(answer).shape[1] == 160
