"""The exported network: what it computes, what it is made of, and that it runs where there is no PyTorch."""

import contextlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from small_dstt import box, film, lively

from videopainter.cli import export as export_command
from videopainter.cli import run_onnx as onnx_command
from videopainter.dstt import export
from videopainter.dstt.config import MAPS, preset
from videopainter.dstt.loading import load_runner
from videopainter.dstt.model import DSTT
from videopainter.dstt.runner import TorchRunner
from videopainter.dstt.runner_onnx import INPUTS, OUTPUTS, OnnxRunner
from videopainter.dstt.runner_program import ProgramRunner
from videopainter.dstt.stream import DSTTStream
from videopainter.dstt.weights import save_model
from videopainter.engine import ENGINES, EngineError
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource
from videopainter.weights import WeightsError

ROOT = Path(__file__).resolve().parents[2]
SIZE = preset("tiny").size
# What the parser of TensorRT 8.6 and later takes (docs/operators.md of onnx-tensorrt), as far as it is used.
TENSORRT = set(
    "Add Cast Clip Concat Constant Conv ConvTranspose Div Equal Erf Gemm Greater Identity IsNaN LayerNormalization "
    "LeakyRelu Log MatMul Max Mul Not Pad ReduceMax ReduceMean Reshape Resize Shape Sigmoid Slice Softmax Split Sqrt "
    "Squeeze Sub Tanh Transpose Unsqueeze Where".split()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """weights.safetensors, and what the command line makes of it: tiny.onnx and said.txt."""
    folder = tmp_path_factory.mktemp("exported")
    save_model(lively(DSTT(preset("tiny"))), folder / "weights.safetensors", fp16=False)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run_main(folder, "tiny.onnx") == 0
    (folder / "said.txt").write_text(out.getvalue())
    return folder


def run_main(folder, name, *flags) -> int:
    return export_command.main(
        ["--output", str(folder / name), "--weights", str(folder / "weights.safetensors"), *flags]
    )


@pytest.fixture
def onnx_runner(folder):
    return OnnxRunner(folder / "tiny.onnx", threads=1)


@pytest.fixture(scope="module")
def clip():
    """20 frames of a real clip, and a hole that wanders."""
    return export.real_clip(ROOT / "examples" / "cup.mp4", 20)


def inputs(batch: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    frame, previous = rng.uniform(-1, 1, (2, batch, 3, *SIZE)).astype(np.float32)
    mask = np.zeros((batch, 1, *SIZE), np.float32)
    mask[..., 8:24, 12:36] = 1
    maps = rng.uniform(0, 1, (batch, MAPS, *SIZE)).astype(np.float32)
    return [frame, mask, previous, maps]


def memories(batch: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=preset("tiny").memory_shape(batch)).astype(np.float32)


def test_onnx_is_pytorch_over_twenty_frames_of_a_real_clip(tiny, onnx_runner, clip):
    found = export.compare(TorchRunner(tiny), onnx_runner, *clip)
    assert found.frames == 20
    assert max(found.output, found.share, found.memory) <= export.TOLERANCE
    assert found.levels <= 1  # rounding to grey levels can fall to either side


def test_a_program_of_torch_export_is_pytorch_too(tiny, clip, tmp_path):
    export.export_program(tiny, tmp_path / "tiny.pt2")
    runner = load_runner(tmp_path / "tiny.pt2", "cpu", allow_code=True)
    assert isinstance(runner, ProgramRunner) and runner.config == tiny.config
    found = export.compare(TorchRunner(tiny), runner, *clip)
    assert max(found.output, found.share, found.memory) <= export.TOLERANCE and found.levels <= 1
    stream = DSTTStream(runner, batch=2)
    frames = np.stack([film(1)[0], film(1, seed=1)[0]])
    first = stream(frames, np.stack([box(), box()]))
    stream.reset(1)
    again = stream(frames, np.stack([box(), box()]))
    assert np.array_equal(again[1], first[1]) and not np.array_equal(again[0], first[0])


@pytest.mark.parametrize("suffix", ["ts", "pt"])
def test_torchscript_says_the_same(folder, tmp_path, suffix):
    """Compared by the command; and read by LibTorch's reader, for two streams as for one, without our code."""
    assert run_main(folder, f"tiny.{suffix}", "--frames", "3") == 0
    runner = load_runner(folder / f"tiny.{suffix}", "cpu", allow_code=True)
    assert isinstance(runner, ProgramRunner)
    with pytest.raises(WeightsError, match="a program of TorchScript, and reading one runs"):
        load_runner(folder / f"tiny.{suffix}", "cpu")
    plain, module = (
        load_runner(folder / "weights.safetensors", "cpu"),
        torch.jit.load(folder / f"tiny.{suffix}"),
    )
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        shapes = [(batch, channels, *SIZE) for channels in (3, 1, 3, MAPS)]
        inputs = [torch.rand(shape, generator=generator) for shape in shapes]
        memory = plain.empty(batch, SIZE)
        found = module(*inputs, memory)
        expected = plain(*(one.numpy() for one in inputs), memory)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, torch.as_tensor(other), atol=export.TOLERANCE, rtol=0)
    (tmp_path / f"bad.{suffix}").write_bytes(b"no program")
    with pytest.raises(WeightsError, match="cannot be read as a program of TorchScript"):
        load_runner(tmp_path / f"bad.{suffix}", "cpu", allow_code=True)


def test_the_comparison_sees_another_network(onnx_runner, clip):
    other = TorchRunner(lively(DSTT(preset("tiny")), seed=1))
    found = export.compare(other, onnx_runner, clip[0][:2], clip[1][:2])
    assert min(found.output, found.share, found.memory) > 100 * export.TOLERANCE and found.levels > 5


@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_streams(tiny, onnx_runner, batch):
    arrays, memory = inputs(batch), memories(batch)
    with torch.no_grad():
        expected = tiny(*map(torch.from_numpy, (*arrays, memory)))
    for name, a, b in zip(OUTPUTS, expected, onnx_runner(*arrays, memory)):
        assert a.shape == b.shape, name
        assert np.abs(a.numpy() - b).max() <= export.TOLERANCE * max(1, np.abs(b).max()), name


def test_memory_goes_in_and_comes_out(onnx_runner):
    arrays, memory = inputs(1), memories(1)
    output, _, following = onnx_runner(*arrays, memory)
    other, _, _ = onnx_runner(*arrays, onnx_runner.empty(1, SIZE))
    hole = np.broadcast_to(arrays[1] > 0.5, output.shape)
    assert (output[hole] != other[hole]).any()
    assert np.array_equal(output[~hole], arrays[0][~hole])
    assert np.array_equal(following[:, :, 0], memory[:, :, 1])  # the oldest went out


def test_the_file_says_what_it_is(folder):
    proto = onnx.load(folder / "tiny.onnx")
    shapes = {
        x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
        for x in (*proto.graph.input, *proto.graph.output)
    }
    memory = ["batch", *preset("tiny").memory_shape()[1:]]
    assert shapes == {
        "frame": ["batch", 3, *SIZE],
        "mask": ["batch", 1, *SIZE],
        "previous": ["batch", 3, *SIZE],
        "maps": ["batch", MAPS, *SIZE],
        "memory": memory,
        "output": ["batch", 3, *SIZE],
        "share": ["batch", 1, *SIZE],
        "next_memory": memory,
    }
    assert OnnxRunner(folder / "tiny.onnx").config == preset("tiny")


def test_tensorrt_knows_all_its_operators(folder):
    assert {node.op_type for node in onnx.load(folder / "tiny.onnx").graph.node} <= TENSORRT


@pytest.mark.parametrize("size", [(32, 48), (37, 50), (40, 64), (53, 41)])
def test_the_transposed_convolution_is_the_fold(tiny, size):
    grid, features = tiny.config.grid(size), tiny.config.features(size)
    tokens = torch.randn(2, grid[0] * grid[1], tiny.config.hidden, generator=torch.Generator().manual_seed(0))
    other = export.TransposedConvolution(tiny.recompose, grid, features)
    with torch.no_grad():
        a, b = tiny.recompose(tokens, grid, features), other(tokens, grid, features)
    assert a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-5 * a.abs().max())


