"""A small configuration for all tests of E2FGVI, and a model with it."""

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
