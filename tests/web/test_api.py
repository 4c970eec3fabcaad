"""The interface without a browser: projects, frames, objects, masks, jobs and results."""

import io
import json
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import write_clip
from served import (
    COUNT,
    HEIGHT,
    RED,
    ROOT,
    WIDTH,
    an_object,
    click,
    done,
    ended,
    iou,
    load_npz,
    masks_of,
    thing,
    thing_at,
    thing_masks,
)

from videopainter.masks import MaskTrack, save_masks
from videopainter.video import open_video
from videopainter.web import exports


def picture(answer) -> np.ndarray:
    """The pixels of an answer, RGB or RGBA."""
    assert answer.status_code == 200, answer.text
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def put(client, project, *objects):
    answer = client.put(f"/api/projects/{project}/objects", json={"objects": objects})
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client, project, **request):
    answer = client.post(f"/api/projects/{project}/jobs", json=request)
    assert answer.status_code == 201, answer.text
    return answer.json()


def upload_masks(client, project, name, data, **parameters):
    return client.put(f"/api/projects/{project}/masks", params={"name": name, **parameters}, content=data)


@pytest.fixture
def masked(client, project, tmp_path) -> str:
    """The project with the masks of the thing, from a file."""
    path = tmp_path / "masks.npz"
    MaskTrack.build(thing_masks()).save_npz(path)
    assert upload_masks(client, project, "thing.npz", path.read_bytes()).status_code == 201
    return project


# --- projects and frames ----------------------------------------------------------------------------------------


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


# --- objects ----------------------------------------------------------------------------------------------------


