"""Which weights there are, which engine needs them, where they lie, and whether what lies there is whole.

Facts only: nothing is downloaded here (`download.py` does that, when it is told to). The table `PARTS` is
what the downloader, `--check` and every "weights are missing" sentence go by.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ENVIRONMENT = "VIDEOPAINTER_CKPT"  # another folder than ckpt/
RECORDS = ".downloads"  # in that folder: what was downloaded, as it was published
MANIFESTS = Path(__file__).parent / "manifests"
CHECKOUT = (
    Path(__file__).resolve().parents[2] / "ckpt"
)  # the weights folder of a checkout; not there if installed
LONGEST_HEADER = 100_000_000  # bytes; the limit that safetensors itself sets


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another network, in one sentence."""


@dataclass(frozen=True)
class Network:
    """One network's tensors.

    `path`, below the weights folder, ends in `.safetensors`, in whose place there may be
    `path + ".index.json"` with the shards that it lists, or is a file of `torch.save`. `manifest`: the file of
    `manifests/` that says which tensors of which shape it holds, if that is known.
    """

    path: str
    manifest: str | None = None


@dataclass(frozen=True)
class FileSet:
    """Files that together are enough: `files` (paths below the weights folder) and `networks`."""

    files: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Part:
    """What `--only NAME` stands for.

    Args:
        what: a few words for tables.
        size: bytes to download, about.
        sets: any one complete set will do; the first is the one that is downloaded.
        repo: repository on the Hugging Face Hub, of which `patterns` (as `fnmatch` reads them) are taken.
        urls: instead of a repository, path below the weights folder -> address.
        gated: the owner wants an account to agree to a licence first.
        by_hand: instead of either, one sentence on where people get it.
    """

    name: str
    what: str
    folder: str
    size: int
    sets: tuple[FileSet, ...]
    repo: str | None = None
    patterns: tuple[str, ...] = ()
    urls: tuple[tuple[str, str], ...] = ()
    gated: bool = False
    by_hand: str | None = None


def _diffusers(folder: str, configs: str, networks: dict[str, str | None]) -> FileSet:
    """A diffusers pipeline's folder: `networks` maps the path of each network to its manifest."""
    files = ["model_index.json", *configs.split()]
    files += [f"{path.rsplit('/', 1)[0]}/config.json" for path in networks]
    return FileSet(
        tuple(f"{folder}/{name}" for name in files),
        tuple(Network(f"{folder}/{path}", manifest) for path, manifest in networks.items()),
    )


