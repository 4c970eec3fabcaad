"""What every mask format must do, read or written: this suite runs over the table of formats.

A new format needs one line in `SAMPLES`, unless it can be written: then `save_masks` makes its sample.
"""

import shutil

import numpy as np
import pytest
from PIL import Image

from videopainter.masks import FORMATS, MaskError, MaskTrack, count_masks, load_masks, open_masks, save_masks

N, H, W = 6, 24, 32
PATHS = {"npz": "m.npz", "objects": "m", "png": "m", "davis": "m", "image": "m.png", "video": "m.mp4"}
WRITTEN = ("npz", "objects", "png", "davis", "video")
READ = tuple(name for name in FORMATS if name != "davis")  # which is read as any folder of images
DAMAGED = 120  # bytes left of a truncated file


class Source:
    def __init__(self, count=N, size=(H, W)):
        self.count, self.size = count, size

    def __len__(self):
        return self.count


def two_objects():
    """Object 1 moves right, object 7 stands still."""
    one, seven = np.zeros((N, H, W), bool), np.zeros((N, H, W), bool)
    for i in range(N):
        one[i, 4:12, 2 * i : 2 * i + 8] = True
    seven[:, 14:22, 20:28] = True
    return {1: MaskTrack.from_array(one), 7: MaskTrack.from_array(seven)}


def labels():
    objects = two_objects()
    return (objects[1][:] * 1 + objects[7][:] * 7).astype(np.uint8)


def save_image(path):
    Image.fromarray(labels()[0]).save(path)


SAMPLES = {
    "image": save_image,
    "png": lambda path: save_masks(two_objects(), path, "davis"),  # numbers: a folder of labels
}


@pytest.fixture(params=READ)
def name(request):
    return request.param


@pytest.fixture
def sample(name, tmp_path):
    path = tmp_path / PATHS[name]
    SAMPLES.get(name, lambda path: save_masks(two_objects(), path, name))(path)
    return path


def expected(name):
    marked = labels() != 0
    return np.repeat(marked[:1], N, axis=0) if FORMATS[name].name == "image" else marked


def one_sentence(error, *words):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and text.count(". ") == 0, text
    for word in words:
        assert word in text, (word, text)


def test_the_table_is_made_of_the_classes():
    assert all(FORMATS[name].name == name for name in FORMATS)
    assert set(PATHS) == set(FORMATS)


def test_count_size_and_labels(name, sample):
    form = open_masks(sample)
    assert type(form) is FORMATS[name]
    assert form.count == (None if name == "image" else N) and tuple(form.size) == (H, W)
    assert count_masks(sample) == form.count
    for _ in range(2):  # frames may be asked for again
        maps = list(form.frames())
        assert len(maps) == (form.count or 1)
        assert all(m.shape == (H, W) and m.dtype.kind in "bui" for m in maps)
    np.testing.assert_array_equal(load_masks(sample, Source())[:], expected(name))
    np.testing.assert_array_equal(load_masks(sample, Source(), invert=True)[:], ~expected(name))


def test_mask_id(name, sample):
    if not FORMATS[name].has_labels:
        with pytest.raises(MaskError) as error:
            load_masks(sample, Source(), mask_id=7)
        return one_sentence(error, "mask id 7", sample.name)
    for number in (1, 7):
        wanted = labels() == number
        found = load_masks(sample, Source(), mask_id=number)[:]
        np.testing.assert_array_equal(found, wanted[:1].repeat(N, 0) if name == "image" else wanted)
    with pytest.raises(MaskError) as error:
        load_masks(sample, Source(), mask_id=3)
    one_sentence(error, "no label 3", "1, 7", sample.name)
    with pytest.raises(MaskError) as error:
        load_masks(sample, Source(), mask_id=-1)
    one_sentence(error, "-1")


def test_another_size_or_number(name, sample):
    with pytest.raises(MaskError) as error:
        load_masks(sample, Source(size=(H, W + 2)))
    one_sentence(error, "32 x 24", "34 x 24", sample.name)
    if name != "image":
        with pytest.raises(MaskError) as error:
            load_masks(sample, Source(count=N + 2))
        one_sentence(error, "6 masks", "8 frames", sample.name)


def files(path):
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


