"""Progress and cancel, as the spine gives them to whoever calls it."""

import gc
import threading
import weakref
from fractions import Fraction

import numpy as np
import pytest

from videopainter import Cancelled, inpaint_video, select_object
from videopainter import engine as table
from videopainter.engines.base import EngineSpec, NoOptions, StepReport
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource, VideoWriter, open_video

N, H, W = 12, 64, 96
PICTURES = ["frame0_original.png", "frame0_with_mask.png", "mask0.png"]


class Grey:
    """Makes holes grey; `within` is called with the source and the listener before each frame."""

    spec = EngineSpec("grey", location="videopainter.engine:GreyForTests", needs="nothing", dilate_size=0)
    options = NoOptions()
    within = staticmethod(lambda source, progress: None)

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        steps = StepReport(progress, len(source))
        steps.reached(0)
        self.at_work = True
        try:
            for i in range(len(source)):
                self.within(source, progress)
                yield np.full_like(source[i], 128)
                steps.reached(i + 1)
        finally:
            self.at_work = False

    def close(self):
        self.closed = True


@pytest.fixture
def made(monkeypatch):
    """A row "grey" in the table; weak references to the engines that were loaded from it."""
    references = []

    class Remembered(Grey):
        def __init__(self):
            references.append(weakref.ref(self))

    monkeypatch.setattr(table, "GreyForTests", Remembered, raising=False)
    monkeypatch.setitem(table.ENGINES, "grey", Grey.spec)
    return references


@pytest.fixture(scope="module")
def frames():
    ground = np.kron(np.random.default_rng(2).integers(60, 200, (H // 8, W // 8, 3)), np.ones((8, 8, 1)))
    frames = np.repeat(ground[None].astype(np.uint8), N, axis=0)
    for i, frame in enumerate(frames):
        frame[20:44, 10 + 3 * i : 34 + 3 * i] = (230, 20, 20)
    return frames


@pytest.fixture(scope="module")
def masks(frames):
    return (frames == (230, 20, 20)).all(axis=3)


@pytest.fixture
def video(tmp_path, frames):
    with VideoWriter(tmp_path / "in.mp4", Fraction(12), (H, W)) as writer:
        writer.write(frames)
    return tmp_path / "in.mp4"


def test_every_stage_is_told_from_its_beginning_to_its_end(video, made, tmp_path):
    told = []
    inpaint_video(
        video,
        clicks=[(22, 32)],
        engine="grey",
        output_dir=tmp_path / "out",
        progress=lambda *what: told.append(what),
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["read", "select", "effects", "inpaint", "write"]
    for stage in stages:
        done, totals = zip(*((done, total) for name, done, total in told if name == stage))
        assert len(set(totals)) == 1 and done[-1] == totals[0] and sorted(done) == list(done)
        assert totals[0] == (1 if stage == "read" else N)


@pytest.mark.parametrize("stage", ["read", "select", "effects", "inpaint", "write"])
@pytest.mark.parametrize("how", ["raised", "event"])
def test_cancelled_at_any_stage(video, made, tmp_path, stage, how):
    out, cancel = tmp_path / "out", threading.Event()
    out.mkdir()
    (out / "result.mp4").write_bytes(b"an older result")

    def progress(name, done, total):
        assert not cancel.is_set(), "the run went on"
        if name == stage and (done > 1 or total == 1):
            cancel.set()
            if how == "raised":
                raise Cancelled

    with pytest.raises(Cancelled):
        inpaint_video(
            video, clicks=[(22, 32)], engine="grey", output_dir=out, progress=progress, cancel=cancel
        )
    found = sorted(path.name for path in out.iterdir())
    assert found == ([] if stage in ("read", "select", "effects") else PICTURES) + ["result.mp4"]
    assert (out / "result.mp4").read_bytes() == b"an older result"
    gc.collect()
    assert [reference() for reference in made] == [None]  # what was loaded is gone


def test_an_event_ends_a_step_that_lasts(frames, masks):
    """An engine that reports, and one that only reads frames; another thread asks for the end."""
    for within in (
        lambda source, progress: progress("inpaint", 0, N),
        lambda source, progress: source[3],
    ):
        cancel, begun = threading.Event(), threading.Event()

        def forever(source, progress, within=within, begun=begun):
            begun.set()
            while True:
                within(source, progress)

        engine = Grey()
        engine.within = forever

        def asker(begun=begun, cancel=cancel):
            begun.wait()
            cancel.set()

        thread = threading.Thread(target=asker)
        thread.start()
        with pytest.raises(Cancelled):
            inpaint_video(frames, masks, engine=engine, cancel=cancel)
        thread.join()
        assert not engine.at_work


def test_an_engine_of_the_callers_is_not_closed_and_works_again(frames, masks):
    engine, cancel = Grey(), threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        inpaint_video(frames, masks, engine=engine, cancel=cancel)
    assert not hasattr(engine, "closed")
    assert len(inpaint_video(frames, masks, engine=engine, cancel=threading.Event()).frames) == N


def test_an_engine_loaded_here_is_closed(frames, masks, made, monkeypatch):
    closed = []
    monkeypatch.setattr(table.GreyForTests, "close", lambda engine: closed.append(1))
    inpaint_video(frames, masks, engine="grey")
    assert closed == [1]


def test_progress_never_goes_back(frames, masks):
    engine, told = Grey(), []
    engine.within = lambda source, progress: progress("inpaint", 0, N)
    inpaint_video(frames, masks, engine=engine, progress=lambda *what: told.append(what))
    done = [what[1] for what in told if what[0] == "inpaint"]
    assert sorted(done) == done and done[-1] == N


def test_nothing_is_drawn_unless_asked_for(frames, masks, capfd):
    inpaint_video(frames, masks, engine=Grey())
    assert capfd.readouterr() == ("", "")
    inpaint_video(frames, masks, engine=Grey(), progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "inpaint: 100%" in err and f"{N}/{N}" in err


def test_selecting_alone(video, frames, masks):
    told = []
    found = select_object(video, clicks=[(22, 32)], progress=lambda *what: told.append(what))
    assert len(found.masks) == N and found.fps == 12 and found.lost == []
    assert (found.masks[0] & masks[0]).sum() > 0.8 * masks[0].sum()
    assert {what[0] for what in told} == {"read", "select"} and told[-1] == ("select", N, N)
    given = select_object(frames, masks, invert_mask=True, max_seconds=0.2)
    np.testing.assert_array_equal(given.masks[:], ~masks[: len(given.masks)])
    assert len(given.masks) == 5  # arrays count 25 frames a second
    with pytest.raises(ValueError, match="Nothing is selected"):
        select_object(video)


def test_a_part_of_the_callers_keeps_its_masks(video, made, frames, masks):
    """Masks for the whole video fit a part of it."""
    from videopainter.video.subset import SubsetSource

    with open_video(video) as whole:
        part = SubsetSource(whole, range(3, 9), whole.fps)
        result = inpaint_video(part, MaskTrack.from_array(masks), engine="grey")
    np.testing.assert_array_equal(result.masks[:], masks[3:9])
    assert ArraySource(frames).size == result.frames.shape[1:3]
