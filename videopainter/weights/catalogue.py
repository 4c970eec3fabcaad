"""Which weights there are, which engine needs them, and where they lie.

Facts only: nothing is downloaded here. The table `PARTS` is what the downloader, the check and every "weights are
missing" sentence go by. Looking whether files exist is quick; whether they are whole is `check.py`'s question.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from videopainter.weights.errors import WeightsError, read_json

ENVIRONMENT = "VIDEOPAINTER_CKPT"  # another folder than ckpt/
RECORDS = ".downloads"  # in that folder: what was downloaded, as it was published
MANIFESTS = Path(__file__).parent / "manifests"
CHECKOUT = Path(__file__).resolve().parents[2] / "ckpt"  # of a checkout; not there if installed


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
        sha256: of such files, where it is known.
        gated: the owner wants an account to agree to a licence first.
        by_hand: instead of either, one sentence on where people get it.
        optional: fetched only where it is named.
    """

    name: str
    what: str
    folder: str
    size: int
    sets: tuple[FileSet, ...]
    repo: str | None = None
    patterns: tuple[str, ...] = ()
    urls: tuple[tuple[str, str], ...] = ()
    sha256: tuple[tuple[str, str], ...] = ()
    gated: bool = False
    by_hand: str | None = None
    optional: bool = False


def _diffusers(folder: str, configs: str, networks: dict[str, str | None]) -> FileSet:
    """A diffusers pipeline's folder: `networks` maps the path of each network to its manifest."""
    files = ["model_index.json", *configs.split()]
    files += [f"{path.rsplit('/', 1)[0]}/config.json" for path in networks]
    return FileSet(
        tuple(f"{folder}/{name}" for name in files),
        tuple(Network(f"{folder}/{path}", manifest) for path, manifest in networks.items()),
    )


def _sam2(name: str, release: str, size: str, bytes_: int) -> Part:
    """SAM 2 of a release and a size, in transformers' format or as the original release's file."""
    folder = f"sam{release.removesuffix('.0')}-hiera-{size}"
    original = folder.replace("-", "_")
    return Part(
        name=name,
        what=f"SAM {release} {size}, click to mask",
        folder=folder,
        size=bytes_,
        repo=f"facebook/{folder}",
        patterns=("config.json", "model.safetensors"),
        optional=name != "sam2",
        sets=(
            FileSet((f"{folder}/config.json",), (Network(f"{folder}/model.safetensors"),)),
            FileSet(networks=(Network(f"{original}.pt", original),)),  # as the guide fetches it
        ),
    )


# Size of SAM 2 -> its parts, the newer release first.
SAM2_SIZES: dict[str, tuple[str, ...]] = {
    "tiny": ("sam2-tiny", "sam2.0-tiny"),
    "small": ("sam2-small", "sam2.0-small"),
    "base-plus": ("sam2-base-plus", "sam2.0-base-plus"),
    "large": ("sam2-large", "sam2"),
}
_SAM2_BYTES = {"tiny": 156_000_000, "small": 184_000_000, "base-plus": 324_000_000, "large": 898_000_000}
_SAM2_PARTS = tuple(
    _sam2(name, release, size, _SAM2_BYTES[size])
    for size, names in SAM2_SIZES.items()
    for name, release in zip(names, ("2.1", "2.0"))
)

_PROPAINTER = {
    "raft-things.pth": "propainter_raft",
    "recurrent_flow_completion.pth": "propainter_flow_completion",
    "ProPainter.pth": "propainter_generator",
}
_PROPAINTER_RELEASE = "https://github.com/sczhou/ProPainter/releases/download/v0.1.0"

