"""A small configuration and small clips for all tests of E2FGVI."""

import numpy as np
import torch

from videopainter.e2fgvi.configuration import E2FGVIConfig
from videopainter.e2fgvi.model import E2FGVIModel

TINY = {
    "channels": 16,
    "groups": 2,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 98,
    "flow_widths": (8, 8, 8, 8),
}


def tiny_config(**options) -> E2FGVIConfig:
    return E2FGVIConfig(**{**TINY, **options})


def lively_model(**options) -> E2FGVIModel:
    """Random weights so large that flow moves by pixels and every part has something to say, but not so large that
    differences in rounding grow until they show."""
    torch.manual_seed(1)
    model = E2FGVIModel(tiny_config(**options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for level in model.update_spynet.basic_module:
        torch.nn.init.normal_(level.basic_module[-1].conv.weight, std=0.01)
    return model


def random_clip(count: int, height: int, width: int, seed: int = 0):
    """uint8 frames (n, h, w, 3) that slide by two pixels, and bool masks (n, h, w) of a box that wanders."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + count, width // 4 + count, 3), np.uint8)
    texture = coarse.repeat(4, 0).repeat(4, 1)
    frames = np.stack([texture[2 * i : 2 * i + height, i : i + width] for i in range(count)])
    masks = np.zeros((count, height, width), bool)
    for i, mask in enumerate(masks):
        top, left = (height // 4 + i) % (height // 2 + 1), (width // 4 + 2 * i) % (width // 2 + 1)
        mask[top : top + height // 3, left : left + width // 3] = True
    return frames, masks


class ArrayClip:
    """Frames and masks in memory; `asked` counts how often each frame was read."""

    def __init__(self, frames, holes):
        self.frames, self.holes, self.asked = frames, holes, {}

    def __len__(self):
        return len(self.frames)

    def frame(self, i):
        self.asked[i] = self.asked.get(i, 0) + 1
        return self.frames[i]

    def hole(self, i):
        return self.holes[i]
