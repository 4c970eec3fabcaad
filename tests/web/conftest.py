"""Servers, a browser and a short clip for the tests of the page."""

from pathlib import Path

import httpx
import pytest
from clips import write_clip
from fastapi.testclient import TestClient
from journey import Journey
from served import FLAGS, Server, chromium, thing, thing_masks, upload_masks

from videopainter.masks import MaskTrack
from videopainter.web.server import create_app


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """24 frames, 160 x 120, with sound."""
    path = tmp_path_factory.mktemp("clip") / "thing.mp4"
    write_clip(path, thing(), rate=12, sound="aac", options={"crf": "10"})
    return path


@pytest.fixture
def workspace(tmp_path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def client(workspace):
    """The interface without a server around it."""
    with TestClient(create_app(workspace, {"testserver"})) as client:
        yield client


@pytest.fixture
def project(client, clip) -> str:
    """The id of a project with the short clip."""
    answer = client.post("/api/projects", params={"name": "thing.mp4"}, content=clip.read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture
def server(workspace):
    server = Server(workspace)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def remote(server):
    """A client of that server."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def remote_project(remote, clip) -> str:
    return remote.post("/api/projects", params={"name": "thing.mp4"}, content=clip.read_bytes()).json()["id"]


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def masked(client, project, tmp_path) -> str:
    """The project with the masks of the thing, from a file."""
    path = tmp_path / "masks.npz"
    MaskTrack.build(thing_masks()).save_npz(path)
    assert upload_masks(client, project, "thing.npz", path.read_bytes()).status_code == 201
    return project


@pytest.fixture
def visit(browser, server):
    """(width, height, address, ...) -> a `Journey`; afterwards no page may have had a fault."""
    journeys, contexts = [], []

    def visit(width=1000, height=700, url=None, **context):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **context))
        journeys.append(Journey(contexts[-1].new_page(), url or server.url))
        return journeys[-1]

    yield visit
    for context in contexts:
        context.close()
    for journey in journeys:
        assert [fault for fault in journey.faults if "net::ERR_" not in fault and "409" not in fault] == []
