"""PSNR, SSIM and the warping error of one frame after another, each over the frame and in the hole.

As the evaluations of FuseFormer, E2FGVI and ProPainter call them; what they leave open (the hole) is said below.
Frames are uint8 (height, width, 3) RGB, masks bool (height, width) with True = hole. A figure that has no pixel to
stand on is None.
"""

from __future__ import annotations

import cv2
import numpy as np

PERFECT = 60.0  # dB; a frame without error counts for that, where the published code would have infinity
SSIM_WINDOW = 65  # pixels; the published evaluations' choice, against the usual 7 or 11

Pair = tuple[float | None, float | None]  # over the frame, in the hole


def frame_psnr(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Pair:
    """PSNR in dB of colours in 0 ... 255, at most 60."""
    squares = (result.astype(np.float64) - truth) ** 2
    return _decibels(squares.mean()), _decibels(squares[mask].mean()) if mask.any() else None


def frame_ssim(result: np.ndarray, truth: np.ndarray, mask: np.ndarray, window: int = SSIM_WINDOW) -> Pair:
    """SSIM (Wang et al. 2004) with a flat square window, sample covariances, mean of the three channels.

    Over the frame: mean over the positions where the window lies inside the frame. In the hole: mean over the hole's
    pixels, for which the frame is continued by reflection. Raises ValueError if the window is not an odd number from
    3 on, or the frame is smaller than it.
    """
    from skimage.metrics import structural_similarity

    if window < 3 or window % 2 == 0:
        raise ValueError(f"The window of SSIM is an odd number of pixels from 3 on, not {window}.")
    if min(mask.shape) < window:
        raise ValueError(
            f"The window of SSIM is {window} x {window} pixels, more than frames of {mask.shape[1]} x "
            f"{mask.shape[0]} have."
        )
    mean, values = structural_similarity(
        result.astype(np.float64),
        truth.astype(np.float64),
        win_size=window,
        data_range=255,
        channel_axis=2,
        full=True,
    )
    return float(mean), float(values[mask].mean()) if mask.any() else None


class WarpingError:
    """E_warp between each frame and the next (Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018).

    The next result is pulled back along the optical flow of the *true* frames and compared with this one: mean
    squared difference of colours in [0, 1] over pixels that are not occluded. The flow is OpenCV's DIS (Kroeger et
    al. 2016, preset medium), which needs no weights; the published figures were made with FlowNet2. Only figures of one
    flow can be compared.

    Occluded is, as published: |w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5, where w' is the flow back at the far end of w
    (Sundaram et al. 2010), and motion boundaries, |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002; and besides, what
    leaves the frame. In the hole: of these, pixels in this frame's hole or pulled from the next one's (Szeto and
    Corso, "The DEVIL Is in the Details", CVPR 2022).
    """

    def __init__(self):
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._before: tuple | None = None

    def __call__(self, result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Pair | None:
        """The error between the last frame given and this one; None for the first. For E_warp x 1e-3 divide by 1e-3."""
        grey = cv2.cvtColor(truth, cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, (result, grey, mask)
        if before is None:
            return None
        last, last_grey, last_mask = before
        forth, back = self._dis.calc(last_grey, grey, None), self._dis.calc(grey, last_grey, None)
        there = _targets(forth)
        seen = ~occluded(forth, back)
        pulled = cv2.remap(
            result.astype(np.float32), *there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        squares = (((pulled - last) / 255) ** 2).mean(axis=2, dtype=np.float64)
        touched = last_mask | (cv2.remap(mask.astype(np.float32), *there, cv2.INTER_LINEAR) > 0)
        return _mean(squares, seen), _mean(squares, seen & touched)


def occluded(forth: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Bool (height, width): where `forth` leads to what the other frame does not show; see `WarpingError`.

    Args:
        forth, back: flows in pixels, float32 (height, width, 2), from this frame to another one and from there to here.
    """
    x, y = _targets(forth)
    height, width = x.shape
    there = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    length = _squares(forth)
    unlike = _squares(forth + there) > 0.01 * (length + _squares(there)) + 0.5
    down, right = np.zeros_like(forth), np.zeros_like(forth)
    down[:-1], right[:, :-1] = forth[1:] - forth[:-1], forth[:, 1:] - forth[:, :-1]
    boundary = _squares(down) + _squares(right) > 0.01 * length + 0.002
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    return unlike | boundary | outside


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x + flow[..., 0], y + flow[..., 1]


def _squares(flow: np.ndarray) -> np.ndarray:
    return (flow**2).sum(axis=2)


def _mean(values: np.ndarray, where: np.ndarray) -> float | None:
    return float(values[where].mean()) if where.any() else None


def _decibels(error: float) -> float:
    return PERFECT if error == 0 else min(PERFECT, 10 * float(np.log10(255.0**2 / error)))
