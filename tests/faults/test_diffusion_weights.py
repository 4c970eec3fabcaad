"""VideoPainter's folder of weights with anything wrong in it: one EngineError, nothing built for hours, nothing run."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopainter.engines.base import EngineError

sys.path.insert(0, str(Path(__file__).parents[1] / "diffusion" / "engine"))

BASE, BRANCH = "CogVideoX-5b-I2V", "VideoPainter/checkpoints/branch"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    import importlib.util

    path = Path(__file__).parents[1] / "diffusion" / "engine" / "conftest.py"
    spec = importlib.util.spec_from_file_location("released_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_weights(tmp_path_factory.mktemp("ckpt"))


@pytest.fixture
def root(released, tmp_path):
    return Path(shutil.copytree(released, tmp_path / "ckpt"))


def load(root):
    from videopainter.diffusion.engine import VideoPainterEngine

    engine = VideoPainterEngine(
        model_path=str(root / BASE), branch=str(root / BRANCH), device="cpu", memory="fast"
    )
    engine._load()
    engine._encode("a wall", lambda: None)


def refused(root):
    with pytest.raises(EngineError) as raised:
        load(root)
    text = str(raised.value)
    assert "\n" not in text and len(text) <= 500 + 2 * len(str(root))


TEXTS = ["", "{", "[]", "3", "[" * 100_000, '"text"', "\udcff"]
CONFIGS = [f"{BASE}/{name}/config.json" for name in ("transformer", "vae", "text_encoder")] + [
    f"{BRANCH}/config.json",
    f"{BASE}/scheduler/scheduler_config.json",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_are_none(root, name, text):
    (root / name).write_bytes(text.encode(errors="surrogateescape"))
    refused(root)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (f"{BASE}/transformer/config.json", "num_layers", 10**30),
        (f"{BASE}/transformer/config.json", "num_layers", 100_000),
        (f"{BASE}/transformer/config.json", "num_layers", "two"),
        (f"{BASE}/transformer/config.json", "num_layers", None),
        (f"{BASE}/transformer/config.json", "num_attention_heads", 10**9),
        (f"{BASE}/transformer/config.json", "sample_frames", [1]),
        (f"{BASE}/transformer/config.json", "max_text_seq_length", -1),
        (f"{BASE}/vae/config.json", "block_out_channels", 5),
        (f"{BASE}/vae/config.json", "block_out_channels", [10**30]),
        (f"{BASE}/vae/config.json", "layers_per_block", 10**30),
        (f"{BASE}/text_encoder/config.json", "num_layers", 10**30),
        (f"{BASE}/text_encoder/config.json", "d_model", "wide"),
        (f"{BRANCH}/config.json", "num_layers", 10**30),
        (f"{BRANCH}/config.json", "num_layers", {}),
        (f"{BASE}/scheduler/scheduler_config.json", "num_train_timesteps", 10**30),
    ],
)
def test_values_that_no_network_has(root, name, key, value):
    config = json.loads((root / name).read_text())
    (root / name).write_text(json.dumps({**config, key: value}))
    refused(root)


@pytest.mark.parametrize("folder", [f"{BASE}/transformer", f"{BASE}/vae", f"{BASE}/text_encoder", BRANCH])
@pytest.mark.parametrize("kind", ["nan", "infinite", "cut", "empty", "page", "gone", "pickle"])
def test_weights_that_are_none(root, folder, kind):
    (path,) = (root / folder).glob("*.safetensors")
    if kind in ("nan", "infinite"):
        state = load_file(path)
        next(v for v in state.values() if v.is_floating_point()).view(-1)[-1] = float(
            "nan" if kind == "nan" else "inf"
        )
        save_file(state, path, {"format": "pt"})
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "pickle":

        class Trap:
            def __reduce__(self):
                return Path.mkdir, (root / "was here",)

        torch.save({"w": Trap()}, path)
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if kind == "empty" else b"<html>Log in</html>")
    refused(root)
    assert not (root / "was here").exists()
