"""Who may talk to the server: this machine's own pages, or whoever holds the token.

A page of another site can make a browser send requests here, or point a name of its own at 127.0.0.1 (DNS rebinding).
So the Host must be one that the server was started for, a request that a browser sends for another page (Origin) is
refused, and on any address but loopback every request needs the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

COOKIE = "videopainter_token"
HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        b"base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware.

    Args:
        hosts: names and addresses under which the server may be called, without port.
        token: what every request must carry, as the cookie, `Authorization: Bearer TOKEN` or `?token=TOKEN`; None on
            loopback.
    """

    def __init__(self, app, hosts: set[str], token: str | None = None):
        self.app, self.hosts, self.token = app, {host.strip("[]").lower() for host in hosts}, token

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _say(send, *refusal)
            return
        extra = list(HEADERS)
        if self.token is not None and self._from_query(scope) is not None:
            cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            extra.append((b"set-cookie", cookie.encode()))

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return 421, "This server is not known under that name."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "Requests from pages of another site are refused."
        visit = (
            scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        )  # a link was followed
        if headers.get("sec-fetch-site") == "cross-site" and not visit:
            return 403, "Requests from pages of another site are refused."
        if self.token is not None and not any(
            hmac.compare_digest(given.encode(), self.token.encode()) for given in self._given(scope, headers)
        ):
            return 401, "This server needs the token that was printed when it was started."
        return None

    def _given(self, scope, headers: dict[str, str]) -> list[str]:
        found = []
        if headers.get("authorization", "").startswith("Bearer "):
            found.append(headers["authorization"].removeprefix("Bearer "))
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None:
            found.append(cookie.value)
        query = self._from_query(scope)
        return found if query is None else [*found, query]

    @staticmethod
    def _from_query(scope) -> str | None:
        return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [None])[0]


def _name(host: str) -> str:
    """The host of a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0].strip("[").lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


async def _say(send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
