"""Fetches published weights into the weights folder: only what is needed, whole, and checked.

Files are transferred here and not by huggingface_hub, which begins a file anew after it was stopped (since its
version 2), while an interrupted download of ours goes on where it was. A mirror of the hub: the environment variable
HF_ENDPOINT.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from videopainter import weights
from videopainter.utils.atomic import whole_file
from videopainter.utils.locks import FileLock
from videopainter.weights import PARTS, RECORDS, Part, WeightsError, hub
from videopainter.weights.errors import read_json
from videopainter.weights.transfer import BLOCK, Item, NotThere, Progress, length, partial_of, transfer

SPARE = 500_000_000  # bytes of the disk that stay free

Say = Callable[[str], None]  # a line of what goes on


@dataclass(frozen=True)
class Listing:
    """The files of a part as they are published; `revision` is the repository's commit."""

    part: Part
    items: list[Item]
    revision: str | None = None


def default_parts() -> list[str]:
    """Everything that needs neither an account nor a human hand, and does not have to be named."""
    return [name for name, part in PARTS.items() if not (part.gated or part.by_hand or part.optional)]


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
            say(f"  {name:<19} {'':>8}  there: {part.what}")
        else:
            wanted.append(part)
    listings = [listing(part) for part in wanted]
    to_come = {entry.part.name: sum(_bytes_left(item, root) for item in entry.items) for entry in listings}
    for entry in listings:
        total = sum(item.size for item in entry.items)
        state = f"{gigabytes(to_come[entry.part.name])} to download" if to_come[entry.part.name] else "there"
        say(f"  {entry.part.name:<19} {gigabytes(total):>8}, {state}: {entry.part.what}")
    root.mkdir(parents=True, exist_ok=True)
    needed, free = sum(to_come.values()), shutil.disk_usage(root).free
    say(f"{gigabytes(needed)} to download into {root}, where {gigabytes(free)} are free.")
    if needed and needed + SPARE > free:
        raise WeightsError(
            f"The disk of '{root}' has {gigabytes(free)} free, but {gigabytes(needed + SPARE)} are needed; make "
            "room, or name another `folder`."
        )
    (root / RECORDS).mkdir(exist_ok=True)
    lock = FileLock(root / RECORDS / "lock")
    if not lock.take():
        raise WeightsError(f"Another download into '{root}' is at work; wait until it has ended.")
    try:
        for entry in listings:
            for item in entry.items:
                _download(entry, item, root, progress)
            _record(entry, root)
    finally:
        lock.release()
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
        known = dict(part.sha256)
        own = [(path, hub.mirrored(url)) for path, url in part.urls]
        return Listing(part, [Item(path, url, length(url), known.get(path)) for path, url in own])
    found, commit = hub.files_of(part)
    items = []
    for file in found:
        if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in part.patterns):
            if not hub.stays_inside(file.name):
                raise WeightsError(
                    f"{hub.endpoint()} lists '{file.name}' in {part.repo}, which is no name of a file in a folder; "
                    "nothing of it is fetched."
                )
            address = hub.address_of(part, file.name, commit)
            items.append(Item(f"{part.folder}/{file.name}", address, file.size, file.sha256))
    if not items:
        raise WeightsError(f"The repository {part.repo} has none of the files {', '.join(part.patterns)}.")
    return Listing(part, items, commit)


def _download(entry: Listing, item: Item, root: Path, progress: Progress) -> None:
    path, part = root / item.path, entry.part
    if _whole(path, item):
        if item.sha256 is None or _known_good(item, entry, root):
            return
    elif part.repo is None:
        transfer(item, path, None, progress)
    else:
        try:
            transfer(item, path, hub.token(), progress, lambda error: hub.no_file(error, part, item.address))
        except NotThere as error:
            raise WeightsError(hub.unreachable(item.address, error)) from None
    if item.sha256 and _sha256(path) != item.sha256:
        path.unlink()
        raise WeightsError(
            f"'{path}' was not what is published and was deleted; give the same command again."
        )


def _bytes_left(item: Item, root: Path) -> int:
    """Bytes of a file that still have to come."""
    path = root / item.path
    if _whole(path, item):
        return 0
    partial = partial_of(path)
    return max(item.size - (partial.stat().st_size if partial.is_file() else 0), 0)


def _whole(path: Path, item: Item) -> bool:
    return path.is_file() and path.stat().st_size == item.size


def _record(entry: Listing, root: Path) -> None:
    """Write down what was published, for `--check` without a network."""
    files = {item.path: {"size": item.size, "sha256": item.sha256} for item in entry.items}
    record = {"repo": entry.part.repo, "revision": entry.revision, "files": files}
    with whole_file(root / RECORDS / f"{entry.part.name}.json") as file:
        file.write(json.dumps(record, indent=1).encode())


def _known_good(item: Item, entry: Listing, root: Path) -> bool:
    """Whether this very file was checked by an earlier run; then 22 GB need not be read again."""
    try:
        record = read_json(root / RECORDS / f"{entry.part.name}.json")
        return record["files"][item.path]["sha256"] == item.sha256
    except (WeightsError, LookupError, TypeError):  # there is none, or it is damaged
        return False


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
