"""The figures of the summary, against the ones of `videopainter.metrics` on everything at once."""

import sys
import types

import numpy as np
import pytest

from videopainter.batch import measure
from videopainter.masks import MaskTrack
from videopainter.metrics import psnr, ssim
from videopainter.video import ArraySource

N, H, W = 37, 20, 30  # three chunks, the last one not full


@pytest.fixture
def three(rng=None):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (N, H, W, 3), np.uint8)
    result = np.clip(truth.astype(int) + rng.integers(-20, 21, truth.shape), 0, 255).astype(np.uint8)
    masks = np.zeros((N, H, W), bool)
    masks[3:30, 4:12, 5:20] = True  # none in some frames, and in the whole last chunk
    return result, truth, masks


def test_in_the_hole_and_outside(three):
    result, truth, masks = three
    wider = np.concatenate([result, result[:, :, -1:]], axis=2)  # as codecs widen odd sizes
    found = measure.compare(ArraySource(wider), ArraySource(truth), MaskTrack.from_array(masks))
    assert found["psnr_hole"] == pytest.approx(psnr(result, truth, masks)[0], abs=1e-9)
    assert found["psnr_outside"] == pytest.approx(psnr(result, truth, ~masks)[0], abs=1e-9)
    assert found["ssim_hole"] == pytest.approx(ssim(result, truth, masks), abs=1e-9)
    assert found["ssim_outside"] == pytest.approx(ssim(result, truth, ~masks), abs=1e-9)


def test_perfect_and_nothing_outside(three):
    _, truth, _ = three
    everywhere = MaskTrack.from_array(np.ones((N, H, W), bool))
    found = measure.compare(ArraySource(truth), ArraySource(truth), everywhere)
    assert found["psnr_hole"] == measure.PERFECT and found["ssim_hole"] == pytest.approx(1)
    assert found["psnr_outside"] is None and found["ssim_outside"] is None


def test_lengths_and_sizes_must_agree(three):
    result, truth, masks = three
    track = MaskTrack.from_array(masks)
    with pytest.raises(ValueError, match="37 frames, the truth 36, the masks 37"):
        measure.compare(ArraySource(result), ArraySource(truth[1:]), track)
    with pytest.raises(ValueError, match=r"The truth is 29 x 20 \(width x height\), the video 30 x 20"):
        measure.compare(ArraySource(result), ArraySource(truth[:, :, 1:]), track)


def test_lpips_where_it_is_there(three, monkeypatch, tmp_path):
    torch = pytest.importorskip("torch")
    result, truth, masks = three

    class LPIPS(torch.nn.Module):
        def __init__(self, net, spatial, verbose):
            super().__init__()
            assert net == "alex" and spatial

        def forward(self, a, b):
            assert a.shape == (1, 3, H, W) and -1 <= float(a.min()) < 0 < float(a.max()) <= 1
            return (a - b).abs().mean(1, keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=LPIPS))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert measure.load_lpips() is None  # it would have to be downloaded
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/alexnet-owt-7be5be79.pth").touch()
    found = measure.compare(
        ArraySource(result), ArraySource(truth), MaskTrack.from_array(masks), measure.load_lpips()
    )
    expected = np.abs(result[masks].astype(float) - truth[masks]).mean() / 127.5
    assert found["lpips_hole"] == pytest.approx(expected, rel=1e-5)


def test_lpips_where_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert measure.load_lpips() is None
