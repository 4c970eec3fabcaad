"""Objects over the interface: prompts and their masks, undo, masks from files and into files, tracking."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip
from fastapi.testclient import TestClient
from served import (
    COUNT,
    HEIGHT,
    WIDTH,
    an_object,
    click,
    done,
    ended,
    iou,
    masks_of,
    picture,
    post,
    put,
    thing,
    thing_at,
    thing_masks,
    upload_masks,
)

from videopainter.masks import MaskError
from videopainter.segmentation.finders import FinderSpec
from videopainter.web import exports
from videopainter.web.server import create_app
from videopainter.web.store import Store

# --- objects --------------------------------------------------------------------------------------------------


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


def test_a_frame_is_prepared_for_clicks(client, project):
    prepared = f"/api/projects/{project}/frames/4/prepare"
    assert client.post(prepared).status_code == 204
    assert client.post(prepared.replace("/4/", "/99/")).status_code == 404
    put(client, project, an_object(click(4)))
    overlay = picture(client.get(f"/api/projects/{project}/frames/4/masks"))
    assert iou(overlay[..., 3] > 0, thing_masks()[4]) > 0.9


def test_of_two_who_change_the_objects_at_once_one_looks_again(client, project):
    mark = client.get(f"/api/projects/{project}").json()["mark"]
    request = {"objects": [an_object(click())], "after": mark}
    assert client.put(f"/api/projects/{project}/objects", json=request).json()["mark"] != mark
    request["objects"][0]["name"] = "other"
    answer = client.put(f"/api/projects/{project}/objects", json=request)
    assert answer.status_code == 409 and "somebody else" in answer.json()["detail"]
    assert client.get(f"/api/projects/{project}").json()["objects"][0]["name"] == "Object 1"


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


def test_prompts_of_before_there_were_polygons_are_what_they_were(client, project):
    put(client, project, an_object(click()))
    store = client.app.state.store
    (one,) = store.objects(project)
    assert "points" not in one["prompts"][0]
    found = put(client, project, one, an_object(click(3), number=2))["found"]
    assert [(looked["object"], looked["frame"]) for looked in found] == [(2, 3)]


def test_polygons_are_taken_as_they_are_drawn(client, project):
    def shown():
        return picture(client.get(f"/api/projects/{project}/frames/0/masks"))[..., 3] > 0

    def polygon(*points, positive=True):
        return {"kind": "polygon", "frame": 0, "points": points, "positive": positive}

    def filled(left, top, right, bottom):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : bottom + 1, left : right + 1] = True
        return mask

    whole = polygon((100, 20), (139, 20), (139, 49), (100, 49))
    part = polygon((110, 30), (120, 30), (120, 40), (110, 40), positive=False)
    more = polygon((10, 100), (30, 100), (30, 110), (10, 110))
    put(client, project, an_object(whole))
    assert (shown() == filled(100, 20, 139, 49)).all()
    put(client, project, an_object(whole, part, more))
    drawn = filled(100, 20, 139, 49) & ~filled(110, 30, 120, 40) | filled(10, 100, 30, 110)
    assert (shown()[~filled(109, 29, 121, 41)] == drawn[~filled(109, 29, 121, 41)]).all()
    assert not shown()[33:38, 113:118].any()  # but for the outline that is drawn around the hole
    client.post(f"/api/projects/{project}/undo")
    assert (shown() == filled(100, 20, 139, 49)).all()
    # After a click it adds to what the click found, and it is followed with it.
    left, top = thing_at(0)
    put(
        client,
        project,
        an_object(click(), polygon((left, 10), (left + 39, 10), (left + 39, top), (left, top))),
    )
    assert iou(shown(), thing_masks()[0] | filled(left, 10, left + 39, top)) > 0.9
    done(client, post(client, project, kind="track"))
    assert masks_of(client, project)[0][12, left + 20]
    # All of it taken away is no object, and that is said.
    gone = polygon((0, 0), (159, 0), (159, 119), (0, 119), positive=False)
    found = put(client, project, an_object(gone, number=2))
    assert "draw around the thing first" in found["found"][0]["message"]


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
        ({"kind": "polygon", "frame": 0, "points": [[1, 1], [9, 9]]}, "three corners"),
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


# --- masks as files -------------------------------------------------------------------------------------------


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


# --- tracking -------------------------------------------------------------------------------------------------


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


# --- what has a name -----------------------------------------------------------------------------------------------


def written(count=8, height=120, width=320) -> np.ndarray:
    """Frames with a line of text that keeps its place."""
    frames = thing(count, height, width) // 2
    for frame in frames:
        cv2.putText(
            frame, "KEEP LEFT", (60, 95), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 3, cv2.LINE_AA
        )
    return frames


def test_everything_that_has_a_name_is_found(client, tmp_path):
    """A caption becomes an object with masks between the in and the out point."""
    write_clip(tmp_path / "text.mp4", written(), rate=12)
    content = (tmp_path / "text.mp4").read_bytes()
    project = client.post("/api/projects", params={"name": "text.mp4"}, content=content).json()["id"]
    client.patch(f"/api/projects/{project}", json={"in": 1, "out": 6})
    put(client, project, an_object(click()))
    finders = {one["name"]: one for one in client.get("/api/finders").json()}
    assert finders["captions"]["available"] and finders["faces"]["what"]
    done(client, post(client, project, kind="find", find="captions"))
    state = client.get(f"/api/projects/{project}").json()
    assert [one["name"] for one in state["objects"]] == ["Object 1", "Captions"]
    assert state["timeline"][-1]["frames"] == [[1, 6]]
    overlay = picture(client.get(f"/api/projects/{project}/frames/3/masks"))
    assert (overlay[70:100, 60:240, 3] > 0).mean() > 0.15 and not overlay[100:, 250:, 3].any()
    # It can be undone, and there is nothing to be found in a part of the picture.
    assert len(client.post(f"/api/projects/{project}/undo").json()["objects"]) == 1
    job = ended(client, post(client, project, kind="find", find="captions", area=[0, 0, 300, 30]))
    assert job["state"] == "failed" and job["message"] == "No captions were found."


def test_what_nobody_can_find_is_refused(client, project, monkeypatch):
    request = {"kind": "find", "find": "happiness"}
    answer = client.post(f"/api/projects/{project}/jobs", json=request)
    assert answer.status_code == 422 and "'happiness' cannot be done here" in answer.json()["detail"]
    answer = client.post(f"/api/projects/{project}/jobs", json={"kind": "find", "find": "words"})
    assert answer.status_code == 422 and "what to look for" in answer.json()["detail"]
    monkeypatch.setattr(FinderSpec, "missing", lambda spec: "its package is not installed")
    assert client.get("/api/finders").json()[0]["reason"] == "its package is not installed"
    answer = client.post(f"/api/projects/{project}/jobs", json={"kind": "find", "find": "faces"})
    assert answer.status_code == 422 and "its package is not installed" in answer.json()["detail"]


@pytest.mark.slow
def test_words_go_all_the_way(clip, workspace, tmp_path, monkeypatch):
    """Through the server, the process of the work, a tiny GroundingDINO with random weights, and the follower."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "segmentation"))
    from tiny_words import write_dino

    write_dino(tmp_path / "grounding-dino-tiny", seed=2)  # which happens to be sure of something
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path))
    with TestClient(create_app(workspace, {"testserver"})) as client:
        content = clip.read_bytes()
        project = client.post("/api/projects", params={"name": "a.mp4"}, content=content).json()["id"]
        client.patch(f"/api/projects/{project}", json={"in": 0, "out": 3})
        (words,) = (one for one in client.get("/api/finders").json() if one["words"])
        assert words["available"] and words["reason"] == ""
        job = done(
            client, post(client, project, kind="find", find="the red car", every=2, segmenter="clicks")
        )
        state = client.get(f"/api/projects/{project}").json()
        assert job["facts"]["objects"] == len(state["objects"]) >= 1
        assert state["objects"][0]["name"] == "The red car"
        assert masks_of(client, project).any() and len(masks_of(client, project)) == 4


def test_many_things_that_are_found_stay_within_what_a_project_holds(client, project, workspace):
    store = Store(workspace)
    masks = {f"Face {k}": iter(thing_masks(2)) for k in range(65)}
    with pytest.raises(MaskError, match="more than 64 objects"):
        exports.add_masks(store, project, masks)
    assert store.objects(project) == []
