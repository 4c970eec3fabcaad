"""The flags that say what should go: polygons, brushes, masks of one frame, extents; and where masks are saved."""

import cv2
import numpy as np
import pytest
from test_run_demo import clip  # noqa: F401  the fixture

from videopainter import MaskPrompt, PolygonPrompt, load_masks, select_object
from videopainter.cli import inpaint
from videopainter.video import open_video

H, W = 96, 144
SQUARE = ["10,30", "35,30", "35,61", "10,61"]  # the corners of the thing in frame 0


def drawn(path, mask):
    cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
    return path


def run(video, *arguments):
    return inpaint.main(["--video", str(video), "--mask_only", *map(str, arguments)])


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("way", ["polygon", "start_mask", "brush"])
def test_each_way_finds_the_thing(clip, tmp_path, way):  # noqa: F811
    video, _, masks = clip
    stroke = np.zeros((H, W), bool)
    stroke[40:52, 17:29] = True
    flags = {
        "polygon": ["--polygon", *SQUARE],
        "start_mask": ["--start_mask", drawn(tmp_path / "whole,1.png", masks[3])],
        "brush": ["--brush", drawn(tmp_path / "stroke.png", stroke)],
    }[way]
    if way == "start_mask":
        flags = [flags[0], f"{flags[1]},3"]  # a name with a comma, then the frame
    assert run(video, *flags, "--segmenter", "classical", "--output_dir", tmp_path / "out") == 0
    with open_video(video) as source:
        found = load_masks(tmp_path / "out" / "masks.npz", source)
    least = (
        0.4 if way == "brush" else 0.7
    )  # of a stroke the segmenter makes a whole thing, with a seam around it
    assert min(iou(found[i], masks[i]) for i in range(len(masks))) > least
    assert min(found[i][masks[i]].mean() for i in range(len(masks))) > 0.9


def test_what_is_erased_is_out(clip, tmp_path):  # noqa: F811
    video, _, masks = clip
    out = np.zeros((H, W), bool)
    out[30:40, 10:36] = True
    flags = ["--polygon", *SQUARE, "@0,2", "--erase", f"{drawn(tmp_path / 'out.png', out)},0,2"]
    assert run(video, *flags, "--segmenter", "classical", "--output_dir", tmp_path / "out") == 0
    with open_video(video) as source:
        first = load_masks(tmp_path / "out" / "masks.npz", source)[0]
    assert not first[out].any() and first[45, 20]


def test_the_flags_become_prompts(clip, tmp_path, monkeypatch):  # noqa: F811
    from videopainter.segmentation import TrackResult
    from videopainter.steps import selection

    video, _, masks = clip
    seen = []

    def select_objects(source, prompts, segmenter, progress, extent, size):
        seen.extend([*prompts, extent, size])
        from videopainter.masks import MaskTrack

        return TrackResult(MaskTrack.from_array(masks))

    monkeypatch.setattr(selection, "select_objects", select_objects)
    image = drawn(tmp_path / "x.png", masks[0])
    flags = [
        "--polygon",
        "1,2",
        "30.5,4",
        "5,60",
        "@3,7",
        "--polygon",
        "1,2",
        "3,4",
        "5,6",
        "--extent",
        "part",
        "--sam2_size",
        "small",
    ]
    flags += ["--brush", f"{image},4", "--erase", f"{image},2,9"]
    assert run(video, *flags, "--output_dir", tmp_path / "out") == 0
    *polygons, add, erase, extent, size = seen
    assert (extent, size) == ("part", "small")
    assert polygons == [
        PolygonPrompt(((1, 2), (30.5, 4), (5, 60)), 3, "is", 7),
        PolygonPrompt(((1, 2), (3, 4), (5, 6))),
    ]
    assert (add.mode, add.frame, add.object_id) == ("add", 4, None) and (add.mask == masks[0]).all()
    assert (erase.mode, erase.frame, erase.object_id) == ("erase", 2, 9)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--polygon", "1,2", "3,4"], "three corners or more"),
        (["--polygon", "1,2", "3,4", "@1", "5,6"], "@FRAME at the end"),
        (["--polygon", "1,2", "3", "4,5"], "'3' is not X,Y"),
        (["--polygon", "1,2", "3,3", "4,5", "@x"], "'@x' is not X,Y"),
        (["--brush", ",3"], "does not begin with the name"),
        (["--click", "1,2", "--extent", "all"], "invalid choice: 'all'"),
        (["--erase", "x.png"], "say what should go"),
        (["--mask", "m.npz", "--brush", "x.png"], "cannot be used together"),
    ],
)
def test_flags_that_cannot_be_meant(flags, said, capsys):
    with pytest.raises(SystemExit) as end:
        inpaint.main(["--video", "x.mp4", *flags])
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_images_that_cannot_be_brushes(clip, tmp_path, capsys):  # noqa: F811
    video, _, masks = clip
    out = ["--output_dir", tmp_path / "out"]
    assert run(video, "--brush", tmp_path / "absent.png", *out) == 2
    assert "There are no masks at" in capsys.readouterr().err
    assert run(video, "--brush", drawn(tmp_path / "small.png", masks[0, :50]), *out) == 2
    assert "144 x 50 (width x height), but the video is 144 x 96" in capsys.readouterr().err
    assert run(video, "--brush", drawn(tmp_path / "black.png", masks[0] & False), *out) == 2
    assert "no pixel" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["m.npz", "m.mp4", "m", "m,davis"])
