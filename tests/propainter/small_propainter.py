"""A small configuration and small clips for all tests of ProPainter."""

import numpy as np
import torch

from videopainter.propainter.configuration import ProPainterConfig

TINY = {
    "num_channels": 16,
    "deform_groups": 2,
    "channels": (8, 8, 16),
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 98,
    "num_attention_heads": 2,
    "raft_iter": 1,
    # Large enough that flow moves by pixels and every network has something to say.
    "initializer_range": 0.06,
}


def tiny_config(**options) -> ProPainterConfig:
    return ProPainterConfig(**{**TINY, **options})


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


def as_inputs(frames, masks) -> dict[str, torch.Tensor]:
    """What the processor makes of it without dilation."""
    values = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)[None] / 255
    holes = torch.from_numpy(np.ascontiguousarray(masks)).float()[None, :, None]
    return {"pixel_values_videos": values, "flow_masks": holes, "masks_dilated": holes}
