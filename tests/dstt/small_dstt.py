"""Small networks and films that several tests use."""

import cv2
import numpy as np
import torch

from videopainter.dstt.model import DSTT


def lively(model: DSTT, seed: int = 0) -> DSTT:
    """All weights random: no path is closed by a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim < 2 else max(1, parameter[:1].numel()) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def film(frames: int, size=(40, 64), shift=(0.0, 0.0), seed: int = 0) -> np.ndarray:
    """uint8 ``(frames, *size, 3)``: a smooth random picture that moves by ``shift`` (x, y) pixels a frame."""
    rng = np.random.default_rng(seed)
    h, w = size
    wide = rng.integers(0, 256, (3 * h // 8, 3 * w // 8, 3), np.uint8)
    wide = cv2.resize(wide, (3 * w, 3 * h), interpolation=cv2.INTER_CUBIC)
    out = []
    for t in range(frames):
        move = np.float32([[1, 0, shift[0] * t - w], [0, 1, shift[1] * t - h]])
        out.append(cv2.warpAffine(wide, move, (w, h), flags=cv2.INTER_CUBIC))
    return np.stack(out)


def box(size=(40, 64), top=12, left=20, height=14, width=16) -> np.ndarray:
    """bool ``size``: a rectangular hole."""
    out = np.zeros(size, bool)
    out[top : top + height, left : left + width] = True
    return out


def write_photos(folder) -> None:
    """A folder of three smooth random pictures."""
    folder.mkdir()
    for s in range(3):
        cv2.imwrite(str(folder / f"{s}.png"), film(1, (90, 120), seed=s)[0])
