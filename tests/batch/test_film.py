"""A film in pieces: joined it is what one run makes of it; dead workers' pieces are done by others."""

import dataclasses
import json
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
from batch_folder import run, summary, table
from batch_painter import Painter
from clips import moving_texture, write_clip

from videopainter import engine as engines
from videopainter.batch import film as film_module
from videopainter.batch.film import (
    ALIGN,
    REACHES,
    Boundary,
    Elsewhere,
    FilmEngine,
    Span,
    boundaries,
    check_splittable,
    spans,
)
from videopainter.engines.base import EngineError, NoOptions
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource, VideoWriter, open_video

REACH = 5


class Smooth:
    """Every hole gets the mean of the frames up to `REACH` before and after."""

    spec = dataclasses.replace(engines.ENGINES["propagation"], location=f"{__name__}:Smooth")
    seen: list[int] = []

    def __init__(self, **options):
        self.options = NoOptions()

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        Smooth.seen.append(len(source))
        for i in range(len(source)):
            near = source[max(0, i - REACH) : i + REACH + 1].mean(0).astype(np.uint8)
            yield np.where(masks[i][..., None], near, source[i])

    def close(self):
        pass


class Counting(Smooth):
    """What it makes depends on all frames before, so that two pieces never agree."""

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        for i in range(len(source)):
            yield np.where(masks[i][..., None], np.uint8(min(i, 255)), source[i])


@pytest.fixture
def smooth(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "propagation", Smooth.spec)
    monkeypatch.setitem(REACHES, "propagation", lambda options: REACH)
    Smooth.seen = []


def film(folder, count=200):
    """A clip with sound, its hole, and a table of it."""
    write_clip(folder / "film.mp4", moving_texture(count), options={"g": "12"}, sound="aac")
    masks = np.zeros((count, 96, 128), np.uint8)
    masks[:, 30:50, 40:70] = 1
    np.savez_compressed(folder / "film.npz", masks)
    table(folder, ["film.mp4", "film.npz"])


def test_a_film_in_pieces_is_the_same_file(folder, smooth):
    """Frames, their times and the sound: byte for byte, as the engine sees as far as it needs in every piece."""
    film(folder)
    assert run(folder, out="whole") == 0 and Smooth.seen == [200]
    Smooth.seen = []
    assert run(folder, "--split", 2.4, out="split") == 0
    assert len(Smooth.seen) == 3 and max(Smooth.seen) < 200
    whole, split = ((folder / name / "00000_film/result.mp4").read_bytes() for name in ("whole", "split"))
    assert whole == split
    assert {p.name for p in (folder / "split").iterdir()} == {
        "00000_film",
        "batch.json",
        "manifest.json",
        "summary.csv",
    }
    assert run(folder, "--split", 4, out="split") == 2  # settings of a batch are fixed


def cut_film():
    """Two shots of 90 and 110 frames."""
    first = np.stack([np.roll(np.kron(np.eye(8, 12), np.full((8, 8), 200)), i, 1) for i in range(90)])
    second = np.stack([np.full((64, 96), 90) + np.arange(96) % 32 * 4 - i % 3 for i in range(110)])
    frames = np.concatenate([first, second]).astype(np.uint8)[..., None].repeat(3, 3)
    holes = np.zeros((200, 64, 96), bool)
    holes[:, 20:30, 30:50] = True
    return ArraySource(frames, Fraction(25)), MaskTrack.from_array(holes)


def test_it_is_split_at_cuts_and_else_with_overlaps():
    source, holes = cut_film()
    assert boundaries(source, holes, 80) == [Boundary(90, 0)]
    assert boundaries(source, holes, 60) == [Boundary(60, 8), Boundary(120, 8)]
    assert boundaries(source, holes, 300) == []


@pytest.mark.parametrize("bounds", [[], [(60, 8)], [(90, 0)], [(60, 8), (90, 0), (150, 8)]])
@pytest.mark.parametrize("reach", [0, 7, 1000])
def test_every_frame_is_in_a_piece(bounds, reach):
    pieces = spans(200, [Boundary(*b) for b in bounds], reach)
    frames = sorted({i for piece in pieces for i in range(*piece.used)})
    assert frames == list(range(200)) and len(pieces) == len(bounds) + 1
    for piece in pieces:
        assert piece.seen[0] <= piece.used[0] and piece.used[1] <= piece.seen[1]
        assert piece.seen[0] % ALIGN == 0


@contextmanager
def alone(part):
    yield True


