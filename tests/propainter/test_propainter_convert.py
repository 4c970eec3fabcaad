"""The three released files: read, converted, verified, and every way in which they can be wrong."""

import os
import pickle
import shutil
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_propainter import tiny_config

from videopainter.cli import convert as command
from videopainter.propainter import convert, weights
from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.fill import fill_network_state
from videopainter.propainter.modeling import ProPainterModel
from videopainter.propainter.names import RELEASED, model_name, released_key
from videopainter.weights import read_json

DATA = Path(__file__).resolve().parents[1] / "parity" / "data"


def write_released(model, folder) -> dict[str, Path]:
    """The model as the three released files."""
    states = {file: {} for file in RELEASED}
    for name, value in model.state_dict().items():
        file, key = released_key(name)
        states[file][key] = value.clone()
    for file, state in states.items():
        torch.save(state, folder / file)
    return {file: folder / file for file in states}


@pytest.fixture
def files(model, tmp_path):
    return write_released(model, tmp_path)


def test_names_there_and_back(model):
    names = list(model.state_dict())
    assert len(names) == 179 + 74 + 216 - 6 * 19  # six transformer blocks fewer
    for name in names:
        file, key = released_key(name)
        assert model_name(file, key) == name
    with pytest.raises(KeyError):
        released_key("something.else")
    with pytest.raises(KeyError):
        model_name("raft-things.pth", "fnet.conv1.weight")  # without its prefix


def test_a_model_from_the_released_files(model, files):
    again = convert.load_released(files, tiny_config())
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_command_line_at_full_size(tmp_path, capsys):
    """Files of the released shapes to a folder, and the folder back to the same tensors."""
    torch.manual_seed(0)
    model = ProPainterModel(ProPainterConfig())
    released, out, recorded = tmp_path / "released", tmp_path / "out", tmp_path / "data" / "propainter"
    released.mkdir()
    recorded.mkdir(parents=True)
    for suffix in (".json", ".safetensors"):
        shutil.copy(convert.RECORDED / f"image_propagation{suffix}", recorded)
    flags = ("--optical-flow-checkpoint", "--flow-completion-checkpoint", "--inpaint-generator-checkpoint")
    paths = write_released(model, released)
    arguments = [word for flag, path in zip(flags, paths.values()) for word in (flag, str(path))]
    arguments += [
        "--pytorch-dump-folder-path",
        str(out),
        "--verify-logits",
        "--recorded-values",
        str(recorded),
    ]
    assert command.main(arguments) == 0
    told = capsys.readouterr().out
    assert "raft-things.pth: 179 tensors, bit for bit" in told
    assert "image_propagation: 4 recorded values, within tolerance" in told
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    with safe_open(out / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {
            model_name(f, k) for f in RELEASED for k in torch.load(paths[f], mmap=True)
        }
    loaded = convert.load(out)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_verification_finds_a_changed_tensor(model, folder, files):
    state = torch.load(files["ProPainter.pth"])
    state["decoder.6.bias"] += 1
    torch.save(state, files["ProPainter.pth"])
    with pytest.raises(ValueError, match="'decoder.6.bias' of .* has changed"):
        convert.check(folder, files)


def test_verification_needs_recorded_values(folder, files, tmp_path):
    with pytest.raises(ValueError, match="no recorded values"):
        convert.check(folder, files, tmp_path / "nowhere")


def test_the_weights_of_a_seed_are_those_of_the_recorded_data():
    sys.path.insert(0, str(DATA))
    try:
        import fill_flow
    finally:
        sys.path.remove(str(DATA))
    options = read_json(convert.RECORDED / "raft.json")
    names = "fnet.norm1.running_var cnet.norm3.weight cnet.downsample.1.weight fnet.conv1.weight a.bias pos".split()
    shapes = {name: (3, 2) if "conv" in name else (5,) for name in names} | {"b.num_batches_tracked": ()}
    one, other = (f(shapes, 7, options["gains"]) for f in (fill_network_state, fill_flow.fill_network_state))
    assert list(one) == list(other) == names
    assert all(torch.equal(one[name], other[name]) for name in names)


def test_verification_finds_a_wrong_network(folder, files, tmp_path, monkeypatch):
    recorded = tmp_path / "data" / "propainter"
    recorded.mkdir(parents=True)
    for suffix in (".json", ".safetensors"):
        shutil.copy(convert.RECORDED / f"image_propagation{suffix}", recorded)
    from videopainter.propainter import propagation

    monkeypatch.setattr(propagation, "THRESHOLD", 0.9)
    with pytest.raises(
        ValueError, match="differ from the reference in 'image_propagation': .*share_over_1e-3"
    ):
        convert.check(folder, files, recorded)


# -- files that are wrong --------------------------------------------------------------------------------

FILE, KEY = "recurrent_flow_completion.pth", "upsample.0.bias"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop(KEY), "1 missing .such as flow_completion_net.upsample.0.bias"),
        (lambda state: state.update({"extra.weight": torch.zeros(1)}), "1 unknown .such as extra.weight"),
        (lambda state: state.update({KEY: torch.zeros(3)}), "1 of another shape"),
        (lambda state: state.clear(), "missing"),
    ],
    ids=["missing", "extra", "misshapen", "empty"],
)
def test_tensors_that_do_not_fit(files, change, words):
    state = torch.load(files[FILE])
    change(state)
    torch.save(state, files[FILE])
    with pytest.raises(ValueError, match=f"'.*{FILE}' are not those of ProPainter: .*{words}"):
        convert.load_released(files, tiny_config())


