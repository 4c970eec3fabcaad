"""A small E2FGVI with random weights."""

import pytest
import torch
from small_e2fgvi import lively_model

from videopainter.e2fgvi.model import E2FGVIModel


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def model() -> E2FGVIModel:
    return lively_model()


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model, saved."""
    path = tmp_path_factory.mktemp("e2fgvi")
    model.save_pretrained(path)
    return path
