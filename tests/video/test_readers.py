"""The suite that every reader of the table passes; a new one adds a way to make its input to `INPUTS`."""

import random
from fractions import Fraction

import numpy as np
import pytest
from clips import moving_texture, write_clip
from PIL import Image

from videopainter.video import READERS, VideoError, VideoReader, open_video
from videopainter.video.stored import StoredFrame

COUNT, SIZE = 30, (96, 128)


def video_file(folder):
    return write_clip(folder / "a.mp4", moving_texture(COUNT), options={"g": "8"})


def image_folder(folder):
    (folder / "images").mkdir()
    for i, frame in enumerate(moving_texture(COUNT)):
        Image.fromarray(frame).save(folder / "images" / f"{i}.png")
    return str(folder / "images")


INPUTS = {"pyav": video_file, "decord": video_file, "images": image_folder}


@pytest.fixture(params=READERS)
def made(request, tmp_path):
    if request.param == "decord":
        pytest.importorskip("decord")
    path = INPUTS[request.param](tmp_path)
    with READERS[request.param](path) as source:
        yield request.param, path, source


def test_the_table():
    assert set(INPUTS) == set(READERS)
    for name, kind in READERS.items():
        assert issubclass(kind, VideoReader) and kind.name == name


def test_what_it_says_of_itself(made):
    name, path, source = made
    assert source.backend == name and source.path == path
    assert len(source) == COUNT and source.size == SIZE and source.warnings == []
    assert source.fps == 25 and isinstance(source.fps, Fraction) and source.duration == Fraction(COUNT, 25)
    assert list(source.times) == [Fraction(i, 25) for i in range(COUNT)] and not source.variable_rate
    assert source.colour is not None and source.aspect == 1 and not source.has_audio
    with open_video(path, backend=name) as again:
        assert type(again) is type(source)


def test_frames_made_smaller(made):
    """The same pictures, each pixel the mean of those that it covers, whatever was asked for before."""
    grey = np.array([0.299, 0.587, 0.114])  # colour is shared by pixels in files
    name, path, source = made
    truth = source[:].reshape(COUNT, 32, 3, 64, 2, 3).mean((2, 4))
    for i in (0, 20, 19, 18, 21, 21, COUNT - 1, 3):
        small = source.reduced(i, (32, 64))
        assert small.shape == (32, 64, 3) and small.dtype == np.uint8
        wrong = [np.abs((small - frame) @ grey).mean() for frame in truth]
        assert np.argmin(wrong) == i and wrong[i] < 2
    assert source.reduced(5, (96, 128)).shape == (96, 128, 3)
    source.limit_memory(2**16, 1)
    assert (source[21] == source[21:22][0]).all() and source.reduced(22, (48, 64)).shape == (48, 64, 3)


def test_frames_in_any_order(made):
    name, path, source = made
    truth = source[:]
    assert truth.shape == (COUNT, *SIZE, 3) and truth.dtype == np.uint8
    assert len({frame.tobytes() for frame in truth}) == COUNT
    if name == "images":
        assert np.array_equal(truth, moving_texture(COUNT))
    source._cache_bytes = 0
    source._cache.clear()
    order = [*range(COUNT - 1, -1, -1), *random.Random(0).sample(range(COUNT), COUNT)]
    for i in order:
        assert np.array_equal(source[i], truth[i]), i
    assert np.array_equal(source[20:2:-5], truth[20:2:-5]) and np.array_equal(source[-1], truth[-1])
    assert sum(frame.nbytes for frame in source._cache.values()) <= 8 * truth[0].nbytes
    for outside in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            source[outside]


def test_frames_as_they_are_stored(made):
    _, _, source = made
    for i in (0, 7, 7, 3, COUNT - 1):
        stored = source.stored(i)
        assert isinstance(stored, StoredFrame) and stored.frame.format.name == source.pixel_format
        rgb = stored.frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
        assert np.array_equal(rgb, source[i])


def test_it_can_be_closed_twice_and_says_that_it_is(made):
    name, _, source = made
    source.close()
    source.close()
    if name != "decord":
        with pytest.raises(VideoError, match="closed"):
            source[0]


@pytest.mark.parametrize("name", READERS)
def test_what_it_cannot_read_is_one_sentence(name, tmp_path):
    if name == "decord":
        pytest.importorskip("decord")
    (tmp_path / "text.mp4").write_text("plain text\n" * 100)
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "empty").mkdir()
    for path in ("text.mp4", "noise.png", "empty", "missing.mp4", "seq%03d.png"):
        with pytest.raises(VideoError) as error:
            open_video(tmp_path / path, backend=name)
        text = str(error.value)
        assert text.endswith(".") and "\n" not in text and len(text) < 600
