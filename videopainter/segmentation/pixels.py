"""Frames as networks take them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in 0..1


def normalised(
    frame: np.ndarray, size: tuple[int, int], mean: tuple = MEAN, deviation: tuple = DEVIATION
) -> torch.Tensor:
    """A frame, uint8 (height, width, 3) RGB, as float32 (3, *size), less `mean`, by `deviation`."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)[0]
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
