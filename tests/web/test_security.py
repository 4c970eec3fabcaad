"""Who is let in, what a request may name, and what happens when there is no room."""

import errno
import json
import shutil
import sqlite3
from collections import namedtuple

import pytest
from fastapi.testclient import TestClient
from served import an_object, click

from videopainter.cli import web as command
from videopainter.web.security import Guard, is_loopback
from videopainter.web.server import create_app

TOKEN = "a-token-of-the-test"


@pytest.fixture
def guarded(workspace):
    with TestClient(create_app(workspace, {"testserver", "::1"}, TOKEN)) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "", "evil.example:80", "[::2]:80"]
)
def test_another_name_for_this_machine_is_refused(client, host):
    answer = client.get("/api/projects", headers={"host": host})
    assert answer.status_code == 421 and answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("host", ["testserver", "TESTSERVER", "testserver:8765"])
def test_its_own_names_are_not(client, host):
    assert client.get("/api/projects", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver:81", "file://"])
@pytest.mark.parametrize("method, path", [("POST", "/api/projects/example"), ("GET", "/api/projects")])
def test_pages_of_other_sites_are_refused(client, origin, method, path):
    assert client.request(method, path, headers={"origin": origin}).status_code == 403
    assert client.get("/api/projects").json() == []


def test_the_own_page_is_not(client):
    assert client.post("/api/projects/example", headers={"origin": "http://testserver"}).status_code == 201


@pytest.mark.parametrize(
    "method, mode, status",
    [("POST", "no-cors", 403), ("GET", "no-cors", 403), ("GET", "navigate", 200), ("POST", "navigate", 403)],
)
def test_what_a_browser_says_of_cross_site_requests(client, method, mode, status):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
    path = "/" if method == "GET" else "/api/projects/example"
    assert client.request(method, path, headers=headers).status_code == status


def test_without_the_token_nothing_is_told(guarded):
    for path in ("/", "/api/projects", "/openapi.json", "/js/main.js"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and "token" in answer.json()["detail"]
        assert TOKEN not in answer.text
    for wrong in ({"authorization": "Bearer x"}, {"cookie": "videopainter_token=x"}, {"cookie": "=;;\x01"}):
        assert guarded.get("/api/projects", headers=wrong).status_code == 401
    assert guarded.get("/api/projects?token=x").status_code == 401


def test_the_token_opens_and_the_cookie_keeps_open(guarded):
    assert guarded.get("/api/projects", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    answer = guarded.get(f"/?token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert guarded.get("/api/projects").status_code == 200  # the client keeps cookies


def test_headers_that_keep_other_sites_out(client):
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host, local", [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_what_is_loopback(host, local):
    assert is_loopback(host) is local


def test_another_host_is_only_served_with_a_token(workspace, monkeypatch, capsys):
    made = []

    def app(workspace, hosts, token, largest):
        made.append((hosts, token))
        raise KeyboardInterrupt

    monkeypatch.setattr("videopainter.web.server.create_app", app)
    for host, local in (("127.0.0.1", True), ("0.0.0.0", False)):
        with pytest.raises(KeyboardInterrupt):
            command._serve(command.build_parser().parse_args(["--host", host, "--port", "0"]))
        hosts, token = made.pop()
        assert (token is None) is local and "evil.example" not in hosts
        assert local or len(token) >= 24


def test_web_sockets_are_closed(client):
    sent = []

    async def send(message):
        sent.append(message)

    coroutine = Guard(None, {"x"})({"type": "websocket"}, None, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert sent == [{"type": "websocket.close", "code": 1008}]


TRAVERSALS = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fx",
    "....//",
    "..\\..\\x",
    "C:\\x",
    "0" * 15 + "%00",
    "video.mp4",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_path_gets_out_of_the_workspace(client, project, name):
    paths = [
        f"/api/projects/{name}",
        f"/api/projects/{name}/frames/0",
        f"/api/projects/{project}/masks/{name}",
        f"/api/jobs/{name}",
        f"/api/jobs/{name}/files/run.json",
        f"/{name}",
        f"/js/{name}",
    ]
    for path in paths:
        answer = client.get(path)
        assert answer.status_code in (404, 405, 422), (path, answer.status_code)
        assert "root:" not in answer.text


@pytest.mark.parametrize(
    "name", ["../../evil.mp4", "/etc/evil.mp4", "..\\evil.mp4", "a\x00b.mp4", "x" * 190 + ".mp4"]
)
def test_names_of_uploads_are_no_paths(client, clip, workspace, name):
    answer = client.post("/api/projects", params={"name": name}, content=clip.read_bytes())
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert [path.name for path in (workspace / "projects" / found["id"]).iterdir()] == [
        "poster.jpg",
        "video.mp4",
    ]
    assert not list(workspace.parent.glob("evil*"))
    client.put(
        f"/api/projects/{found['id']}/masks", params={"name": name.replace("mp4", "npz")}, content=b"x"
    )
    assert not list((workspace / "projects" / found["id"]).glob("uploads/*"))


def test_a_zip_cannot_write_elsewhere(client, project, workspace):
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../../evil.png", b"x")
        archive.writestr("/tmp/evil-of-the-test.png", b"x")
    answer = client.put(f"/api/projects/{project}/masks", params={"name": "m.zip"}, content=file.getvalue())
    assert answer.status_code == 422
    assert not list(workspace.parent.rglob("evil*.png"))


def test_a_zip_that_swells_is_refused(client, project, monkeypatch):
    import io
    import zipfile

    monkeypatch.setattr("videopainter.web.exports.MOST_UNZIPPED", 10_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(100_000))
    answer = client.put(f"/api/projects/{project}/masks", params={"name": "m.zip"}, content=file.getvalue())
    assert answer.status_code == 422 and answer.json()["detail"] == "'m' holds more than is taken."


@pytest.mark.parametrize("announced", [True, False])
def test_uploads_are_limited(workspace, announced):
    with TestClient(create_app(workspace, {"testserver"}, largest_upload=10_000)) as client:
        body = bytes(20_000) if announced else iter([bytes(4000)] * 5)
        answer = client.post("/api/projects", content=body)
    assert answer.status_code == 413 and "MiB are not taken" in answer.json()["detail"]
    assert list((workspace / "projects").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(client, workspace):
    def body():
        yield bytes(1000)
        raise RuntimeError("the line is cut")

    with pytest.raises(RuntimeError):
        client.post("/api/projects", content=body())
    assert list((workspace / "projects").iterdir()) == []


def test_a_disk_without_room_is_said_before(client, clip, workspace, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 100))
    answer = client.post("/api/projects", content=clip.read_bytes())
    assert answer.status_code == 507 and "too full" in answer.json()["detail"]
    assert list((workspace / "projects").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_one_sentence(client, clip, workspace, monkeypatch, number):
    def full(*arguments):
        raise OSError(number, "No space left on device", "/secret/place")

    monkeypatch.setattr("videopainter.web.requests.os.replace", full)
    answer = client.post("/api/projects", content=clip.read_bytes())
    assert (answer.status_code, answer.json()) == (
        507,
        {"detail": "The disk is full; make room and try again."},
    )
    assert list((workspace / "projects").iterdir()) == []


def test_a_database_without_room_is_one_sentence(client, project, monkeypatch):
    def full(*arguments):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(client.app.state.store, "edit", full)
    answer = client.put(f"/api/projects/{project}/objects", json={"objects": [an_object(click())]})
    assert (answer.status_code, answer.json()) == (
        507,
        {"detail": "The disk is full; make room and try again."},
    )


def test_a_job_without_room_is_one_sentence(client, project):
    from videopainter.web.worker import Worker

    store = client.app.state.store
    job = store.add_job(project, "proxy", {})
    worker = Worker(store)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    worker._proxy = full
    worker.do(store.claim(0, ("proxy",)) or store.job(job))
    found = client.get(f"/api/jobs/{job}").json()
    assert (found["state"], found["message"]) == ("failed", "The disk is full; make room and try again.")


def test_answers_are_data_and_never_a_page(client, project):
    name = "<script>alert(1)</script>"
    client.patch(f"/api/projects/{project}", json={"name": name})
    answer = client.get(f"/api/projects/{project}")
    assert answer.headers["content-type"] == "application/json" and answer.json()["name"] == name
    assert client.get(f"/api/projects/{name}").headers["content-type"] == "application/json"
    assert json.loads(client.get("/api/projects").text)[0]["name"] == name
