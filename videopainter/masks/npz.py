"""Masks in a NumPy file; the published data sets have `arr_0` in an archive, a map of labels a frame."""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np

from videopainter.masks.arrays import channels_last, layout_of
from videopainter.masks.base import MaskFormat, Objects, first_line, label_maps
from videopainter.masks.picture import Picture, picture_of
from videopainter.masks.track import MaskError, write_npz
from videopainter.utils.sentences import shortened

LONGEST_HEADER = 10_000  # bytes, as many as NumPy takes
LARGEST_WHOLE = 10**9  # bytes of an array that cannot be read frame by frame
KEYS = ("arr_0", "masks", "mask")  # under which masks are looked for; a lone array may have any name


class NpzMasks(MaskFormat):
    """`.npz` with one array, or `arr_0`, `masks` or `mask`; or `.npy`. Never unpickled, and read frame by frame.

    Bool, integers, or fractions from 0 to 1, (frames, height, width), with channels first or last or without, or one
    mask (height, width).
    """

    name, what, suffixes = "npz", "a NumPy archive", (".npz", ".npy")

    def __init__(self, path: Path):
        self.path = path
        self._key = "the array"
        try:
            with self._member() as member:
                self._shape, self._fortran, self._dtype = _read_header(member)
        except MaskError:
            raise
        except Exception as error:  # zipfile and NumPy raise whatever they stumble over
            raise self._cannot(error) from error
        if self._dtype.hasobject:
            raise MaskError(
                f"'{path}' holds pickled objects, which are not read; save it as an array of integers."
            )
        if self._dtype.kind not in "buif":
            raise MaskError(f"{self._key} in '{path}' needs to be bool or numbers, not {self._dtype}.")
        if 0 in self._shape:
            raise MaskError(f"{self._key} in '{path}' has the shape {self._shape}, which holds no masks.")
        try:
            self.count, self._single, self.size = layout_of(self._shape)
        except ValueError as error:
            raise MaskError(f"{self._key} in '{path}' {shortened(str(error), 200)}.") from None
        least = prod(self._shape) if self._fortran else prod(self._single)
        if least * self._dtype.itemsize > LARGEST_WHOLE:
            order = " in Fortran's order; save it in C's" if self._fortran else ""
            raise MaskError(f"{self._key} in '{path}' is too large to be read{order}.")

    def pictures(self) -> Iterator[Picture]:
        """The file is unpacked as it is read, never all of it at once."""
        try:
            for mask in self._whole() if self._fortran else self._one_by_one():
                yield picture_of(channels_last(mask))
        except Exception as error:  # zipfile and NumPy raise whatever they stumble over
            raise self._cannot(error) from error

    def frames(self) -> Iterator[np.ndarray]:
        return self.labels() if self._dtype.kind == "b" else super().frames()

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        track = next(iter(objects.values()))
        if path.suffix.lower() == ".npy":
            raise MaskError(f"Masks cannot be saved as '{path}'; end it in .npz.")
        write_npz(path, label_maps(objects), (len(track), *track.size))

    @contextmanager
    def _member(self):
        """The array, open for reading."""
        if self.path.suffix.lower() == ".npy":
            with open(self.path, "rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            found = next((key for key in KEYS if key in names), None)
            if found is None and len(names) != 1:
                listed = shortened(", ".join(names[:20]), 200) or "nothing"
                raise MaskError(f"'{self.path}' has no array called {' or '.join(KEYS)}; it holds {listed}.")
            self._key = found or shortened(names[0], 100)
            with archive.open(f"{found or names[0]}.npy") as member:
                yield member

    def _whole(self) -> Iterator[np.ndarray]:
        # The frames are interleaved, so there is no way around reading all of them.
        with self._member() as member:
            _read_header(member)
            data = member.read()
        if len(data) < int(np.prod(self._shape)) * self._dtype.itemsize:
            raise EOFError("it ends early")
        array = np.frombuffer(data, self._dtype)[: int(np.prod(self._shape))].reshape(self._shape, order="F")
        yield from array.reshape(self.count or 1, *self._single)

    def _one_by_one(self) -> Iterator[np.ndarray]:
        size = int(np.prod(self._single)) * self._dtype.itemsize
        with self._member() as member:
            _read_header(member)
            for i in range(self.count or 1):
                data = member.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends after {i} of {self.count or 1} masks")
                yield np.frombuffer(data, self._dtype).reshape(self._single)

    def _cannot(self, error: BaseException) -> MaskError:
        return MaskError(
            f"'{self.path}' cannot be read as a NumPy file of masks: {shortened(first_line(error), 200)}."
        )


def _read_header(member) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version} is not known")
    # Its length is looked at here, for NumPy reads a header of 3 GB before it finds it too long.
    read, form = (
        (np.lib.format.read_array_header_1_0, "<H")
        if version == (1, 0)
        else (np.lib.format.read_array_header_2_0, "<I")
    )
    length = member.read(struct.calcsize(form))
    if struct.unpack(form, length)[0] > LONGEST_HEADER:
        raise ValueError("its header is too long")
    return read(BytesIO(length + member.read(struct.unpack(form, length)[0])))
