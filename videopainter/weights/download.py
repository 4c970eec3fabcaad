"""Fetches published weights into the weights folder: only what is needed, whole, and checked.

What a repository of the Hugging Face Hub holds, and with whose token, is asked through huggingface_hub. The files are
transferred here: huggingface_hub begins a file anew after it was stopped (since its version 2), while an interrupted
download of ours goes on where it was. A mirror of the hub: the environment variable HF_ENDPOINT.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from videopainter import weights
from videopainter.utils.atomic import whole_file
from videopainter.weights import PARTS, RECORDS, Part, WeightsError

BLOCK = 2**20
SPARE = 500_000_000  # bytes of the disk that stay free
TIMEOUT = 60  # seconds without a byte after which a server counts as gone

Say = Callable[[str], None]  # a line of what goes on
Progress = Callable[[str, int, int], None]  # (name of a file, bytes that are there, bytes in all)


@dataclass(frozen=True)
class Item:
    """A published file: `path` below the weights folder; `sha256` where the publisher tells it."""

    path: str
    address: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a part as they are published; `revision` is the repository's commit."""

    part: Part
    items: list[Item]
    revision: str | None = None


def default_parts() -> list[str]:
    """Everything that needs neither an account nor a human hand."""
    return [name for name, part in PARTS.items() if not part.gated and not part.by_hand]


def fetch(
    names: Sequence[str],
    folder: str | os.PathLike | None = None,
    say: Say = lambda line: None,
    progress: Progress = lambda name, done, total: None,
) -> None:
    """List, say sizes, see to it that the disk has room, download, check.

    Args:
        names: parts, keys of `PARTS`.
        folder: the weights folder; None: the usual one.

    Raises WeightsError, one sentence, for what cannot be had; what has come of it by then stays, and is gone on with.
    """
    root = weights.weights_folder(folder)
    wanted = []
    for name in names:
        part, found = PARTS[name], weights.complete_set(name, folder)
        if part.by_hand and found is None:
            raise WeightsError(part.by_hand.format(folder=root / part.folder))
        # What is there in another form (SAM 2 as a .pt file, ProPainter converted) is not fetched once more.
        if part.by_hand or found not in (None, part.sets[0]):
            say(f"  {name:<11} {'':>8}  there: {part.what}")
        else:
            wanted.append(part)
    listings = [listing(part) for part in wanted]
    to_come = {entry.part.name: sum(_bytes_left(item, root) for item in entry.items) for entry in listings}
    for entry in listings:
        total = sum(item.size for item in entry.items)
        state = f"{gigabytes(to_come[entry.part.name])} to download" if to_come[entry.part.name] else "there"
        say(f"  {entry.part.name:<11} {gigabytes(total):>8}, {state}: {entry.part.what}")
    root.mkdir(parents=True, exist_ok=True)
    needed, free = sum(to_come.values()), shutil.disk_usage(root).free
    say(f"{gigabytes(needed)} to download into {root}, where {gigabytes(free)} are free.")
    if needed and needed + SPARE > free:
        raise WeightsError(
            f"The disk of '{root}' has {gigabytes(free)} free, but {gigabytes(needed + SPARE)} are needed; make "
            "room, or name another `folder`."
        )
    for entry in listings:
        for item in entry.items:
            _download(entry, item, root, progress)
        _record(entry, root)
    damaged = [sentence for name in names for sentence in weights.problems(name, folder)]
    lacking = [path for name in names for path in weights.absent(name, folder)]
    if damaged or lacking:
        raise WeightsError(
            damaged[0] if damaged else f"'{root / lacking[0]}' is not among the published files."
        )
    say("Everything is there and whole.")


def listing(part: Part) -> Listing:
    """What is published of a part, asked for from its owner."""
    if part.urls:
        return Listing(part, [Item(path, url, _length(url)) for path, url in part.urls])
    found, revision = _hub_listing(part)
    items = []
    for name, size, sha256 in found:
        if any(fnmatch.fnmatch(name, pattern) for pattern in part.patterns):
            address = _hub().hf_hub_url(part.repo, name, revision=revision, endpoint=_endpoint())
            items.append(Item(f"{part.folder}/{name}", address, size, sha256))
    if not items:
        raise WeightsError(f"The repository {part.repo} has none of the files {', '.join(part.patterns)}.")
    return Listing(part, items, revision)


def _download(entry: Listing, item: Item, root: Path, progress: Progress) -> None:
    path = root / item.path
    if _whole(path, item):
        if item.sha256 is None or _known_good(item, entry, root):
            return
    else:
        _transfer(item, path, entry.part, progress)
    if item.sha256 and _sha256(path) != item.sha256:
        path.unlink()
        raise WeightsError(
            f"'{path}' was not what is published and was deleted; give the same command again."
        )


