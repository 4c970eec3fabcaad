"""A small configuration for all tests of ProPainter, and a model with it."""

import numpy as np
import torch

from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.modeling import ProPainterModel

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


def small_model() -> ProPainterModel:
    """Random weights, the same every time."""
    torch.manual_seed(1)
    return ProPainterModel(tiny_config())


def as_inputs(frames, masks) -> dict[str, torch.Tensor]:
    """What the processor makes of it without dilation."""
    values = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)[None] / 255
    holes = torch.from_numpy(np.ascontiguousarray(masks)).float()[None, :, None]
    return {"pixel_values_videos": values, "flow_masks": holes, "masks_dilated": holes}
