"""Weights: what is there, what is missing, what is damaged, and the sentence that says so."""

import json
import struct

import pytest

from videopainter import weights
from videopainter.weights import NEEDED, PARTS, Network, WeightsError


def write_safetensors(path, shapes, dtype="BF16", width=2):
    """A file with this header whose data is a hole of the right length, so that 11 GB take no room."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + count * width]}
        end += count * width
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def write_part(root, part):
    """The first set of files of a part in the released layout, with the released shapes where they are known."""
    files = PARTS[part].sets[0]
    for name in files.files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    for network in files.networks:
        shapes = weights.manifest(network.manifest) if network.manifest else {"w": (3, 4)}
        write_safetensors(root / network.path, shapes)


@pytest.mark.parametrize("part", ["base", "branch", "id", "sam2", "flux"])
def test_a_part_in_the_released_layout_is_there_and_whole(tmp_path, part):
    assert weights.absent(part, tmp_path) and not weights.started(part, tmp_path)
    write_part(tmp_path, part)
    assert weights.absent(part, tmp_path) == [] and weights.problems(part, tmp_path) == []
    assert weights.started(part, tmp_path)


def test_published_sizes():
    count = {
        name: sum(_product(s) for s in weights.manifest(name).values()) for name in ("branch", "transformer")
    }
    assert count == {"branch": 356176448, "transformer": 5625087552}
    assert sum(_product(s) for s in weights.manifest("id_lora").values()) == 264241152
    assert len(weights.manifest("propainter_raft")) == 179 and len(weights.manifest("e2fgvi_hq")) == 244


def _product(shape):
    total = 1
    for side in shape:
        total *= side
    return total


def test_what_an_engine_lacks(tmp_path):
    assert weights.missing("videopainter", tmp_path) == ["base", "branch"]
    write_part(tmp_path, "base")
    assert weights.missing("videopainter", tmp_path) == ["branch"]
    sentence = weights.why_missing("videopainter", tmp_path)
    assert sentence.endswith(f"python ckpt/download.py --only branch --folder {tmp_path} gets them")
    write_part(tmp_path, "branch")
    assert weights.why_missing("videopainter", tmp_path) is None
    assert weights.why_missing("propagation", tmp_path) is None
    assert set().union(*NEEDED.values()) <= set(PARTS)


def test_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path / "a"))
    assert weights.weights_folder() == tmp_path / "a"
    assert weights.weights_folder(tmp_path / "b") == tmp_path / "b"
    assert weights.command(["id"]) == "python ckpt/download.py --only id"
    monkeypatch.delenv(weights.ENVIRONMENT)
    assert weights.weights_folder().name == "ckpt" and (weights.weights_folder() / "download.py").is_file()


def test_shards_and_their_index(tmp_path):
    write_part(tmp_path, "base")
    folder = tmp_path / "CogVideoX-5b-I2V/transformer"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    shapes = list(weights.manifest("transformer").items())
    index = {"weight_map": {}}
    for i, piece in enumerate((shapes[:500], shapes[500:]), 1):
        name = f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        write_safetensors(folder / name, dict(piece))
        index["weight_map"].update({key: name for key, _ in piece})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert weights.absent("base", tmp_path) == [] and weights.problems("base", tmp_path) == []
    (folder / name).unlink()
    assert weights.absent("base", tmp_path) == [f"CogVideoX-5b-I2V/transformer/{name}"]
    assert weights.missing("videopainter", tmp_path)[0] == "base"
    write_safetensors(folder / name, dict(shapes[501:]))
    assert f"no tensor '{shapes[500][0]}'" in weights.problems("base", tmp_path)[0]


ID = "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors"
FIRST = "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight"


def _cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)


DAMAGE = {
    "cut off": (_cut, r"damaged, cut off .*\d+ bytes.: .*not fully covered"),
    "empty": (lambda p: p.write_bytes(b""), r"not a safetensors file \(0 bytes\)"),
    "a pointer of git-lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "not a safe",
    ),
    "header cut off": (
        lambda p: p.write_bytes(struct.pack("<Q", 500) + b"{}"),
        r"damaged, cut off .*\(10 bytes\)",
    ),
    "header is no JSON": (
        lambda p: p.write_bytes(struct.pack("<Q", 4) + b"{{{{"),
        "not a safetensors file .12 bytes.: .*header",
    ),
    "a pickle in disguise": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(90)), "not a safetensors file"),
    "a tensor too few": (
        lambda p: write_safetensors(p, dict(list(weights.manifest("id_lora").items())[1:])),
        f"no tensor '{FIRST}'",
    ),
    "another rank": (
        lambda p: write_safetensors(p, {**weights.manifest("id_lora"), FIRST: (128, 3072)}),
        rf"'{FIRST}' has the shape \[128, 3072\], not \[256, 3072\]",
    ),
    "a tensor too many": (
        lambda p: write_safetensors(p, {**weights.manifest("id_lora"), "more": (2,)}),
        "also has 'more'",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_said_in_one_sentence(tmp_path, kind):
    import re

    write_part(tmp_path, "id")
    damage, words = DAMAGE[kind]
    damage(tmp_path / ID)
    sentences = weights.problems("id", tmp_path)
    assert len(sentences) == 1 and re.search(words, sentences[0]) and str(tmp_path / ID) in sentences[0]


def test_a_configuration_that_is_no_json(tmp_path):
    write_part(tmp_path, "branch")
    (tmp_path / PARTS["branch"].sets[0].files[0]).write_text("<html>")
    assert "is not JSON" in weights.problems("branch", tmp_path)[0]


def test_sizes_as_they_were_published(tmp_path):
    write_part(tmp_path, "sam2")
    (tmp_path / weights.RECORDS).mkdir()
    record = {"files": {"sam2-hiera-large/config.json": {"size": 2, "sha256": None}}}
    (tmp_path / weights.RECORDS / "sam2.json").write_text(json.dumps(record))
    assert weights.problems("sam2", tmp_path) == []
    (tmp_path / "sam2-hiera-large/config.json").write_text("{} ")
    assert "has 3 bytes, but 2 were published" in weights.problems("sam2", tmp_path)[0]


def test_files_of_torch_save(tmp_path):
    torch = pytest.importorskip("torch")
    flow = weights.manifest("propainter_flow_completion")
    state = {name: torch.zeros(shape) for name, shape in flow.items()}
    network = Network("propainter/recurrent_flow_completion.pth", "propainter_flow_completion")
    path = tmp_path / network.path
    path.parent.mkdir()
    torch.save(state, path)
    weights.check_network(network, tmp_path)
    name = next(iter(state))
    torch.save({**state, name: torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=rf"'{name}' has the shape \[1\]"):
        weights.check_network(network, tmp_path)
    torch.save(torch.nn.Linear(1, 1), path)  # an object, which only unpickling code would make
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        weights.check_network(network, tmp_path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="something else"):
        weights.check_network(network, tmp_path)
    torch.save({"model": state}, path)
    assert weights.tensor_shapes(path) == flow


def test_either_form_will_do(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"w": torch.zeros(2)}}, tmp_path / "sam2_hiera_large.pt")
    assert weights.missing("sam2", tmp_path) == []
    assert "not the published network: it has no tensor" in weights.problems("sam2", tmp_path)[0]
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "propainter").mkdir(exist_ok=True)
        (tmp_path / "propainter" / name).write_text("{}")
    assert weights.missing("propainter", tmp_path) == []


def test_nothing_heavy_is_imported():
    import subprocess
    import sys

    code = "import sys, videopainter.weights as w; w.why_missing('videopainter'); print(sorted({'torch', 'numpy', "
    code += "'huggingface_hub', 'requests'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
