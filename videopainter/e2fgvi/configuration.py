"""What an E2FGVI network is made of."""

from dataclasses import dataclass

from videopainter.utils.checks import MOST_LAYERS, short, whole_number, whole_numbers

VARIANTS = ("hq", "base")
FIXED_SIZE = (240, 432)  # (height, width) of frames, the only ones that the base variant knows
SHRINK = 4  # features are this much smaller than frames
STRIDE = 3  # feature pixels from one token to the next
LARGEST_WINDOW = 64  # rows or columns of tokens


@dataclass(frozen=True)
class E2FGVIConfig:
    """The defaults are the released networks.

    Args:
        variant: "hq", which takes frames of many sizes, or "base", which takes 432 x 240 only.
        channels: of the features; even, and twice of it a multiple of `groups`.
        groups: of the deformable convolutions; even: one half moves the last frame, the other the one before.
        hidden_size, num_layers, num_heads, intermediate_size: of the transformer; the last is a multiple of
            49, the area of a patch.
        window: (rows, columns) of tokens of an attention window, each 2 to 64.
        flow_widths: channels between the five convolutions at each level of the flow network.

    Raises ValueError for values that make no network.
    """

    variant: str = "hq"
    channels: int = 128
    groups: int = 16
    hidden_size: int = 512
    num_layers: int = 8
    num_heads: int = 4
    intermediate_size: int = 1960
    window: tuple[int, int] = (5, 9)
    flow_widths: tuple[int, int, int, int] = (32, 64, 32, 16)

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be {' or '.join(VARIANTS)}, not {short(self.variant)}.")
        for name in ("channels", "groups", "hidden_size", "num_heads", "intermediate_size"):
            whole_number(name, getattr(self, name))
        whole_number("num_layers", self.num_layers, most=MOST_LAYERS)
        # Lists, where they come from JSON. Every layer keeps a table of its window's neighbours.
        object.__setattr__(self, "window", whole_numbers("window", self.window, 2, 2, LARGEST_WINDOW))
        object.__setattr__(self, "flow_widths", whole_numbers("flow_widths", self.flow_widths, 4))
        if self.groups % 2 or 2 * self.channels % self.groups or self.channels % 8:
            raise ValueError(
                f"channels must be a multiple of 8 and of half of groups, which is even, not {self.channels} "
                f"with {self.groups} groups."
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads, not {self.hidden_size} with {self.num_heads}."
            )
        if self.variant == "base" and any(n % m for n, m in zip(FIXED_SIZE, self.multiple)):
            raise ValueError(
                f"window must divide 20 rows and 36 columns, not {self.window}, in the base variant."
            )
        if self.intermediate_size % 49:
            raise ValueError(f"intermediate_size must be a multiple of 49, not {self.intermediate_size}.")

    @property
    def multiple(self) -> tuple[int, int]:
        """(height, width) of an attention window in pixels of a frame; sizes are multiples of it."""
        return self.window[0] * STRIDE * SHRINK, self.window[1] * STRIDE * SHRINK

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that frames of a size are continued to (hq) or resized to (base)."""
        if self.variant == "base":
            return FIXED_SIZE
        high, wide = self.multiple
        return height + -height % high, width + -width % wide

    def takes(self, height: int, width: int) -> bool:
        """Whether the network takes frames of this size as they are."""
        return height > 0 and width > 0 and self.network_size(height, width) == (height, width)
