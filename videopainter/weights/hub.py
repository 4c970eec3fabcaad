"""What a repository of the Hugging Face Hub, or of a mirror of it, says it holds: believed in nothing.

The token is found by huggingface_hub; the list is asked for here, for an answer there has no largest size.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.parse
from dataclasses import dataclass

from videopainter.weights.catalogue import Part
from videopainter.weights.errors import WeightsError, parse_json
from videopainter.weights.transfer import LARGEST_FILE, NotThere, read_all, send

LARGEST_LIST = 16_000_000  # bytes
LONGEST_NAME = 200  # bytes of a part of a path; file systems take 255


@dataclass(frozen=True)
class Listed:
    """A file of a repository: its path there, bytes, and its SHA-256 where it is told."""

    name: str
    size: int
    sha256: str | None


def files_of(part: Part) -> tuple[list[Listed], str]:
    """(the files, the commit) of a part's repository, as its owner lists them."""
    address = f"{endpoint()}/api/models/{part.repo}"
    try:
        with send(f"{address}?blobs=true", token(), failure=lambda error: _no_list(error, part)) as answer:
            text = read_all(answer, address, LARGEST_LIST)
    except NotThere as error:
        raise WeightsError(unreachable(f"{endpoint()}/{part.repo}", error)) from None
    try:
        info = parse_json(text, address)
        commit, files = info["sha"], [_listed(entry) for entry in info["siblings"]]
        if not re.fullmatch(r"[\w.-]{1,100}", commit) or len({file.name for file in files}) < len(files):
            raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise WeightsError(
            f"{endpoint()} answers with something else than a list of the files of {part.repo}."
        ) from None
    return files, commit


def _listed(entry: dict) -> Listed:
    name, lfs = entry["rfilename"], entry.get("lfs")
    size, sha256 = entry["size"], lfs["sha256"] if lfs is not None else None
    if not isinstance(name, str) or type(size) is not int or not 0 <= size <= LARGEST_FILE:
        raise ValueError
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError
    return Listed(name, size, sha256)


def stays_inside(name: str) -> bool:
    """Whether a name that somebody else gives is one of a file below a folder, on every system."""
    return (
        name.isprintable()
        and not set('\\:*?"<>|') & set(name)
        and not name.endswith(".part")  # how files are called that are not whole
        and all(
            piece not in ("", ".", "..") and len(piece.encode()) <= LONGEST_NAME for piece in name.split("/")
        )
        and len(name) <= 5 * LONGEST_NAME
    )


def address_of(part: Part, name: str, commit: str) -> str:
    return f"{endpoint()}/{part.repo}/resolve/{commit}/{urllib.parse.quote(name)}"


def mirrored(address: str) -> str:
    """An address of a file; one of the hub's own at the mirror, if there is one."""
    own = "https://huggingface.co/"
    return f"{endpoint()}/{address.removeprefix(own)}" if address.startswith(own) else address


def endpoint() -> str:
    """The hub's address, or that of the mirror which HF_ENDPOINT names."""
    found = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"
    try:
        parts = urllib.parse.urlsplit(found)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[!-~]{1,300}", found) or set("?#@") & set(found):
        raise WeightsError(f"HF_ENDPOINT must be an address such as https://huggingface.co, not '{found}'.")
    return found


def token() -> str | None:
    """The user's token of the hub: from the environment, or as 'hf auth login' leaves it."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise WeightsError(
            "Weights on the Hugging Face Hub are found with huggingface_hub; the extra [diffusion] has it."
        ) from None
    try:
        found = get_token()
    except (OSError, ValueError):
        raise WeightsError("The token that 'hf auth login' has left cannot be read.") from None
    if found and not re.fullmatch(r"[!-~]{1,2000}", found):
        raise WeightsError(
            "The token of the hub, HF_TOKEN or that of 'hf auth login', holds characters that no token has."
        )
    return found or None


def no_file(error: urllib.error.HTTPError, part: Part, address: str) -> str | None:
    """What an answer of the hub means where a file was asked for."""
    if part.gated and error.code in (401, 403):
        return _gated(part)
    if error.code in (401, 404):  # the hub's answer for what is not there is 401 without a token
        return f"{address} is not there ({error.code} {error.reason})."
    return None


def unreachable(address: str, error: NotThere) -> str:
    return f"{address} cannot be reached: {error.reason}; the same command tries again, and HF_ENDPOINT names a mirror."


def _no_list(error: urllib.error.HTTPError, part: Part) -> str:
    if error.headers.get("X-Error-Code") == "GatedRepo" or (part.gated and error.code in (401, 403)):
        return _gated(part)
    if error.code in (401, 404):
        return f"There is no repository {part.repo} at {endpoint()}."
    return f"{endpoint()} answers {error.code} {error.reason} when asked for {part.repo}."


def _gated(part: Part) -> str:
    return (
        f"{part.repo} is gated: accept its licence at {endpoint()}/{part.repo}, then log in with "
        "'hf auth login' or set HF_TOKEN to a token of that account, or do without it, as it is optional."
    )
