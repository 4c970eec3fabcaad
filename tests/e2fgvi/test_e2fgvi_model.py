"""The networks themselves, and their weights in files: every way in which those can be wrong."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clips import ArrayClip, random_clip
from safetensors.torch import load_file, save_file
from small_e2fgvi import lively_model, tiny_config

from videopainter import weights as table
from videopainter.e2fgvi import transformer, weights
from videopainter.e2fgvi.configuration import E2FGVIConfig
from videopainter.e2fgvi.generator import shrink
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.propagation import FeaturePropagation
from videopainter.e2fgvi.spynet import SPyNet
from videopainter.e2fgvi.weights import RELEASED
from videopainter.ops import token_windows
from videopainter.weights import WeightsError

# -- the networks ----------------------------------------------------------------------------------------


def test_shapes(model):
    frames = torch.rand(5, 3, 60, 216) * 2 - 1
    with torch.inference_mode():
        painted, forward, backward = model(frames, 3)
    assert painted.shape == frames.shape and painted.abs().max() <= 1
    assert forward.shape == backward.shape == (2, 2, 15, 54)


def test_some_wanted_frames_are_as_with_all(model):
    frames = torch.rand(5, 3, 60, 108) * 2 - 1
    with torch.inference_mode():
        painted, forward, backward = model(frames, 3)
        some = model.paint(model.encode(frames), forward, backward, 3, [2, 0])
    assert torch.allclose(some, painted[[2, 0]], atol=1e-5)


def test_references_are_looked_at_in_no_order(model):
    frames = torch.rand(5, 3, 60, 108) * 2 - 1
    with torch.inference_mode():
        one = model(frames, 3)[0]
        two = model(frames[[0, 1, 2, 4, 3]], 3)[0]
        other = model(torch.cat((frames[:3], -frames[3:])), 3)[0]
    assert torch.allclose(one[:3], two[:3], atol=1e-6)
    assert (one[:3] - other[:3]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "shape, local, words",
    [
        ((3, 3, 60, 109), 2, "multiples of 108x60 .*, not 109x60"),
        ((3, 3, 60, 108), 4, "1 to 3 local frames, not 4"),
        ((3, 3, 60, 108), 0, "1 to 3 local frames, not 0"),
    ],
    ids=["size", "too many", "none"],
)
def test_frames_that_cannot_be(model, shape, local, words):
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(shape), local)


def test_the_base_variant_has_a_bias_for_every_pixel():
    base = E2FGVIModel(tiny_config(variant="base"))
    assert base.sc.bias.shape == (16, 60, 108) and not hasattr(base.sc, "bias_conv")
    with pytest.raises(ValueError, match="must be 432x240 .*, not 108x60"):
        base(torch.zeros(2, 3, 60, 108), 1)


def test_every_parameter_learns():
    model = lively_model().train()
    painted, forward, backward = model(torch.rand(4, 3, 60, 108) * 2 - 1, 3)
    (painted.square().mean() + forward.abs().mean() + backward.abs().mean()).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_flow_of_the_same_picture_is_where_the_network_says(model):
    """SPyNet works at multiples of 32 and scales back: flow in pixels grows with the picture."""
    network = SPyNet((8, 8, 8, 8))
    for level in network.basic_module:
        for layer in level.basic_module:
            torch.nn.init.zeros_(layer.conv.weight)
            torch.nn.init.zeros_(layer.conv.bias)
    with torch.no_grad():
        network.basic_module[-1].basic_module[-1].conv.bias.copy_(torch.tensor([8.0, 4.0]))
        flow = network(*torch.rand(2, 1, 3, 24, 40))
    # 40 x 24 is seen as 64 x 32: 8 pixels there are 5, 4 are 3.
    assert torch.allclose(flow[0, :, 0, 0], torch.tensor([5.0, 3.0])) and flow.std((2, 3)).max() < 1e-5


def test_propagation_reaches_two_frames_and_beyond():
    torch.manual_seed(0)
    network = FeaturePropagation(8, 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, flows = torch.rand(4, 8, 6, 7), torch.rand(2, 3, 2, 6, 7)
    out = network(x, *flows)
    assert out.shape == x.shape
    changed = x.clone()
    changed[3] += 1
    assert (network(changed, *flows)[0] - out[0]).abs().max() > 1e-4  # backward in time
    changed = x.clone()
    changed[0] += 1
    assert (network(changed, *flows)[3] - out[3]).abs().max() > 1e-4  # forward
    assert network(x[:1], *flows[:, :0]).shape == (1, 8, 6, 7)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 12)], ids=lambda g: f"{g[0]}x{g[1]}")
def test_attention_as_the_paper_writes_it(grid):
    """Own window, four shifted windows without it, and 5 x 9 pooled windows around, those outside left out."""
    torch.manual_seed(0)
    window, t, dim, heads = (5, 9), 2, 8, 2
    attention = transformer.WindowAttention(dim, heads, window)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    rows, columns = grid[0] * 5, grid[1] * 9
    x, pooled = torch.randn(t, rows, columns, dim), torch.randn(t, *grid, dim)
    out = attention(x, pooled)
    assert torch.allclose(attention(x, pooled, torch.tensor([1])), out[1:], atol=1e-6)

    query, key, value = attention.qkv(x).chunk(3, -1)
    _, pooled_key, pooled_value = attention.qkv(pooled).chunk(3, -1)
    outside = token_windows.around(window, (2, 4))
    for row, column in {(0, 0), (grid[0] // 2, grid[1] // 2), (grid[0] - 1, 0)}:
        place = slice(5 * row, 5 * row + 5), slice(9 * column, 9 * column + 9)

        def seen(full, coarse, place=place, row=row, column=column):
            own = full[(slice(None), *place)].flatten(1, 2)
            shifted = [
                full.roll((y, x), (1, 2))[(slice(None), *place)].flatten(1, 2)
                for y, x in ((-2, -4), (-2, 4), (2, -4), (2, 4))
            ]
            near = coarse[:, max(0, row - 2) : row + 3, max(0, column - 4) : column + 5].flatten(1, 2)
            return torch.cat((own, torch.cat(shifted, 1)[:, outside], near), 1).flatten(0, 1)

        keys, values = seen(key, pooled_key), seen(value, pooled_value)
        queries = query[(slice(None), *place)].reshape(-1, dim)
        answer = []
        for h in range(heads):
            part = slice(4 * h, 4 * h + 4)
            share = torch.softmax(queries[:, part] @ keys[:, part].T / 2, -1)
            answer.append(share @ values[:, part])
        expected = attention.proj(torch.cat(answer, -1)).view(t, 5, 9, dim)
        assert torch.allclose(out[(slice(None), *place)], expected, atol=1e-5)


def test_windows_gathered_together_or_one_by_one(model, monkeypatch):
    frames = torch.rand(3, 3, 120, 216) * 2 - 1
    with torch.inference_mode():
        one = model(frames, 2)[0]
        monkeypatch.setattr(transformer, "_GATHERED_CPU", 2**30)
        two = model(frames, 2)[0]
    assert torch.allclose(one, two, atol=1e-5)


def test_flow_is_found_in_grey_pictures_a_quarter_as_large():
    frames = torch.zeros(1, 3, 60, 108)
    assert shrink(frames).shape == (1, 3, 15, 27) and torch.allclose(shrink(frames), torch.tensor(0.5))
    ramp = torch.linspace(-1, 1, 108).expand(1, 3, 60, 108)
    assert torch.allclose(shrink(ramp)[0, 0, 0, [0, -1]], torch.tensor([0.0, 1.0]))  # aligned corners


def test_half_precision_stays_near(model):
    """What the engine does on a GPU, on the CPU: everything but the flow network in half precision."""
    half = lively_model()
    for name, part in half.named_children():
        if name != "update_spynet":
            part.bfloat16()
    clip = ArrayClip(*random_clip(5, 40, 60))
    expected, painted = (np.stack(list(network.paint_video(clip))) for network in (model, half))
    error = np.abs(painted[clip.holes].astype(int) - expected[clip.holes])
    assert 0 < error.mean() < 4 and half.update_spynet.mean.dtype == torch.float32


# -- configurations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        ({"variant": "hd"}, "variant must be hq or base, not 'hd'"),
        ({"channels": 12}, "channels must be a multiple of 8.*not 12"),
        ({"channels": 0}, "channels must be a whole number of 1 or more, not 0"),
        ({"groups": 3}, "groups, which is even, not 16 with 3"),
        ({"hidden_size": 15}, "hidden_size must be a multiple of num_heads, not 15 with 2"),
        ({"intermediate_size": 100}, "intermediate_size must be a multiple of 49, not 100"),
        ({"window": (5, 1)}, "Every number of window must be a whole number of 2 or more, not 1"),
        ({"window": (5, 9, 2)}, "window must have 2 numbers"),
        ({"window": (6, 9), "variant": "base"}, r"window must divide 20 rows.*not \(6, 9\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_configurations_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        tiny_config(**options)


def test_sizes_that_the_network_takes():
    hq, base = E2FGVIConfig(), E2FGVIConfig(variant="base")
    assert hq.network_size(16, 16) == (60, 108) and hq.takes(120, 216) and not hq.takes(120, 200)
    assert base.network_size(720, 1280) == (240, 432) and base.takes(240, 432) and not base.takes(120, 216)


# -- files -----------------------------------------------------------------------------------------------


def same_weights(one, other):
    states = one.state_dict(), other.state_dict()
    assert set(states[0]) == set(states[1])
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture(scope="module", params=["hq", "base"])
def released(request, tmp_path_factory):
    """A file of the released format with random numbers: (variant, path, state)."""
    torch.manual_seed(0)
    manifest = table.manifest({"hq": "e2fgvi_hq", "base": "e2fgvi"}[request.param])
    constants = E2FGVIModel(tiny_config()).state_dict()
    state = {
        name: constants[name] if name.endswith(("rolled", "mean", "std")) else torch.randn(shape) * 0.02
        for name, shape in manifest.items()
        if not name.startswith("transformer.") or name.startswith("transformer.0.")
    }
    for name in manifest:  # the same numbers in every block, to save time
        if name not in state:
            state[name] = state["transformer.0." + name.split(".", 2)[2]].clone()
    path = tmp_path_factory.mktemp("released") / RELEASED[request.param]
    torch.save(state, path)
    return request.param, path, state


def test_a_released_file_and_our_own_folder(released, tmp_path):
    variant, path, state = released
    model = E2FGVIModel.from_pretrained(path)
    assert model.config == E2FGVIConfig(variant=variant) and not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert same_weights(model, E2FGVIModel.from_pretrained(path.parent))
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = E2FGVIModel.from_pretrained(tmp_path)
    assert again.config == model.config and same_weights(model, again)
    with pytest.raises(WeightsError, match=f"is of the {variant} variant of E2FGVI, not {other(variant)}"):
        E2FGVIModel.from_pretrained(tmp_path, variant=other(variant))
    with pytest.raises(WeightsError, match=f"There is no {RELEASED[other(variant)]} in"):
        E2FGVIModel.from_pretrained(path.parent, variant=other(variant))


def other(variant):
    return {"hq": "base", "base": "hq"}[variant]


KEY = "update_spynet.basic_module.0.basic_module.0.conv.bias"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop(KEY), f"it has no tensor '{KEY}'"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "it also has 'extra.weight'"),
        (lambda s: s.update({KEY: torch.zeros(3)}), rf"'{KEY}' has the shape \[3\], not \[8\]"),
        (lambda s: s.update({KEY: torch.zeros(8, dtype=torch.int64)}), f"'{KEY}' holds torch.int64"),
        (
            lambda s: s["transformer.1.attn.valid_ind_rolled"].add_(1),
            "'transformer.1.attn.valid_ind_rolled' is of",
        ),
        (lambda s: s.clear(), "it has no tensor"),
    ],
    ids=["missing", "extra", "misshapen", "integers", "other windows", "empty"],
)
def test_tensors_that_do_not_fit(folder, tmp_path, change, words):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(WeightsError, match=f"'.*model.safetensors' is not the published network: .*{words}"):
        E2FGVIModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "E2FGVI-HQ-CVPR22.pth"])
@pytest.mark.parametrize("keep", [0, 1, 1000, -100])
def test_a_file_that_is_cut_off(folder, tmp_path, name, keep):
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(load_file(folder / "model.safetensors"), path)
    else:
        path.write_bytes((folder / name).read_bytes())
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=f"'.*{name}' is (not a file of weights|damaged)"):
        E2FGVIModel.from_pretrained(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_that_wants_to_run_something(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    path = tmp_path / RELEASED["hq"]
    for write, words in (
        (
            lambda: torch.save({"x": Malicious()}, path),
            "asks for 'posix.mkdir', and weights are tensors only",
        ),
        (lambda: path.write_bytes(pickle.dumps(Malicious())), "is not a file of weights"),
    ):
        write()
        with pytest.raises(WeightsError, match=words):
            E2FGVIModel.from_pretrained(path)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}], ids=["list", "text"])
def test_something_else_in_the_file(tmp_path, content):
    torch.save(content, tmp_path / RELEASED["hq"])
    with pytest.raises(WeightsError, match="something else than a network's tensors"):
        E2FGVIModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is not JSON"),
        ("[]", "is not a configuration of E2FGVI, which says channels"),
        ('{"variant": "hq"}', "is not a configuration of E2FGVI"),
        ("small", "variant must be hq or base, not 'hd'"),
    ],
    ids=["broken", "a list", "incomplete", "unknown variant"],
)
def test_a_configuration_that_cannot_be_used(folder, tmp_path, text, words):
    if text == "small":
        text = json.dumps(json.loads((folder / "config.json").read_text()) | {"variant": "hd"})
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=f"config.json' .*{words}"):
        E2FGVIModel.from_pretrained(tmp_path)


def test_nothing_there(tmp_path, monkeypatch):
    with pytest.raises(
        WeightsError, match="There is no E2FGVI-HQ-CVPR22.pth or E2FGVI-CVPR22.pth in .*Google Drive"
    ):
        E2FGVIModel.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="variant of E2FGVI is hq or base, not 'hd'"):
        E2FGVIModel.from_pretrained(tmp_path, variant="hd")
    assert weights.missing(path=tmp_path).startswith("there is no E2FGVI-HQ")
    (tmp_path / RELEASED["base"]).touch()
    assert weights.missing(path=tmp_path) is None and weights.missing("hq", tmp_path) is not None
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert weights.missing(path=tmp_path) == "PyTorch is not installed"


def test_our_folder_counts_as_complete(folder, tmp_path):
    os.symlink(folder, tmp_path / "e2fgvi")
    assert table.missing("e2fgvi", tmp_path) == [] and table.problems("e2fgvi", tmp_path) == []


def test_saving_leaves_nothing_half(model, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise OSError("the disk is full")

    monkeypatch.setattr("safetensors.torch.save_model", broken)
    with pytest.raises(OSError, match="disk is full"):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fresh_weights_begin_where_the_flow_points():
    torch.manual_seed(0)
    model = E2FGVIModel(tiny_config())
    for align in model.feat_prop_module.deform_align.values():
        assert not align.conv_offset[-1].weight.any()
    x = torch.randn(1, 5, 9, 16)
    assert torch.allclose(model.transformer[0]._pool(x)[0, 0, 0], x.mean((0, 1, 2)), atol=1e-6)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert F.mse_loss(model.update_spynet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406])) == 0
    assert np.isclose(model.sc.bias_conv.weight.std().item(), 0.02, atol=0.01)


def test_a_repository_of_the_hub(model, tmp_path, monkeypatch):
    """As `push_to_hub` leaves it: the strict loading is the same as for a folder."""
    model.save_pretrained(tmp_path / "pushed")
    asked = []

    def fetched(repository, name, **options):
        asked.append((repository, name, options))
        return str(tmp_path / "pushed" / name)

    monkeypatch.setattr("videopainter.e2fgvi.model.hf_hub_download", fetched)
    assert same_weights(model, E2FGVIModel.from_pretrained("somebody/e2fgvi-cup", revision="abc"))
    assert asked == [
        ("somebody/e2fgvi-cup", name, {"revision": "abc"}) for name in ("model.safetensors", "config.json")
    ]
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        WeightsError, match="'nobody/nothing' is no file or folder, and cannot be had"
    ) as raised:
        E2FGVIModel.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(WeightsError, match="There is no E2FGVI-HQ"):
        E2FGVIModel.from_pretrained("ckpt/e2fgvi/nothing.pth")


def test_what_is_pushed_says_what_it_is(model, tmp_path):
    (tmp_path / "README.md").write_text("Mine.")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "Mine."
    model.save_pretrained(tmp_path / "new")
    assert "library_name: videopainter" in (tmp_path / "new" / "README.md").read_text()