def test_another_size_than_its_own_and_half_precision_weights(tiny):
    size = (38, 50)  # not even a multiple of 4
    network = export.exportable(tiny.half(), size)
    assert network.config.size == size and tiny.config.size == SIZE
    stream = DSTTStream(TorchRunner(network), size=size)
    expected = DSTTStream(TorchRunner(tiny.float()), size=size)
    for frame in film(3, shift=(2, 1)):
        a, b = (s(frame, box()).astype(int) for s in (stream, expected))
        assert np.abs(a - b).max() <= 1


def test_what_the_command_said(folder):
    said = (folder / "said.txt").read_text()
    assert "pictures of 48 x 32" in said and "over 20 frames: output " in said
    command = next(line for line in said.splitlines() if line.startswith("trtexec"))
    tokens = preset("tiny").memory_shape()[3]
    assert f"--onnx={folder / 'tiny.onnx'}" in command and "--fp16" in command
    assert f"maps:1x{MAPS}x32x48,memory:1x2x2x{tokens}x16 --optShapes" in command
    assert f"memory:4x2x2x{tokens}x16" in command.split("--maxShapes=")[1]
    shapes = command.split("--minShapes=")[1].split()[0].split(",")
    assert [shape.split(":")[0] for shape in shapes] == list(INPUTS)