_PROPAINTER = {
    "raft-things.pth": "propainter_raft",
    "recurrent_flow_completion.pth": "propainter_flow_completion",
    "ProPainter.pth": "propainter_generator",
}
_PROPAINTER_RELEASE = "https://github.com/sczhou/ProPainter/releases/download/v0.1.0"

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            name="base",
            what="CogVideoX-5b-I2V, the video model",
            folder="CogVideoX-5b-I2V",
            size=21_200_000_000,
            repo="THUDM/CogVideoX-5b-I2V",
            patterns=(
                "model_index.json",
                "scheduler/*.json",
                "tokenizer/*",
                *(
                    f"{name}/*.{end}"
                    for name in ("text_encoder", "transformer", "vae")
                    for end in ("json", "safetensors")
                ),
            ),
            sets=(
                _diffusers(
                    "CogVideoX-5b-I2V",
                    "scheduler/scheduler_config.json tokenizer/tokenizer_config.json tokenizer/spiece.model",
                    {
                        "text_encoder/model.safetensors": None,
                        "transformer/diffusion_pytorch_model.safetensors": "transformer",
                        "vae/diffusion_pytorch_model.safetensors": None,
                    },
                ),
            ),
        ),
        Part(
            name="branch",
            what="VideoPainter's context branch",
            folder="VideoPainter",
            size=712_000_000,
            repo="TencentARC/VideoPainter",
            patterns=("checkpoints/branch/*.json", "checkpoints/branch/*.safetensors"),
            sets=(
                FileSet(
                    ("VideoPainter/checkpoints/branch/config.json",),
                    (
                        Network(
                            "VideoPainter/checkpoints/branch/diffusion_pytorch_model.safetensors", "branch"
                        ),
                    ),
                ),
            ),
        ),
        Part(
            name="id",
            what="VideoPainterID, the adapter that keeps an object's identity",
            folder="VideoPainterID",
            size=529_000_000,
            repo="TencentARC/VideoPainterID",
            patterns=("checkpoints/pytorch_lora_weights.safetensors",),
            sets=(
                FileSet(
                    networks=(
                        Network("VideoPainterID/checkpoints/pytorch_lora_weights.safetensors", "id_lora"),
                    )
                ),
            ),
        ),
        Part(
            name="sam2",
            what="SAM 2, click to mask",
            folder="sam2-hiera-large",
            size=898_000_000,
            repo="facebook/sam2-hiera-large",
            patterns=("config.json", "model.safetensors"),
            sets=(
                FileSet(("sam2-hiera-large/config.json",), (Network("sam2-hiera-large/model.safetensors"),)),
                FileSet(
                    networks=(Network("sam2_hiera_large.pt", "sam2_hiera_large"),)
                ),  # as the guide fetches it
            ),
        ),
        Part(
            name="flux",
            what="FLUX.1-Fill-dev, an optional painter of first frames",
            folder="flux_inp",
            size=33_800_000_000,
            repo="black-forest-labs/FLUX.1-Fill-dev",
            gated=True,
            patterns=(  # not the same weights a second time as flux1-fill-dev.safetensors
                "model_index.json",
                "scheduler/*.json",
                "tokenizer/*",
                "tokenizer_2/*",
                *(
                    f"{name}/*.{end}"
                    for name in ("text_encoder", "text_encoder_2", "transformer", "vae")
                    for end in ("json", "safetensors")
                ),
            ),
            sets=(
                _diffusers(
                    "flux_inp",
                    "scheduler/scheduler_config.json tokenizer/vocab.json tokenizer/merges.txt "
                    "tokenizer_2/tokenizer_config.json",
                    {
                        "text_encoder/model.safetensors": None,
                        "text_encoder_2/model.safetensors": None,
                        "transformer/diffusion_pytorch_model.safetensors": None,
                        "vae/diffusion_pytorch_model.safetensors": None,
                    },
                ),
            ),
        ),
        Part(
            name="propainter",
            what="ProPainter with its two flow networks",
            folder="propainter",
            size=199_000_000,
            urls=tuple((f"propainter/{name}", f"{_PROPAINTER_RELEASE}/{name}") for name in _PROPAINTER),
            sets=(
                FileSet(networks=tuple(Network(f"propainter/{n}", m) for n, m in _PROPAINTER.items())),
                FileSet(("propainter/config.json",), (Network("propainter/model.safetensors"),)),  # converted
            ),
        ),
        Part(
            name="e2fgvi",
            what="E2FGVI-HQ or E2FGVI",
            folder="e2fgvi",
            size=165_000_000,
            by_hand="E2FGVI is published on Google Drive only: follow the link to E2FGVI-HQ-CVPR22.pth in the "
            "README of github.com/MCG-NKU/E2FGVI and put the file into the folder '{folder}'.",
            sets=(
                FileSet(networks=(Network("e2fgvi/E2FGVI-HQ-CVPR22.pth", "e2fgvi_hq"),)),
                FileSet(networks=(Network("e2fgvi/E2FGVI-CVPR22.pth", "e2fgvi"),)),
                FileSet(("e2fgvi/config.json",), (Network("e2fgvi/model.safetensors"),)),  # our own
            ),
        ),
    )
}