def test_an_overlap_is_faded(tmp_path):
    """Of an engine whose pieces do not agree: each side is its piece's up to the overlap, with no step in it."""
    source, holes = cut_film()
    engine = FilmEngine(Counting(), tmp_path / "film", 60, alone)
    levels = np.array([frame[25, 40, 0] for frame in engine(source, holes)]).astype(int)
    first = [i for i in range(52)]
    assert list(levels[:52]) == first
    steps = np.abs(np.diff(levels[:112]))
    assert steps.max() <= 8  # the pieces are 60 apart, over 16 frames


def test_what_is_outside_the_holes_is_the_source(tmp_path):
    source, holes = cut_film()
    found = np.stack(list(FilmEngine(Counting(), tmp_path / "film", 60, alone)(source, holes)))
    outside = ~np.stack([holes[i] for i in range(200)])
    assert np.array_equal(found[outside], source[:][outside])


def test_pieces_of_others_are_left_to_them(tmp_path):
    source, holes = cut_film()
    busy = {"1"}

    @contextmanager
    def claim(part):
        yield part not in busy

    engine = FilmEngine(Smooth(), tmp_path / "film", 60, claim)
    with pytest.raises(Elsewhere):
        list(engine(source, holes))
    assert {p.name for p in (tmp_path / "film").iterdir()} == {"plan.json", "0.zip", "2.zip"}
    busy.clear()
    Smooth.seen = []
    assert len(list(engine(source, holes))) == 200 and len(Smooth.seen) == 1


def test_a_real_film_at_its_cuts(tmp_path, monkeypatch):
    """Of the engine `propagation`, split at a hard cut, with no more frames beyond than it looks at: to the bit."""
    monkeypatch.setattr(film_module, "ALIGN", 4)  # the engine works on four frames at a time
    shots = [moving_texture(16, 64, 80), moving_texture(16, 64, 80)[..., ::-1][:, ::-1]]
    source = ArraySource(np.concatenate([np.stack(list(shot)) for shot in shots]), Fraction(25))
    holes = np.zeros((32, *source.size), bool)
    holes[:, 20:34, 30:50] = True
    track = MaskTrack.from_array(holes)
    engine = engines.ENGINES["propagation"].load(radius=5, grain="off")
    shared = FilmEngine(engine, tmp_path / "film", 16, alone)
    whole = np.stack(list(engine(source, track)))
    split = np.stack(list(shared(source, track)))
    assert json.loads((tmp_path / "film/plan.json").read_text()) == [{"frame": 16, "overlap": 0}]
    assert spans(32, [Boundary(16, 0)], 5) == [Span((0, 16), (0, 21)), Span((16, 32), (8, 32))]
    assert np.array_equal(whole, split)


@pytest.mark.parametrize("option", [{"prev_clip_weight": 0.5}, {"id_adapter": "x"}])
def test_windows_that_depend_on_each_other_stay_together(option):
    class Engine:
        spec = engines.ENGINES["videopainter"]
        options = engines.ENGINES["videopainter"].options(**option)

    with pytest.raises(EngineError, match="keep it on one worker"):
        check_splittable(Engine())
    Engine.options = engines.ENGINES["videopainter"].options()
    assert "from piece to piece" in check_splittable(Engine())
    assert check_splittable(Painter()) is None


def test_a_bad_film_is_one_failed_row(folder, smooth):
    film(folder, 60)
    table(folder, ["film.mp4", "film.npz"], ["film.mp4", "a.npz"], ["gone.mp4", "a.npz"])
    assert run(folder, "--split", 1) == 1
    assert [line["status"] for line in summary(folder)] == ["done", "failed", "failed"]


def test_times_that_do_not_come_evenly(folder, smooth):
    times = [Fraction(i * i, 100) / 10 + Fraction(i, 25) for i in range(60)]
    with VideoWriter(folder / "film.mkv", 25, (96, 128), times=times) as writer:
        writer.write(moving_texture(60))
    masks = np.zeros((60, 96, 128), np.uint8)
    masks[:, 30:50, 40:70] = 1
    np.savez_compressed(folder / "film.npz", masks)
    table(folder, ["film.mkv", "film.npz"])
    assert run(folder, out="whole") == 0 and run(folder, "--split", 1, out="split") == 0
    with open_video(folder / "whole/00000_film/result.mp4") as whole:
        with open_video(folder / "split/00000_film/result.mp4") as split:
            assert whole.times == split.times and np.array_equal(whole[:], split[:])