def test_a_file_that_differs_ends_in_an_error(folder, monkeypatch, capsys):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    assert run_main(folder, "other.pt2", "--frames", "2", "--size", "64x40") == 1
    out, error = capsys.readouterr()
    assert "pictures of 64 x 40" in out and "over 2 frames" in out and "differs by more than" in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output", "net.engine"], "'net.engine'"),
        (["--output", "net.onnx", "--frames", "0"], "--frames is 1 or more, not 0"),
        (["--output", "net.onnx", "--weights", "nowhere.safetensors"], "'nowhere.safetensors'"),
        (["--output", "net.onnx", "--clip", "nowhere.mp4"], "'nowhere.mp4'"),
    ],
    ids=["suffix", "frames", "weights", "clip"],
)
def test_mistakes_of_the_command_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export_command.main(flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_without_the_exporter(monkeypatch, folder, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run_main(folder, "none.onnx") == 2
    assert "onnx is not installed" in capsys.readouterr().err and not (folder / "none.onnx").exists()


def truncated(path, folder):
    path.write_bytes((folder / "tiny.onnx").read_bytes()[:5000])


def text(path, folder):
    path.write_text("not a network")


def another_network(path, folder):
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), path
    )


def no_config(path, folder):
    proto = onnx.load(folder / "tiny.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(truncated, "cannot be read as ONNX"), (text, "cannot be read as ONNX"), (another_network, "it takes x"),
     (no_config, "no configuration")],
    ids=["truncated", "text", "another_network", "no_config"],
)  # fmt: skip
def test_files_that_are_no_exported_network(folder, tmp_path, damage, said):
    path = tmp_path / "bad.onnx"
    damage(path, folder)
    with pytest.raises(WeightsError, match=said) as caught:
        OnnxRunner(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_there_or_no_program(tmp_path):
    for suffix in ("onnx", "pt2"):
        with pytest.raises(WeightsError, match=f"'.*none.{suffix}'"):
            load_runner(tmp_path / f"none.{suffix}")
    (tmp_path / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(WeightsError, match="torch.export"):
        load_runner(tmp_path / "bad.pt2", "cpu", allow_code=True)
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.zeros(1),)), tmp_path / "identity.pt2")
    with pytest.raises(WeightsError, match="no configuration"):
        load_runner(tmp_path / "identity.pt2", "cpu", allow_code=True)


def booby_trapped(path: Path, marker: Path) -> None:
    """A program of torch.export whose example inputs are a pickle that makes a folder."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    pickled = io.BytesIO()
    torch.save(Trap(), pickled)
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.zeros(1),)), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(name, pickled.getvalue() if "sample_inputs" in name else data)


def test_a_program_is_not_even_opened_unless_code_is_allowed(tmp_path, capsys):
    import run_demo
    from videopainter.cli import stream

    path, marker = tmp_path / "trap.pt2", tmp_path / "was here"
    booby_trapped(path, marker)
    clip = str(ROOT / "examples" / "cup.mp4")
    flags = ["--box", "20,12,40,30", "--weights", str(path)]
    assert (
        run_demo.main(["--video", clip, *flags, "--engine", "dstt", "--output_dir", str(tmp_path / "o")]) == 2
    )
    assert stream.main(["--source", clip, *flags, "--output", str(tmp_path / "o.mp4")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 2 and all("runs whatever code is in it" in line for line in told)
    for load in (load_runner, ProgramRunner):
        with pytest.raises(WeightsError, match="trap.pt2' is a program of torch.export"):
            load(path)
    with pytest.raises(EngineError, match="runs whatever code"):
        ENGINES["dstt"].load(weights=path)
    assert not marker.exists()
    with pytest.raises(WeightsError):  # the trap is a real one
        load_runner(path, "cpu", allow_code=True)
    assert marker.exists()


def test_a_device_that_is_not_there(folder):
    with pytest.raises(ValueError, match="'tpu'; it has .*cpu"):
        OnnxRunner(folder / "tiny.onnx", device="tpu")


def test_the_engine_takes_an_exported_network(folder, onnx_runner):
    frames, mask = film(3, shift=(1, 0)), box()
    engine = ENGINES["dstt"].load(weights=folder / "tiny.onnx", threads=1)
    painted = list(engine(ArraySource(frames), MaskTrack.still(mask, 3)))
    stream = DSTTStream(onnx_runner)
    assert all(np.array_equal(p, stream(f, mask)) for p, f in zip(painted, frames))


# As if nothing were installed but what the script names.
ALONE = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"torch", "av", "onnx", "onnxscript", "safetensors", "transformers", "diffusers", "PIL", "decord"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["run_onnx", *sys.argv[1:]]
runpy.run_module("videopainter.dstt.run_onnx", run_name="__main__")
"""


