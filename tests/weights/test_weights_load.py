"""The one loader: what it takes, and every file that it has to refuse in one sentence, unread and unrun."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videopainter.weights import WeightsError, check_numbers, read_config, read_json, tensor_shapes
from videopainter.weights.load import load_checkpoint, load_tensors

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {"zip": {}, "before 1.6": {"_use_new_zipfile_serialization": False}}


def network() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weight = torch.randn(3, 4)
    return {
        "weight": weight,
        "transposed": weight.t(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "half": weight.half(),
        "brain": weight.bfloat16(),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def sentence(path, call=load_tensors) -> str:
    """What is said about a file that is refused: one line, of bounded length, with the file's name."""
    with pytest.raises(WeightsError) as raised:
        call(path)
    text = str(raised.value)
    assert "\n" not in text and len(text) <= 600 and path.name in text
    assert "weights_only" not in text and "safe_globals" not in text
    return text


# -- what is taken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
def test_files_of_torch_save(tmp_path, how, wrap):
    state, path = network(), tmp_path / "a.pth"
    torch.save({wrap: state, "epoch": 3} if wrap else state, path, **FORMATS[how])
    found = load_tensors(path, state)
    assert all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items()
    )
    assert tensor_shapes(path) == {name: tuple(value.shape) for name, value in state.items()}


def test_safetensors_and_other_dtypes(tmp_path):
    state = {"a": torch.randn(2, 3), "n": torch.arange(3)}
    save_file(state, tmp_path / "a.safetensors")
    found = load_tensors(tmp_path / "a.safetensors", state, dtype=torch.float16)
    assert found["a"].dtype == torch.float16 and found["n"].dtype == torch.int64


@pytest.mark.parametrize("how", FORMATS)
def test_what_modules_and_optimisers_write(tmp_path, how):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "m.pth", **FORMATS[how])
    assert load_tensors(tmp_path / "m.pth").keys() == module.state_dict().keys()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    state = {
        "optimizer": optimizer.state_dict(),
        "losses": [0.5, 2.0],
        "name": "x",
        "nothing": None,
        "yes": True,
    }
    torch.save(state, tmp_path / "c.pt", **FORMATS[how])
    found = load_checkpoint(tmp_path / "c.pt")
    assert found["losses"] == [0.5, 2.0] and found["nothing"] is None
    optimizer.load_state_dict(found["optimizer"])


# -- what is refused -------------------------------------------------------------------------------------

