import json

import pytest
import torch
from safetensors.torch import save_file

from videopainter.dstt.config import preset
from videopainter.dstt.model import DSTT
from videopainter.dstt.weights import WEIGHTS, load_model, save_model
from videopainter.weights import WeightsError


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_what_was_saved_is_loaded(tiny, tmp_path, fp16):
    path = tmp_path / "a.safetensors"
    save_model(tiny, path, fp16=fp16, facts={"steps": "7"})
    loaded = load_model(path)
    assert loaded.config == tiny.config and not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        torch.testing.assert_close(
            tensor, tiny.state_dict()[name], rtol=1e-3 if fp16 else 0, atol=1e-6 if fp16 else 0
        )
    assert load_model(path, dtype=torch.bfloat16).encoder.to_half[0].weight.dtype == torch.bfloat16


def test_the_shipped_weights_are_small_and_of_the_small_network():
    assert WEIGHTS.stat().st_size < 20e6
    model = load_model()
    assert model.config == preset("small")
    assert all(p.isfinite().all() for p in model.parameters())
    # They were trained: the last layer, which starts at zero, is not.
    assert model.decoder.last.weight.abs().max() > 0
    assert (WEIGHTS.parent / "MODEL_CARD.md").is_file()


def test_files_that_are_no_weights(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="no weights"):
        load_model(path)
    save_model(tiny, path)
    whole = path.read_bytes()
    for broken, words in (
        (whole[:-10], "cut off"),
        (whole[:50], "cut off"),
        (b"", "not a safetensors"),
        (b"x" * 100, "not a safetensors"),
    ):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match=words):
            load_model(path)


def test_files_of_other_networks(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    save_file(state, path)
    with pytest.raises(WeightsError, match="no configuration"):
        load_model(path)
    save_file(state, path, {"config": json.dumps(preset("small").to_dict())})
    with pytest.raises(WeightsError, match="shape|no tensor"):
        load_model(path)
    save_file(state, path, {"config": json.dumps({**tiny.config.to_dict(), "depth": 3})})
    with pytest.raises(WeightsError, match="depth"):
        load_model(path)
    save_file(state, path, {"config": "not JSON"})
    with pytest.raises(WeightsError, match="not a DSTT"):
        load_model(path)
    del state["decoder.last.bias"]
    save_file(state, path, {"config": json.dumps(tiny.config.to_dict())})
    with pytest.raises(WeightsError, match="decoder.last.bias"):
        load_model(path)


def test_an_interrupted_save_leaves_what_was_there(tiny, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_model(tiny, path)
    before = path.read_bytes()

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model(DSTT(preset("tiny")), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
