"""EdgeTAM: its backbone against timm's, its released names, weights that cannot be used. What it does with prompts is
in `test_contract.py`; no released weights were at hand, so that they give good masks is not shown."""

import json
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402
from tiny_edgetam import config, state  # noqa: E402
from tiny_sam2 import DATA, fill  # noqa: E402

from videopainter import weights  # noqa: E402
from videopainter.segmentation import ClickPrompt  # noqa: E402
from videopainter.segmentation.edgetam import checkpoint  # noqa: E402
from videopainter.segmentation.edgetam.tracker import EdgeTamSegmenter  # noqa: E402
from videopainter.video import ArraySource  # noqa: E402
from videopainter.weights import WeightsError  # noqa: E402

BACKBONE = "vision_encoder.backbone.timm_model."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    return tmp_path


def test_the_backbone_is_timms():
    """`data/repvit_m1.json` was written by timm's `repvit_m1` with these weights and this picture."""
    from videopainter.segmentation.edgetam.repvit import DEPTHS, WIDTHS, RepVit

    network = RepVit(WIDTHS, DEPTHS).eval()
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    published = weights.manifest("edgetam").items()
    assert shapes == {k.removeprefix(BACKBONE): s for k, s in published if k.startswith(BACKBONE)}
    made = fill.fill_state_dict(shapes, 7)
    for name in made:
        if name.endswith("running_var"):
            made[name] = 6 * made[name].abs() + 3
        elif name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(0)
    network.load_state_dict(made)
    picture = torch.from_numpy(fill.normal_array("picture", 3 * 64 * 96).reshape(1, 3, 64, 96)).float()
    with torch.no_grad():
        maps = network(picture)
    golden = json.loads((DATA / "repvit_m1.json").read_text())["maps"]
    for found, wanted in zip(maps, golden, strict=True):
        assert list(found.shape) == wanted["shape"]
        values = found.flatten()[:: max(1, found.numel() // 12)][:12]
        torch.testing.assert_close(values, torch.tensor(wanted["values"]), rtol=1e-3, atol=1e-4)
        assert found.std().item() == pytest.approx(wanted["std"], rel=1e-4)


def test_the_released_names_and_shapes_convert_strictly():
    from transformers import EdgeTamVideoModel

    with torch.device("meta"):
        model = EdgeTamVideoModel(checkpoint.edgetam_config())
        shapes = weights.manifest("edgetam_original")
        converted = checkpoint.convert_state({name: torch.empty(shape) for name, shape in shapes.items()})
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == expected
    assert expected == weights.manifest("edgetam")
    assert sum(math.prod(parameter.shape) for parameter in model.parameters()) == 13895794  # 13.9 million


def _original(tensors):
    """The tiny network's tensors under the original release's names."""
    made = {}
    for name in weights.manifest("edgetam_original"):
        with torch.device("meta"):
            named = list(checkpoint.convert_state({name: torch.empty(2, 1)}))
        if ".point_embeddings." in name:
            k = int(name.split(".")[2])
            made[name] = tensors["prompt_encoder.point_embed.weight"][k : k + 1]
        elif all(new in tensors for new in named):  # the tiny one has fewer blocks
            made[name] = (
                tensors[named[0]] if ".to_kv." not in name else torch.cat([tensors[n] for n in named])
            )
    return made


def test_both_forms_of_the_weights_are_one_network(folder, monkeypatch):
    release = checkpoint.edgetam_config
    monkeypatch.setattr(checkpoint, "edgetam_config", lambda *a, **k: release(*a, **k) if a or k else tiny)
    tiny = config()
    (folder / "edgetam").mkdir()
    save_file(state(), folder / "edgetam/model.safetensors")
    first = checkpoint.load().state_dict()
    (folder / "edgetam/model.safetensors").unlink()
    torch.save({"model": _original(state())}, folder / "edgetam.pt")
    second = checkpoint.load()
    assert not second.training and first.keys() == second.state_dict().keys()
    for name, tensor in second.state_dict().items():
        torch.testing.assert_close(tensor, first[name], rtol=0, atol=0)


def test_weights_that_cannot_be_used(folder):
    source = ArraySource(torch.zeros(2, 32, 32, 3, dtype=torch.uint8).numpy())
    with pytest.raises(
        WeightsError, match="EdgeTAM cannot be used: weights are missing .*--only edgetam gets"
    ):
        list(EdgeTamSegmenter(source).track([ClickPrompt(5, 5)]))
    tensors = state()
    name = "spatial_perceiver.latents_1d"
    for damage, words in (
        ({k: v for k, v in tensors.items() if k != name}, f'is not EdgeTAM: Missing key.*"{name}"'),
        ({**tensors, "x": torch.zeros(1)}, "is not EdgeTAM: Unexpected key.*x"),
        ({**tensors, name: torch.zeros(3)}, "is not EdgeTAM: size mismatch for spatial_perceiver"),
        ({**tensors, name: tensors[name] / 0}, f"'{name}' holds values that are no numbers"),
    ):
        save_file(damage, folder / "model.safetensors")
        with pytest.raises(WeightsError, match=words) as raised:
            checkpoint.read(folder / "model.safetensors", config())
        assert "\n" not in str(raised.value)
