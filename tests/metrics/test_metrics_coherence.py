"""Removal coherence: figures of the published code with the same random network, and what they mean."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from videopainter.metrics import paper
from videopainter.metrics.coherence import RemovalCoherence, _square
from videopainter.weights import WeightsError

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "coherence_reference.json").read_text())
spec = importlib.util.spec_from_file_location("fill_for_dino", HERE.parent / "parity" / "data" / "fill.py")
fill = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fill)


def picture(key):
    noise = fill.normal_array(key, 24 * 36 * 3).reshape(24, 36, 3)
    return np.clip(128 + 60 * noise, 0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    model = fill.fill_module_(Dinov2Model(Dinov2Config(**RECORDED["config"])), RECORDED["seed"])
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip():
    masks = np.zeros((4, 192, 288), bool)
    for number, top, bottom, left, right in RECORDED["holes"]:
        masks[number, top:bottom, left:right] = True
    return np.stack([picture(f"coherence:{number}") for number in range(4)]), masks


def test_figures_of_the_published_code(folder, clip):
    """Of small and large holes, in one piece or two, inside and at the edge, and of neighbours that share none.

    The published sums are of 32 bits, whose last digit is 1e-4 of a discrepancy times 1000.
    """
    coherence, (frames, masks) = RemovalCoherence(folder), clip
    for i, expected in enumerate(RECORDED["rc_s"]):
        assert coherence.spatial(frames[i : i + 1], masks[i : i + 1]) == pytest.approx(expected, abs=5e-5)
    for i, expected in enumerate(RECORDED["rc_t"]):
        pair = slice(i, i + 2)
        found = coherence.temporal(frames[pair], masks[pair])
        assert found is None if expected is None else found == pytest.approx(expected, abs=2e-4)
    assert coherence.spatial(frames, masks) == pytest.approx(np.mean(RECORDED["rc_s"]), abs=5e-5)
    known = [value for value in RECORDED["rc_t"] if value is not None]
    assert coherence.temporal(frames, masks) == pytest.approx(np.mean(known), abs=2e-4)
    figures = paper.measure(frames, frames, masks, coherence=coherence)
    assert figures["rc_s"] == pytest.approx(np.mean(RECORDED["rc_s"]), abs=5e-5)
    assert "| RC-S | RC-T |" in paper.as_markdown({"ours": figures})


def test_a_hole_like_its_surroundings_is_better(folder, clip):
    coherence, (frames, masks) = RemovalCoherence(folder), clip
    foreign = frames.copy()
    foreign[0][masks[0]] = (255, 0, 0)
    assert coherence.spatial(foreign[:1], masks[:1]) < coherence.spatial(frames[:1], masks[:1])
    still = np.repeat(frames[:1], 2, 0)
    assert coherence.temporal(still, np.repeat(masks[:1], 2, 0)) == pytest.approx(0, abs=1e-9)


def test_where_there_is_nothing_to_measure(folder, clip):
    coherence, (frames, masks) = RemovalCoherence(folder), clip
    assert coherence.spatial(frames, np.zeros_like(masks)) is None
    assert coherence.temporal(frames, np.zeros_like(masks)) is None
    assert coherence.spatial(frames[:1], np.ones_like(masks[:1])) is None  # no background
    assert coherence.temporal(frames[:1], masks[:1]) is None


def test_squares():
    """They grow by a third on each side, all alike, and stay in the picture."""
    mask = np.zeros((100, 200), bool)
    mask[40:52, 60:90] = True
    assert _square(mask) == (slice(21, 71), slice(50, 100))
    mask[2:4, 60:90] = True
    assert _square(mask) == (slice(0, 54), slice(48, 102))
    mask[:] = True
    assert _square(mask) == (slice(0, 100), slice(0, 100))  # as published: not the middle


def test_another_network_is_refused(tmp_path):
    from transformers import ViTConfig, ViTModel

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
             "image_size": 32}  # fmt: skip
    ViTModel(ViTConfig(**small)).save_pretrained(tmp_path / "vit")
    with pytest.raises(WeightsError, match="is vit, not DINOv2"):
        RemovalCoherence(tmp_path / "vit")
    with pytest.raises(WeightsError, match="DINOv2 cannot be loaded from"):
        RemovalCoherence(tmp_path / "gone")


def test_with_registers(tmp_path, clip):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(**RECORDED["config"], num_register_tokens=4)
    Dinov2WithRegistersModel(config).save_pretrained(tmp_path)
    assert 0 < RemovalCoherence(tmp_path).spatial(clip[0][:1], clip[1][:1]) <= 1