def run_alone(*flags) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE, *map(str, flags)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def cv2_frames(path) -> np.ndarray:
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return np.array(frames)
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def test_the_script_without_pytorch(folder, onnx_runner, tmp_path):
    source, mask, output = tmp_path / "in.avi", tmp_path / "hole.png", tmp_path / "out.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"FFV1"), 20, (64, 40))
    for frame in film(8, shift=(1, 0)):
        writer.write(frame[..., ::-1].copy())
    writer.release()
    cv2.imwrite(str(mask), box().astype(np.uint8) * 255)
    flags = ["--network", folder / "tiny.onnx", "--mask", mask, "--output", output, "--threads", 1]
    done = run_alone("--source", source, *flags)
    assert done.returncode == 0 and "8 frames" in done.stdout, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hole.png", "in.avi", "out.avi"]
    stream = DSTTStream(onnx_runner)
    expected = np.stack([stream(frame, box()) for frame in cv2_frames(source)])
    assert np.array_equal(cv2_frames(output), expected)
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FPS) == 20


def test_the_script_with_a_mask_video(folder, tmp_path, capsys):
    for name, frames in (("in", film(6)), ("long", np.stack([box()] * 6)), ("short", np.stack([box()] * 2))):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 20, (64, 40))
        for frame in (
            frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, -1).astype(np.uint8) * 255
        ):
            writer.write(frame)
        writer.release()
    output = tmp_path / "out.mp4"
    flags = ["--network", folder / "tiny.onnx", "--source", tmp_path / "in.avi", "--output", output]
    assert onnx_command.main([*map(str, flags), "--mask", str(tmp_path / "short.avi")]) == 2
    assert "short.avi' has no mask for frame 2" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.avi", "long.avi", "short.avi"]
    assert onnx_command.main([*map(str, flags), "--mask", str(tmp_path / "long.avi")]) == 0
    assert cv2_frames(output).shape == (6, 40, 64, 3)


def test_mistakes_of_the_script(folder, tmp_path):
    output = tmp_path / "out.mp4"
    mask = tmp_path / "hole.png"
    cv2.imwrite(str(mask), np.full((9, 7), 255, np.uint8))
    flags = ["--network", folder / "tiny.onnx", "--mask", mask, "--output", output]
    done = run_alone("--source", ROOT / "examples" / "cup.mp4", *flags)
    assert done.returncode == 2 and "(9, 7)" in done.stderr and "Traceback" not in done.stderr
    done = run_alone("--source", tmp_path / "none.mp4", *flags)
    assert done.returncode == 2 and "none.mp4" in done.stderr and not output.exists()


def test_the_script_opens_what_it_is_given_and_nothing_else(folder, tmp_path, capsys):
    clip, mask = ROOT / "examples" / "cup.mp4", tmp_path / "hole.png"
    cv2.imwrite(str(mask), np.full((480, 640), 255, np.uint8))
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nother.mp4\n")
    there = sorted(tmp_path.iterdir())
    flags = [
        "--network",
        str(folder / "tiny.onnx"),
        "--output",
        str(tmp_path / "out.mp4"),
        "--mask",
        str(mask),
    ]
    for source, words in (
        (f"concat:{clip}", "There is no file"),
        (f"subfile:,,start,0,end,0,,:{clip}", "There is no file"),
        ("http://127.0.0.1:9/a.mp4", "There is no file"),
        (str(tmp_path / "%d.png"), "There is no file"),
        (str(tmp_path / "list.mp4"), "There is no frame in"),
        (str(tmp_path / "list.m3u8"), "There is no frame in"),
    ):
        assert onnx_command.main(["--source", source, *flags]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == there
