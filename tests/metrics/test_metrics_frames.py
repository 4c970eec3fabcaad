"""PSNR, SSIM and E_warp of single frames against scikit-image, formulas and values worked out by hand."""

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from videopainter.metrics.frames import WarpingError, frame_psnr, frame_ssim, occluded

H, W = 80, 96


def texture(seed=0, width=W, height=H):
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 45 * smooth / smooth.std(), 20, 230).astype(np.uint8)


def hole(rows=slice(20, 40), columns=slice(20, 50)):
    mask = np.zeros((H, W), bool)
    mask[rows, columns] = True
    return mask


NOTHING = np.zeros((H, W), bool)


def test_psnr_over_the_frame_and_in_the_hole():
    truth, mask = texture(), hole()
    result = truth.copy()
    result[mask] -= 10  # 600 of 7680 pixels
    frame, inside = frame_psnr(result, truth, mask)
    assert frame == pytest.approx(peak_signal_noise_ratio(truth, result, data_range=255))
    assert frame == pytest.approx(10 * np.log10(255**2 / (100 * 600 / 7680)))
    assert inside == pytest.approx(10 * np.log10(255**2 / 100))


def test_psnr_ends_at_60_and_needs_a_hole():
    truth = texture()
    assert frame_psnr(truth, truth, hole()) == (60, 60)
    assert frame_psnr(truth, truth, NOTHING) == (60, None)
    black = np.zeros_like(truth)
    assert frame_psnr(black + 255, black, hole()) == pytest.approx((0, 0))


def test_ssim_is_the_flat_window_of_the_published_evaluations():
    """Wang et al. 2004, equation 13, over the one position of a window that the frame is as large as."""
    one, other = texture(0, 65, 65), texture(1, 65, 65)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = []
    for channel in range(3):
        x, y = one[..., channel].astype(float).ravel(), other[..., channel].astype(float).ravel()
        (vx, c), (_, vy) = np.cov(x, y)
        mx, my = x.mean(), y.mean()
        expected.append((2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    mask = np.zeros((65, 65), bool)
    mask[32, 32] = True
    frame, inside = frame_ssim(one, other, mask)
    assert frame == pytest.approx(np.mean(expected), abs=1e-9)
    assert inside == pytest.approx(np.mean(expected), abs=1e-9)  # at the middle the window is the frame


def test_ssim_looks_where_it_is_told():
    truth = texture()
    result = truth.copy()
    result[hole()] = 128
    frame, inside = frame_ssim(result, truth, hole(), window=7)
    _, far = frame_ssim(result, truth, hole(slice(60, 75)), window=7)
    assert inside < 0.4 and far == pytest.approx(1)
    assert inside < frame < 1
    assert frame_ssim(truth, truth, NOTHING) == (pytest.approx(1), None)


@pytest.mark.parametrize("window", [0, 1, 8])
def test_ssim_refuses_windows(window):
    with pytest.raises(ValueError, match=f"odd number of pixels from 3 on, not {window}"):
        frame_ssim(texture(), texture(), hole(), window)


def test_ssim_refuses_small_frames():
    with pytest.raises(ValueError, match="65 x 65 pixels, more than frames of 96 x 40 have"):
        frame_ssim(texture()[:40], texture()[:40], hole()[:40])


def warping_errors(results, truths, masks):
    warping = WarpingError()
    assert warping(results[0], truths[0], masks[0]) is None
    return [warping(*frames) for frames in zip(results[1:], truths[1:], masks[1:])]


def test_warping_error_of_flicker_by_hand():
    truth = texture()
    brighter = truth + 10
    errors = warping_errors([truth, brighter, truth], [truth] * 3, [hole()] * 3)
    assert errors == [pytest.approx(((10 / 255) ** 2,) * 2)] * 2
    inside = truth.copy()
    inside[hole()] += 10
    ((frame, in_hole),) = warping_errors([truth, inside], [truth] * 2, [hole()] * 2)
    assert in_hole == pytest.approx((10 / 255) ** 2)
    assert frame == pytest.approx((10 / 255) ** 2 * 600 / 7680)


def test_warping_error_follows_the_motion_of_the_truth():
    wide = texture(width=W + 20)
    truths = [wide[:, 2 * i : 2 * i + W] for i in range(4)]
    steady = np.mean(warping_errors(truths, truths, [hole()] * 4), axis=0)
    frozen = np.mean(warping_errors([truths[0]] * 4, truths, [hole()] * 4), axis=0)
    assert (steady < 5e-4).all()
    assert (frozen > 10 * steady).all()


def test_warping_error_in_the_hole_counts_either_frame_s_hole():
    truth = texture()
    result = truth.copy()
    result[hole()] += 10
    for masks in ([hole(), NOTHING], [NOTHING, hole()]):
        ((_, inside),) = warping_errors([truth, result], [truth] * 2, masks)
        assert inside == pytest.approx((10 / 255) ** 2)
    ((frame, inside),) = warping_errors([truth, result], [truth] * 2, [NOTHING] * 2)
    assert inside is None and frame > 0


def test_what_is_occluded():
    still = np.zeros((H, W, 2), np.float32)
    assert not occluded(still, still).any()
    right = still + np.float32([4, 0])
    leaving = np.zeros((H, W), bool)
    leaving[:, -4:] = True
    assert (occluded(right, -right) == leaving).all()
    assert occluded(right, still).all()  # does not come back
    slight = right + np.float32([0.7, 0])
    assert (occluded(right, -slight) == leaving).all()  # 0.49 is below 0.01 (16 + 22.1) + 0.5
    assert occluded(right, -right - np.float32([1.2, 0])).all()  # 1.44 is not
    step = still.copy()
    step[:, 48:] = (1, 0)  # one layer slides over another: gradient 1 against 0.01 + 0.002
    edge = occluded(step, -step)
    assert edge[:, 47].all() and not edge[:, :47].any()
