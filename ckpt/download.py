#!/usr/bin/env python3
"""Fetches the weights into this folder, and says what is there.

    python ckpt/download.py                      everything that can be had without an account
    python ckpt/download.py --only base,branch   these parts
    python ckpt/download.py --check              what is there, whole, missing, and which engines that allows

An interrupted download goes on where it stopped when the same command is given again. Another folder than ckpt/:
`--folder` or the environment variable VIDEOPAINTER_CKPT. A mirror of the Hugging Face Hub: HF_ENDPOINT. Files are
transferred here rather than by huggingface_hub, which since its version 2 begins a file anew after it was stopped.
"""

import argparse
import fnmatch
import hashlib
import http.client
import json
import os
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter import weights  # noqa: E402
from videopainter.utils.atomic import whole_file  # noqa: E402
from videopainter.weights import PARTS, RECORDS, Part, WeightsError  # noqa: E402

BLOCK = 2**20
SPARE = 500_000_000  # bytes of the disk that stay free
TIMEOUT = 60  # seconds without a byte after which a server counts as gone


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


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Fetch the weights and check them.",
        epilog="Parts: " + "; ".join(f"{p.name}: {p.what}, {gigabytes(p.size)}" for p in PARTS.values()),
    )
    parser.add_argument(
        "--only",
        type=_parts,
        metavar="PART,...",
        help=f"of {', '.join(PARTS)} (default: {', '.join(default_parts())})",
    )
    parser.add_argument("--check", action="store_true", help="download nothing, say what is there")
    parser.add_argument(
        "--folder", help=f"where the weights lie (default: ${weights.ENVIRONMENT}, or this folder)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0; 1 if something checked is missing or damaged; 2 for an error; 130, Ctrl-C."""
    args = build_parser().parse_args(argv)
    try:
        if args.check:
            return check(args.only, args.folder)
        return fetch(args.only or default_parts(), args.folder)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except (WeightsError, OSError) as error:
        print(f"download.py: error: {_sentence(error)}", file=sys.stderr)
        return 2


def default_parts() -> list[str]:
    """Everything that needs neither an account nor a human hand."""
    return [name for name, part in PARTS.items() if not part.gated and not part.by_hand]


def check(only: list[str] | None, folder: str | None) -> int:
    """Print what is there and what that allows. 1 if a part of `only`, or any that is begun, is not in order."""
    print(f"Weights in {weights.weights_folder(folder)}:")
    bad, whole = False, set()
    for name in only or PARTS:
        absent, wrong = weights.absent(name, folder), weights.problems(name, folder)
        state = "damaged" if wrong else "missing" if absent else "there"
        begun = absent and weights.started(name, folder)
        print(f"  {name:<11} {state:<8} {PARTS[name].what}")
        for sentence in wrong:
            print(f"              {sentence}")
        if begun:
            print(f"              incomplete: {', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''}")
        if state == "there":
            whole.add(name)
        bad |= bool(wrong or begun or (only and absent))
    if not only:
        print("That allows:")
        for engine, needed in weights.NEEDED.items():
            lacking = [name for name in needed if name not in whole]
            print(f"  {engine:<13} {'no; ' + _advice(lacking, folder) if lacking else 'yes'}")
    return int(bad)


def _advice(parts: list[str], folder: str | None) -> str:
    by_hand = [PARTS[name] for name in parts if PARTS[name].by_hand]
    if by_hand:
        return by_hand[0].by_hand.format(folder=weights.weights_folder(folder) / by_hand[0].folder)
    return weights.command(parts, folder)


def fetch(names: list[str], folder: str | None) -> int:
    """List, show sizes, see to it that the disk has room, download, check."""
    root = weights.weights_folder(folder)
    wanted = []
    for name in names:
        part, found = PARTS[name], weights.complete_set(name, folder)
        if part.by_hand and found is None:
            raise WeightsError(part.by_hand.format(folder=root / part.folder))
        # What is there in another form (SAM 2 as a .pt file, ProPainter converted) is not fetched once more.
        if part.by_hand or found not in (None, part.sets[0]):
            print(f"  {name:<11} {'':>8}  there: {part.what}")
        else:
            wanted.append(part)
    listings = [listing(part) for part in wanted]
    to_come = {entry.part.name: sum(_bytes_left(item, root) for item in entry.items) for entry in listings}
    for entry in listings:
        total = sum(item.size for item in entry.items)
        state = f"{gigabytes(to_come[entry.part.name])} to download" if to_come[entry.part.name] else "there"
        print(f"  {entry.part.name:<11} {gigabytes(total):>8}, {state}: {entry.part.what}")
    root.mkdir(parents=True, exist_ok=True)
    needed, free = sum(to_come.values()), shutil.disk_usage(root).free
    print(f"{gigabytes(needed)} to download into {root}, where {gigabytes(free)} are free.", flush=True)
    if needed and needed + SPARE > free:
        raise WeightsError(
            f"The disk of '{root}' has {gigabytes(free)} free, but {gigabytes(needed + SPARE)} are needed; make "
            "room, or name another folder with --folder."
        )
    for entry in listings:
        for item in entry.items:
            _download(entry, item, root)
        _record(entry, root)
    damaged = [sentence for name in names for sentence in weights.problems(name, folder)]
    lacking = [path for name in names for path in weights.absent(name, folder)]
    if damaged or lacking:
        raise WeightsError(
            damaged[0] if damaged else f"'{root / lacking[0]}' is not among the published files."
        )
    print("Everything is there and whole.")
    return 0


def listing(part: Part) -> Listing:
    """What is published of a part, asked for from its owner."""
    if part.urls:
        return Listing(part, [Item(path, url, _length(url)) for path, url in part.urls])
    with _open(f"{_endpoint()}/api/models/{part.repo}?blobs=true", part) as answer:
        info = json.load(answer)
    items = []
    for file in info["siblings"]:
        name = file["rfilename"]
        if any(fnmatch.fnmatch(name, pattern) for pattern in part.patterns):
            address = f"{_endpoint()}/{part.repo}/resolve/{info['sha']}/{urllib.parse.quote(name)}"
            sha256 = (file.get("lfs") or {}).get("sha256")
            items.append(Item(f"{part.folder}/{name}", address, file["size"], sha256))
    if not items:
        raise WeightsError(f"The repository {part.repo} has none of the files {', '.join(part.patterns)}.")
    return Listing(part, items, info["sha"])


def _download(entry: Listing, item: Item, root: Path) -> None:
    path = root / item.path
    if _whole(path, item):
        if item.sha256 is None or _known_good(item, entry, root):
            return
    else:
        _transfer(item, path, entry.part)
    if item.sha256 and _sha256(path) != item.sha256:
        path.unlink()
        raise WeightsError(
            f"'{path}' was not what is published and was deleted; give the same command again."
        )


def _transfer(item: Item, path: Path, part: Part) -> None:
    """Fetch into `path.part`, going on where an earlier try stopped, and rename when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    done = partial.stat().st_size if partial.is_file() else 0
    if done > item.size:
        partial.unlink()
        done = 0
    while done < item.size:
        before = done
        done = _append(item, partial, done, part)
        if done <= before:
            raise WeightsError(
                f"The connection broke off after {done} of {item.size} bytes of {item.address}; the same command "
                "goes on from there."
            )
    partial.touch()  # a file may have no bytes at all
    os.replace(partial, path)


def _append(item: Item, partial: Path, done: int, part: Part) -> int:
    """Read on from byte `done` for as long as the connection holds; how many bytes there are then."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    with _open(item.address, part, headers=headers) as answer, open(partial, "ab") as file:
        if answer.status != 206:  # a server that knows no ranges begins again
            file.truncate(0)
        with _bar(partial.stem, item.size, file.tell()) as bar:
            try:
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
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
    hub = part is not None and part.repo
    if hub and (token := _token()):
        # Not for the storage that the hub sends us on to: it has a signature of its own in the address.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if hub and part.gated and error.code in (401, 403):
            raise WeightsError(
                f"{part.repo} is gated: accept its licence at {_endpoint()}/{part.repo}, then log in with "
                "'hf auth login' or set HF_TOKEN to a token of that account, or do without it, as it is optional."
            ) from error
        if hub and error.code in (401, 404):  # the hub's answer for what is not there is 401 without a token
            raise WeightsError(f"{address} is not there ({error.code} {error.reason}).") from error
        raise WeightsError(f"{address} answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        mirror = "; the same command tries again, and HF_ENDPOINT names a mirror" if hub else ""
        raise WeightsError(
            f"{address} cannot be reached: {getattr(error, 'reason', error)}{mirror}."
        ) from error


def _token() -> str | None:
    """The user's token of the hub: from the environment, or as 'hf auth login' leaves it."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    kept = Path(os.environ.get("HF_TOKEN_PATH", f"{home}/token")).expanduser()
    return os.environ.get("HF_TOKEN") or (kept.read_text().strip() if kept.is_file() else None)


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


def _bar(name: str, total: int, done: int):
    from tqdm import tqdm

    return tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True)


def gigabytes(size: float) -> str:
    """Bytes in words, in the powers of ten that disks are sold in."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _parts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(PARTS)}")
    return list(dict.fromkeys(names))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
