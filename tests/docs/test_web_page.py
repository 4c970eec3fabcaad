"""The examples of docs/web.md for curl, and its table of addresses, against the interface itself."""

import re
import shlex
from pathlib import Path

import cv2
import pytest
from clips import moving_texture
from fastapi.testclient import TestClient

from videopainter import VideoWriter
from videopainter.web.server import create_app

PAGE = Path(__file__).parents[2] / "docs" / "web.md"
COUNT, HEIGHT, WIDTH = 12, 480, 640


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The interface, and my.mp4 in the working directory with a thing where the examples click."""
    monkeypatch.chdir(tmp_path)
    frames = moving_texture(1, HEIGHT, WIDTH).repeat(COUNT, 0) // 3 + 90
    frames[:, 260:340, 330:420] = (220, 40, 30)
    with VideoWriter("my.mp4", fps=25, size=(HEIGHT, WIDTH)) as file:
        file.write(frames)
    with TestClient(create_app(tmp_path / "workspace", {"testserver"})) as client:
        yield client


def curl(client: TestClient, command: str):
    """What a curl command of the page would do."""
    words = shlex.split(command)
    method, headers, content, output, url = None, {}, None, None, None
    while words:
        word = words.pop(0)
        if word in ("curl", "-s", "-sN"):
            continue
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            content = words.pop(0).encode()
        elif word == "--data-binary":
            content = Path(words.pop(0).removeprefix("@")).read_bytes()
        elif word == "-o":
            output = words.pop(0)
        else:
            assert url is None and not word.startswith("-"), f"{word} is not known here: {command}"
            url = word
    answer = client.request(
        method or ("GET" if content is None else "POST"), url, headers=headers, content=content
    )
    assert answer.status_code < 300, f"{command}: {answer.text}"
    if output is not None:
        Path(output).write_bytes(answer.content)
    return answer


def test_the_examples_for_curl_do_what_they_say(client):
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    lines = re.split(r"\n(?=\w+=|curl )", block.strip())
    assert lines[0] == "server=http://127.0.0.1:8765" and len(lines) >= 7
    project = ""
    for line in lines[1:]:
        line = line.replace("$server", "").replace("$project", project)
        name, _, made = line.partition("=$(")
        if made:  # project=$(curl ... | python -c ...)
            assert name == "project"
            project = curl(client, made.rpartition(" | python")[0]).json()["id"]
        elif "/events" not in line:  # which never end
            curl(client, line)
    assert cv2.imread("frame.jpg").shape == (HEIGHT, WIDTH, 3)
    mask = cv2.imread("mask.png", cv2.IMREAD_UNCHANGED)[..., 3] > 0
    assert mask[300, 375] and not mask[:200].any()
    state = client.get(f"/api/projects/{project}").json()
    assert [job["kind"] for job in state["jobs"]] == ["track", "inpaint"] and state["dilate_size"] == 30


def test_every_address_of_the_table_is_there_and_none_is_missing(client):
    shown, base = set(), ""
    for cell in re.findall(r"^\| (`[A-Z].*?/.*?) \|", PAGE.read_text(encoding="utf-8"), re.M):
        for path in re.findall(r"(?:/api|\.\.\.)[\w/.]*", cell):
            base = match[0] if (match := re.match(r"/api/(projects|jobs)/ID", path)) else base
            shown.add(path.replace("...", base))
    names = {"project": "ID", "job": "ID", "number": "N", "name": "NAME"}
    described = {
        re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)
        for path in client.get("/openapi.json").json()["paths"]
    }
    for path in ("poster", "proxy", "proxy.mp4"):  # what only a page wants
        described.remove(f"/api/projects/ID/{path}")
    assert {"/api/projects/ID/masks/NAME", "/api/jobs/ID/cancel"} <= shown
    assert shown - {"/api/projects/ID/masks.npz"} == described
