"""A hub, mirror or release page that is broken, slow or malicious: one sentence, and nothing outside the folder."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from videopainter import weights
from videopainter.cli import weights as command
from videopainter.utils.locks import FileLock
from videopainter.weights import FileSet, Network, Part, download, hub, transfer
from videopainter.weights.hub import stays_inside

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "c" * 40


def safetensors(count):
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(count)


WHOLE = safetensors(50_000)
NETWORK = "tiny/model.safetensors"
TINY = Part(
    name="tiny",
    what="a tiny network",
    folder="tiny",
    size=4000,
    repo="us/tiny",
    patterns=("model.safetensors", "tokenizer/*"),
    sets=(FileSet(networks=(Network(NETWORK),)),),
)


class Server:
    """`list_`: what is answered when a repository is asked for, bytes or a function that writes; `file`: the same
    for a file. `seen`: the (path, Range, Authorization) of each request."""

    def __init__(self):
        self.list_, self.file, self.seen = None, plain(WHOLE), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                headers = self.headers
                outer.seen.append((self.path, headers.get("Range"), headers.get("Authorization")))
                with contextlib.suppress(OSError):
                    (outer.list_ if "/api/" in self.path else outer.file)(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def lists(self, *names, **changes):
        entries = [
            {"rfilename": name, "size": len(WHOLE), **changes} for name in names or ("model.safetensors",)
        ]
        self.list_ = plain(json.dumps({"sha": COMMIT, "siblings": entries}).encode())


def answer(request, status=200, **headers):
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()


def plain(data, kind="application/octet-stream", **more):
    """Answer `data` with its length, from where it is asked for."""

    def send(request):
        start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start >= len(data) and start:
            answer(request, 416, Content_Length=0)
            return
        if start:
            more["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        answer(request, 206 if start else 200, Content_Type=kind, Content_Length=len(data) - start, **more)
        if request.command == "GET":
            request.wfile.write(data[start:])

    return send


def without_length(data):
    def send(request):
        start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start >= len(data):
            answer(request, 416)
            return
        answer(request)
        if request.command == "GET":
            request.wfile.write(data)

    return send


def endless(request):
    answer(request, Content_Type="application/octet-stream")
    while True:
        request.wfile.write(bytes(2**20))


def endless_list(request):
    answer(request, Content_Type="application/json")
    while True:
        request.wfile.write(b'{"a":' * 2**16)


def silent(request):
    answer(request, Content_Length=len(WHOLE))
    time.sleep(5)


def dripping(request):
    answer(request, Content_Length=len(WHOLE))
    start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
    for i in range(start, len(WHOLE)):
        request.wfile.write(WHOLE[i : i + 1])
        time.sleep(0.05)


def redirect(place):
    return lambda request: answer(request, 302, Location=place, Content_Length=0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 1)
    for module in (weights, weights.catalogue, download, command):
        monkeypatch.setattr(module, "PARTS", {"tiny": TINY})
    for module in (weights, weights.catalogue):
        monkeypatch.setattr(module, "NEEDED", {"engine": ("tiny",)})
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    server = Server()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.lists()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def folder(tmp_path):
    """The weights folder, and a look around it afterwards."""
    (tmp_path / "above").mkdir()
    yield tmp_path / "above" / "weights"
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith("escaped")] == []


def fetched(folder, capsys):
    """(status, the last line of stderr) of the command."""
    status = command.main(["--only", "tiny", "--folder", str(folder)])
    lines = capsys.readouterr().err.strip().splitlines() or [""]
    assert all(len(line) < 700 for line in lines)
    return status, lines[-1]


NAMES = [
    "tokenizer/../../../escaped",
    "tokenizer/..",
    "tokenizer/./escaped",
    "tokenizer//escaped",
    "tokenizer/..\\..\\escaped",
    "tokenizer/C:escaped",
    "tokenizer/a\nb",
    "tokenizer/a\0b",
    "tokenizer/" + "x" * 300,
    "tokenizer/" + "画" * 90,
    "tokenizer/" + "x/" * 3000 + "x",
    "tokenizer/\udcff",
    "tokenizer/",
    "tokenizer/vocab.json.part",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_that_leave_the_folder(server, folder, capsys, name):
    server.lists("model.safetensors", name)
    status, said = fetched(folder, capsys)
    assert status == 2 and "which is no name of a file in a folder; nothing of it is fetched." in said
    assert not (folder / "tiny").exists()


def test_absolute_names(tmp_path):
    for name in ("/etc/escaped", "~/x/../escaped", "C:\\escaped", "\\\\host\\escaped", "", "."):
        assert not stays_inside(name)
    for name in ("model.safetensors", "tokenizer/spiece.model", "..a/b..c", "画/模.json"):
        assert stays_inside(name)


LISTS = {
    "a page to log in": plain(b"<html>Log in</html>", "text/html"),
    "no JSON": plain(b"{"),
    "deep": plain(b"[" * 1_000_000),
    "a list": plain(b"[]"),
    "a number": plain(b"1" * 5000),
    "no keys": plain(b"{}"),
    "no files": plain(json.dumps({"sha": COMMIT, "siblings": None}).encode()),
    "files without names": plain(json.dumps({"sha": COMMIT, "siblings": [{}]}).encode()),
    "no size": plain(json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "model.safetensors"}]}).encode()),
    "no commit": plain(json.dumps({"siblings": []}).encode()),
    "a commit that climbs": plain(json.dumps({"sha": "../..", "siblings": []}).encode()),
    "no UTF-8": plain(b'{"sha": "\xff"}'),
    "endless": endless_list,
    "silent": silent,
    "dripping": dripping,
    "to a file": redirect("file:///etc/passwd"),
    "to FTP": redirect("ftp://127.0.0.1/x"),
    "to itself": redirect("/api/models/us/tiny"),
    "a closed connection": lambda request: request.connection.close(),
    "no HTTP": lambda request: request.wfile.write(b"\x16\x03\x01 hello"),
    "500": lambda request: answer(request, 500, Content_Length=0),
    "429": lambda request: answer(request, 429, Content_Length=0),
    "a long reason": lambda request: request.send_response(500, "x" * 50_000) or request.end_headers(),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_that_are_none(server, folder, capsys, kind):
    server.list_ = LISTS[kind]
    status, said = fetched(folder, capsys)
    assert status == 2 and said.startswith("download.py: error: ") and server.url in said
    assert not (folder / "tiny").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 10**30},
        {"size": "many"},
        {"size": None},
        {"size": True},
        {"size": 1.5},
        {"lfs": {"sha256": "../../x"}},
        {"lfs": {}},
        {"lfs": 3},
        {"rfilename": 3},
        {"rfilename": ["tokenizer/x"]},
    ],
    ids=str,
)
def test_entries_of_wrong_types(server, folder, capsys, changes):
    server.lists(**changes)
    status, said = fetched(folder, capsys)
    assert status == 2 and "something else than a list of the files of us/tiny" in said


FILES = {
    "a page to log in": (plain(b"<html>Log in</html>", "text/html; charset=utf-8"), "a web page"),
    "a page of the same length": (plain(WHOLE, "text/html"), "a web page"),
    "a short file": (plain(WHOLE[:300]), "has 300 bytes, but 500"),
    "a long file": (plain(WHOLE + b"x"), "but 500"),
    "endless": (endless, "sends more than the 500"),
    "short, without a length": (without_length(WHOLE[:300]), "fewer than the 500"),
    "another file of that length": (
        plain(bytes(len(WHOLE))),
        "is damaged, cut off or not a safetensors file",
    ),
    "silent": (silent, "broke off after 0"),
    "dripping": (dripping, "sends too slowly"),
    "compressed": (plain(WHOLE, Content_Encoding="gzip"), "compressed data"),
    "nothing but 416": (lambda request: answer(request, 416), "fewer than"),
    "to a file": (redirect("file:///etc/passwd"), "answers 302"),
    "no HTTP": (lambda request: request.wfile.write(b"hello\r\n\r\n"), "cannot be reached"),
    "403": (lambda request: answer(request, 403, Content_Length=0), "answers 403"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_not_what_is_published(server, folder, capsys, kind):
    server.file, words = FILES[kind]
    status, said = fetched(folder, capsys)
    assert status == 2 and words in said, said
    server.file = plain(WHOLE)  # put right, the same command ends well, whatever was left
    if kind.startswith("another"):
        (folder / NETWORK).unlink()  # as the sentence says
    assert fetched(folder, capsys)[0] == 0
    assert (folder / NETWORK).read_bytes() == WHOLE and not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    "there", [WHOLE[:1000], WHOLE, WHOLE + b"more", b""], ids=["part", "all", "more", "empty"]
)
@pytest.mark.parametrize("how", ["plain", "without ranges", "wrong ranges"])
def test_what_an_earlier_try_left(server, folder, capsys, there, how):
    (folder / "tiny").mkdir(parents=True)
    (folder / (NETWORK + ".part")).write_bytes(there)
    if how == "without ranges":
        server.file = without_length(WHOLE)
    elif how == "wrong ranges":

        def send(request):
            if request.headers.get("Range"):
                answer(request, 206, Content_Range="bytes 0-9/10", Content_Length=10)
                request.wfile.write(bytes(10))
            else:
                plain(WHOLE)(request)

        server.file = send
    assert fetched(folder, capsys)[0] == 0
    assert (folder / NETWORK).read_bytes() == WHOLE


def test_a_connection_that_always_breaks_off(server, folder, capsys, monkeypatch):
    def little(request):
        start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        answer(request, 206 if start else 200, Content_Range=f"bytes {start}-{len(WHOLE) - 1}/{len(WHOLE)}")
        request.wfile.write(WHOLE[start : start + 10])

    server.file = little
    status, said = fetched(folder, capsys)
    assert status == 2 and "broke off after 200 of 500" in said and len(server.seen) < 30
    server.file = plain(WHOLE)
    assert fetched(folder, capsys)[0] == 0 and server.seen[-1][1] == "bytes=200-"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"files": 3}', '{"files": {"x": {}}}', "[" * 100_000, "\udcff"]
)
def test_damaged_records(server, folder, capsys, content):
    assert fetched(folder, capsys)[0] == 0
    record = folder / weights.RECORDS / "tiny.json"
    record.write_bytes(os.fsencode(content))
    assert command.main(["--check", "--folder", str(folder)]) in (0, 1)
    assert fetched(folder, capsys)[0] == 0
    assert json.loads(record.read_text())["revision"] == COMMIT


@pytest.mark.parametrize("place", [NETWORK, NETWORK + ".part", weights.RECORDS + "/tiny.json", "tiny"])
@pytest.mark.parametrize("what", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_things_in_the_way(server, folder, capsys, place, what):
    path = folder / place
    path.parent.mkdir(parents=True)
    what(path)
    if place == "tiny" and what is os.mkdir:
        return  # where its files belong
    status, said = fetched(folder, capsys)
    replaced = place.endswith("json") and what is os.mkfifo  # by the file that belongs there
    assert status == (0 if replaced else 2) and "Traceback" not in said


ENDPOINTS = [
    "huggingface.co",
    "ftp://127.0.0.1",
    "file:///etc",
    "http://",
    "http://[",
    "http://host:port",
    "http://host:99999999",
    "http://user:secret@127.0.0.1",
    "http://a b",
    "http://127.0.0.1\r\nX: y",
    "http://127.0.0.1?x",
    "http://" + "x" * 5000,
    "\udcff",
    "http://" + "x" * 70 + ".invalid",
    "http://127.0.0.1:1",
]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=range(len(ENDPOINTS)))
def test_endpoints_that_are_none(server, folder, capsys, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    status, said = fetched(folder, capsys)
    assert status == 2 and ("HF_ENDPOINT must be an address" in said or "cannot be reached" in said)
    assert not server.seen


def test_an_empty_endpoint_is_none(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", " ")
    assert hub.endpoint() == "https://huggingface.co"


@pytest.mark.parametrize("proxy", ["nowhere", "ftp://127.0.0.1:1", "http://[", "http://127.0.0.1:port", "\n"])
def test_proxies_that_are_none(server, folder, capsys, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    status, said = fetched(folder, capsys)
    assert status in (0, 2) and "Traceback" not in said


@pytest.mark.parametrize(
    "token", ["hf_secret\nsecond", "hf_secret\r\nX: y", "hf_secret ü", "hf_secret\udcff", "hf_sec ret"]
)
def test_a_token_is_never_said(server, folder, capsys, monkeypatch, token):
    for path in (None, folder.parent / "token"):
        if path is None:
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            monkeypatch.delenv("HF_TOKEN")
            path.write_bytes(os.fsencode(token))
            monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(path))
        status = command.main(["--only", "tiny", "--folder", str(folder)])
        out, err = capsys.readouterr()
        assert status in (0, 2) and "secret" not in out + err and "sec ret" not in out + err


def test_a_token_stays_with_the_hub(server, folder, capsys, monkeypatch):
    other = Server()
    server.file = redirect(other.url.replace("127.0.0.1", "localhost") + "/storage")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert fetched(folder, capsys)[0] == 0
    assert {token for *_, token in server.seen} == {"Bearer hf_good"}
    assert other.seen and {token for *_, token in other.seen} == {None}
    other.server.shutdown()


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (without_length(WHOLE), "does not say how long"),
        (plain(b"<html>", "text/html"), "a web page"),
        (plain(WHOLE, Content_Length="many"), "does not say how long|invalid|cannot be reached"),
        (silent, "broke off after 0|does not say"),
        (lambda request: answer(request, Content_Length="-5"), "does not say how long"),
    ],
    ids=["no length", "a page", "two lengths", "silent", "negative"],
)
def test_release_pages(server, folder, capsys, monkeypatch, send, words):
    urls = ((NETWORK, f"{server.url}/a.safetensors"),)
    part = dataclasses.replace(TINY, repo=None, patterns=(), urls=urls)
    for module in (weights, weights.catalogue, download, command):
        monkeypatch.setattr(module, "PARTS", {"tiny": part})
    server.file = send
    status, said = fetched(folder, capsys)
    assert (status == 2 and re.search(words, said)) or (status, said) == (0, ""), said


def test_two_at_once(server, folder, capsys):
    begun, go_on = threading.Event(), threading.Event()

    def waiting(request):
        begun.set()
        go_on.wait(20)
        plain(WHOLE)(request)

    server.file = waiting
    first = threading.Thread(target=lambda: download.fetch(["tiny"], folder))
    first.start()
    assert begun.wait(20)
    status, said = fetched(folder, capsys)
    assert status == 2 and f"Another download into '{folder}' is at work" in said
    go_on.set()
    first.join(20)
    assert (folder / NETWORK).read_bytes() == WHOLE and fetched(folder, capsys)[0] == 0
    assert not (folder / weights.RECORDS / "lock").exists()


def test_a_killed_download_holds_no_lock(tmp_path):
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from videopainter.utils.locks import FileLock; "
    )
    code += "FileLock(sys.argv[1]).take(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], timeout=60)
    assert (tmp_path / "lock").exists()
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.take() and not other.take()
    lock.release()
    assert other.take() and not lock.take()
    other.release()
    assert not (tmp_path / "lock").exists()


def test_homes_that_are_none():
    assert weights.weights_folder("~nobody_of_that_name/x") == Path("~nobody_of_that_name/x")
