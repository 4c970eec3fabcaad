"""Each engine that crops, its small model, and that model saved."""

import pytest
from crop_networks import NETWORKS, Network

from videopainter.engines.crop import CropEngine


@pytest.fixture(scope="session", params=NETWORKS, ids=lambda network: network.name)
def network(request) -> Network:
    return request.param


@pytest.fixture(scope="session")
def model(network):
    return network.small()


@pytest.fixture(scope="session")
def folder(network, model, tmp_path_factory):
    """The model, saved."""
    path = tmp_path_factory.mktemp(network.name)
    model.save_pretrained(path)
    return path


@pytest.fixture
def engine(network, model) -> CropEngine:
    return network.make(model)