def test_a_click_shows_its_mask(client, project):
    found = put(client, project, an_object(click(4)))
    assert found["found"][0]["candidates"] and found["found"][0]["message"] == ""
    overlay = picture(client.get(f"/api/projects/{project}/frames/4/masks"))
    assert overlay.shape == (HEIGHT, WIDTH, 4)
    assert iou(overlay[..., 3] > 0, thing_masks()[4]) > 0.9
    assert (picture(client.get(f"/api/projects/{project}/frames/5/masks"))[..., 3] == 0).all()
    wider = picture(client.get(f"/api/projects/{project}/frames/4/masks", params={"margin": 8}))
    ring = (wider[..., 3] > 0) & (overlay[..., 3] == 0)
    left, top = thing_at(4)
    assert ring[top + 15, left - 5] and not ring[top + 15, left - 12]
    small = picture(client.get(f"/api/projects/{project}/frames/4/masks", params={"width": 80, "margin": 8}))
    assert small.shape == (60, 80, 4) and small[(top + 15) // 2, (left - 5) // 2, 3] > 0


def test_a_box_a_brush_and_what_is_taken_away(client, project):
    left, top = thing_at(0)
    box = {"kind": "box", "frame": 0, "x0": left, "y0": top, "x1": left + 39, "y1": top + 29}
    stroke = {"radius": 6, "points": [[100, 100], [130, 100]]}
    brush = {"kind": "brush", "frame": 0, "strokes": [stroke]}
    erase = {
        "kind": "brush",
        "frame": 0,
        "positive": False,
        "strokes": [{"radius": 4, "points": [[115, 100]]}],
    }
    put(client, project, an_object(box), an_object(brush, erase, number=2, colour="#0a84ff"))
    overlay = picture(client.get(f"/api/projects/{project}/frames/0/masks"))
    assert overlay[top + 15, left + 20, 3] > 0 and overlay[100, 104, 3] > 0
    assert overlay[100, 115, 3] == 0 or tuple(overlay[100, 115, :3]) == (255, 255, 255)
    assert tuple(overlay[100, 104, :3]) == (0x0A, 0x84, 0xFF)
    put(client, project, an_object(box, hidden=True))
    assert (picture(client.get(f"/api/projects/{project}/frames/0/masks"))[..., 3] == 0).all()


def test_undo_and_redo_bring_the_masks_back(client, project):
    def shown():
        return picture(client.get(f"/api/projects/{project}/frames/0/masks"))[..., 3] > 0

    put(client, project, an_object(click()))
    first = shown()
    put(
        client,
        project,
        an_object(click(), {"kind": "brush", "frame": 0, "strokes": [{"radius": 5, "points": [[140, 110]]}]}),
    )
    second = shown()
    assert (first != second).any()
    assert client.post(f"/api/projects/{project}/undo").json()["redo"]
    assert (shown() == first).all()
    client.post(f"/api/projects/{project}/undo")
    assert not shown().any()
    for expected in (first, second):
        client.post(f"/api/projects/{project}/redo")
        assert (shown() == expected).all()


def test_deleting_tracked_masks_can_be_undone(client, masked):
    before = client.get(f"/api/projects/{masked}").json()["objects"]
    put(client, masked)
    assert client.get(f"/api/projects/{masked}/masks/masks.npz").status_code == 422
    put(
        client, masked, an_object(click(), number=client.get(f"/api/projects/{masked}").json()["next_object"])
    )
    for _ in range(2):
        client.post(f"/api/projects/{masked}/undo")
    assert client.get(f"/api/projects/{masked}").json()["objects"] == before
    assert (masks_of(client, masked) == thing_masks()).all()


@pytest.mark.parametrize(
    "prompt, says",
    [
        ({"kind": "click", "frame": 0, "x": WIDTH, "y": 5}, "outside"),
        ({"kind": "click", "frame": 0, "x": -1, "y": 5}, "outside"),
        ({"kind": "click", "frame": COUNT, "x": 1, "y": 5}, f"has {COUNT} frames"),
        ({"kind": "brush", "frame": 0}, "no strokes"),
        ({"kind": "lasso", "frame": 0}, None),
        ({"kind": "brush", "frame": 0, "strokes": [{"radius": 0, "points": [[1, 1]]}]}, None),
    ],
)
def test_prompts_that_cannot_be_are_refused(client, project, prompt, says):
    answer = client.put(f"/api/projects/{project}/objects", json={"objects": [an_object(prompt)]})
    assert answer.status_code == 422
    assert says is None or says in answer.json()["detail"]
    assert client.get(f"/api/projects/{project}").json()["objects"] == []


def test_a_prompt_that_finds_nothing_says_so(client, project):
    found = put(client, project, an_object(click(positive=False)))
    assert "positive" in found["found"][0]["message"]


def test_objects_have_numbers_of_their_own(client, project):
    twice = {"objects": [an_object(), an_object()]}
    assert client.put(f"/api/projects/{project}/objects", json=twice).status_code == 422


# --- masks as files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", exports.MASK_FILES)
def test_masks_come_down_and_go_up_in_every_format(client, masked, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(client.get(f"/api/projects/{masked}/masks/{name}").content)
    put(client, masked)
    assert upload_masks(client, masked, name, path.read_bytes()).status_code == 201
    got = masks_of(client, masked)
    if name == "masks.mp4":  # H.264, whose edges are not exact
        assert iou(got, thing_masks()) > 0.95
    else:
        assert (got == thing_masks()).all()


def test_one_image_is_the_mask_of_every_frame(client, project):
    mask = thing_masks()[0]
    data = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    assert upload_masks(client, project, "mask.png", data).status_code == 201
    assert (masks_of(client, project) == mask).all()


def test_labels_and_inversion(client, project):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:10], labels[50:60] = 1, 2
    data = cv2.imencode(".png", labels)[1].tobytes()
    assert upload_masks(client, project, "a.png", data, mask_id=2).status_code == 201
    assert (masks_of(client, project)[3] == (labels == 2)).all()
    put(client, project)
    upload_masks(client, project, "a.png", data, mask_id=2, invert=True)
    assert (masks_of(client, project)[3] == (labels != 2)).all()


def bad_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/0.png", b"1")
        archive.writestr("b/0.png", b"2")
    return file.getvalue()


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("masks.npz", b"nothing", "masks"),
        ("masks.zip", b"nothing", "cannot be read"),
        ("twice.zip", bad_zip(), "several images of one name"),
        ("small.png", cv2.imencode(".png", np.ones((4, 4), np.uint8))[1].tobytes(), "small"),
        ("odd.exe", b"nothing", "odd"),
    ],
)
def test_masks_that_do_not_fit(client, project, workspace, name, data, says):
    answer = upload_masks(client, project, name, data)
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text
    assert str(workspace) not in answer.json()["detail"]
    assert client.get(f"/api/projects/{project}").json()["objects"] == []
    assert not list((workspace / "projects" / project).glob("uploads/*"))


