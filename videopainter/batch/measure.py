"""How close a written result is to the truth, inside the holes and outside them, a few frames at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videopainter.masks import MaskTrack
from videopainter.metrics import ssim

CHUNK = 16  # frames in memory at once
PERFECT = 60.0  # dB that a result without error counts for, as in `videopainter.metrics`


def compare(result, truth, holes: MaskTrack, perceptual=None) -> dict[str, float | None]:
    """`psnr_hole`, `ssim_hole`, `psnr_outside`, `ssim_outside` and, with `perceptual`, `lpips_hole`.

    Args:
        result, truth: `VideoSource`s of as many frames as `holes`; `result` may have one row or column more,
            which codecs add.
        perceptual: `load_lpips()`.

    Pooled over all pixels of all frames; None where there is no such pixel.
    """
    if not len(result) == len(truth) == len(holes):
        raise ValueError(
            f"The result has {len(result)} frames, the truth {len(truth)}, the masks {len(holes)}; they must agree."
        )
    if tuple(truth.size) != holes.size:
        raise ValueError(f"The truth is {_by(truth.size)} (width x height), the video {_by(holes.size)}.")
    height, width = holes.size
    sums = {"hole": _Sums(), "outside": _Sums()}
    distance = _Mean()
    for i in range(0, len(holes), CHUNK):
        got, want, hole = (
            result[i : i + CHUNK][:, :height, :width],
            truth[i : i + CHUNK],
            holes[i : i + CHUNK],
        )
        sums["hole"].add(got, want, hole)
        sums["outside"].add(got, want, ~hole)
        if perceptual is not None:
            for a, b, where in zip(got, want, hole):
                distance.add(float(perceptual(a, b)[where].sum()), int(where.sum()))
    found = {f"{name}_{place}": value for place, s in sums.items() for name, value in s.result().items()}
    if perceptual is not None:
        found["lpips_hole"] = distance.result()
    return found


class _Mean:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, total: float, count: int) -> None:
        self.total, self.count = self.total + total, self.count + count

    def result(self) -> float | None:
        return self.total / self.count if self.count else None


class _Sums:
    """PSNR and SSIM over the chosen pixels of any number of frames."""

    def __init__(self):
        self.squares, self.likeness = _Mean(), _Mean()

    def add(self, got: np.ndarray, want: np.ndarray, where: np.ndarray) -> None:
        count = int(where.sum())
        if count == 0:
            return
        for a, b, chosen in zip(got, want, where):
            error = a[chosen].astype(np.float64) - b[chosen]
            self.squares.add(float((error**2).sum()), error.size)
        self.likeness.add(ssim(got, want, where) * count, count)

    def result(self) -> dict[str, float | None]:
        error = self.squares.result()
        if error is None:
            return {"psnr": None, "ssim": None}
        psnr = PERFECT if error == 0 else min(PERFECT, 10 * float(np.log10(255.0**2 / error)))
        return {"psnr": psnr, "ssim": self.likeness.result()}


def load_lpips():
    """LPIPS (Zhang et al. 2018) as a map: (uint8 (h, w, 3), the same) -> float (h, w); None if it is not there.

    Of the package `lpips` with AlexNet. Both must be on this machine: nothing is downloaded for it.
    """
    try:
        import lpips
        import torch
    except ImportError:
        return None
    if not any(Path(torch.hub.get_dir(), "checkpoints").glob("alexnet-*.pth")):
        return None
    network = lpips.LPIPS(net="alex", spatial=True, verbose=False).eval()

    @torch.no_grad()
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        first, second = (
            torch.from_numpy(x.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None] for x in (a, b)
        )
        return network(first, second)[0, 0].numpy()

    return distance


def _by(size) -> str:
    return f"{size[1]} x {size[0]}"