# What each engine cannot run without. Of the rest, VideoPainter can use `id` and `flux` where they are there.
NEEDED: dict[str, tuple[str, ...]] = {
    "videopainter": ("base", "branch"),
    "propainter": ("propainter",),
    "e2fgvi": ("e2fgvi",),
    "propagation": (),
    "sam2": ("sam2",),  # the segmenter
}


def weights_folder(folder: str | os.PathLike | None = None) -> Path:
    """`folder`, else the environment's VIDEOPAINTER_CKPT, else `ckpt` of a checkout, else `videopainter` in the
    user's cache."""
    chosen = folder or os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    return CHECKOUT if _in_checkout() else _user_cache() / "videopainter"


def _in_checkout() -> bool:
    return (CHECKOUT / "download.py").is_file()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser()
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or usual).expanduser()


def complete_set(part: str, folder: str | os.PathLike | None = None) -> FileSet | None:
    """The first set of files of `part` that is there; only looks whether files exist, so it is quick."""
    root = weights_folder(folder)
    return next((files for files in PARTS[part].sets if not _absent(files, root)), None)


def missing(engine: str, folder: str | os.PathLike | None = None) -> list[str]:
    """The parts that `engine` (a key of `NEEDED`) cannot run without and that are not there; quick."""
    return [part for part in NEEDED[engine] if complete_set(part, folder) is None]


def command(parts: Sequence[str], folder: str | os.PathLike | None = None) -> str:
    """The command line that gets these parts."""
    where = f" --folder {os.fspath(folder)}" if folder else ""
    program = "python ckpt/download.py" if _in_checkout() else "videopainter weights"
    return f"{program} --only {','.join(parts)}{where}"


def why_missing(engine: str, folder: str | os.PathLike | None = None) -> str | None:
    """What an engine's table entry says when weights are not there; None if they are."""
    parts = missing(engine, folder)
    if not parts:
        return None
    return f"weights are missing in '{weights_folder(folder)}'; {command(parts, folder)} gets them"


def problems(part: str, folder: str | os.PathLike | None = None) -> list[str]:
    """Everything that is wrong with the files of a part that are there, a sentence each.

    Reads every header (keys, shapes, where the file has to end) and, of files of `torch.save`, everything,
    where PyTorch is installed. Files that are not there are not among it; see `absent`.
    """
    root = weights_folder(folder)
    files = complete_set(part, folder) or PARTS[part].sets[0]
    found = [sentence for name in files.files if (sentence := _json_problem(root / name))]
    for network in files.networks:
        try:
            check_network(network, root)
        except WeightsError as error:
            found.append(str(error))
    return found + _record_problems(part, root)


def unread(part: str, folder: str | os.PathLike | None = None) -> bool:
    """Whether a part is there in files of `torch.save` that nothing here can look into, without PyTorch."""
    files = complete_set(part, folder)
    pickles = files is not None and not all(n.path.endswith(".safetensors") for n in files.networks)
    return pickles and find_spec("torch") is None


def absent(part: str, folder: str | os.PathLike | None = None) -> list[str]:
    """Paths below the weights folder that are missing from a part; [] if some complete set is there."""
    root = weights_folder(folder)
    return [] if complete_set(part, folder) else _absent(PARTS[part].sets[0], root)


def started(part: str, folder: str | os.PathLike | None = None) -> bool:
    """Whether any file of a part is there."""
    root = weights_folder(folder)
    sets = PARTS[part].sets
    names = {
        n
        for s in sets
        for n in (*s.files, *(p for x in s.networks for p in (x.path, x.path + ".index.json")))
    }
    return any((root / name).is_file() for name in names)


def check_network(network: Network, root: Path) -> None:
    """Raise WeightsError unless the network's files are whole and hold what its manifest says; skip if absent."""
    files, _ = _files(network, root)
    present = [path for path in files if path.is_file()]
    if not present:
        return
    shapes: dict[str, tuple[int, ...]] = {}
    for path in present:
        found = tensor_shapes(path)
        if found is None:  # a pickle, and no PyTorch to read it
            return
        shapes.update(found)
    if network.manifest is None or len(present) < len(files):
        return
    compare(shapes, manifest(network.manifest), root / network.path)


