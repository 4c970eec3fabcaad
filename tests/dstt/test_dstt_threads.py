"""Threads of PyTorch: the network's own while it runs, and nobody else's."""

from dataclasses import replace

import pytest
import torch
from small_dstt import box, film, lively

from videopainter.cli import stream
from videopainter.dstt import export
from videopainter.dstt.config import PRESETS, preset
from videopainter.dstt.engine import DSTTEngine
from videopainter.dstt.loading import load_runner
from videopainter.dstt.model import DSTT
from videopainter.dstt.runner import SMALL, TorchRunner, torch_threads
from videopainter.dstt.runner_program import ProgramRunner
from videopainter.dstt.stream import DSTTStream
from videopainter.dstt.weights import save_model
from videopainter.video import open_video

OWN = 3  # threads that the process has set


@pytest.fixture(autouse=True)
def own_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(OWN)
    yield
    torch.set_num_threads(before)


def one_thread_after_all(found, network, *tensors):
    """Note the threads that the network finds, and let it work in one: on busy cores they wait for each other long."""
    found.append(torch.get_num_threads())
    torch.set_num_threads(1)
    try:
        return network(*tensors)
    finally:
        torch.set_num_threads(found[-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Networks in files, by kind and size: small ones and such as are not."""
    folder = tmp_path_factory.mktemp("networks")
    for size, hidden in (("small", 16), ("large", SMALL + 2)):
        model = lively(DSTT(replace(preset("tiny"), hidden=hidden)))
        save_model(model, folder / f"{size}.safetensors")
        export.export_program(model, folder / f"{size}.pt2")
    return folder


@pytest.fixture(params=["safetensors", "pt2"])
def load(request, files, monkeypatch):
    """(size, threads) -> a runner, and the threads that its network finds, which may be told to fail."""

    def load(size, threads, error=None):
        runner = load_runner(files / f"{size}.{request.param}", "cpu", threads, allow_code=True)
        name = "_model" if request.param == "safetensors" else "_module"
        assert isinstance(runner, TorchRunner if name == "_model" else ProgramRunner)
        network, found = getattr(runner, name), []

        def spy(*tensors):
            if error is not None:
                found.append(torch.get_num_threads())
                raise error
            return one_thread_after_all(found, network, *tensors)

        monkeypatch.setattr(runner, name, spy)
        if name == "_model":
            monkeypatch.setattr(spy, "parameters", network.parameters, raising=False)
        return runner, found

    return load


@pytest.mark.parametrize(
    "size, threads, expected",
    [("small", None, 1), ("large", None, OWN), ("small", 2, 2), ("large", 2, 2), ("large", 1, 1)],
)
def test_a_network_runs_in_its_own_threads(load, size, threads, expected):
    runner, found = load(size, threads)
    assert torch.get_num_threads() == OWN
    stream = DSTTStream(runner)
    for frame in film(2, (32, 48)):
        stream(frame, box((32, 48)))
        assert torch.get_num_threads() == OWN
    assert found == [expected] * 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_they_are_as_before_after_an_error_too(load, error):
    runner, found = load("small", 2, error)
    with pytest.raises(error):
        DSTTStream(runner)(film(1, (32, 48))[0], box((32, 48)))
    assert found == [2] and torch.get_num_threads() == OWN


def test_what_is_small():
    assert preset("small").hidden <= SMALL < preset("full").hidden
    for name, config in PRESETS.items():
        with torch_threads(None, config, "cpu"):
            assert torch.get_num_threads() == (OWN if name == "full" else 1)
        with torch_threads(None, config, "cuda"):  # whose networks threads have nothing to do with
            assert torch.get_num_threads() == OWN


@pytest.mark.parametrize("threads", [0, 1.5, True, "two"])
def test_numbers_of_threads_that_cannot_be(tiny, files, threads):
    for make in (
        lambda: TorchRunner(tiny, threads),
        lambda: ProgramRunner(files / "small.pt2", threads=threads, allow_code=True),
        lambda: load_runner(files / "small.safetensors", "cpu", threads),
    ):
        with pytest.raises(ValueError, match=f"whole number of 1 or more, not {threads!r}"):
            make()


@pytest.fixture
def found(monkeypatch):
    """The threads that networks find."""
    seen, forward = [], DSTT.forward
    monkeypatch.setattr(DSTT, "forward", lambda *args: one_thread_after_all(seen, forward, *args))
    return seen


@pytest.mark.parametrize("threads, expected", [(None, 1), (2, 2)])
def test_the_engine(files, found, threads, expected):
    engine = DSTTEngine(files / "small.safetensors", device="cpu", threads=threads)
    DSTTStream(engine.runner)(film(1, (32, 48))[0], box((32, 48)))
    assert found == [expected] and torch.get_num_threads() == OWN


@pytest.mark.parametrize("flags, expected", [([], 1), (["--threads", "2"], 2)], ids=["default", "given"])
def test_the_command_line_of_the_stream(files, found, tmp_path, write_clip, flags, expected):
    clip = write_clip(tmp_path / "in.mp4", film(3, (32, 48)))
    arguments = ["--source", clip, "--box", "10,10,20,20", "--output", str(tmp_path / "out.mp4")]
    network = ["--weights", str(files / "small.safetensors"), "--device", "cpu"]
    assert stream.main([*arguments, *network, *flags]) == 0
    assert found == [expected] * 3 and torch.get_num_threads() == OWN
    with open_video(tmp_path / "out.mp4") as video:
        assert len(video) == 3
