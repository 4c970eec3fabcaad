"""A small network, and OpenCV in one thread."""

import cv2
import pytest
from small_dstt import lively

from videopainter.dstt.config import preset
from videopainter.dstt.model import DSTT
from videopainter.dstt.weights import save_model


@pytest.fixture(autouse=True, scope="session")
def one_thread_of_opencv():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture
def tiny() -> DSTT:
    """An untrained network whose last layer is not zero, so that everything reaches the output."""
    return lively(DSTT(preset("tiny")))


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """The network of `tiny` in a file, as weights are shipped."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(lively(DSTT(preset("tiny"))), path)
    return path
