import cv2
import numpy as np
import pytest
from small_dstt import film

from videopainter.dstt.training.data import (
    LAYOUTS,
    FrameFolder,
    Sources,
    VideoFile,
    draw_sequence,
    find,
    prepare,
)
from videopainter.dstt.training.generator import blob, camera_path, moving_scene, placed, read_photo, recolour
from videopainter.dstt.training.masks_random import MOTIONS, SHAPES, moving_masks, random_masks
from videopainter.video import VideoWriter

SIZE = (48, 80)


def rng(seed=0):
    return np.random.default_rng(seed)


def photos():
    return [film(1, (90, 120), seed=s)[0] for s in range(3)]


def write_frames(folder, names, size=(30, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, film(len(names), size, (1, 0))):
        cv2.imwrite(str(folder / name), frame[..., ::-1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_holes_move_as_they_should(shape, motion):
    masks = moving_masks(rng(3), 8, SIZE, shape, motion)
    assert masks.shape == (8, *SIZE) and masks.dtype == bool
    assert masks.any(axis=(1, 2)).all() and not masks.all(axis=(1, 2)).any()
    same = all((m == masks[0]).all() for m in masks)
    assert same == (motion == "fixed")
    if motion == "perturbed":
        centres = np.array([np.argwhere(m).mean(0) for m in masks])
        assert np.abs(np.diff(centres, axis=0)).max() < 0.1 * SIZE[0]


def test_rectangles_cover_5_to_20_percent():
    shares = [moving_masks(rng(s), 1, (96, 160), "rectangle", "fixed").mean() for s in range(40)]
    assert 0.045 < min(shares) < 0.08 and 0.16 < max(shares) < 0.21


def test_half_of_the_holes_are_fixed_and_the_asked_share_travels():
    def kinds(travelling):
        films = [random_masks(rng(s), 6, SIZE, travelling) for s in range(60)]
        return np.mean([all((m == f[0]).all() for m in f) for f in films])

    assert 0.35 < kinds(0.0) < 0.65 and kinds(1.0) == 0.0


def test_travelling_holes_stay_in_the_picture_for_long():
    for seed in range(10):
        masks = moving_masks(rng(seed), 120, SIZE, "figure", "travelling")
        assert masks.any(axis=(1, 2)).all()


def test_masks_ask_for_known_words():
    with pytest.raises(ValueError, match="star"):
        moving_masks(rng(), 2, SIZE, "star", "fixed")
    with pytest.raises(ValueError, match="jumping"):
        moving_masks(rng(), 2, SIZE, "rectangle", "jumping")


def test_scenes_follow_from_the_seed():
    a, b, c = (moving_scene(rng(s), photos(), 5, SIZE) for s in (1, 1, 2))
    assert a.shape == (5, *SIZE, 3) and a.dtype == np.uint8
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_scenes_move_more_with_more_speed():
    def motion(speed):
        films = [moving_scene(rng(s), photos(), 4, SIZE, speed).astype(int) for s in range(12)]
        return np.mean([np.abs(f[3] - f[0]).mean() for f in films])

    assert motion(3.0) > 1.5 * motion(0.2)


def test_camera_paths_start_at_rest_and_stand_still_without_speed():
    assert not camera_path(rng(), 6, SIZE, 1.0)[0].any() and camera_path(rng(), 6, SIZE, 1.0)[1:].any()
    assert not camera_path(rng(), 6, SIZE, 0.0).any()


def test_a_pose_maps_centre_to_centre_and_shifts():
    place = placed(np.array([3.0, -2.0, 0.5, 0.1]), (100, 160), SIZE)
    np.testing.assert_allclose(place @ [80, 50, 1], [40 + 3, 24 - 2])
    np.testing.assert_allclose(np.linalg.det(place[:, :2]), np.exp(0.2))


def test_things_and_colours():
    shape = blob(rng(4), (96, 160))
    assert shape.min() >= 0 and shape.max() <= 1 and 0 < shape.mean() < 0.9
    colours = recolour(rng(), photos()[0].astype(np.float32))
    assert colours.min() >= 0 and colours.max() <= 255 and colours.dtype == np.float32


@pytest.mark.parametrize(
    "layout, files, videos, stills",
    [
        ("gta_im", ["a/00001.jpg", "a/00000.jpg", "a/00000.png", "b/00000.jpg", "b/00001.jpg"], [2, 2], 0),
        ("mit_indoor", ["Images/bar/x.jpg", "Images/bar/y.jpg", "Images/gym/z.jpg"], [], 3),
        ("sun3d", ["hall/s1/image/1-0.jpg", "hall/s1/image/2-3.jpg", "hall/s1/depth/1-0.jpg"], [2], 0),
        ("photos", ["a.png", "b/c.jpg"], [], 2),
        ("videos", ["v/1.png", "v/2.png", "v/3.png"], [3], 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_layouts_of_the_published_stages(tmp_path, layout, files, videos, stills):
    for name in files:
        path = tmp_path / name
        write_frames(path.parent, [path.name])
    footage, found = find(layout, tmp_path)
    assert [len(f) for f in footage] == videos and len(found) == stills
    for one in footage:
        assert one.read([0, 1])[1].shape == (30, 40, 3)


@pytest.mark.parametrize("layout", ["thumos14", "videos"])
def test_video_files_are_held_at_as_many_rows_as_training_looks_at(tmp_path, layout):
    (tmp_path / "validation").mkdir()
    with VideoWriter(tmp_path / "validation" / "v_1.mp4", fps=10, size=(288, 320)) as writer:
        writer.write(film(5, (288, 320)))
    (footage,), stills = find(layout, tmp_path)
    assert len(footage) == 5 and stills == []
    assert footage.read([4])[0].shape == (270, 300, 3)
    part = VideoFile(tmp_path / "validation" / "v_1.mp4", rows=32, start=2)
    assert len(part) == 3 and part.read([0])[0].shape[0] == 32


def test_frames_come_in_the_order_of_their_names(tmp_path):
    write_frames(tmp_path / "s", ["00002.jpg", "00000.jpg", "00001.jpg"])
    (footage,), _ = find("gta_im", tmp_path)
    assert isinstance(footage, FrameFolder)
    expected = [read_photo(tmp_path / "s" / f"0000{i}.jpg") for i in range(3)]
    for got, want in zip(footage.read(range(3)), expected):
        np.testing.assert_array_equal(got, want)


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        find("videos", tmp_path / "absent")
    with pytest.raises(ValueError, match="nothing in the layout 'sun3d'"):
        find("sun3d", tmp_path)
    with pytest.raises(ValueError, match="imagenet"):
        find("imagenet", tmp_path)
    with pytest.raises(ValueError, match="nothing to train on"):
        Sources([], [])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="bad.jpg"):
        find("photos", tmp_path)
    assert set(LAYOUTS) >= {"gta_im", "mit_indoor", "sun3d", "thumos14"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sequences_come_from_footage_and_from_photographs(tmp_path, share):
    write_frames(tmp_path / "s", [f"{i:03}.jpg" for i in range(20)], (60, 90))
    footage, _ = find("videos", tmp_path)
    sources = Sources(footage, photos())
    a = draw_sequence(rng(5), sources, 6, SIZE, footage_share=share)
    assert a.shape == (6, *SIZE, 3) and a.dtype == np.uint8
    np.testing.assert_array_equal(a, draw_sequence(rng(5), sources, 6, SIZE, footage_share=share))
    longer = draw_sequence(rng(5), Sources(footage, []), 30, SIZE)
    assert len(longer) == 30  # of 20 frames: the last one stays


def test_a_sample_has_its_alignment():
    size = (60, 96)
    frames = film(4, size, (2, 0))
    frames[3] = film(1, size, seed=1)[0]
    masks = random_masks(rng(), 4, size)
    sample = prepare(frames, masks)
    assert [f is None for f in sample.fields] == [True, False, False, True]
    assert abs(np.median(sample.fields[1][..., 0]) + 2) < 0.2
    assert all((one.hole == m).all() for one, m in zip(sample.prepared, masks))