def test_saved_masks_are_read_again(clip, tmp_path, name):  # noqa: F811
    video, given, masks = clip
    flags = ["--mask", given, "--save_masks", tmp_path / "new" / name, "--output_dir", tmp_path / "out"]
    assert run(video, *flags) == 0
    with open_video(video) as source:
        read = load_masks(tmp_path / "new" / name.removesuffix(",davis"), source)
    assert min(iou(read[i], masks[i]) for i in range(len(masks))) > (0.9 if name == "m.mp4" else 0.999)


def test_each_object_is_saved_by_itself(clip, tmp_path):  # noqa: F811
    video, _, masks = clip
    whole = [MaskPrompt(masks[0], 0, "is", 3), PolygonPrompt(((100, 2), (120, 2), (120, 20)), 0, "is", 8)]
    found = select_object(video, clicks=whole, segmenter="classical", max_seconds=0.3)
    assert set(found.objects) == {3, 8}
    corners = ["@0,8"]
    flags = ["--start_mask", f"{drawn(tmp_path / 'x.png', masks[0])},0,3", "--max_seconds", "0.3"]
    flags += ["--polygon", "100,2", "120,2", "120,20", *corners, "--segmenter", "classical"]
    for form in ("png", "davis", "npz", "video"):
        path = tmp_path / {"npz": "m.npz", "video": "m.mp4"}.get(form, form)
        saved = ["--save_masks", f"{path},{form}", "--output_dir", tmp_path / f"out {form}"]
        assert run(video, *flags, *saved) == 0
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == ["3", "8"]
    with open_video(video) as source:
        from videopainter.video.subset import first_seconds

        short = first_seconds(source, 0.3)
        for path in (tmp_path / "davis", tmp_path / "m.npz"):
            for number, track in found.objects.items():
                assert (load_masks(path, short, mask_id=number)[0] == track[0]).all()
        united = load_masks(tmp_path / "m.mp4", short)  # a video has no numbers
        assert iou(united[0], found.masks[0]) > 0.9


@pytest.mark.parametrize(
    "name, said",
    [
        ("m.doc", "Masks cannot be saved as"),
        ("m.npz,davies", "There is no mask format 'davies'"),
        ("m.png", "is one image, which holds one mask"),
        ("m.mp4,npz", "ends in .npz"),
        ("full", "is not empty"),
    ],
)
def test_a_place_where_masks_cannot_go_is_told_at_once(clip, tmp_path, name, said, capsys):  # noqa: F811
    video, given, _ = clip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    flags = ["--mask", given, "--save_masks", tmp_path / name, "--output_dir", tmp_path / "out"]
    assert run(video, *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
