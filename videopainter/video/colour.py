"""What the numbers of a picture mean: matrix, primaries, transfer and range by their tags, and HDR toned down.

The tags are those of ITU-T H.273 under libav's names. HDR (PQ and HLG) goes to engines as 8-bit pictures through one
rising curve for each channel, which can be undone: what an engine paints comes back into the same space, and a
colour that it copies comes back as it was. Primaries are not converted, since clipping to a smaller gamut could not
be undone; such pictures look a little pale on a screen that does not know them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
RANGES = {1: "limited", 2: "full"}
# Weights of red and blue in luma.
WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
HDR = ("smpte2084", "arib-std-b67")
UNSAID = 2  # what H.273 writes for a tag that is not there
WHITE = 203.0  # cd/m2 of a white sheet of paper in HDR (ITU-R BT.2408)
KNEE = 0.5  # of that white: what is darker is shown as it is
CURVE_STEPS = 1 << 16


@dataclass(frozen=True)
class Colour:
    """The tags of a video, each None where the file does not say, and bits a channel.

    `bias`: levels (Y, U, V) that are lost on the way to 8-bit RGB, by which a writer raises what it gets; measured
    by the reader, since it is swscale's rounding and belongs to some formats only. `mastering`, `brightest`: of HDR,
    the screen that it was made on and its greatest light, in the words of x265.
    """

    matrix: str | None = None
    primaries: str | None = None
    transfer: str | None = None
    range: str | None = None
    depth: int = 8
    bias: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), compare=False)
    mastering: str | None = field(default=None, compare=False)
    brightest: str | None = field(default=None, compare=False)

    @property
    def hdr(self) -> bool:
        return self.transfer in HDR

    @property
    def weights(self) -> tuple[float, float]:
        """(red, blue) in luma; BT.601's where nothing is said, as swscale reads such files."""
        return WEIGHTS.get(self.matrix or "", WEIGHTS["smpte170m"])

    @property
    def codes(self) -> tuple[int, int, int, int]:
        """(matrix, primaries, transfer, range) as libav numbers them."""
        return (
            _code(MATRICES, self.matrix, UNSAID),
            _code(PRIMARIES, self.primaries, UNSAID),
            _code(TRANSFERS, self.transfer, UNSAID),
            _code(RANGES, self.range, 0),
        )

    def __str__(self) -> str:
        said = [self.matrix, self.primaries, self.transfer, self.range]
        return f"{'/'.join(tag or '-' for tag in said)}, {self.depth} bit"


NAMED = {
    "bt709": Colour("bt709", "bt709", "bt709", "limited"),
    "bt601": Colour("smpte170m", "smpte170m", "smpte170m", "limited"),
    "untagged": Colour(),
}
SRGB = Colour("rgb", "bt709", "iec61966-2-1", "full")


def colour_of(frame) -> Colour:
    """The tags of an `av.VideoFrame`."""
    return Colour(
        matrix="rgb" if frame.format.is_rgb else MATRICES.get(frame.colorspace),
        primaries=PRIMARIES.get(frame.color_primaries),
        transfer=TRANSFERS.get(frame.color_trc),
        range="full" if frame.format.name.startswith("yuvj") else RANGES.get(frame.color_range),
        depth=max(component.bits for component in frame.format.components),
    )


def mastering_display(data: bytes | None) -> str | None:
    """libav's record of the screen that HDR was made on, in the words of x265."""
    if data is None or len(data) < 88:
        return None
    numbers = np.frombuffer(data[:88], np.int32)
    if not (numbers[20] and numbers[21]) or not numbers[1:20:2].all():
        return None
    value = numbers[:20:2] / numbers[1:20:2]  # x, y of red, green, blue and white; least and greatest light
    red, green, blue, white = (f"({round(x * 50000)},{round(y * 50000)})" for x, y in value[:8].reshape(4, 2))
    return f"G{green}B{blue}R{red}WP{white}L({round(value[9] * 10000)},{round(value[8] * 10000)})"


def greatest_light(data: bytes | None) -> str | None:
    """libav's record of the brightest pixel and picture, in the words of x265."""
    if data is None or len(data) < 8:
        return None
    most, mean = np.frombuffer(data[:8], np.uint32)
    return f"{most},{mean}"


def _code(table: dict[int, str], name: str | None, unsaid: int) -> int:
    return next((code for code, tag in table.items() if tag == name), unsaid)


# -- from RGB to what files store --


def to_yuv(rgb: np.ndarray, colour: Colour) -> np.ndarray:
    """float32 (h, w, 3): Y from 0 to 1, U and V around 0, of float32 RGB from 0 to 1."""
    red, blue = colour.weights
    y = rgb @ np.array([red, 1 - red - blue, blue], np.float32)
    u = (rgb[..., 2] - y) / (2 * (1 - blue))
    v = (rgb[..., 0] - y) / (2 * (1 - red))
    return np.stack([y, u, v], axis=-1)


def levels(values: np.ndarray, channel: int, depth: int, full: bool) -> np.ndarray:
    """Levels, float32, of Y (channel 0) or of U or V (1, 2) as `to_yuv` gives them."""
    most, unit = 2**depth - 1, 2 ** (depth - 8)
    if channel == 0:
        return values * most if full else (values * 219 + 16) * unit
    return values * most + 2 ** (depth - 1) if full else (values * 224 + 128) * unit


# -- HDR --


@lru_cache(maxsize=4)
def tone_down(transfer: str) -> np.ndarray:
    """uint8 (65536,): the 8-bit level that an engine sees for each 16-bit level of an HDR signal."""
    return np.rint(_curve(transfer) * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def tone_up(transfer: str) -> np.ndarray:
    """float32 (256,): the HDR signal, 0 to 1, in the middle of what is seen as each 8-bit level."""
    curve = _curve(transfer)
    signal = np.linspace(0, 1, CURVE_STEPS)
    return np.interp(np.arange(256) / 255, curve, signal).astype(np.float32)


@lru_cache(maxsize=4)
def _curve(transfer: str) -> np.ndarray:
    """float64 (65536,), rising from 0 to 1: an SDR signal for an HDR signal.

    Up to `KNEE` of paper white light is shown as it is; above, it follows a logarithm that takes the brightest light
    there is to 1 and goes on where the straight part ends, with the same slope.
    """
    light = linear(np.linspace(0, 1, CURVE_STEPS), transfer) / WHITE
    most = light[-1] - KNEE
    slope = 1.0
    for _ in range(100):  # the steepness at which slope and end both fit
        slope = np.log1p(slope * most) / (1 - KNEE)
    above = KNEE + (1 - KNEE) * np.log1p(slope * np.maximum(light - KNEE, 0)) / np.log1p(slope * most)
    shown = np.where(light < KNEE, light, above)
    return shown ** (1 / 2.4)


def linear(signal: np.ndarray, transfer: str | None) -> np.ndarray:
    """Light for a signal from 0 to 1: cd/m2 for PQ and HLG (on a screen of 1,000), else 0 to 1."""
    if transfer == "smpte2084":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        return 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    if transfer == "arib-std-b67":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        return 1000 * scene**1.2
    if transfer == "linear":
        return signal
    if transfer == "iec61966-2-1":
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return signal**2.4  # BT.1886, how screens show all the others
