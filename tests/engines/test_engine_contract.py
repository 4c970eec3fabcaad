"""What every engine of the table must do; `small_engines.py` makes a small one of each.

To add an engine, add it there: the first test tells when that was forgotten.
"""

import dataclasses
import gc
import threading
import weakref

import numpy as np
import pytest
from clips import random_clip
from small_engines import SMALL_ENGINES

from videopainter import inpaint_video
from videopainter.engine import ENGINES, Cancelled, Engine, EngineError
from videopainter.engines import base
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource, VideoWriter

COUNT, H, W = 6, 64, 96


def test_every_engine_of_the_table_is_tested():
    assert set(SMALL_ENGINES) == set(ENGINES)


@pytest.fixture(scope="module", params=SMALL_ENGINES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def small(name):
    return SMALL_ENGINES[name]


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return tmp_path_factory.mktemp(f"contract-{name}")


@pytest.fixture(scope="module")
def engine(small, folder):
    """One for all tests: whatever happened to it, it has to work for the next."""
    return small.make(folder)


@pytest.fixture(scope="module")
def clip():
    frames, masks = random_clip(COUNT, H, W)
    masks[3] = False
    return frames, masks


@pytest.fixture
def started(engine, small, clip):
    """Starts the engine on the clip, or on other frames and masks; gives its generator."""

    def start(frames=None, masks=None, seed=1, **more):
        source = ArraySource(clip[0] if frames is None else frames, 8)
        track = MaskTrack.from_array(clip[1] if masks is None else masks)
        generator = np.random.default_rng(seed)
        return engine(source, track, generator=generator, **small.call, **more)

    return start


@pytest.fixture
def run(started):
    """The same, to its end: uint8 (n, height, width, 3)."""
    return lambda *args, **more: np.stack(list(started(*args, **more)))


@pytest.fixture(scope="module")
def expected(engine, small, clip):
    """What the engine makes of the clip with seed 1."""
    source, track = ArraySource(clip[0], 8), MaskTrack.from_array(clip[1])
    return np.stack(list(engine(source, track, generator=np.random.default_rng(1), **small.call)))


# -- what it is ------------------------------------------------------------------------------------------


def test_it_is_what_its_row_says(name, engine):
    assert isinstance(engine, Engine)
    row = ENGINES[name]
    filled_in = ("working_size", "wants_first_frame")
    assert dataclasses.replace(engine.spec, **{f: getattr(row, f) for f in filled_in}) == row
    assert isinstance(engine.options, row.options)
    module, kind = row.location.split(":")
    assert type(engine).__name__ == kind and type(engine).__module__ == module


def test_its_row_is_fit_for_tables_and_flags(name):
    row = ENGINES[name]
    assert row.name == name and row.summary and row.needs
    assert all(field.metadata["help"] for field in dataclasses.fields(row.options))
    assert row.options.__dataclass_params__.frozen
    assert row.options() == row.options(**dataclasses.asdict(row.options()))
    assert row.dilate_size > 0 and row.unit


# -- what it makes ---------------------------------------------------------------------------------------


def test_as_many_frames_as_there_are_of_their_size_and_type(expected, clip):
    assert expected.shape == clip[0].shape and expected.dtype == np.uint8


def test_it_inpaints(small, clip, expected):
    frames, masks = clip
    # What stood there is no secret here: an engine that finds it again in other frames may give it back.
    assert (expected[masks] != frames[masks]).any(axis=-1).mean() > 0.5
    if small.exact:
        np.testing.assert_array_equal(expected[~masks], frames[~masks])


def test_known_pixels_are_the_sources_after_the_spine(engine, small, clip):
    frames, masks = clip
    result = inpaint_video(frames, masks, engine=engine, dilate_size=0, target_fps=None, **small.call)
    np.testing.assert_array_equal(result.frames[~masks], frames[~masks])
    assert (result.frames[masks] != frames[masks]).any() and result.engine == engine.spec.name


def test_the_same_seed_gives_the_same_and_frames_belong_to_whoever_gets_them(started, clip, expected):
    """Writing into a frame changes neither the source nor a later one."""
    frames, masks = clip[0].copy(), clip[1].copy()
    for frame, wanted in zip(started(frames, masks), expected, strict=True):
        np.testing.assert_array_equal(frame, wanted)
        frame[...] = 0
    np.testing.assert_array_equal(frames, clip[0])


def test_another_size_of_picture(run):
    frames, masks = random_clip(2, 57, 61)
    assert run(frames, masks).shape == frames.shape


def test_no_hole(run, small, clip):
    out = run(masks=clip[1] & False)
    assert out.shape == clip[0].shape
    if small.exact:
        np.testing.assert_array_equal(out, clip[0])


def test_a_hole_everywhere(run, small, clip):
    everywhere = np.ones_like(clip[1])
    out = run(masks=everywhere)
    assert out.shape == clip[0].shape and out.dtype == np.uint8
    if small.exact:
        np.testing.assert_array_equal(out, run(255 - clip[0], everywhere))


def test_one_frame(run, clip):
    assert run(clip[0][:1], clip[1][:1]).shape == (1, H, W, 3)


def test_masks_that_do_not_fit(started, clip):
    with pytest.raises(EngineError, match=f"{COUNT - 1} masks of .* for {COUNT} frames"):
        next(started(masks=clip[1][1:]))
    with pytest.raises(EngineError, match=r"frames of \(64, 96\)"):
        next(started(masks=clip[1][:, 1:]))


# -- progress and cancel ---------------------------------------------------------------------------------


def test_progress_is_monotone_and_complete(run, small, expected, monkeypatch):
    monkeypatch.setattr(base, "_BEAT_SECONDS", 0)
    told = []
    np.testing.assert_array_equal(run(progress=lambda *what: told.append(what)), expected)
    stages, done, totals = zip(*told)
    assert set(stages) == {"inpaint"} and len(set(totals)) == 1
    assert done[0] == 0 and done[-1] == totals[0] and sorted(done) == list(done)
    assert set(done) == set(range(totals[0] + 1))  # no step is left out
    if small.beats:  # it is heard of within a step
        assert len(told) > 3 * len(set(told))


class Listener:
    """Raises `Cancelled` at its call number `last`, and must not be called afterwards."""

    def __init__(self, last):
        self.last, self.calls = last, 0

    def __call__(self, stage, done, total):
        self.calls += 1
        assert self.calls <= self.last, "the engine went on"
        if self.calls == self.last:
            raise Cancelled


@pytest.mark.parametrize("last", [1, 5])
def test_a_listener_can_cancel_it(engine, small, clip, monkeypatch, last):
    monkeypatch.setattr(base, "_BEAT_SECONDS", 0)
    source, listener = ArraySource(clip[0], 8), Listener(last)
    track, gone = MaskTrack.from_array(clip[1]), weakref.ref(source)
    frames = engine(source, track, progress=listener, **small.call)
    with pytest.raises(Cancelled):
        list(frames)
    assert next(frames, None) is None  # it is over
    del source, frames
    gc.collect()
    assert gone() is None  # nothing of the run is held on to


def test_closed_early_it_stops_and_lets_go(engine, small, clip, monkeypatch):
    monkeypatch.setattr(base, "_BEAT_SECONDS", 0)
    source, told = ArraySource(clip[0], 8), []
    gone, track = weakref.ref(source), MaskTrack.from_array(clip[1])
    frames = engine(source, track, progress=lambda *what: told.append(what), **small.call)
    next(frames)
    before = len(told)
    frames.close()
    assert next(frames, None) is None and len(told) == before
    del source, frames
    gc.collect()
    assert gone() is None
    list(engine(ArraySource(clip[0][:1], 8), MaskTrack.from_array(clip[1][:1]), **small.call))
    assert len(told) == before  # no listener was left behind


def test_begun_but_never_asked(started):
    started().close()


def test_an_error_of_the_source_comes_through(engine, small, clip):
    class Broken(ArraySource):
        def __getitem__(self, key):
            raise OSError("the disk is gone")

        def _frame(self, i):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(engine(Broken(clip[0], 8), MaskTrack.from_array(clip[1]), **small.call))


def test_after_all_that_it_works_as_before_and_draws_and_writes_nothing(
    run, expected, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(run(), expected)
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_after_close_it_loads_anew_or_says_that_it_is_closed(small, folder, clip, expected, capfd):
    engine = small.make(folder)
    engine.close()
    engine.close()
    source, track = ArraySource(clip[0], 8), MaskTrack.from_array(clip[1])
    try:
        out = list(engine(source, track, generator=np.random.default_rng(1), **small.call))
    except EngineError as error:
        assert "closed" in str(error)
    else:
        np.testing.assert_array_equal(out, expected)
    assert capfd.readouterr() == ("", "")  # loading is silent, too


def test_a_cancelled_run_of_the_spine_leaves_no_file(engine, small, clip, tmp_path):
    video, out, cancel = tmp_path / "in.mp4", tmp_path / "out", threading.Event()
    with VideoWriter(video, 8, (H, W)) as writer:
        writer.write(clip[0])

    def progress(stage, done, total):
        if stage == "inpaint":
            cancel.set()

    settings = {"engine": engine, "target_fps": None, "progress": progress, **small.call}
    with pytest.raises(Cancelled):
        inpaint_video(video, clip[1], output_dir=out, output=tmp_path / "one.mp4", cancel=cancel, **settings)
    pictures = ["frame0_original.png", "frame0_with_mask.png", "mask0.png"]
    assert sorted(p.name for p in out.iterdir()) == pictures
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out"]