_HUB = "https://huggingface.co"
_METRICS = {
    **{
        name: f"https://download.pytorch.org/models/{name}"
        for name in ("alexnet-owt-7be5be79.pth", "squeezenet1_1-b8a52dc0.pth", "vgg16-397923af.pth")
    },
    **{
        f"lpips_{net}.pth": "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
        f"{net}.pth"
        for net in ("alex", "squeeze", "vgg")
    },
    "i3d_rgb_imagenet.pt": f"{_PROPAINTER_RELEASE}/i3d_rgb_imagenet.pt",
    **{
        f"{clip}/{name}": f"{_HUB}/openai/{clip}/resolve/main/{name}"
        for clip, weights in (("clip-vit-large-patch14", "model.safetensors"),
                              ("clip-vit-base-patch32", "pytorch_model.bin"))
        for name in ("config.json", weights, "merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json")
    },
    **{
        f"dinov2-giant/{name}": f"{_HUB}/facebook/dinov2-giant/resolve/main/{name}"
        for name in ("config.json", "pytorch_model.bin")
    },
}  # fmt: skip
# Of LPIPS: as its package ships the linear weights, and as torchvision's names begin.
_METRICS_SHA256 = {
    "alexnet-owt-7be5be79.pth": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "squeezenet1_1-b8a52dc0.pth": "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "lpips_alex.pth": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "lpips_squeeze.pth": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    "lpips_vgg.pth": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}

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
        next(part for part in _SAM2_PARTS if part.name == "sam2"),
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
            name="metrics",
            what="LPIPS, CLIP, I3D and DINOv2, for measuring",
            folder="metrics",
            size=7_720_000_000,
            urls=tuple((f"metrics/{path}", address) for path, address in _METRICS.items()),
            sha256=tuple((f"metrics/{path}", known) for path, known in _METRICS_SHA256.items()),
            sets=(FileSet(tuple(f"metrics/{path}" for path in _METRICS)),),
            optional=True,
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
        *(part for part in _SAM2_PARTS if part.name != "sam2"),
        Part(
            name="edgetam",
            what="EdgeTAM, click to mask, for small GPUs and CPUs",
            folder="edgetam",
            size=56_000_000,
            repo="yonigozlan/EdgeTAM-hf",
            patterns=("model.safetensors",),
            optional=True,
            sets=(
                FileSet(networks=(Network("edgetam/model.safetensors", "edgetam"),)),
                FileSet(networks=(Network("edgetam.pt", "edgetam_original"),)),
            ),
        ),
        *(
            Part(
                name=f"grounding-dino-{size}",
                what=f"GroundingDINO {size}, words to boxes",
                folder=f"grounding-dino-{size}",
                size=bytes_,
                repo=f"IDEA-Research/grounding-dino-{size}",
                patterns=("config.json", "model.safetensors", "tokenizer.json"),
                optional=True,
                sets=(
                    FileSet(
                        (f"grounding-dino-{size}/config.json", f"grounding-dino-{size}/tokenizer.json"),
                        (Network(f"grounding-dino-{size}/model.safetensors"),),
                    ),
                ),
            )
            for size, bytes_ in (("tiny", 691_000_000), ("base", 935_000_000))
        ),
        Part(
            name="sam3",
            what="SAM 3, words to masks",
            folder="sam3",
            size=3_450_000_000,
            repo="facebook/sam3",
            gated=True,
            optional=True,
            patterns=("config.json", "model.safetensors", "tokenizer.json"),
            sets=(
                FileSet(("sam3/config.json", "sam3/tokenizer.json"), (Network("sam3/model.safetensors"),)),
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
    "sam2": ("sam2",),  # a segmenter, as the next one
    "edgetam": ("edgetam",),
    "words": ("grounding-dino-tiny",),  # what finds things by their names
}
# Parts that do as well in the place of one that is needed.
INSTEAD: dict[str, tuple[str, ...]] = {
    "sam2": tuple(name for names in SAM2_SIZES.values() for name in names),
    "grounding-dino-tiny": ("grounding-dino-base", "sam3"),
}


def weights_folder(folder: str | os.PathLike | None = None) -> Path:
    """`folder`, else the environment's VIDEOPAINTER_CKPT, else `ckpt` of a checkout, else `videopainter` in the
    user's cache."""
    chosen = folder or os.environ.get(ENVIRONMENT)
    if chosen:
        return _of_user(Path(chosen))
    return CHECKOUT if _in_checkout() else _user_cache() / "videopainter"


def _in_checkout() -> bool:
    return (CHECKOUT / "download.py").is_file()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return _of_user(Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local"))
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return _of_user(Path(os.environ.get("XDG_CACHE_HOME") or usual))


def _of_user(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # nobody of that name, or no home
        return path


def complete_set(part: str, folder: str | os.PathLike | None = None) -> FileSet | None:
    """The first set of files of `part` that is there; only looks whether files exist, so it is quick."""
    root = weights_folder(folder)
    return next((files for files in PARTS[part].sets if not _absent(files, root)), None)


def missing(engine: str, folder: str | os.PathLike | None = None) -> list[str]:
    """The parts that `engine` (a key of `NEEDED`) cannot run without and that are not there; quick."""
    return [part for part in NEEDED[engine] if not any(complete_set(p, folder) for p in alternatives(part))]


def alternatives(part: str) -> tuple[str, ...]:
    """The part, and those that do as well in its place."""
    return (part, *INSTEAD.get(part, ()))


def command(parts: Sequence[str], folder: str | os.PathLike | None = None) -> str:
    """The command line that gets these parts."""
    where = f" --folder {os.fspath(folder)}" if folder else ""
    program = "python ckpt/download.py" if _in_checkout() else "videopainter weights"
    return f"{program} --only {','.join(parts)}{where}"


def why_missing(engine: str, folder: str | os.PathLike | None = None) -> str | None:
    """What an engine's table entry says when weights are not there; None if they are."""
    parts = missing(engine, folder)
    return not_there(parts, folder) if parts else None


def not_there(parts: Sequence[str], folder: str | os.PathLike | None = None) -> str:
    """What is said of parts that are missing, and how to get them."""
    return f"weights are missing in '{weights_folder(folder)}'; {command(parts, folder)} gets them"


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


@cache
def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a published network.

    "*" in the file stands for the number of each block; "like" is another file that has the tensors that are not said
    here, but for those whose names begin with one of "without".
    """
    read = json.loads((MANIFESTS / f"{name}.json").read_text())
    shapes: dict[str, tuple[int, ...]] = {}
    if "like" in read:
        dropped = tuple(read["without"])
        shapes = {k: v for k, v in manifest(read["like"]).items() if not k.startswith(dropped)}
    for key, shape in read["shapes"].items():
        keys = [key.replace("*", str(i)) for i in range(read["blocks"])] if "*" in key else [key]
        shapes.update((k, tuple(shape)) for k in keys)
    return shapes


def network_files(network: Network, root: Path) -> list[Path]:
    """The files that hold a network's tensors: one, or the shards that its index lists.

    Raises WeightsError for an index that cannot be read, or that names a file outside its own folder.
    """
    single, index = root / network.path, root / f"{network.path}.index.json"
    if single.is_file() or not index.is_file():
        return [single]
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
        if any(Path(name).name != name for name in shards):
            raise ValueError
    except (ValueError, LookupError, AttributeError, TypeError):
        raise WeightsError(
            f"'{index}' is not an index of weights; delete it and download it again."
        ) from None
    return [index.parent / name for name in shards]


def _absent(files: FileSet, root: Path) -> list[str]:
    names = [name for name in files.files if not (root / name).is_file()]
    for network in files.networks:
        try:
            paths = network_files(network, root)
        except WeightsError:  # it is there; `problems` says what is wrong with it
            continue
        names += [os.path.relpath(path, root) for path in paths if not path.is_file()]
    return names
