"""A small ProPainter with random weights."""

import pytest
import torch
from small_propainter import tiny_config

from videopainter.propainter.modeling import ProPainterModel


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> ProPainterModel:
    torch.manual_seed(1)
    return ProPainterModel(tiny_config())


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model, saved."""
    path = tmp_path_factory.mktemp("propainter")
    model.save_pretrained(path)
    return path