ODD = {
    "a list": ([torch.zeros(1)], "something else than a network's tensors"),
    "a text": ({"a": "text"}, "something else than a network's tensors"),
    "two levels down": ({"model": {"model": {"w": torch.zeros(1)}}}, "something else"),
    "numbers for names": ({1: torch.zeros(1)}, "numbers instead of names"),
    "pairs for names": ({(1, 2): torch.zeros(1)}, "names are no texts"),
    "sparse": ({"w": torch.eye(3).to_sparse()}, "holds a sparse tensor"),
    "meta": ({"w": torch.zeros(3, device="meta")}, "of the meta device"),
    "complex": ({"w": torch.zeros(3, dtype=torch.complex64)}, "'torch.ComplexFloatStorage'"),
    "one value for many": ({"w": torch.zeros(1).expand(10**12)}, "larger than its data"),
    "not a number": ({"w": torch.tensor([1.0, float("nan")])}, "'w' holds values that are no numbers"),
    "infinite": ({"w": torch.tensor([float("inf")])}, "'w' holds values that are no numbers"),
    "a module": ({"model": torch.nn.Linear(1, 1)}, "weights are tensors only; nothing of it was run"),
    "bytes": ({"w": bytearray(100)}, "bytearray"),
    "a set": ({"w": {1}}, "set"),
    "a name of 100,000 letters": ({"w\n" * 50_000: torch.tensor([float("nan")])}, "no numbers"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("kind", ODD)
def test_odd_content(tmp_path, kind, how):
    content, words = ODD[kind]
    torch.save(content, tmp_path / "a.pth", **FORMATS[how])
    assert words in sentence(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_safetensors_without_numbers(tmp_path, value):
    save_file({"w": torch.tensor([value]).half()}, tmp_path / "a.safetensors")
    assert "'w' holds values that are no numbers" in sentence(tmp_path / "a.safetensors")


def test_another_kind_of_number(tmp_path):
    save_file({"w": torch.zeros(2, dtype=torch.int64)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="'w' holds torch.int64"):
        load_tensors(tmp_path / "a.safetensors", {"w": torch.zeros(2)})
    save_file({"w": torch.zeros(2).to(torch.float8_e5m2)}, tmp_path / "a.safetensors")
    assert "no plain tensor" in sentence(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_file(tmp_path, name):
    path = tmp_path / name
    assert "There is no file" in sentence(path)
    path.mkdir()
    assert "is not a file" in sentence(path)
    path.rmdir()
    os.mkfifo(path)
    assert "is not a file" in sentence(path)
    long = tmp_path / ("x" * 300 + name)
    with pytest.raises(WeightsError):
        load_tensors(long)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("load", [load_tensors, load_checkpoint, tensor_shapes])
def test_nothing_is_run(tmp_path, load, how):
    torch.save({"w": torch.zeros(1), "x": Trap(tmp_path / "was here")}, tmp_path / "a.pth", **FORMATS[how])
    assert "asks for 'posix.mkdir'" in sentence(tmp_path / "a.pth", load)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Trap(tmp_path / "was here")))
    assert "is not a file of weights" in sentence(tmp_path / "a.pth", load)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("how", FORMATS)
def test_every_cut_and_many_flipped_bytes(tmp_path, how):
    """Whatever is damaged, there is one sentence or a network's tensors, never another error."""
    path = tmp_path / "a.pth"
    torch.save(network(), path, **FORMATS[how])
    whole = path.read_bytes()
    for keep in range(0, len(whole), 53):
        path.write_bytes(whole[:keep])
        sentence(path)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        at, value = (int(torch.randint(n, (1,), generator=generator)) for n in (len(whole), 256))
        path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            load_tensors(path)
        except WeightsError as error:
            assert len(str(error)) <= 600


# -- bombs -----------------------------------------------------------------------------------------------


def rewritten(path: Path, change, compression=zipfile.ZIP_STORED) -> None:
    """The records of an archive, each as ``change(name, data)`` gives it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data))


class Huge:
    def __reduce__(self):
        return bytearray, (6_000_000_000,)


def bombs(folder: Path) -> list[Path]:
    """Small files that would become large."""
    paths = [folder / f"{i}.pth" for i in range(7)]
    torch.save({"w": Huge()}, paths[0])
    torch.save({"w": Huge()}, paths[1], _use_new_zipfile_serialization=False)
    torch.save({"w": torch.zeros(10_000_000)}, paths[2])
    rewritten(paths[2], lambda name, data: data, zipfile.ZIP_DEFLATED)
    # A storage that is said to be longer than what is there, in the instructions and, before 1.6, before its data.
    torch.save({"w": torch.zeros(1000)}, paths[3])
    rewritten(paths[3], lambda name, data: data[:8] if name.endswith("/data/0") else data)
    torch.save({"w": torch.zeros(1)}, paths[4], _use_new_zipfile_serialization=False)
    paths[4].write_bytes(paths[4].read_bytes()[:-12] + struct.pack("<q", 10**12) + bytes(4))
    # A place in the table of what was made already, so far up that the table would fill the memory.
    torch.save({}, paths[5])
    rewritten(
        paths[5], lambda name, data: b"\x80\x02}r\xff\xff\xff\x7f." if name.endswith("data.pkl") else data
    )
    # Millions of empty lists.
    lists = b"\x80\x02(" + b"]" * 9_000_000 + b"t."
    torch.save({}, paths[6])
    rewritten(paths[6], lambda name, data: lists if name.endswith("data.pkl") else data)
    return paths


def test_bombs_take_no_memory(tmp_path):
    paths = bombs(tmp_path)
    code = (
        "import sys; from videopainter.utils.report import peak_memory_mb\n"
        "from videopainter.weights import WeightsError; from videopainter.weights.load import *\n"
        "for path in sys.argv[1:]:\n"
        "    for load in (load_tensors, load_checkpoint):\n"
        "        try: print('loaded', path, load(path))\n"
        "        except WeightsError as error: print(error)\n"
        "print(peak_memory_mb())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    *told, peak = done.stdout.splitlines()
    assert float(peak) < 1000  # MiB, PyTorch itself included
    # The table of paths[5] is a dictionary here, so that its only fault is to hold nothing.
    refused = [line for line in told if not line.startswith("loaded")]
    assert len(told) == 14 and len(refused) >= 12, done.stdout
    expected = {
        0: "bytearray",
        1: "bytearray",
        2: "compressed",
        3: "not as long",
        4: "not as long",
        6: "instructions",
    }
    for number, words in expected.items():
        assert sum(f"{number}.pth" in line and words in line for line in refused) == 2, done.stdout


@pytest.mark.filterwarnings("ignore")
def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/readme.txt", "words")
    assert "another kind of archive" in sentence(tmp_path / "a.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "b.pth"))
    assert "cannot be read as weights" in sentence(tmp_path / "b.pth")


# -- configurations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ('{"a": ' * 200_000, "is not JSON"),
        ("1" * 10_000, "is not JSON"),
        ("\ud800".encode("utf-16", "surrogatepass"), "is not JSON"),
        ("[]", "is not a configuration"),
        (json.dumps({"vision": [{"num_hidden_layers": 10**30}]}), "num_hidden_layers may be 1000 at most"),
        (json.dumps({"blocks_per_stage": [2, 10**6]}), "blocks_per_stage may be 1000 at most, not 1000000"),
        (json.dumps({"hidden_size": 10**4000}), "hidden_size may be 1000000 at most, not a number of more"),
    ],
    ids=["broken", "deep lists", "deep tables", "digits", "no text", "a list", "layers", "blocks", "width"],
)
def test_configurations_that_no_network_has(tmp_path, text, words):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in sentence(path, read_config)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, null]}')
    assert read_json(path) == {"a": [1, None]}
    with open(path, "wb") as file:
        file.truncate(10**10)
    assert "too large" in sentence(path, read_json)
    check_numbers(
        {"hidden_size": 4096, "num_layers": 48, "use": True, "rate": 1e30, "ids": [32000, -1]}, path
    )