@pytest.mark.parametrize("damage", ["another kind of file", "truncated", "empty file"])
def test_damage_is_one_sentence(name, sample, damage):
    last = files(sample)[-1]
    content = last.read_bytes()
    last.write_bytes(
        {
            "another kind of file": b"Not a mask at all. " * 20,
            "truncated": content[: min(len(content) // 2, DAMAGED)],
            "empty file": b"",
        }[damage]
    )
    with pytest.raises(MaskError) as error:
        load_masks(sample, Source())
    one_sentence(error, last.name)


def test_masks_that_mark_nothing(name, tmp_path):
    path = tmp_path / PATHS[name]
    if name == "image":
        Image.fromarray(np.zeros((H, W), np.uint8)).save(path)
    else:
        save_masks(MaskTrack.empty(N, (H, W)), path, name)
    with pytest.raises(MaskError) as error:
        load_masks(path, Source())
    one_sentence(error, "no pixel", path.name)


def test_nothing_there(name, tmp_path):
    with pytest.raises(MaskError) as error:
        load_masks(tmp_path / PATHS[name], Source())
    one_sentence(error, "no masks at", PATHS[name])
    assert count_masks(tmp_path / PATHS[name]) is None


@pytest.mark.parametrize("name", WRITTEN)
def test_round_trip(name, tmp_path):
    track = two_objects()[1]
    save_masks(track, tmp_path / PATHS[name], name)
    assert [p.name for p in tmp_path.iterdir()] == [PATHS[name]]
    np.testing.assert_array_equal(load_masks(tmp_path / PATHS[name], Source())[:], track[:])


@pytest.mark.parametrize("name", WRITTEN)
def test_round_trip_of_objects(name, tmp_path):
    objects, path = two_objects(), tmp_path / PATHS[name]
    save_masks(objects, path, name)
    for number, track in objects.items():
        if name in ("npz", "davis", "objects", "png"):
            np.testing.assert_array_equal(load_masks(path, Source(), mask_id=number)[:], track[:])
        if name in ("objects", "png"):
            np.testing.assert_array_equal(load_masks(path / str(number), Source())[:], track[:])
    np.testing.assert_array_equal(load_masks(path, Source())[:], labels() != 0)


def test_folders_of_objects_that_do_not_fit(tmp_path):
    save_masks(two_objects(), tmp_path / "m")
    (tmp_path / "m" / "7" / "00005.png").unlink()
    with pytest.raises(MaskError) as error:
        load_masks(tmp_path / "m", Source())
    one_sentence(error, "6 of 32 x 24", "5 of 32 x 24")


@pytest.mark.parametrize("name", ["npz", "png", "video"])
def test_the_ending_chooses_the_format(name, tmp_path):
    save_masks(two_objects()[1], tmp_path / PATHS[name])
    assert type(open_masks(tmp_path / PATHS[name])) is FORMATS[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_an_interrupted_save_leaves_nothing(name, tmp_path):
    class Interrupted(MaskTrack):
        def _frame(self, i):
            if i == 3:
                raise KeyboardInterrupt
            return super()._frame(i)

    track = two_objects()[1]
    with pytest.raises(KeyboardInterrupt):
        save_masks(Interrupted(track._packed, track.size), tmp_path / PATHS[name], name)
    assert not list(tmp_path.iterdir())


def test_davis_colours(tmp_path):
    save_masks(two_objects(), tmp_path / "m", "davis")
    with Image.open(tmp_path / "m/00000.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[: 3 * 8] == [
            *(0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0),
            *(0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128),
        ]


def test_the_higher_number_lies_on_top(tmp_path):
    everywhere = MaskTrack.still(np.ones((H, W), bool), N)
    save_masks({1: everywhere, 7: two_objects()[7]}, tmp_path / "m.npz")
    np.testing.assert_array_equal(load_masks(tmp_path / "m.npz", Source(), mask_id=7)[:], two_objects()[7][:])


SHORT = MaskTrack.empty(2, (H, W))


@pytest.mark.parametrize(
    "masks, path, form, words",
    [
        ({}, "m.npz", None, ["0 masks"]),
        ({1: SHORT, 2: MaskTrack.empty(3, (H, W))}, "m.npz", None, ["2 of 32 x 24", "3 of 32 x 24"]),
        ({0: SHORT}, "m.npz", None, ["1 to 255", "not 0"]),
        ({300: SHORT}, "m", "davis", ["1 to 255", "not 300"]),
        (SHORT, "m.xyz", None, ["m.xyz", ".npz"]),
        (SHORT, "m.png", None, ["m.png", "folder"]),
        (SHORT, "m.npz", "magic", ["'magic'", "npz"]),
        (SHORT, "full", None, ["full", "not empty"]),
    ],
)
def test_what_cannot_be_saved(tmp_path, masks, path, form, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("mine")
    with pytest.raises(MaskError) as error:
        save_masks(masks, tmp_path / path, form)
    one_sentence(error, *words)
    shutil.rmtree(tmp_path / "full")
    assert not list(tmp_path.iterdir())
