"""What a DSTT network is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from videopainter.utils.checks import MOST_LAYERS, short, whole_number, whole_numbers

MAPS = 7  # channels that say what the previous output is worth: valid, seen, age, worth, the membrane's three


@dataclass(frozen=True)
class DSTTConfig:
    """Width, depth and memory of the network; every size is in pixels of its own resolution.

    Args:
        size: (height, width) it was made for. Others work too: nothing in the weights depends on it.
        channels: of the encoder's features at a quarter of the size; a multiple of every number of `groups`.
        groups: of the hierarchical encoder's grouped convolutions, one a layer.
        hidden: values of a token; a multiple of `heads`.
        heads: of every attention.
        blocks: transformer blocks; spatial and temporal ones alternate, the first is spatial.
        slots: past frames whose tokens are remembered; 0 for no memory of tokens.
        patch, stride: side of a patch in features, and the step from one to the next; `patch` is odd.
        patch_channels: of the features that tokens are turned back into, before they are fused.
        zone: (rows, columns) of tokens that meet in a temporal block.
        expansion: of the feed-forward layers.

    Raises ValueError for numbers that no network can have.
    """

    size: tuple[int, int] = (360, 640)
    channels: int = 256
    groups: tuple[int, ...] = (1, 2, 4, 8, 1)
    hidden: int = 512
    heads: int = 4
    blocks: int = 8
    slots: int = 2
    patch: int = 7
    stride: int = 3
    patch_channels: int = 128
    zone: tuple[int, int] = (15, 27)
    expansion: int = 4

    def __post_init__(self):
        for name, count in (("size", 2), ("groups", None), ("zone", 2)):  # lists, as JSON gives them back
            object.__setattr__(self, name, whole_numbers(name, getattr(self, name), count))
        for name in ("channels", "hidden", "heads", "patch", "stride", "patch_channels", "expansion"):
            whole_number(name, getattr(self, name))
        for name, least in (("blocks", 1), ("slots", 0)):
            whole_number(name, getattr(self, name), least, MOST_LAYERS)
        if any(self.channels % (4 * group) for group in self.groups):
            raise ValueError(
                f"channels ({self.channels}) need to be a multiple of 4 times each of {self.groups}."
            )
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) needs to be a multiple of heads ({self.heads}).")
        if self.patch % 2 == 0 or self.stride > self.patch:
            raise ValueError(
                f"patch needs to be odd and stride at most patch, but they are {self.patch} and {self.stride}."
            )

    def features(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(rows, columns) of the encoder's features for frames of ``size`` (None: its own)."""
        height, width = size or self.size
        return -(-height // 4), -(-width // 4)

    def grid(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(rows, columns) of tokens for frames of ``size`` (None: its own)."""
        pad = self.patch // 2
        rows, columns = ((n + 2 * pad - self.patch) // self.stride + 1 for n in self.features(size))
        return rows, columns

    def memory_shape(self, batch: int = 1, size: tuple[int, int] | None = None) -> tuple[int, ...]:
        """``(batch, blocks, slots, tokens, hidden)``; a memory of zeros is an empty one."""
        rows, columns = self.grid(size)
        return batch, self.blocks, self.slots, rows * columns, self.hidden

    def to_dict(self) -> dict:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> DSTTConfig:
        """From `to_dict`; what is not given has its default. Raises ValueError for a name that is not known."""
        check_names(cls, values, "DSTT configuration")
        return cls(**values)


def check_names(cls: type, values: Mapping, what: str) -> None:
    """Raises ValueError unless ``values`` are a table of fields of the dataclass; ``what``: it is, in words."""
    if not isinstance(values, Mapping):
        raise ValueError(f"A {what} is a table of names and values, not {short(values)}.")
    if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
        raise ValueError(f"A {what} has no {short(unknown[0])}.")


PRESETS = {
    # As published for 360 x 640: 30 x 54 = 1620 tokens, eight blocks, two slots.
    "full": DSTTConfig(),
    # For CPUs.
    "small": DSTTConfig(
        size=(120, 216),
        channels=64,
        groups=(2, 4, 8),
        hidden=128,
        blocks=4,
        patch_channels=16,
        zone=(5, 9),
        expansion=2,
    ),
    # For tests: everything that the others have, as little of it as there can be.
    "tiny": DSTTConfig(
        size=(32, 48),
        channels=16,
        groups=(1, 2),
        hidden=16,
        heads=2,
        blocks=2,
        patch_channels=8,
        zone=(2, 2),
        expansion=1,
    ),
}


def preset(name: str) -> DSTTConfig:
    """The configuration of that name. Raises ValueError if there is none."""
    if name not in PRESETS:
        raise ValueError(f"There is no DSTT configuration '{name}'; there are {', '.join(PRESETS)}.")
    return PRESETS[name]
