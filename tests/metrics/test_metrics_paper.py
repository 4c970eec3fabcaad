"""The paper's measures: against scikit-image, the package's own formulas, and by hand."""

import numpy as np
import pytest
import torch
from tiny_measures import write_clip
from torch import nn

from videopainter.metrics import paper
from videopainter.metrics.lpips import FILES, LPIPS, NETWORKS, linear_weights, load_lpips
from videopainter.weights import WeightsError


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    masks = np.zeros((3, 48, 64), bool)
    masks[:, 10:30, 20:40] = True
    result = truth.copy()
    result[masks] = np.clip(result[masks].astype(int) + 40, 0, 255)
    return result, truth, masks


def test_ssim_is_scikit_images(clip):
    from skimage.metrics import structural_similarity

    result, truth, _ = clip
    for one, other in zip(result / 255, truth / 255):
        expected = structural_similarity(
            one,
            other,
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert paper.ssim(one, other) == pytest.approx(expected, abs=1e-6)


def test_figures_of_a_clip(clip):
    result, truth, masks = clip
    found = paper.measure(result, truth, masks)
    error = ((result / 255 - truth / 255) ** 2).mean((1, 2, 3))
    assert found["mse"] == pytest.approx(error.mean()) and found["psnr"] == pytest.approx(
        (-10 * np.log10(error)).mean()
    )
    assert found["mae"] == pytest.approx(np.abs(result / 255 - truth / 255).mean())
    assert (found["psnr_known"], found["mse_known"], found["ssim_known"]) == (60, 0, pytest.approx(1))
    assert found["lpips"] is None and found["clip"] is None
    with pytest.raises(ValueError, match="they must agree"):
        paper.measure(result[:2], truth, masks)


def test_tables(clip):
    figures = {"a": paper.measure(*clip), "b_c": {**paper.measure(*clip), "mse_known": 0.5}}
    means = paper.mean(list(figures.values()))
    assert means["mse_known"] == 0.25 and means["lpips"] is None
    lines = paper.as_csv(figures, means).splitlines()
    assert lines[0].startswith("video,psnr,ssim") and [line.split(",")[0] for line in lines[1:]] == [
        "a",
        "b_c",
        "mean",
    ]
    text = paper.as_markdown({"ours": {**means, "vfid": 0.1234}})
    assert text.splitlines()[0] == "| method | PSNR | SSIM | MSE x 100 | MAE x 100 | VFID |"
    assert text.splitlines()[2] == "| ours | 60.00 | 1.00 | 25.00 | 0.00 | 0.12 |"
    assert r"a\_b & 60.00" in paper.as_latex({"a_b": means}) and r"\times 100" in paper.as_latex(
        {"a_b": means}
    )


# --- LPIPS ----------------------------------------------------------------------------------------------------


class Published(nn.Module):
    """The package's formulas over a plain sequence of layers, cut where it cuts torchvision's."""

    CUTS = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30), "squeeze": (2, 5, 8, 10, 11, 12, 13)}

    def __init__(self, net, ours):
        super().__init__()
        self.layers, self.cuts, self.lins = list(ours.features), self.CUTS[net], list(ours.linear)

    def forward(self, a, b, spatial=False):
        shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
        scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
        outs = []
        for x in (a, b):
            x, seen, start = (x - shift) / scale, [], 0
            for stop in self.cuts:
                for layer in self.layers[start:stop]:
                    x = layer(x)
                seen.append(x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10))
                start = stop
            outs.append(seen)
        value = 0
        for one, other, lin in zip(*outs, self.lins):
            part = lin((one - other) ** 2)
            up = nn.Upsample(size=a.shape[2:], mode="bilinear", align_corners=False)
            value = value + (up(part) if spatial else part.mean([2, 3], keepdim=True))
        return value