def test_masks_that_nobody_offers(client, masked):
    assert client.get(f"/api/projects/{masked}/masks/masks.exe").status_code == 422


def test_the_zip_of_labels_holds_every_object(client, masked, tmp_path):
    other = np.zeros((HEIGHT, WIDTH), np.uint8)
    other[100:110, :20] = 255
    upload_masks(client, masked, "other.png", cv2.imencode(".png", other)[1].tobytes())
    data = client.get(f"/api/projects/{masked}/masks/labels.zip").content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = sorted(archive.namelist())
        labels = cv2.imdecode(np.frombuffer(archive.read(names[0]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert len(names) == COUNT and len(np.unique(labels.reshape(HEIGHT * WIDTH, -1), axis=0)) == 3


# --- tracking ---------------------------------------------------------------------------------------------------


def test_tracking_follows_the_thing_and_a_correction_is_followed_from_there(client, project):
    put(client, project, an_object(click()))
    job = done(client, post(client, project, kind="track"))
    assert job["facts"]["frames"] >= COUNT
    masks = masks_of(client, project)
    assert min(iou(a, b) for a, b in zip(masks, thing_masks())) > 0.8
    (line,) = client.get(f"/api/projects/{project}").json()["timeline"]
    assert line["frames"] == [[0, COUNT - 1]] and line["preview"] == []

    assert done(client, post(client, project, kind="track"))["facts"]["frames"] == 0  # nothing has changed

    extra = {"kind": "brush", "frame": 12, "strokes": [{"radius": 8, "points": [[140, 20]]}]}
    put(client, project, an_object(click(), extra))
    (line,) = client.get(f"/api/projects/{project}").json()["timeline"]
    assert line["preview"] == [12]
    assert 0 < done(client, post(client, project, kind="track"))["facts"]["frames"] <= COUNT
    after = masks_of(client, project)
    assert after[12][20, 140] and (after[0] == masks[0]).all()

    client.post(f"/api/projects/{project}/undo")  # taken back, and what followed from it with it
    assert done(client, post(client, project, kind="track"))["facts"]["frames"] >= COUNT
    assert not masks_of(client, project)[12][20, 140]


def test_tracking_between_the_in_and_the_out_point(client, project):
    client.patch(f"/api/projects/{project}", json={"in": 5, "out": 9})
    put(client, project, an_object(click(7)), an_object(click(0), number=2))
    done(client, post(client, project, kind="track"))
    lines = {line["object"]: line for line in client.get(f"/api/projects/{project}").json()["timeline"]}
    assert lines[1]["frames"] == [[5, 9]]
    assert lines[2]["frames"] == [[0, 0]]  # its click lies outside
    assert len(masks_of(client, project)) == 5


def test_frames_that_want_a_look_are_marked(client, project):
    masks = thing_masks()
    masks[5:8] = False
    masks[15, :, 70:] = False
    file = io.BytesIO()
    np.savez(file, masks)
    upload_masks(client, project, "m.npz", file.getvalue())
    (line,) = client.get(f"/api/projects/{project}").json()["timeline"]
    assert line["marks"] == [{"frame": 5, "why": "out of sight"}, {"frame": 15, "why": "small"}]


# --- inpainting -------------------------------------------------------------------------------------------------


def test_the_thing_is_inpainted_and_the_rest_is_kept(client, masked, clip, tmp_path):
    client.patch(f"/api/projects/{masked}", json={"in": 4, "out": 13, "dilate_size": 16})
    job = done(client, post(client, masked, kind="inpaint", engine="propagation"))
    assert (job["facts"]["first"], job["facts"]["count"]) == (4, 10)
    assert {"result.mp4", "result_vis.mp4", "run.json"} <= set(job["facts"]["files"])
    path = tmp_path / "result.mp4"
    path.write_bytes(client.get(f"/api/jobs/{job['id']}/files/result.mp4").content)
    with open_video(path) as result, open_video(clip) as source:
        assert (len(result), result.size, result.has_audio) == (10, (HEIGHT, WIDTH), True)
        for i in (0, 9):
            left, top = thing_at(4 + i)
            assert np.abs(result[i][top + 15, left + 20].astype(int) - RED).max() > 60
            assert np.abs(result[i][:20].astype(int) - source[4 + i][:20]).max() <= 6
    shown = picture(client.get(f"/api/jobs/{job['id']}/frames/9"))
    assert shown.shape == (HEIGHT, WIDTH, 3)
    run = client.get(f"/api/jobs/{job['id']}/files/run.json").json()
    assert run["settings"]["dilate_size"] == 16
    assert client.get(f"/api/jobs/{job['id']}/files/other.json").status_code == 404


def test_previews_of_a_frame_and_of_some_seconds(client, masked):
    one = post(client, masked, kind="inpaint", engine="propagation", frame=20)
    some = post(client, masked, kind="inpaint", engine="propagation", seconds=0.5, first=6)
    outside = post(client, masked, kind="inpaint", engine="propagation", frame=COUNT + 5)
    facts = done(client, one)["facts"]
    assert facts["focus"] == 20 and 20 in range(facts["first"], facts["first"] + facts["count"])
    facts = done(client, some)["facts"]
    assert (facts["first"], facts["count"]) == (6, 6)
    assert ended(client, outside)["message"] == "That frame lies outside the in and out points."


def test_frame_times_and_sound_of_a_part_are_kept(client, tmp_path):
    stamps = [0, 1, 2, 5, 6, 7, 11, 12, 13, 14]
    path = write_clip(tmp_path / "uneven.mp4", thing(10), rate=12, stamps=stamps, sound="aac")
    project = client.post(
        "/api/projects", params={"name": "uneven.mp4"}, content=Path(path).read_bytes()
    ).json()["id"]
    mask = thing_masks(10)
    file = io.BytesIO()
    np.savez(file, mask)
    upload_masks(client, project, "m.npz", file.getvalue())
    client.patch(f"/api/projects/{project}", json={"in": 2, "out": 7})
    job = done(client, post(client, project, kind="inpaint", engine="propagation"))
    result = tmp_path / "result.mp4"
    result.write_bytes(client.get(f"/api/jobs/{job['id']}/files/result.mp4").content)
    with av.open(str(result)) as container:
        pictures = container.streams.video[0]
        times = sorted(p.pts * pictures.time_base for p in container.demux(pictures) if p.pts is not None)
        assert [round(12 * time) for time in times] == [0, 3, 4, 5, 9, 10]
    with av.open(str(result)) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(
            10 / 12 - 2 / 12, abs=0.05
        )  # to its end


def test_a_result_is_written_again_in_other_ways(client, masked, tmp_path):
    client.patch(f"/api/projects/{masked}", json={"in": 0, "out": 5})
    result = done(client, post(client, masked, kind="inpaint", engine="propagation"))
    jobs = {}
    for ending in exports.ENDINGS:
        answer = client.post(f"/api/jobs/{result['id']}/exports", json={"ending": ending, "quality": 50})
        assert answer.status_code == 201, answer.text
        jobs[ending] = answer.json()
    for ending, job in jobs.items():
        name = done(client, job)["facts"]["files"][0]
        path = tmp_path / f"made{ending}"
        path.write_bytes(client.get(f"/api/jobs/{job['id']}/files/{name}").content)
        if ending == ".zip":
            with zipfile.ZipFile(path) as archive:
                assert len([one for one in archive.namelist() if one.endswith(".png")]) == 6
        else:
            with open_video(path) as video:
                assert (len(video), video.size) == (6, (HEIGHT, WIDTH))
    for wrong in (
        {"ending": ".exe"},
        {"ending": "/../x.mp4"},
        {"ending": ".gif", "codec": "h264"},
        {"ending": ".mp4", "quality": 101},
    ):
        assert client.post(f"/api/jobs/{result['id']}/exports", json=wrong).status_code == 422
    assert client.post(f"/api/jobs/{jobs['.mp4']['id']}/exports", json={"ending": ".mp4"}).status_code == 422


def test_nothing_selected_is_said(client, project):
    job = ended(client, post(client, project, kind="inpaint", engine="propagation"))
    assert job["state"] == "failed" and job["message"].startswith("Nothing is selected")


@pytest.mark.parametrize(
    "request_, says",
    [
        ({"kind": "inpaint", "engine": "nonsense"}, "nonsense"),
        ({"kind": "inpaint", "engine": "videopainter", "prompt": "a cat"}, "videopainter"),
        ({"kind": "inpaint", "engine": "propagation", "options": {"colour": 1}}, "colour"),
        ({"kind": "track", "segmenter": "nonsense"}, "nonsense"),
        ({"kind": "sleep"}, None),
        ({"kind": "inpaint", "seed": -1}, None),
    ],
)
def test_jobs_that_cannot_be_are_refused(client, project, request_, says):
    answer = client.post(f"/api/projects/{project}/jobs", json=request_)
    assert answer.status_code == 422, answer.text
    assert says is None or says in answer.json()["detail"]
    assert client.get(f"/api/projects/{project}").json()["jobs"] == []


def test_no_option_names_a_file(client, project):
    paths = [
        (one["name"], o["name"])
        for one in client.get("/api/engines").json()
        for o in one["options"]
        if o["type"] == "path"
    ]
    assert paths
    for engine, option in paths:
        request = {"kind": "inpaint", "engine": engine, "prompt": "x", "options": {option: "/etc/passwd"}}
        assert client.post(f"/api/projects/{project}/jobs", json=request).status_code == 422


def test_engines_and_segmenters_say_what_they_need(client):
    engines = {one["name"]: one for one in client.get("/api/engines").json()}
    assert engines["propagation"]["available"] and not engines["videopainter"]["available"]
    assert engines["videopainter"]["reason"] and engines["videopainter"]["takes_prompt"]
    assert all(o["help"] for one in engines.values() for o in one["options"])
    segmenters = {one["name"]: one for one in client.get("/api/segmenters").json()}
    assert segmenters["classical"]["available"] and segmenters["sam2"]["reason"]


def test_openapi_describes_every_route(client):
    described = client.get("/openapi.json").json()["paths"]
    assert {"/api/projects", "/api/projects/{project}/objects", "/api/jobs/{job}/exports"} <= set(described)
    for methods in described.values():
        assert all(one.get("description") or one.get("summary") for one in methods.values())
    assert client.get("/api.html").status_code == 200


def test_a_result_is_deleted(client, masked, workspace):
    job = done(client, post(client, masked, kind="inpaint", engine="propagation", frame=3))
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert client.get(f"/api/jobs/{job['id']}").status_code == 404
    assert not list((workspace / "projects" / masked / "results").iterdir())


def test_save_masks_agrees_with_what_is_offered(tmp_path):
    for name, kind in exports.MASK_FILES.items():
        save_masks(MaskTrack.build(thing_masks(2)), tmp_path / name.replace(".zip", ""), kind, 12)
    assert (load_npz((tmp_path / "masks.npz").read_bytes()) == thing_masks(2)).all()
