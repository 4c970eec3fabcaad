"""A small ProPainter with random weights."""

import pytest
from small_propainter import small_model

from videopainter.propainter.modeling import ProPainterModel


@pytest.fixture(scope="session")
def model() -> ProPainterModel:
    return small_model()


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model, saved."""
    path = tmp_path_factory.mktemp("propainter")
    model.save_pretrained(path)
    return path