def random_weights(net):
    torch.manual_seed(0)
    model = LPIPS(net)
    for parameter in model.parameters():
        parameter.copy_(
            torch.randn(parameter.shape) * (0.5 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0
        )
    for layer in model.linear:
        layer.weight.abs_()
    return model


@pytest.mark.parametrize("net", NETWORKS)
def test_lpips_is_the_packages(net):
    model = random_weights(net)
    a, b = torch.rand(2, 1, 3, 64, 80) * 2 - 1
    theirs = Published(net, model)
    with torch.no_grad():
        torch.testing.assert_close(model(a, b), theirs(a, b).flatten())
        torch.testing.assert_close(model(a, b, spatial=True), theirs(a, b, spatial=True)[:, 0])
        assert model(a, a).item() == 0 and model(a, b).item() > 0


@pytest.mark.parametrize("net, count", [("alex", 2_469_696), ("vgg", 14_714_688), ("squeeze", 722_496)])
def test_the_networks_are_torchvisions(net, count):
    """Their convolutions' numbers of values, and names."""
    state = LPIPS(net).features.state_dict()
    assert sum(one.numel() for one in state.values()) == count
    assert {"alex": "10.weight", "vgg": "28.weight", "squeeze": "12.expand3x3.weight"}[net] in state


def test_lpips_from_files(tmp_path, clip, monkeypatch):
    monkeypatch.setattr("videopainter.metrics.lpips.find_spec", lambda name: None)
    model = random_weights("alex")
    trunk = {f"features.{name}": one for name, one in model.features.state_dict().items()}
    with pytest.raises(WeightsError, match="torchvision's weights that LPIPS uses"):
        load_lpips("alex", tmp_path)
    torch.save({**trunk, "classifier.6.bias": torch.zeros(1000)}, tmp_path / FILES["alex"])
    with pytest.raises(WeightsError, match="LPIPS's linear weights; the package lpips ships them"):
        load_lpips("alex", tmp_path)
    linear = {f"lin{i}.model.1.weight": layer.weight for i, layer in enumerate(model.linear)}
    torch.save(linear, tmp_path / "lpips_alex.pth")
    loaded = load_lpips("alex", tmp_path)
    result, truth, masks = clip
    assert np.array_equal(loaded.frames(result, truth), model.frames(result, truth))
    found = paper.measure(result, truth, masks, lpips=loaded)
    assert found["lpips"] == pytest.approx(float(model.frames(result, truth).mean()), rel=1e-5)
    assert found["lpips_known"] == 0 and found["lpips_hole"] > found["lpips"]
    torch.save({**trunk, "features.0.bias": torch.zeros(3)}, tmp_path / FILES["alex"])
    with pytest.raises(WeightsError, match="'features.0.bias' does not fit"):
        load_lpips("alex", tmp_path)


def test_linear_weights_of_the_installed_package(tmp_path, monkeypatch):
    """They are found without importing it, which would need torchvision."""
    from types import SimpleNamespace

    shipped = tmp_path / "lpips/weights/v0.1/vgg.pth"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "lpips")])
    monkeypatch.setattr("videopainter.metrics.lpips.find_spec", lambda name: found)
    assert linear_weights("vgg", tmp_path) == shipped


# --- CLIP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_clip(clip_folder, clip):
    from videopainter.metrics.clip import ClipMeasures

    measures = ClipMeasures(clip_folder)
    result, truth, masks = clip
    features = measures.pictures(result)
    assert features.shape == (3, 12) and torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
    assert not torch.allclose(features, measures.pictures(result, masks))
    expected = (100 * features @ measures.text("a wall").T).clamp(min=0).mean()
    assert measures.similarity(result, "a wall") == pytest.approx(float(expected), abs=1e-4)
    measures.similarity(result, "a " * 50)  # longer than CLIP reads
    still = np.repeat(result[:1], 3, 0)
    assert (
        measures.consistency(still) == pytest.approx(1, abs=1e-5) and measures.consistency(result[:1]) is None
    )
    assert measures.consistency(result) < 1
    found = paper.measure(result, truth, masks, "a wall", clip=measures)
    assert found["clip"] == pytest.approx(float(expected), abs=1e-4) and found["consistency_hole"] <= 1 + 1e-5
    edited = paper.measure(result, truth, masks, "a wall", clip=measures, thing="a dog")
    assert edited["clip_thing"] == pytest.approx(measures.similarity(list(result), "a dog", list(masks)))
    assert found["clip_thing"] is None and edited["clip_hole"] == found["clip_hole"]
    with pytest.raises(WeightsError, match="CLIP cannot be loaded from"):
        ClipMeasures(clip_folder / "gone")
