"""Bytes from a server: never more than were announced, never waited for without an end, and gone on with where an
earlier try stopped."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from videopainter.utils.sentences import first_line
from videopainter.weights.errors import WeightsError

BLOCK = 2**20
TIMEOUT = 20  # seconds after which a server counts as gone that has sent less than `SLOWEST` bytes
SLOWEST = 1000
MOST_TRIES = 20  # connections in a row that bring less than a block each
LARGEST_FILE = 10**13  # bytes; more is a mistake

Progress = Callable[[str, int, int], None]  # (name of a file, bytes that are there, bytes in all)
Failure = Callable[
    [urllib.error.HTTPError], "str | None"
]  # a sentence for an answer, if there is a better one


@dataclass(frozen=True)
class Item:
    """A published file: `path` below the weights folder; `sha256` where the publisher tells it."""

    path: str
    address: str
    size: int
    sha256: str | None = None


class NotThere(WeightsError):
    """No server answers at an address; `reason`: a few words."""

    def __init__(self, address: str, reason: str):
        super().__init__(f"{address} cannot be reached: {reason}.")
        self.reason = reason


def send(
    address: str,
    token: str | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    failure: Failure = lambda error: None,
):
    """The answer to a request. Raises WeightsError, one sentence, in which the token never is."""
    try:
        request = urllib.request.Request(
            address, headers={"User-Agent": "videopainter", **(headers or {})}, method=method
        )
        if token:
            # Not for the storage that a hub sends us on to: it has a signature of its own in the address.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise
        said = failure(error) or f"{address} answers {error.code} {error.reason}."
        raise WeightsError(said) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = first_line(reason) if isinstance(reason, BaseException) else str(reason)
        raise NotThere(address, reason) from None
    except WeightsError:
        raise
    except ValueError:  # of an address or a proxy that is none; Python's words may hold the headers
        raise NotThere(address, "it is no address, or that of the proxy is none") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, address):
        before, after = (name.partition(":")[0].lower() for name in (request.full_url, address))
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise WeightsError(f"{request.full_url} leads to {address}, which is not followed.")
        return super().redirect_request(request, answer, code, message, headers, address)


def length(address: str) -> int:
    """Bytes of the file at an address."""
    with send(address, method="HEAD") as answer:
        _no_page(answer, address)
        size = _number(answer.headers.get("Content-Length"))
    if size is None:
        raise WeightsError(f"{address} does not say how long the file is.")
    return size


def read_all(answer, address: str, most: int) -> bytes:
    """A body of at most `most` bytes that comes within `TIMEOUT` seconds."""
    data, end = b"", time.monotonic() + TIMEOUT
    try:
        while block := answer.read1(BLOCK):
            data += block
            if len(data) > most:
                raise WeightsError(f"{address} answers with more than {most} bytes.")
            if time.monotonic() > end:
                raise NotThere(address, "it answers too slowly")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise NotThere(address, first_line(error)) from None
    return data


def transfer(
    item: Item, path: Path, token: str | None, progress: Progress, failure: Failure = lambda e: None
) -> None:
    """Fetch into `path.part`, going on where an earlier try stopped, and rename when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    for place in (path, partial):
        if os.path.lexists(place) and not place.is_file():
            raise WeightsError(f"'{place}' is in the way; it is no file.")
    done = partial.stat().st_size if partial.exists() else 0
    if done > item.size:
        partial.unlink()
        done = 0
    tries, anew = 0, False
    while done < item.size:
        before = done
        try:
            done = _append(item, partial, done, token, progress, failure)
        except (
            _OtherFile,
            urllib.error.HTTPError,
        ):  # what is here is of another file, or all that the server has
            partial.unlink(missing_ok=True)
            if anew or not before:
                raise WeightsError(
                    f"{item.address} has fewer than the {item.size} bytes that are published; nothing of it is kept."
                ) from None
            done, tries, anew = 0, 0, True
            continue
        tries = tries + 1 if done - before < BLOCK else 0
        if done < item.size and (done <= before or tries >= MOST_TRIES):
            raise WeightsError(
                f"The connection broke off after {done} of {item.size} bytes of {item.address}; the same command "
                "goes on from there."
            )
    partial.touch()  # a file may have no bytes at all
    os.replace(partial, path)


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


class _OtherFile(Exception):
    """The answer does not go on with what is there."""


def _append(
    item: Item, partial: Path, done: int, token: str | None, progress: Progress, failure: Failure
) -> int:
    """Read on from byte `done` for as long as the connection holds; how many bytes there are then."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    with send(item.address, token, headers=headers, failure=failure) as answer:
        _no_page(answer, item.address)
        there = _begins_at(answer, item, done)
        with open(partial, "ab") as file:
            file.truncate(there)  # a server that knows no ranges begins again
            progress(partial.stem, there, item.size)
            since, then = time.monotonic(), there
            try:
                while block := answer.read1(min(BLOCK, item.size + 1 - there)):
                    there += len(block)
                    if there > item.size:
                        break
                    file.write(block)
                    progress(partial.stem, there, item.size)
                    if time.monotonic() - since > TIMEOUT:
                        if there - then < SLOWEST:
                            raise WeightsError(
                                f"{item.address} sends too slowly, {there} of {item.size} bytes by now; the same "
                                "command goes on from there."
                            )
                        since, then = time.monotonic(), there
            except (http.client.HTTPException, ConnectionError, TimeoutError):
                pass  # what has come is kept, and the next try begins there
    if there > item.size:
        partial.unlink()
        raise WeightsError(f"{item.address} sends more than the {item.size} bytes that are published.")
    return there


def _begins_at(answer, item: Item, done: int) -> int:
    """The byte of the file with which a body begins. Raises unless it can be that of `item`."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise WeightsError(f"{item.address} answers with compressed data, which is not asked for.")
    if answer.status == 206:
        found = re.fullmatch(
            r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("Content-Range", "")
        )
        if found is None or int(found[1]) != done or found[2] not in ("*", str(item.size)):
            raise _OtherFile
        return done
    text = answer.headers.get("Content-Length")
    if text is not None and _number(text) != item.size:
        raise WeightsError(f"{item.address} has {text} bytes, but {item.size} are published.")
    return 0


def _no_page(answer, address: str) -> None:
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise WeightsError(f"{address} answers with a web page, such as one to log in, instead of the file.")


def _number(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,15}", text.strip()):
        return None
    return int(text) if int(text) <= LARGEST_FILE else None
