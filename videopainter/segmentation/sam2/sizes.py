"""The sizes of SAM 2, the shapes of their networks, and which of them is taken."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from videopainter.weights import PARTS, SAM2_SIZES, complete_set, manifest, not_there, weights_folder

RELEASES = ("2.1", "2.0")  # in the order of the parts of each size


@dataclass(frozen=True)
class Backbone:
    """What tells a size from another: the Hiera backbone, as Sam2's configuration files have it."""

    width: int
    heads: int
    blocks: tuple[int, ...]
    global_blocks: tuple[int, ...]
    background: int  # side of the table of positions between windows
    windows: tuple[int, ...]


SIZES: dict[str, Backbone] = {
    "tiny": Backbone(96, 1, (1, 2, 7, 2), (5, 7, 9), 7, (8, 4, 14, 7)),
    "small": Backbone(96, 1, (1, 2, 11, 2), (7, 10, 13), 7, (8, 4, 14, 7)),
    "base-plus": Backbone(112, 2, (2, 3, 16, 3), (12, 16, 20), 14, (8, 4, 14, 7)),
    "large": Backbone(144, 2, (2, 6, 36, 4), (23, 33, 43), 7, (8, 4, 16, 8)),
}


@dataclass(frozen=True)
class Released:
    """A released network: its size and release; `part`, its name in the table of weights."""

    size: str
    release: str

    @property
    def part(self) -> str:
        return SAM2_SIZES[self.size][RELEASES.index(self.release)]

    @property
    def folder(self) -> str:
        """Where it lies, in transformers' format, below the weights folder."""
        return PARTS[self.part].folder

    @property
    def file(self) -> str:
        """The name of the original release's file without its ending, and of its manifest."""
        return self.folder.replace("-", "_")

    def __str__(self) -> str:
        return f"SAM {self.release} {self.size}"


ALL = tuple(Released(size, release) for size in SIZES for release in RELEASES)


def choose(size: str, gpu: bool, folder: str | os.PathLike | None = None) -> Released | None:
    """The network of a size whose weights are there; of both releases the newer one.

    `size`: a key of `SIZES`; or "auto": the largest that is there on a GPU, the smallest elsewhere.
    """
    sizes = [size] if size != "auto" else list(reversed(SIZES)) if gpu else list(SIZES)
    for name in sizes:
        for release in RELEASES:
            found = Released(name, release)
            if complete_set(found.part, folder):
                return found
    return None


def why_none(size: str, gpu: bool, folder: str | os.PathLike | None = None) -> str:
    """What is said where `choose` finds none."""
    if size == "auto":
        part = "sam2" if gpu else "sam2-tiny"
        return not_there([part], folder)
    others = [found for found in ALL if complete_set(found.part, folder)]
    here = f", only those of {' and '.join(map(str, others))} are in '{weights_folder(folder)}'"
    return f"{not_there([SAM2_SIZES[size][0]], folder)}{here if others else ''}"


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Released | None:
    """The released network that has tensors of these names (the original release's) and shapes, if any."""
    shapes = {name: tuple(shape) for name, shape in shapes.items()}
    return next((one for one in ALL if manifest(one.file) == shapes), None)


def size_of(config) -> str | None:
    """The size whose backbone a `Sam2VideoConfig` describes, if any."""
    backbone = config.vision_config.backbone_config
    for name, one in SIZES.items():
        if (backbone.hidden_size, tuple(backbone.blocks_per_stage)) == (one.width, one.blocks):
            return name
    return None


def config_of(size: str, keys: Iterable[str]):
    """`Sam2VideoConfig` of a size, of release 2.1 if its extra tensors are among the converted `keys`."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    one, keys = SIZES[size], set(keys)
    widths = [one.width << k for k in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=one.width,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[one.heads << k for k in range(4)],
        blocks_per_stage=list(one.blocks),
        global_attention_blocks=list(one.global_blocks),
        window_positional_embedding_background_size=[one.background] * 2,
        window_size_per_stage=list(one.windows),
    )
    return Sam2VideoConfig(
        vision_config=Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1]),
        enable_temporal_pos_encoding_for_object_pointers="temporal_positional_encoding_projection_layer.weight"
        in keys,
        enable_occlusion_spatial_embedding="occlusion_spatial_embedding_parameter" in keys,
    )
