"""Masks in a NumPy archive, as the published data sets have them: `arr_0`, a map of labels a frame."""

import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat, Objects, first_line, label_maps
from videopainter.masks.track import MaskError, write_npz
from videopainter.utils.sentences import shortened

LONGEST_HEADER = 10_000  # bytes, as many as NumPy takes
LARGEST_WHOLE = 10**9  # bytes of an array that cannot be read frame by frame


class NpzMasks(MaskFormat):
    """`.npz` with `arr_0`, bool or integers (frames, height, width); never unpickled, and read frame by frame."""

    name, what, suffixes = "npz", "a NumPy archive", (".npz",)

    def __init__(self, path: Path):
        self.path = path
        try:
            shape, self._fortran, self._dtype = self._header()
        except MaskError:
            raise
        except Exception as error:  # zipfile and NumPy raise whatever they stumble over
            raise self._cannot(error) from error
        self.count, self.size = shape[0], shape[1:]
        if self.count == 0 or 0 in self.size:
            raise MaskError(f"arr_0 in '{path}' has the shape {shape}, which holds no masks.")

    def frames(self) -> Iterator[np.ndarray]:
        """The file is unpacked as it is read, never all of it at once."""
        try:
            yield from self._whole() if self._fortran else self._one_by_one()
        except Exception as error:  # zipfile and NumPy raise whatever they stumble over
            raise self._cannot(error) from error

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        track = next(iter(objects.values()))
        write_npz(path, label_maps(objects), (len(track), *track.size))

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(self.path) as archive:
            if "arr_0.npy" not in archive.namelist():
                names = ", ".join(n.removesuffix(".npy") for n in archive.namelist()[:20]) or "nothing"
                raise MaskError(f"'{self.path}' has no array called arr_0; it holds {shortened(names, 200)}.")
            with archive.open("arr_0.npy") as member:
                shape, fortran, dtype = _read_header(member)
        if dtype.hasobject:
            raise MaskError(
                f"'{self.path}' holds pickled objects, which are not read; save it as an array of integers."
            )
        if dtype.kind not in "bui":
            raise MaskError(f"arr_0 in '{self.path}' needs to be bool or integers, not {dtype}.")
        if len(shape) != 3:
            raise MaskError(f"arr_0 in '{self.path}' needs the shape (frames, height, width), not {shape}.")
        if fortran and shape[0] * shape[1] * shape[2] * dtype.itemsize > LARGEST_WHOLE:
            raise MaskError(
                f"arr_0 in '{self.path}' is too large to be read in Fortran's order; save it in C's."
            )
        return shape, fortran, dtype

    def _whole(self) -> Iterator[np.ndarray]:
        # The frames are interleaved, so there is no way around reading all of them.
        with np.load(self.path, allow_pickle=False) as archive:
            yield from archive["arr_0"]

    def _one_by_one(self) -> Iterator[np.ndarray]:
        size = self.size[0] * self.size[1] * self._dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as member:
            _read_header(member)
            for i in range(self.count):
                data = member.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends after {i} of {self.count} masks")
                yield np.frombuffer(data, self._dtype).reshape(self.size)

    def _cannot(self, error: BaseException) -> MaskError:
        return MaskError(
            f"'{self.path}' cannot be read as an .npz file of masks: {shortened(first_line(error), 200)}."
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