def test_a_file_without_the_prefix(files):
    path = files["raft-things.pth"]
    torch.save({key.removeprefix("module."): value for key, value in torch.load(path).items()}, path)
    with pytest.raises(ValueError, match="179 missing.*179 unknown"):
        convert.load_released(files, tiny_config())


def test_files_in_each_others_place(files):
    swapped = dict(zip(files, reversed(files.values())))
    with pytest.raises(ValueError, match="are not those of ProPainter"):
        convert.load_released(swapped, tiny_config())


@pytest.mark.parametrize("keep", [0, 1, 1000, -100])
def test_a_file_that_is_cut_off(files, keep):
    path = files[FILE]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"'.*{FILE}' is (not a file of weights|damaged or cut off)"):
        convert.read_released(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_that_wants_to_run_something(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    path = tmp_path / FILE
    torch.save({"x": Malicious()}, path)
    with pytest.raises(ValueError, match="asks for 'posix.mkdir', and weights are tensors only"):
        convert.read_released(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="not a file of weights"):
        convert.read_released(path)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", [1, 2], {"a": "text"}, {"a": {"b": torch.zeros(1)}}]
)
def test_something_else_in_the_file(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="not a file of weights|something else than"):
        convert.read_released(path)


def test_a_file_that_is_not_there(files):
    files[FILE].unlink()
    with pytest.raises(
        ValueError, match=f"There is no file '.*{FILE}'; python ckpt/download.py --only propainter"
    ):
        convert.load_released(files, tiny_config())


def test_the_command_line_ends_with_one_sentence(tmp_path, capsys):
    flags = ("--optical-flow-checkpoint", "--flow-completion-checkpoint", "--inpaint-generator-checkpoint")
    arguments = [word for flag in flags for word in (flag, str(tmp_path / "nothing.pth"))]
    assert command.main(["--pytorch-dump-folder-path", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("convert.py: error: There is no file") and error.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_fetching_keeps_nothing_half(tmp_path, monkeypatch):
    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *about):
            pass

        def read(self, size):
            raise urllib.error.URLError("the line is dead")

    monkeypatch.setattr(convert.urllib.request, "urlopen", lambda address, timeout: Broken())
    with pytest.raises(ValueError, match="cannot be fetched: .*the line is dead"):
        convert.fetch(command.ADDRESS + FILE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert convert.fetch("some/file.pth", tmp_path) == Path("some/file.pth")


def test_a_folder_of_either_kind(model, folder, files, tmp_path, monkeypatch):
    loaded = convert.load(folder)
    assert torch.equal(*(m.inpaint_generator.decoder[6].weight for m in (loaded, model)))
    (tmp_path / "config.json").unlink(missing_ok=True)
    assert weights.missing(tmp_path) is None
    files[FILE].unlink()
    assert weights.missing(tmp_path).startswith(f"there is no {FILE} in")
    with pytest.raises(
        ValueError, match="there are no weights in '.*'; python ckpt/download.py --only propainter"
    ):
        convert.load(tmp_path / "nowhere")
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert weights.missing(folder) == "PyTorch is not installed"
