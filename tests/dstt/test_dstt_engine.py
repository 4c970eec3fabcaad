"""DSTT as an engine of the spine."""

import importlib.util
import weakref

import numpy as np
import pytest
from small_dstt import box, film

from videopainter import MaskTrack, inpaint_video, open_video
from videopainter.dstt import loading
from videopainter.dstt.runner import TorchRunner
from videopainter.dstt.stream import DSTTStream
from videopainter.dstt.weights import WEIGHTS, load_model
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine, load_engine
from videopainter.utils.devices import has_gpu
from videopainter.video import ArraySource, VideoSource


@pytest.fixture
def engine(tiny_file):
    return ENGINES["dstt"].load(weights=tiny_file, device="cpu")


def track(frames: int) -> MaskTrack:
    return MaskTrack.from_array(np.stack([np.roll(box(), i, 1) for i in range(frames)]))


def test_it_is_an_engine_that_is_there(engine):
    assert isinstance(engine, Engine) and engine.spec is ENGINES["dstt"]
    assert ENGINES["dstt"].available() == (True, "needs PyTorch; its weights are part of the project")


def test_auto_prefers_the_engine_that_looks_ahead():
    assert choose_engine("auto")[0].name == "propagation"


def test_a_stream_frame_for_frame(engine, tiny_file):
    frames, masks, done = film(6, shift=(1.5, 0.5)), track(6), []
    painted = list(engine(ArraySource(frames), masks, progress=lambda *d: done.append(d)))
    stream = DSTTStream(load_model(tiny_file))
    assert all(np.array_equal(p, stream(f, m)) for p, f, m in zip(painted, frames, masks))
    assert done == [("inpaint", i, 6) for i in range(7)]
    outside = ~masks[:]
    assert np.array_equal(np.stack(painted)[outside], frames[outside])
    assert (np.stack(painted)[masks[:]] != frames[masks[:]]).any()


def test_what_the_hole_hides_does_not_matter_and_twice_is_the_same(engine):
    frames, masks = film(4, shift=(1, 0)), track(4)
    other = frames.copy()
    other[masks[:]] = 77
    one, two, three = (np.stack(list(engine(ArraySource(f), masks))) for f in (frames, other, frames))
    assert np.array_equal(one, two) and np.array_equal(one, three)


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a GPU")
def test_on_a_gpu(tiny_file):
    """Sums in another order may round a value to the next grey level, not further."""
    frames, masks = film(12, shift=(1.5, 0.5)), track(12)
    here, there = (
        np.stack(list(ENGINES["dstt"].load(weights=tiny_file, device=device)(ArraySource(frames), masks)))
        for device in ("cpu", "cuda:0")
    )
    assert np.abs(here.astype(int) - there).max() <= 1


class Endless(VideoSource):
    """Frames made when asked for; weak references tell which still live."""

    def __init__(self, count):
        super().__init__()
        self.size, self._length, self.given = (40, 64), count, []
        self.film = film(8, shift=(1, 0))

    def _frame(self, i):
        return self.film[i % 8]

    def __getitem__(self, i):
        frame = super().__getitem__(i)
        self.given.append(weakref.ref(frame))
        return frame


def test_no_frame_is_kept(engine):
    source, most, results = Endless(60), 0, []
    for frame in engine(source, MaskTrack.still(box(), 60)):
        results.append(weakref.ref(frame))
        del frame
        most = max(most, *(sum(r() is not None for r in refs) for refs in (source.given, results)))
    assert len(results) == 60 and most <= 2


def test_the_spine_and_the_command_line(tiny_file, tmp_path, moving_texture, write_clip, capsys):
    import run_demo

    clip = write_clip(tmp_path / "in.mp4", moving_texture(6, 48, 64))
    flags = ["--video", clip, "--box", "20,12,40,30", "--engine", "dstt", "--weights", str(tiny_file)]
    assert run_demo.main([*flags, "--threads", "1", "--output_dir", str(tmp_path / "out")]) == 0
    assert "Engine: dstt" in capsys.readouterr().out
    with open_video(tmp_path / "out" / "result.mp4") as video:
        assert len(video) == 6 and video.size == (48, 64)


def test_the_shipped_weights():
    frames, mask = film(3, shift=(1, 0)), box()
    engine = ENGINES["dstt"].load(device="cpu")
    assert isinstance(engine.runner, TorchRunner) and engine.runner.config == load_model(WEIGHTS).config
    result = inpaint_video(frames, masks=mask, engine=engine, dilate_size=0)
    assert result.engine == "dstt" and np.array_equal(result.frames[:, ~mask], frames[:, ~mask])
    hole, known = result.frames[:, mask].astype(int), frames[:, ~mask]
    assert abs(hole.mean() - known.mean()) < 40  # a picture, not noise


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "none.safetensors"}, "'none.safetensors'"),
        ({"weights": "net.bin"}, "'net.bin'"),
        ({"threads": 0}, "not 0"),
        ({"threads": "two"}, "'two'"),
        ({"device": "abacus"}, "'abacus'"),
    ],
    ids=["no_weights", "suffix", "threads", "thread_words", "device"],
)
def test_options_that_cannot_be(options, said, tiny_file):
    with pytest.raises(EngineError, match=said):
        ENGINES["dstt"].load(**{"weights": tiny_file, **options})


def test_masks_that_do_not_fit(engine):
    with pytest.raises(EngineError, match="There are 3 masks .* for 4 frames"):
        next(engine(ArraySource(film(4)), track(3)))
    with pytest.raises(EngineError, match=r"\(40, 64\) for 2 frames of \(32, 48\)"):
        next(engine(ArraySource(film(2, (32, 48))), track(2)))
    with pytest.raises(ValueError, match="4 x 9"):
        next(engine(ArraySource(film(1, (48, 64))[:, :4, :9]), MaskTrack.still(np.ones((4, 9), bool), 1)))


def test_without_what_it_runs_on(monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        loading, "find_spec", lambda name: None if name in ("torch", "onnxruntime") else real(name)
    )
    assert ENGINES["dstt"].available() == (False, "PyTorch is not installed")
    assert loading.missing(tmp_path / "net.onnx") == "onnxruntime is not installed"
    with pytest.raises(
        EngineError, match="'dstt' cannot be used: PyTorch is not installed; there is 'propagation'"
    ):
        load_engine(ENGINES["dstt"])
    monkeypatch.undo()
    assert "there are no weights at" in loading.missing(tmp_path / "net.safetensors")
