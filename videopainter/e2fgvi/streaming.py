"""Inference over a whole video in memory that does not grow with its length.

Every frame goes through the encoder once, and every pair of neighbours through the flow network; what they give
is kept for as long as a later window asks for it. The result is that of the published test script: same windows,
same rounding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from videopainter.e2fgvi import schedule
from videopainter.e2fgvi.generator import Generator, shrink
from videopainter.ops.memory import from_host

SMALLEST = 16  # pixels in either direction
AT_ONCE = 4  # frames that are read and encoded together


class Clip(Protocol):
    """Frames and masks of one size by number, read when they are asked for."""

    def __len__(self) -> int: ...

    def frame(self, i: int) -> np.ndarray:
        """uint8 ``(height, width, 3)``."""
        ...

    def hole(self, i: int) -> np.ndarray:
        """bool ``(height, width)``: what is painted."""
        ...


@dataclass(frozen=True)
class Settings:
    """See `schedule.windows`."""

    neighbor_stride: int = 5
    ref_stride: int = 10
    num_ref: int | None = None

    def __post_init__(self):
        schedule.check_options(self.neighbor_stride, self.ref_stride, self.num_ref)


@torch.inference_mode()  # as a decorator it is off again between frames, in the caller's code
def paint(
    network: Generator,
    clip: Clip,
    settings: Settings,
    watch: Callable[[str, int, Tensor], None] = lambda name, number, value: None,
) -> Iterator[np.ndarray]:
    """Yield the finished frames in order, uint8 ``(height, width, 3)``; outside the holes they are the clip's.

    ``watch(name, number, value)`` sees intermediate results: "encoded" (the features of a frame), "flow" (both
    directions, ``(2, 2, h / 4, w / 4)``, of a pair of frames), and "window" (what a window gave for its frames with
    a hole, ``(n, 3, h, w)``). They are at the size that the network works at, and only made where a frame of the
    window has a hole.

    Raises ValueError for frames under 16 pixels, and where the network takes one size only for any other.
    """
    yield from _Painting(network, clip, settings, watch).frames()


def mirror(length: int, size: int) -> np.ndarray:
    """Indices ``(size,)`` that continue ``length`` pixels by their mirror image, again and again."""
    return np.pad(np.arange(length), (0, size - length), mode="symmetric")


class _Painting:
    """The windows, one after the other."""

    def __init__(self, network: Generator, clip: Clip, settings: Settings, watch):
        self.network, self.clip, self.settings, self.watch = network, clip, settings, watch
        weight = network.ss.embedding.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.size = clip.frame(0).shape[:2]
        self.rows, self.columns = self._continued()
        self._holes: dict[int, np.ndarray] = {}  # packed
        self._frames: dict[int, tuple[Tensor, Tensor]] = {}  # features, and what flow is found in
        self._flows: dict[int, Tensor] = {}  # (2, 2, h, w); pair k is frames k and k + 1
        self._painted: dict[int, np.ndarray] = {}  # float32 (hole pixels, 3)

    def frames(self) -> Iterator[np.ndarray]:
        last_use = np.zeros(len(self.clip), np.int32)  # number of the last window that sees a frame
        for number, window in enumerate(self._plan()):
            last_use[window.neighbours + window.references] = number
        coming = self._plan()
        window, number = next(coming, None), 0
        while window is not None:
            holed = [i for i in window.neighbours if self._hole(i).any()]
            if holed:
                self._blend(holed, self._paint(number, window, holed))
            following = next(coming, None)
            done = len(self.clip) if following is None else following.neighbours[0]
            self._frames = {i: kept for i, kept in self._frames.items() if last_use[i] > number}
            self._flows = {k: kept for k, kept in self._flows.items() if k >= done}
            for i in range(window.neighbours[0], done):
                yield self._finished(i)
            self._holes = {i: kept for i, kept in self._holes.items() if i >= done}
            window, number = following, number + 1

    def _plan(self) -> Iterator[schedule.Window]:
        s = self.settings
        return schedule.windows(len(self.clip), s.neighbor_stride, s.ref_stride, s.num_ref)

    def _continued(self) -> tuple[Tensor, Tensor]:
        """Which rows and columns of a frame make up the picture that the network sees."""
        height, width = self.size
        if min(self.size) < SMALLEST:
            raise ValueError(
                f"Frames must be {SMALLEST} pixels or more in both directions, "
                f"not {width}x{height} (width x height)."
            )
        config = self.network.config
        size = config.network_size(height, width)
        if config.variant == "base" and size != self.size:
            raise ValueError(
                f"This network takes {size[1]}x{size[0]} only, not {width}x{height} (width x height)."
            )
        rows, columns = (
            from_host(torch.from_numpy(mirror(n, m)), self.device) for n, m in zip(self.size, size)
        )
        return rows, columns

    def _hole(self, i: int) -> np.ndarray:
        """Packed bits of a frame's mask."""
        if i not in self._holes:
            self._holes[i] = np.packbits(np.asarray(self.clip.hole(i), bool))
        return self._holes[i]

    def _mask(self, i: int) -> np.ndarray:
        """bool ``(height, width)``."""
        height, width = self.size
        return np.unpackbits(self._hole(i), count=height * width).reshape(height, width).view(bool)

    def _masked(self, i: int) -> Tensor:
        """float32 ``(1, 3, h, w)`` in -1..1, 0 in the hole, at the size of the network."""
        frame = from_host(torch.from_numpy(np.ascontiguousarray(self.clip.frame(i))), self.device)
        known = from_host(torch.from_numpy(~self._mask(i)), self.device)
        masked = (frame / 255 * 2 - 1) * known[..., None]
        return masked.permute(2, 0, 1)[None][..., self.rows, :][..., self.columns]

    def _paint(self, number: int, window: schedule.Window, holed: list[int]) -> np.ndarray:
        """float32 ``(len(holed), height, width, 3)`` in 0..255."""
        near, seen = window.neighbours, window.neighbours + window.references
        self._encode([i for i in seen if i not in self._frames])
        forward, backward = self._flow(near)
        out = self.network.paint(
            torch.cat([self._frames[i][0] for i in seen]),
            forward,
            backward,
            len(near),
            [i - near[0] for i in holed],
        )
        self.watch("window", number, out)
        height, width = self.size
        out = out[..., :height, :width].float()
        return ((out + 1) / 2 * 255).permute(0, 2, 3, 1).cpu().numpy()

    def _encode(self, missing: list[int]) -> None:
        # A few at a time, so that masked frames of a whole window never lie around at once.
        for some in (missing[i : i + AT_ONCE] for i in range(0, len(missing), AT_ONCE)):
            masked = torch.cat([self._masked(i) for i in some])
            encoded = self.network.encode(masked.to(self.dtype))
            for i, features, small in zip(some, encoded.split(1), shrink(masked).split(1)):
                self._frames[i] = features.clone(), small.clone()  # views would keep all of them
                self.watch("encoded", i, features)

    def _flow(self, near: list[int]) -> tuple[Tensor, Tensor]:
        """Forward and backward ``(len(near) - 1, 2, h, w)``, of frames that follow each other."""
        # Only the end of a window is new, but where frames were passed over.
        first = next((i for i in near[:-1] if i not in self._flows), near[-1])
        both = torch.stack(
            self.network.flow(torch.cat([self._frames[i][1] for i in range(first, near[-1] + 1)])), 1
        )
        for k, flow in zip(range(first, near[-1]), both):
            self._flows[k] = flow.clone()
            self.watch("flow", k, flow)
        if len(near) == 1:
            return both.unbind(1)
        return torch.stack([self._flows[k] for k in near[:-1]], 1).unbind(0)

    def _blend(self, holed: list[int], painted: np.ndarray) -> None:
        """Half this window, half the running result, which stays a fraction to the end, as the script does."""
        for i, values in zip(holed, painted):
            new = values[self._mask(i)].astype(np.uint8).astype(np.float32)
            self._painted[i] = self._painted[i] * 0.5 + new * 0.5 if i in self._painted else new

    def _finished(self, i: int) -> np.ndarray:
        frame = np.array(self.clip.frame(i))
        if i in self._painted:
            frame[self._mask(i)] = self._painted.pop(i).astype(np.uint8)
        return frame