def _transfer(item: Item, path: Path, part: Part, progress: Progress) -> None:
    """Fetch into `path.part`, going on where an earlier try stopped, and rename when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    done = partial.stat().st_size if partial.is_file() else 0
    if done > item.size:
        partial.unlink()
        done = 0
    while done < item.size:
        before = done
        done = _append(item, partial, done, part, progress)
        if done <= before:
            raise WeightsError(
                f"The connection broke off after {done} of {item.size} bytes of {item.address}; the same command "
                "goes on from there."
            )
    partial.touch()  # a file may have no bytes at all
    os.replace(partial, path)


def _append(item: Item, partial: Path, done: int, part: Part, progress: Progress) -> int:
    """Read on from byte `done` for as long as the connection holds; how many bytes there are then."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    with _open(item.address, part, headers=headers) as answer, open(partial, "ab") as file:
        if answer.status != 206:  # a server that knows no ranges begins again
            file.truncate(0)
        progress(partial.stem, file.tell(), item.size)
        try:
            while block := answer.read(BLOCK):
                file.write(block)
                progress(partial.stem, file.tell(), item.size)
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            pass  # what has come is kept, and the next try begins there
    return partial.stat().st_size


def _length(url: str) -> int:
    with _open(url, method="HEAD") as answer:
        return int(answer.headers["Content-Length"])


def _open(address: str, part: Part | None = None, method: str = "GET", headers: dict | None = None):
    """Send a request, with the user's token where it goes to the hub. Raises WeightsError, one sentence."""
    request = urllib.request.Request(
        address, headers={"User-Agent": "videopainter", **(headers or {})}, method=method
    )
    hub = part is not None and part.repo is not None
    if hub and (token := _token()):
        # Not for the storage that the hub sends us on to: it has a signature of its own in the address.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if part is not None and part.repo and part.gated and error.code in (401, 403):
            raise WeightsError(_gated(part)) from error
        if hub and error.code in (401, 404):  # the hub's answer for what is not there is 401 without a token
            raise WeightsError(f"{address} is not there ({error.code} {error.reason}).") from error
        raise WeightsError(f"{address} answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        if hub:
            raise WeightsError(_unreachable(address, error)) from error
        raise WeightsError(f"{address} cannot be reached: {getattr(error, 'reason', error)}.") from error


def _hub_listing(part: Part) -> tuple[list[tuple[str, int, str | None]], str]:
    """([(file, bytes, SHA-256 where it is told)], commit) of a part's repository."""
    hub = _hub()
    api = hub.HfApi(endpoint=_endpoint(), token=_token() or False, user_agent="videopainter")
    try:
        info = api.model_info(part.repo, files_metadata=True, timeout=TIMEOUT)
    except hub.errors.GatedRepoError as error:
        raise WeightsError(_gated(part)) from error
    except hub.errors.RepositoryNotFoundError as error:
        raise WeightsError(f"There is no repository {part.repo} at {_endpoint()}.") from error
    except hub.errors.HfHubHTTPError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise WeightsError(f"{_endpoint()} answers {status} when asked for {part.repo}.") from error
    except Exception as error:  # of whatever client it reaches the network with
        raise WeightsError(_unreachable(f"{_endpoint()}/{part.repo}", error)) from error
    files = [(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings]
    return files, info.sha


def _gated(part: Part) -> str:
    return (
        f"{part.repo} is gated: accept its licence at {_endpoint()}/{part.repo}, then log in with "
        "'hf auth login' or set HF_TOKEN to a token of that account, or do without it, as it is optional."
    )


def _unreachable(address: str, error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{address} cannot be reached: {reason}; the same command tries again, and HF_ENDPOINT names a mirror."


def _hub():
    """huggingface_hub, which only this needs."""
    try:
        import huggingface_hub
    except ImportError:
        raise WeightsError(
            "Weights on the Hugging Face Hub are found with huggingface_hub; the extra [diffusion] has it."
        ) from None
    return huggingface_hub


def _token() -> str | None:
    """The user's token of the hub: from the environment, or as 'hf auth login' leaves it."""
    return _hub().get_token()


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _bytes_left(item: Item, root: Path) -> int:
    """Bytes of a file that still have to come."""
    path = root / item.path
    if _whole(path, item):
        return 0
    partial = _partial(path)
    return max(item.size - (partial.stat().st_size if partial.is_file() else 0), 0)


def _whole(path: Path, item: Item) -> bool:
    return path.is_file() and path.stat().st_size == item.size


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _record(entry: Listing, root: Path) -> None:
    """Write down what was published, for `--check` without a network."""
    (root / RECORDS).mkdir(exist_ok=True)
    files = {item.path: {"size": item.size, "sha256": item.sha256} for item in entry.items}
    record = {"repo": entry.part.repo, "revision": entry.revision, "files": files}
    with whole_file(root / RECORDS / f"{entry.part.name}.json") as file:
        file.write(json.dumps(record, indent=1).encode())


def _known_good(item: Item, entry: Listing, root: Path) -> bool:
    """Whether this very file was checked by an earlier run; then 22 GB need not be read again."""
    record = root / RECORDS / f"{entry.part.name}.json"
    if not record.is_file():
        return False
    return json.loads(record.read_text())["files"].get(item.path, {}).get("sha256") == item.sha256


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(8 * BLOCK):
            digest.update(block)
    return digest.hexdigest()


def gigabytes(size: float) -> str:
    """Bytes in words, in the powers of ten that disks are sold in."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
