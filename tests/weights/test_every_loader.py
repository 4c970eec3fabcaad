"""Every place that reads a network or a checkpoint refuses the same files, in one sentence."""

import json
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from videopainter.weights import WeightsError


def propainter(path):
    from videopainter.propainter.convert import read_released

    read_released(path)


def e2fgvi(path):
    from videopainter.e2fgvi.model import E2FGVIModel

    E2FGVIModel.from_pretrained(path)


def e2fgvi_teacher(path):
    from videopainter.e2fgvi.configuration import E2FGVIConfig
    from videopainter.e2fgvi.spynet import SPyNet
    from videopainter.e2fgvi.training.run import read_teacher

    read_teacher(path, SPyNet(E2FGVIConfig().flow_widths))


def dstt_training(path):
    from videopainter.dstt.training.curriculum import curriculum
    from videopainter.dstt.training.trainer import Trainer, read_checkpoint

    Trainer(curriculum("tiny")).load(read_checkpoint(path))


def sam2(path):
    from videopainter.segmentation.sam2.checkpoint import convert_file

    convert_file(path, path.parent / "out")


def i3d(path):
    from videopainter.metrics.vfid import load_i3d

    load_i3d(path)


LOADERS = [propainter, e2fgvi, e2fgvi_teacher, dstt_training, sam2, i3d]


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Huge:
    def __reduce__(self):
        return bytearray, (6_000_000_000,)


def deflated(path):
    torch.save({"w": torch.zeros(1_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


FILES = {
    "code": lambda path: torch.save({"w": Trap(path.parent / "was here")}, path),
    "a bomb": lambda path: torch.save({"w": Huge()}, path),
    "an older bomb": lambda path: torch.save(Huge(), path, _use_new_zipfile_serialization=False),
    "deflated": deflated,
    "a list": lambda path: torch.save([torch.zeros(1)], path),
    "a number": lambda path: torch.save({"w": 3}, path),
    "a name of no text": lambda path: torch.save({1: torch.zeros(1)}, path),
    "sparse": lambda path: torch.save({"w": torch.eye(2).to_sparse()}, path),
    "meta": lambda path: torch.save({"w": torch.zeros(2, device="meta")}, path),
    "not there": lambda path: None,
    "empty": lambda path: path.touch(),
    "words": lambda path: path.write_text("<html>not found</html>"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_one_sentence(tmp_path, load, kind):
    path = tmp_path / "weights.pth"
    FILES[kind](path)
    with pytest.raises(ValueError) as raised:
        load(path)
    text = str(raised.value)
    assert "\n" not in text and len(text) <= 500 and "weights_only" not in text
    assert not (tmp_path / "was here").exists()


def test_nan_in_a_network_of_ours(tmp_path):
    from videopainter.dstt.weights import WEIGHTS, load_model, read_config
    from videopainter.weights.check import safetensors_header
    from videopainter.weights.load import load_tensors

    state = load_tensors(WEIGHTS)
    state["decoder.last.bias"][0] = float("nan")
    save_file(state, tmp_path / "a.safetensors", safetensors_header(WEIGHTS)[1])
    with pytest.raises(WeightsError, match="'decoder.last.bias' holds values that are no numbers"):
        load_model(tmp_path / "a.safetensors")
    for config in (
        "[" * 100_000,
        '{"blocks": 1' + "0" * 30 + "}",
        '{"size": 3}',
        '{"groups": {}}',
        '{"zone": ["a", 1]}',
    ):
        save_file(state, tmp_path / "b.safetensors", {"config": config})
        with pytest.raises(WeightsError) as raised:
            load_model(tmp_path / "b.safetensors")
        assert len(str(raised.value)) <= 500 and "b.safetensors' is not" in str(raised.value)
    with pytest.raises(WeightsError):
        read_config({"config": "[1]"}, WEIGHTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 10**30),
        ("num_layers", 100_000),
        ("num_layers", "8"),
        ("num_layers", None),
        ("num_layers", 8.0),
        ("hidden_size", 10**9),
        ("window", 5),
        ("window", [5, 10**9]),
        ("window", {"rows": 5}),
        ("flow_widths", "abcd"),
        ("variant", ["hq"] * 100_000),
        ("variant", {}),
    ],
)
def test_configurations_of_e2fgvi(tmp_path, name, value):
    from dataclasses import asdict

    from videopainter.e2fgvi.configuration import E2FGVIConfig
    from videopainter.e2fgvi.model import E2FGVIModel

    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**asdict(E2FGVIConfig()), name: value}))
    with pytest.raises(WeightsError, match=name) as raised:
        E2FGVIModel.from_pretrained(tmp_path)
    assert len(str(raised.value)) <= 500


def test_a_large_network_whose_file_is_small_is_not_built(tmp_path):
    """On the way to the sentence nothing is allocated: 400 GB would be."""
    from dataclasses import asdict, replace

    from videopainter.e2fgvi.configuration import E2FGVIConfig
    from videopainter.e2fgvi.model import E2FGVIModel

    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    config = replace(E2FGVIConfig(), hidden_size=65_536, num_layers=30)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    with pytest.raises(WeightsError, match="has no tensor"):
        E2FGVIModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**30),
        ("num_hidden_layers", 5000),
        ("num_hidden_layers", "8"),
        ("hidden_size", None),
        ("window_size", 5),
        ("window_size", [5]),
        ("channels", [64, 96, {}]),
        ("raft_iter", "many"),
    ],
)
def test_configurations_of_propainter(tmp_path, name, value):
    from videopainter.propainter.configuration import ProPainterConfig
    from videopainter.propainter.modeling import ProPainterModel

    config = json.loads(ProPainterConfig().to_json_string())
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(ValueError, match=name) as raised:
        ProPainterModel.from_pretrained(tmp_path)
    assert len(str(raised.value)) <= 500 and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '"text"', '{"hidden_size": NaN}'])
def test_configurations_that_are_none(tmp_path, text):
    from videopainter.propainter.modeling import ProPainterModel
    from videopainter.segmentation.sam2.checkpoint import read

    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(text)
    for load in (ProPainterModel.from_pretrained, read):
        with pytest.raises(ValueError) as raised:
            load(tmp_path)
        assert len(str(raised.value)) <= 500 and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "config",
    [
        {"vision_config": {"backbone_config": {"blocks_per_stage": [2, 10**30, 36, 4]}}},
        {"memory_attention_num_layers": 10**30},
        {"vision_config": 3},
        {"image_size": "large"},
    ],
)
def test_configurations_of_sam2(tmp_path, config):
    from videopainter.segmentation.sam2.checkpoint import read

    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2_video", **config}))
    with pytest.raises(WeightsError) as raised:
        read(tmp_path)
    assert len(str(raised.value)) <= 500
