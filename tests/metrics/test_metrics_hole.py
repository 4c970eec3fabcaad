"""PSNR, SSIM and E_warp against values worked out by hand."""

import cv2
import numpy as np
import pytest

from videopainter.metrics import e_warp, psnr, ssim

H, W = 64, 80
pytestmark = pytest.mark.filterwarnings("error")


def holes(n=2, rows=slice(20, 40), columns=slice(20, 50)):
    masks = np.zeros((n, H, W), bool)
    masks[:, rows, columns] = True
    return masks


def texture(width=W, seed=0):
    noise = np.random.default_rng(seed).normal(size=(H, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def test_psnr_pooled_and_by_frame():
    truth = np.full((2, H, W, 3), 100, np.uint8)
    result = truth.copy()
    result[0] += 10
    result[1] -= 20  # both signs: nothing may wrap around
    masks = holes()
    masks[1, 20:40, 30:50] = False  # 600 and 200 pixels
    pooled, by_frame = psnr(result, truth, masks)
    assert pooled == pytest.approx(10 * np.log10(255**2 / ((600 * 100 + 200 * 400) / 800)))
    assert by_frame == pytest.approx(np.mean([10 * np.log10(255**2 / e) for e in (100, 400)]))


def test_psnr_of_the_full_range():
    truth = np.zeros((1, H, W, 3), np.uint8)
    assert psnr(truth + 255, truth, holes(1)) == pytest.approx((0, 0))
    assert psnr(truth, truth + 255, holes(1)) == pytest.approx((0, 0))


def test_psnr_looks_into_the_hole_only_and_ends_at_60():
    truth = np.full((2, H, W, 3), 100, np.uint8)
    result, masks = truth.copy(), holes()
    result[~masks] = 0
    assert psnr(result, truth, masks) == (60, 60)
    masks[1] = False  # a frame without a hole has no say
    result[1] = 0
    result[0][masks[0]] = 110
    assert psnr(result, truth, masks)[1] == pytest.approx(10 * np.log10(255**2 / 100))


def test_ssim_by_hand():
    masks = holes()
    truth = np.stack([texture()] * 2)
    assert ssim(truth, truth, masks) == pytest.approx(1, abs=1e-4)
    one, other = (np.full((2, H, W, 3), v, np.uint8) for v in (100, 140))
    c1 = (0.01 * 255) ** 2
    assert ssim(one, other, masks) == pytest.approx((2 * 100 * 140 + c1) / (100**2 + 140**2 + c1), abs=1e-4)
    # Half the contrast around the same mean: 2 s (s / 2) / (s^2 + s^2 / 4) = 0.8, but for the constants.
    wave = 128 + 100 * np.sign(np.sin(np.arange(W) * 3.0))
    strong = np.broadcast_to(wave[None, None, :, None], (2, H, W, 3))
    weak = 128 + (strong - 128) / 2
    assert ssim(weak.astype(np.uint8), strong.astype(np.uint8), masks) == pytest.approx(0.8, abs=0.02)


def test_ssim_looks_into_the_hole_and_weighs_frames_by_their_holes():
    truth = np.stack([texture()] * 2)
    result, masks = truth.copy(), holes()
    result[:, :, 62:] = 0  # farther off than the window reaches
    assert ssim(result, truth, masks) == pytest.approx(1, abs=1e-4)
    masks[1, :, 35:] = False
    result[1] = texture(seed=1)
    own = ssim(result[1:], truth[1:], masks[1:])
    assert own < 0.5
    assert ssim(result, truth, masks) == pytest.approx((600 + 300 * own) / 900, abs=1e-3)


def test_e_warp_of_flicker_by_hand():
    truth = np.stack([np.clip(texture(), 20, 230)] * 5)
    result = truth.copy()
    assert e_warp(result, truth, holes(5)) == pytest.approx(0, abs=1e-6)
    result[1::2] += 10
    assert e_warp(result, truth, holes(5)) == pytest.approx((10 / 255) ** 2, rel=1e-3)
    result = truth.copy()
    result[~holes(5)] = 0
    inner = holes(5, slice(24, 36), slice(24, 46))
    assert e_warp(result, truth, inner) == pytest.approx(0, abs=1e-6)


def test_e_warp_follows_the_motion_of_the_truth():
    wide = texture(W + 20)
    truth = np.stack([wide[:, 2 * i : 2 * i + W] for i in range(5)])
    frozen = np.stack([truth[0]] * 5)
    masks = holes(5)
    assert e_warp(truth, truth, masks) < 5e-4
    assert e_warp(frozen, truth, masks) > 10 * e_warp(truth, truth, masks)


@pytest.mark.parametrize("measure", [psnr, ssim, e_warp])
def test_shapes_that_do_not_fit_are_refused(measure):
    frames = np.stack([texture()] * 3)
    with pytest.raises(ValueError, match="(?s)2.*3"):
        measure(frames[:2], frames, holes(3))
    with pytest.raises(ValueError, match="(?s)3.*2"):
        measure(frames, frames, holes(2))
    with pytest.raises(ValueError):
        measure(frames[:, :, :-2], frames, holes(3))


@pytest.mark.parametrize("measure", [psnr, ssim, e_warp])
def test_without_a_hole_there_is_nothing_to_measure(measure):
    frames = np.stack([texture()] * 2)
    with pytest.raises(ValueError, match="hole"):
        measure(frames, frames, np.zeros((2, H, W), bool))
