"""A Hugging Face Hub and a release page on this machine: listings, files, ranges, gates, broken connections."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class Hub:
    """`repos`: repository -> {file: bytes}. `gated`: repositories that want a token. `break_after`: bytes of a
    body after which the connection is closed, once; `stall_after`: after which nothing comes until `go_on` is
    set. `seen`: (method, path, Range) of each request."""

    def __init__(
        self, repos: dict[str, dict[str, bytes]], gated=(), releases: dict[str, bytes] | None = None
    ):
        self.repos, self.gated, self.releases = repos, set(gated), releases or {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.break_after: int | None = None
        self.break_always = False
        self.storage = False  # whether large files lie on another host
        self.tokens: dict[str, set[str | None]] = {}  # which were sent, by repository
        self.stall_after: int | None = None
        self.go_on = threading.Event()
        self.without_ranges = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def bodies(self) -> list[str]:
        """Paths of the files that were asked for with their contents."""
        return [path for method, path, _ in self.seen if method == "GET" and "/api/" not in path]

    def answer(self, request, body: bool) -> None:
        path = request.path.split("?")[0]
        self.seen.append((request.command, path, request.headers.get("Range")))
        if path.startswith("/api/models/"):
            self._list(request, path.removeprefix("/api/models/").split("/revision/")[0])
        elif path.startswith("/releases/"):
            self._send(request, self.releases.get(path.removeprefix("/releases/")), body, {})
        elif "/resolve/" in path:
            repo, name = path.strip("/").split("/resolve/")
            name = name.split("/", 1)[1]
            token = request.headers.get("Authorization")
            self.tokens.setdefault("storage" if name.startswith("storage/") else repo, set()).add(token)
            if name.startswith("storage/"):
                name = name.removeprefix("storage/")
            elif repo in self.gated and not token:
                self._send(request, None, body, {"X-Error-Code": "GatedRepo"}, status=401)
                return
            elif self.storage and name.endswith(".safetensors"):
                host = self.url.replace("127.0.0.1", "localhost")
                place = {"Location": f"{host}/{repo}/resolve/{COMMIT}/storage/{name}"}
                self._send(request, None, body, place, status=302)
                return
            data = self.repos.get(repo, {}).get(name)
            tag = _sha256(data) if data is not None and name.endswith(".safetensors") else "e" * 40
            self._send(request, data, body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(request, None, body, {})

    def _list(self, request, repo: str) -> None:
        if repo not in self.repos:
            self._send(request, None, True, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for name, data in self.repos[repo].items():
            entry = {"rfilename": name, "size": len(data)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"size": len(data), "sha256": _sha256(data), "pointerSize": 130}
            siblings.append(entry)
        answer = {
            "_id": "1",
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
        }
        self._send(request, json.dumps(answer).encode(), True, {"Content-Type": "application/json"})

    def _send(self, request, data: bytes | None, body: bool, headers: dict, status: int = 404) -> None:
        """`data`, or, without any, `status`."""
        start, wanted = 0, request.headers.get("Range")
        status = status if data is None else 200
        data = data or b""
        if wanted and status == 200 and not self.without_ranges:
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            request.send_header(name, value)
        request.end_headers()
        if not body:
            return
        rest = data[start:]
        if self.break_after is not None and len(rest) > self.break_after:
            rest = rest[: self.break_after]
            self.break_after = self.break_after if self.break_always else None
            request.close_connection = True
        if self.stall_after is not None and len(rest) > self.stall_after:
            request.wfile.write(rest[: self.stall_after])
            self.stall_after = None
            self.go_on.wait(60)
            request.close_connection = True
            return
        request.wfile.write(rest)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
