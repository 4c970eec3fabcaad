"""Inference over a whole video in memory that does not grow with its length.

Every stage works on pieces (see `schedule`), is computed when the next stage asks for it, and is forgotten once
the painting windows have moved on. Where a stage only matters inside the holes only that is kept. The result is
that of the public inference script: same pieces, same windows, same rounding.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videopainter.ops.memory import from_host, to_host
from videopainter.ops.warp import consistent
from videopainter.propainter import memory, schedule
from videopainter.propainter.flow_completion import complete_
from videopainter.propainter.generator import shrink, shrink_flow
from videopainter.propainter.propagation import fill_step
from videopainter.propainter.schedule import piece_of

SMALLEST = 16  # pixels in either direction
_MOST_PAIRS = 12  # of frames, whose flow is estimated at once
_PLACES_KEPT = 4  # frames whose pixels of the hole are known; neighbours are asked for in turn
_FLOW_BYTES = 2**28  # that they and the flows of the piece may take, unless a single pair needs more


class Clip(Protocol):
    """Frames and masks of one size by number, read when they are asked for."""

    def __len__(self) -> int: ...

    def frame(self, i: int) -> np.ndarray:
        """uint8 ``(height, width, 3)``."""
        ...

    def hole(self, i: int) -> np.ndarray:
        """bool ``(height, width)``: what is painted."""
        ...

    def flow_hole(self, i: int) -> np.ndarray:
        """bool ``(height, width)``: where the flow cannot be trusted; holds `hole`."""
        ...


@dataclass(frozen=True)
class Networks:
    """The three networks, on one device."""

    flow: Callable
    completion: Callable
    generator: Callable
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Settings:
    neighbor_length: int = 10
    ref_stride: int = 10
    subvideo_length: int = 80
    raft_iter: int = 20


@torch.inference_mode()  # as a decorator it is off again between frames, in the caller's code
def paint(
    networks: Networks,
    clip: Clip,
    settings: Settings,
    watch: Callable[[str, int, Tensor], None] = lambda name, number, value: None,
) -> Iterator[np.ndarray]:
    """Yield the finished frames in order, uint8 ``(height, width, 3)``; outside the holes they are the clip's.

    ``watch(name, number, value)`` sees intermediate results: "flow" and "completed" (both directions,
    ``(2, 2, h, w)``, of a pair of frames), "filled" (``(4, h, w)``: frame and what is left of the mask), and
    "window" (the painted frames ``(n, 3, h, w)`` of a window). They are at the padded size, and only those that
    the result needs are made.

    Raises ValueError for frames under 16 pixels.
    """
    yield from _Painting(networks, clip, settings, watch).frames()


class _Memory(dict):
    """Results by frame number; `forget` drops those before a number."""

    def forget(self, before: int) -> None:
        for i in [i for i in self if i < before]:
            del self[i]


class _Pixels:
    """Frames and masks of the clip as padded tensors."""

    def __init__(self, clip: Clip, device: torch.device):
        self.clip, self.device = clip, device
        self.height, self.width = clip.frame(0).shape[:2]
        if min(self.height, self.width) < SMALLEST:
            raise ValueError(
                f"Frames must be {SMALLEST} pixels or more in both directions, "
                f"not {self.width}x{self.height} (width x height)."
            )
        self._frames, self._holes, self._flow_holes = _Memory(), _Memory(), _Memory()
        self._places: dict[int, Tensor] = {}

    def image(self, i: int) -> np.ndarray:
        if i not in self._frames:
            self._frames[i] = np.ascontiguousarray(self.clip.frame(i))
        return self._frames[i]

    def frame(self, i: int, keep: bool = True) -> Tensor:
        """float32 ``(1, 3, h, w)`` in -1..1; ``keep``: it will be asked for again soon."""
        image = self.image(i) if keep or i in self._frames else self.clip.frame(i)
        frame = from_host(torch.from_numpy(np.ascontiguousarray(image)), self.device)
        return self._pad(frame.permute(2, 0, 1)[None] / 255 * 2 - 1)

    def hole(self, i: int) -> Tensor:
        """bool ``(1, 1, h, w)``."""
        return from_host(self._padded(self._holes, self.clip.hole, i), self.device)

    def places(self, i: int) -> Tensor:
        """int64 ``(n,)``: pixels of the hole, counted row by row. Found on the host, as a GPU would be waited for."""
        if i not in self._places:
            if len(self._places) >= _PLACES_KEPT:
                del self._places[next(iter(self._places))]
            found = self._padded(self._holes, self.clip.hole, i).flatten().nonzero()[:, 0]
            self._places[i] = from_host(found, self.device)
        return self._places[i]

    def mask(self, i: int) -> np.ndarray:
        """bool ``(height, width)``: the hole without padding."""
        return self._unpacked(self._packed(self._holes, self.clip.hole, i))

    def flow_hole(self, i: int) -> Tensor:
        """bool ``(1, 1, h, w)`` on the host."""
        return self._padded(self._flow_holes, self.clip.flow_hole, i)

    def is_whole(self, i: int) -> bool:
        """Whether the frame has no hole."""
        return not self._packed(self._holes, self.clip.hole, i).any()

    def any_flow_hole(self, start: int, stop: int) -> bool:
        """Whether a frame of start..stop has one."""
        return any(self._packed(self._flow_holes, self.clip.flow_hole, i).any() for i in range(start, stop))

    def _packed(self, known: _Memory, read: Callable, i: int) -> np.ndarray:
        if i not in known:
            known[i] = np.packbits(np.asarray(read(i), bool))
        return known[i]

    def _unpacked(self, packed: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(packed, count=self.height * self.width)
        return bits.reshape(self.height, self.width).view(bool)

    def _padded(self, known: _Memory, read: Callable, i: int) -> Tensor:
        """bool ``(1, 1, h, w)`` on the host."""
        mask = self._unpacked(self._packed(known, read, i))
        # A hole at the edge goes on beyond it: what is continued there is what shall disappear.
        mask = np.pad(mask, ((0, -self.height % 8), (0, -self.width % 8)), mode="edge")
        return torch.from_numpy(mask)[None, None]

    def _pad(self, x: Tensor) -> Tensor:
        pad = (0, -self.width % 8, 0, -self.height % 8)
        return F.pad(x, pad, mode="replicate") if any(pad) else x

    def forget(self, before: int) -> None:
        self._holes.forget(before)
        self._flow_holes.forget(before)

    def forget_frames(self, but: Collection[int] = ()) -> None:
        for i in [i for i in self._frames if i not in but]:
            del self._frames[i]


@dataclass(frozen=True)
class _Steps:
    """Flow of a pair of frames in one direction, at the hole pixels of the frame it starts from."""

    flow: Tensor  # float32 (n, 2)
    valid: Tensor  # bool (n,)

    @classmethod
    def of(cls, flow: Tensor, flow_back: Tensor, places: Tensor) -> "_Steps":
        """``places``: see `_Pixels.places`."""
        valid = consistent(flow[None], flow_back[None]).flatten()[places].bool()
        return cls(to_host(flow.flatten(1)[:, places].T.contiguous()), to_host(valid))

    def dense(self, places: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        """float32 ``(1, 2, h, w)`` and ``(1, 1, h, w)``, zero outside the hole."""
        both = self.flow.new_zeros(3, size.numel(), device=places.device)
        both[:2].index_copy_(1, places, from_host(self.flow, places.device).T)
        both[2].index_copy_(0, places, from_host(self.valid, places.device).float())
        both = both.view(1, 3, *size)
        return both[:, :2], both[:, 2:]


class _Flows:
    """Flow of pairs of neighbouring frames: estimated, completed, reduced to what painting needs.

    Pair k is frames k and k + 1.
    """

    def __init__(
        self, networks: Networks, pixels: _Pixels, settings: Settings, length: int, watch, make_room
    ):
        self.networks, self.pixels, self.watch, self.make_room = networks, pixels, watch, make_room
        self.size, self.iterations = settings.subvideo_length, settings.raft_iter
        self.pairs = length - 1
        self._raw, self._small, self._ahead, self._behind = _Memory(), _Memory(), _Memory(), _Memory()

    def small(self, k: int) -> Tensor:
        """Both directions at the size of the features, ``(2, 2, h / 4, w / 4)`` in feature pixels."""
        if k not in self._small:
            self._complete(k)
        return from_host(self._small[k], self.networks.device)

    def ahead(self, k: int) -> _Steps:
        """From frame k to k + 1."""
        if k not in self._ahead:
            self._complete(k)
        return self._ahead[k]

    def behind(self, k: int) -> _Steps:
        """From frame k + 1 to k."""
        if k not in self._behind:
            self._complete(k)
        return self._behind[k]

    def forget(self, before: int, before_steps: int) -> None:
        """Drop pairs that are not painted with again, and steps that are not filled with again."""
        self._small.forget(before)
        for known in (self._raw, self._ahead, self._behind):
            known.forget(before_steps)

    def _complete(self, k: int) -> None:
        """Reduce the whole piece of pair k."""
        piece = piece_of(k, self.pairs, self.size, schedule.FLOW_OVERLAP)
        if not self.pixels.any_flow_hole(piece.low, piece.high + 1):
            self._reduce(k, self._estimate(k, k + 1)[:, 0].to(self.networks.device))
            return
        self.make_room()
        both = self._estimate(piece.low, piece.high)
        shared = range(piece.stop - schedule.FLOW_OVERLAP, piece.high)  # with the next piece
        self._raw = _Memory((i, both[:, i - piece.low].clone()) for i in shared if i >= piece.low)
        masks = torch.cat([self.pixels.flow_hole(i) for i in range(piece.low, piece.high + 1)])
        memory.give_back()
        complete_(self.networks.completion, *both, masks)
        for i in range(piece.start, piece.stop):
            self._reduce(i, both[:, i - piece.low].to(self.networks.device))
        del both
        memory.give_back()

    def _reduce(self, k: int, both: Tensor) -> None:
        self.watch("completed", k, both)
        forward, backward = both
        self._small[k] = to_host(shrink_flow(both))
        self._ahead[k] = _Steps.of(forward, backward, self.pixels.places(k))
        self._behind[k] = _Steps.of(backward, forward, self.pixels.places(k + 1))

    def _estimate(self, start: int, stop: int) -> Tensor:
        """Estimated flows of pairs start..stop, forward and backward: float32 ``(2, n, 2, h, w)`` on the host."""
        # In one block: thousands of small ones would leave holes in the memory that large ones do not fit into.
        out = torch.empty(2, stop - start, 2, *self.pixels.hole(start).shape[-2:])
        at_once = self._at_once(out.nbytes if self.networks.device.type == "cpu" else 0)
        missing = []
        for k in range(start, stop):
            if k in self._raw:
                out[:, k - start] = self._raw.pop(k)
            else:
                missing.append(k)
        while missing:
            first, count = missing[0], 1
            while count < min(at_once, len(missing)) and missing[count] == first + count:
                count += 1
            missing = missing[count:]
            frames = torch.cat([self.pixels.frame(i, keep=False) for i in range(first, first + count + 1)])
            for direction, flow in zip(out, self.networks.flow(frames, self.iterations)):
                direction[first - start : first - start + count] = flow
            for k in range(first, first + count):
                self.watch("flow", k, out[:, k - start])
        return out

    def _at_once(self, held: int) -> int:
        """Pairs to estimate together while flows hold so many bytes of the same memory."""
        cells = -(-self.pixels.height // 8) * -(-self.pixels.width // 8)
        # Correlations of two directions, float32, a third more for the coarser scales; and features, as measured.
        each = 2 * 4 * cells**2 * 4 // 3 + 22_000 * cells
        return max(1, min(_MOST_PAIRS, (_FLOW_BYTES - held) // each))


class _Filled:
    """Frames whose holes are filled with known pixels of others, as far as there are any."""

    def __init__(self, pixels: _Pixels, flows: _Flows, settings: Settings, length: int, watch):
        self.pixels, self.flows, self.length, self.watch = pixels, flows, length, watch
        self.size = min(schedule.LONGEST_PROPAGATION, settings.subvideo_length)
        self.until = 0  # frames before this one are filled
        self._done = _Memory()

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        """Frame ``(1, 3, h, w)`` and what is left of its mask ``(1, 1, h, w)``, float32."""
        if self.pixels.is_whole(i):
            frame = self.pixels.frame(i)
            return frame, torch.zeros_like(frame[:, :1])
        self.prepare(i)
        return self._unpack(i, self._done[i])

    def prepare(self, i: int) -> None:
        """See that the frame's piece is there."""
        if i not in self._done and not self.pixels.is_whole(i):
            piece = piece_of(i, self.length, self.size, schedule.IMAGE_OVERLAP)
            self._fill(piece)
            self.pixels.forget_frames()  # windows want few of them at a time, and in order
            self.until = max(self.until, piece.stop)

    def forget(self, before: int) -> None:
        self._done.forget(before)

    def _fill(self, piece: schedule.Piece) -> None:
        """The two passes of `propagate_images`, of which only hole pixels are kept between frames."""
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        last = None
        for t in reversed(range(piece.low, piece.high)):
            here = self._start(t)
            if last is not None and not self.pixels.is_whole(t):
                here = self._step(t, here, last, self.flows.ahead(t))
            kept[t] = self._pack(t, here)
            last = here
        last = None
        for t in range(piece.low, piece.high):
            here = self._unpack(t, kept.pop(t))
            if last is not None and not self.pixels.is_whole(t):
                here = self._step(t, here, last, self.flows.behind(t - 1))
            if piece.start <= t < piece.stop:
                self._done[t] = self._pack(t, here)
                self.watch("filled", t, torch.cat(here, 1)[0])
            last = here

    def _step(self, t: int, here, last, steps: _Steps) -> tuple[Tensor, Tensor]:
        dense = steps.dense(self.pixels.places(t), here[0].shape[-2:])
        return fill_step(*here, *last, *dense, "nearest")

    def _start(self, t: int) -> tuple[Tensor, Tensor]:
        hole = self.pixels.hole(t)
        return self.pixels.frame(t).masked_fill(hole, 0), hole.float()

    def _pack(self, t: int, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What lies in the hole. Nearest sampling gives 8-bit values or 0, so half steps of 255 are exact."""
        places = self.pixels.places(t)
        frame, left = state
        codes = ((frame[0].flatten(1)[:, places] + 1) * 255).round().to(torch.int16)
        return to_host(codes), to_host(left.flatten()[places].bool())

    def _unpack(self, t: int, packed: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        frame, left = self._start(t)
        places = self.pixels.places(t)
        codes, missing = (from_host(part, frame.device) for part in packed)
        frame[0].view(3, -1).index_copy_(1, places, codes.float() / 255 - 1)
        left.view(-1).index_copy_(0, places, missing.float())
        return frame, left


class _Painting:
    """The painting windows, one after the other."""

    def __init__(self, networks: Networks, clip: Clip, settings: Settings, watch):
        self.networks, self.length, self.watch = networks, len(clip), watch
        self.settings = settings
        self.pixels = _Pixels(clip, networks.device)
        self.flows = _Flows(networks, self.pixels, settings, self.length, watch, self._make_room)
        self.filled = _Filled(self.pixels, self.flows, settings, self.length, watch)
        self.features: dict[int, Tensor] = {}
        self.painted: dict[int, np.ndarray] = {}

    def frames(self) -> Iterator[np.ndarray]:
        s = self.settings
        plan = schedule.windows(self.length, s.neighbor_length, s.ref_stride, s.subvideo_length)
        coming = deque(islice(plan, 3))
        number = 0
        while coming:
            window = coming.popleft()
            holed = [i for i in window.neighbours if not self.pixels.is_whole(i)]
            if holed:
                following = {*coming[0].neighbours, *coming[0].references} if coming else set()
                self._blend(holed, self._paint(number, window, holed, following))
            done = coming[0].neighbours[0] if coming else self.length
            for i in range(window.neighbours[0], done):
                finished = self.painted.pop(i, None)
                yield self.pixels.image(i).copy() if finished is None else finished
            if coming:
                self._forget(coming)
            coming.extend(islice(plan, 1))
            number += 1

    def _paint(
        self, number: int, window: schedule.Window, holed: list[int], following: set[int]
    ) -> np.ndarray:
        """float32 ``(len(holed), height, width, 3)`` in 0..255; ``following``: frames of the next window."""
        near = window.neighbours
        dtype = self.networks.dtype
        # First everything that may need a new piece of flow: nothing of this window lies around meanwhile.
        for i in (*near, *window.references):
            self.filled.prepare(i)
        memory.give_back()
        small = [self.flows.small(k) for k in near[:-1]]
        masks = torch.cat([self._encode(i)[1] for i in near])
        flows = torch.stack(small, 1) if small else masks.new_zeros(2, 0, 2, *masks.shape[-2:])
        wanted = [i - near[0] for i in holed]
        # Handed over without a name, to be dropped as soon as it is used.
        out = self.networks.generator.paint(
            self._features((*near, *window.references), following), *flows, masks.to(dtype), wanted
        )
        self.watch("window", number, out)
        out = out[..., : self.pixels.height, : self.pixels.width].float()
        return ((out + 1) / 2 * 255).permute(0, 2, 3, 1).cpu().numpy()

    def _features(self, frames: Sequence[int], following: set[int]) -> Tensor:
        """Features of all these frames; only those of ``following`` are kept."""
        features = torch.cat([self._encode(i)[0] for i in frames])
        # References come back every other window: encoding them again costs less than keeping them meanwhile.
        self.features = {i: kept for i, kept in self.features.items() if i in following}
        return features

    def _encode(self, i: int) -> tuple[Tensor, Tensor]:
        """Features ``(1, c, h / 4, w / 4)`` and both masks ``(1, 2, h / 4, w / 4)`` of a frame."""
        if i not in self.features:
            frame, left = self.filled(i)
            hole = self.pixels.hole(i).float()
            inputs = (part.to(self.networks.dtype) for part in (frame, hole, left))
            self.features[i] = (
                self.networks.generator.encode(*inputs),
                torch.cat((shrink(hole), shrink(left)), 1),
            )
        return self.features[i]

    def _make_room(self) -> None:
        """Flow needs the most memory of all, once in a piece; features and frames are soon there again."""
        self.features = {}
        self.pixels.forget_frames()
        memory.give_back()

    def _blend(self, holed: list[int], painted: np.ndarray) -> None:
        """Mean of this window and the running result, cut to whole levels each time, as the script does."""
        for i, values in zip(holed, painted):
            new = values.astype(np.uint8)
            if i in self.painted:
                new = ((self.painted[i].astype(np.uint16) + new) // 2).astype(np.uint8)
            self.painted[i] = np.where(self.pixels.mask(i)[..., None], new, self.pixels.image(i))

    def _forget(self, coming: Sequence[schedule.Window]) -> None:
        """Drop what no later window asks for."""
        soon = {i for window in coming for i in (*window.neighbours, *window.references)}
        first = min(soon)
        self.filled.forget(first)
        # Only caches: what a later piece looks back to is read again.
        self.pixels.forget(first)
        self.pixels.forget_frames(but=soon)
        unfilled = max(first, self.filled.until)
        self.flows.forget(
            first, piece_of(unfilled, self.length, self.filled.size, schedule.IMAGE_OVERLAP).low
        )