def compare(shapes: dict, expected: dict, path: Path) -> None:
    """Raise WeightsError, naming a tensor and its shapes, unless both map the same names to the same shapes."""
    for name, shape in expected.items():
        if name not in shapes:
            raise WeightsError(f"'{path}' is not the published network: it has no tensor '{name}'.")
        if shapes[name] != shape:
            raise WeightsError(
                f"'{path}' is not the published network: '{name}' has the shape {list(shapes[name])}, "
                f"not {list(shape)}."
            )
    if extra := sorted(set(shapes) - set(expected)):
        raise WeightsError(
            f"'{path}' is not the published network: it also has '{extra[0]}' ({len(extra)} such tensors)."
        )


@cache
def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a published network; "*" in the file stands for the number of each block."""
    read = json.loads((MANIFESTS / f"{name}.json").read_text())
    shapes = {}
    for key, shape in read["shapes"].items():
        keys = [key.replace("*", str(i)) for i in range(read["blocks"])] if "*" in key else [key]
        shapes.update((k, tuple(shape)) for k in keys)
    return shapes


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Tensor name -> shape of a `.safetensors` file, from its header, or of a file of `torch.save`.

    None for the latter where PyTorch is not installed. Raises WeightsError if the file is cut off, empty, or
    no such file.
    """
    return _safetensors_shapes(path) if path.suffix == ".safetensors" else _pickle_shapes(path)


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Layout: 8 bytes length n, n bytes JSON, then data up to the largest offset, and not a byte more."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = file.read(min(length, LONGEST_HEADER))
    if not text.startswith(b"{"):
        raise WeightsError(f"'{path}' is not a safetensors file ({size} bytes).")
    if len(text) < length:
        raise WeightsError(f"'{path}' is cut off: its header alone is {length} bytes, the file {size}.")
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise WeightsError(f"'{path}' is not a safetensors file: its header cannot be read.") from None
    if size != end:
        raise WeightsError(
            f"'{path}' should have {end} bytes, but has {size}; delete it and download it again."
        )
    return shapes


def _pickle_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    try:
        import torch
    except ImportError:
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its reader stumbles over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"'{path}' cannot be read as weights: {reason}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):  # SAM 2 wraps them once
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise WeightsError(f"'{path}' holds something else than a network's tensors.")
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _files(network: Network, root: Path) -> tuple[list[Path], Path | None]:
    """(the files that hold the tensors, the index that lists them, if there is one)."""
    single, index = root / network.path, root / f"{network.path}.index.json"
    if single.is_file() or not index.is_file():
        return [single], None
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [index.parent / name for name in shards], index
    except (ValueError, KeyError, AttributeError, TypeError):
        raise WeightsError(
            f"'{index}' is not an index of weights; delete it and download it again."
        ) from None


def _absent(files: FileSet, root: Path) -> list[str]:
    names = [name for name in files.files if not (root / name).is_file()]
    for network in files.networks:
        try:
            paths = _files(network, root)[0]
        except WeightsError:
            paths = [
                root / f"{network.path}.index.json"
            ]  # it is there; `problems` says what is wrong with it
        names += [os.path.relpath(path, root) for path in paths if not path.is_file()]
    return names


def _json_problem(path: Path) -> str | None:
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return f"'{path}' is not JSON; delete it and download it again."
    return None


def _record_problems(part: str, root: Path) -> list[str]:
    """Files whose size is not the published one, as the downloader wrote it down."""
    record = root / RECORDS / f"{part}.json"
    if not record.is_file():
        return []
    files = json.loads(record.read_text())["files"]
    return [
        f"'{root / name}' has {(root / name).stat().st_size} bytes, but {entry['size']} were published."
        for name, entry in files.items()
        if (root / name).is_file() and (root / name).stat().st_size != entry["size"]
    ]
