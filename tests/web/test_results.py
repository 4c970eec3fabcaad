"""Inpainting over the interface: results, previews, files of other kinds, and what is refused."""

import io
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from clips import write_clip
from served import (
    COUNT,
    HEIGHT,
    RED,
    WIDTH,
    done,
    ended,
    iou,
    load_npz,
    picture,
    post,
    thing,
    thing_at,
    thing_masks,
    upload_masks,
)

from videopainter.masks import MaskTrack, save_masks
from videopainter.video import open_video
from videopainter.web import exports


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
            assert np.abs(result[i][:20].astype(int) - source[4 + i][:20]).max() <= 8  # the encoder's
    shown = picture(client.get(f"/api/jobs/{job['id']}/frames/9"))
    assert shown.shape == (HEIGHT, WIDTH, 3)
    run = client.get(f"/api/jobs/{job['id']}/files/run.json").json()
    assert run["settings"]["dilate_size"] == 16
    assert client.get(f"/api/jobs/{job['id']}/files/other.json").status_code == 404


def test_files_for_compositing_come_with_the_result(client, masked, tmp_path):
    job = done(
        client, post(client, masked, kind="inpaint", engine="propagation", seconds=0.5, export=["matte"])
    )
    (tmp_path / "matte.mp4").write_bytes(client.get(f"/api/jobs/{job['id']}/files/matte.mp4").content)
    with open_video(tmp_path / "matte.mp4") as matte:
        assert iou(matte[0][..., 0] > 128, thing_masks()[0]) > 0.9
    answer = client.post(f"/api/projects/{masked}/jobs", json={"kind": "inpaint", "export": ["nonsense"]})
    assert answer.status_code == 422 and "matte" in answer.json()["detail"]


def test_what_other_frames_show_is_told_where_the_run_tells_it(client, masked):
    job = done(client, post(client, masked, kind="inpaint", engine="propagation", frame=3))
    run = client.get(f"/api/jobs/{job['id']}/files/run.json").json()
    told = run.get("seen")
    assert (job["facts"]["seen"] is None) == (told is None)
    if told is not None:
        assert job["facts"]["seen"]["share"] == told["share"]
        shown = picture(client.get(f"/api/jobs/{job['id']}/frames/0", params={"of": "seen"}))
        assert shown.shape == (HEIGHT, WIDTH, 3)


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
        ({"kind": "track", "segmenter": "clicks", "size": "tiny"}, "has no size 'tiny'"),
        ({"kind": "track", "segmenter": "sam2", "size": "tiny"}, "its weights are not there"),
        ({"kind": "track", "size": "huge"}, "No segmenter has the size 'huge'"),
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
    assert "tiny" in segmenters["sam2"]["sizes"] and segmenters["clicks"]["sizes"] == []


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
