"""A `MaskTrack`: one bool mask a frame, stored compressed, so that a long one sits in memory."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from videopainter.masks.morphology import dilate
from videopainter.utils.atomic import whole_file


class MaskError(ValueError):
    """Masks that cannot be used, in one sentence that a user can act on."""


class MaskCountError(MaskError):
    """Masks for another number of frames than the video has."""


def pack(mask: np.ndarray) -> bytes:
    """A bool mask of any shape, compressed: a bit a pixel, then zlib."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpack(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """What `pack` packed: bool `size` = (height, width)."""
    bits = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).view(bool)


class MaskTrack:
    """One bool mask a frame, compressed; `masks[i:j]` -> bool (n, height, width), True = repaint.

    Make one with `from_array`, `build` or `load_masks`. `notes`: sentences, what was done to make it fit a video.
    """

    def __init__(self, packed: list[bytes], size: tuple[int, int]):
        self._packed = packed
        self.notes: list[str] = []
        self._share: float | None = None
        self.size = (int(size[0]), int(size[1]))

    @classmethod
    def from_array(cls, array: np.ndarray) -> "MaskTrack":
        """From bool or integers (n, height, width); everything that is not zero is repainted.

        Raises MaskError for another shape or type, or for no frames.
        """
        array = np.asarray(array)
        if array.ndim != 3:
            raise MaskError(f"Masks need the shape (frames, height, width), not {array.shape}.")
        if array.dtype.kind not in "bui":
            raise MaskError(f"Masks need to be bool or integers, not {array.dtype}.")
        return cls.build(frame != 0 for frame in array)

    @classmethod
    def build(cls, frames: Iterable[np.ndarray]) -> "MaskTrack":
        """From bool (height, width) frames in order, each compressed as it comes.

        Raises MaskError if there is no frame or their sizes differ.
        """
        packed, size = [], None
        for frame in frames:
            if size is None:
                size = frame.shape
            elif frame.shape != size:
                raise MaskError(
                    f"Mask {len(packed)} is {by(frame.shape)} (width x height), those before it {by(size)}."
                )
            packed.append(pack(frame))
        if size is None:
            raise MaskError("There are 0 masks; at least one is needed.")
        return cls(packed, size)

    @classmethod
    def still(cls, mask: np.ndarray, count: int) -> "MaskTrack":
        """The same bool (height, width) mask in `count` frames; it is stored once."""
        return cls([pack(mask)] * count, mask.shape)

    @classmethod
    def empty(cls, count: int, size: tuple[int, int]) -> "MaskTrack":
        """`count` masks of `size` = (height, width) that mark nothing."""
        return cls.still(np.zeros(size, bool), count)

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]

    def __len__(self) -> int:
        return len(self._packed)

    def _frame(self, i: int) -> np.ndarray:
        return unpack(self._packed[i], self.size)

    def __getitem__(self, key) -> np.ndarray:
        """`masks[i]` -> bool (height, width); `masks[i:j]` -> bool (n, height, width); copies."""
        if isinstance(key, slice):
            chosen = range(*key.indices(len(self)))
            out = np.empty((len(chosen), *self.size), bool)
            for row, i in zip(out, chosen):
                row[:] = self._frame(i)
            return out
        return self._frame(self._place(key))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._frame(i) for i in range(len(self)))

    def _place(self, key) -> int:
        i = int(key)
        if not -len(self) <= i < len(self):
            raise IndexError(f"mask {i} of {len(self)}")
        return i % len(self)

    def put(self, i: int, mask: np.ndarray) -> None:
        """Make bool (height, width) the mask of frame `i`. Raises MaskError if it has another size."""
        if mask.shape != self.size:
            raise MaskError(f"A mask is {by(mask.shape)} (width x height), the others {by(self.size)}.")
        self._packed[self._place(i)], self._share = pack(mask), None

    def copy(self) -> "MaskTrack":
        """The same masks in a track of their own."""
        return self.select(range(len(self)))

    def any(self) -> bool:
        """Whether any pixel of any frame is to be repainted."""
        return any(frame.any() for frame in self)

    def share(self) -> float:
        """How much of all frames is to be repainted, 0 to 1; exactly that at both ends."""
        if self._share is not None:
            return self._share
        distinct: dict[bytes, int] = {}
        marked = 0
        for i, data in enumerate(self._packed):
            if data not in distinct:
                found = int(np.count_nonzero(self._frame(i)))
                if self._packed[i]:
                    distinct[self._packed[i]] = found
            else:
                found = distinct[data]
            marked += found
        self._share = marked / (len(self) * self.height * self.width)
        return self._share

    def dilate(self, radius: float) -> "MaskTrack":
        """Every mask grown by `radius` pixels (>= 0, may be fractional) all around; computed when read."""
        if radius < 0:
            raise MaskError(f"The masks cannot be dilated by {radius} pixels; 0 or more is needed.")
        return self if radius == 0 else _MappedTrack(self, lambda mask: dilate(mask, radius))

    def invert(self) -> "MaskTrack":
        """What was to be kept is repainted and the other way round; computed when read."""
        inverse = _MappedTrack(self, np.logical_not)
        inverse.notes = self.notes
        return inverse

    def select(self, indices: Iterable[int]) -> "MaskTrack":
        """The masks of these frames, in this order."""
        some = MaskTrack([self._packed[i] for i in indices], self.size)
        some.notes = self.notes
        return some

    def save_npz(self, path: str | os.PathLike) -> None:
        """Write `arr_0`, uint8 (frames, height, width) with 1 = repaint, compressed: what `load_masks` reads.

        Written frame by frame, and whole or not at all.
        """
        write_npz(path, (frame.view(np.uint8) for frame in self), (len(self), *self.size))


class _MappedTrack(MaskTrack):
    """A function of another track's masks; each result is kept, compressed, once it has been asked for."""

    def __init__(self, base: MaskTrack, function: Callable[[np.ndarray], np.ndarray]):
        super().__init__([b""] * len(base), base.size)  # empty: not asked for yet
        self._base, self._function = base, function

    def _frame(self, i: int) -> np.ndarray:
        if not self._packed[i]:
            mask = self._function(self._base._frame(i))
            self._packed[i] = pack(mask)
            return mask
        return super()._frame(i)

    def select(self, indices: Iterable[int]) -> MaskTrack:
        some = _MappedTrack(self._base.select(indices), self._function)
        some.notes = self.notes
        return some


def write_npz(path: str | os.PathLike, frames: Iterable[np.ndarray], shape: tuple[int, int, int]) -> None:
    """Write uint8 frames of (frames, height, width) = `shape` as `arr_0`, one by one, whole or not at all."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for frame in frames:
                member.write(frame.tobytes())


def by(size: tuple[int, int]) -> str:
    """(height, width) as people say it: width x height."""
    return f"{size[1]} x {size[0]}"
