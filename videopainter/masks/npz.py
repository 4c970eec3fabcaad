"""Masks in a NumPy archive, as the published data sets have them: `arr_0`, a map of labels a frame."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat, Objects, first_line, label_maps
from videopainter.masks.track import MaskError, write_npz

BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError)


class NpzMasks(MaskFormat):
    """`.npz` with `arr_0`, bool or integers (frames, height, width); never unpickled, and read frame by frame."""

    name, what, suffixes = "npz", "a NumPy archive", (".npz",)

    def __init__(self, path: Path):
        self.path = path
        try:
            shape, self._fortran, self._dtype = self._header()
        except MaskError:
            raise
        except BROKEN as error:
            raise self._cannot(error) from error
        self.count, self.size = shape[0], shape[1:]
        if self.count == 0 or 0 in self.size:
            raise MaskError(f"arr_0 in '{path}' has the shape {shape}, which holds no masks.")

    def frames(self) -> Iterator[np.ndarray]:
        """The file is unpacked as it is read, never all of it at once."""
        try:
            yield from self._whole() if self._fortran else self._one_by_one()
        except BROKEN as error:
            raise self._cannot(error) from error

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        track = next(iter(objects.values()))
        write_npz(path, label_maps(objects), (len(track), *track.size))

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(self.path) as archive:
            if "arr_0.npy" not in archive.namelist():
                names = ", ".join(n.removesuffix(".npy") for n in archive.namelist()) or "nothing"
                raise MaskError(f"'{self.path}' has no array called arr_0; it holds {names}.")
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
        return MaskError(f"'{self.path}' cannot be read as an .npz file of masks: {first_line(error)}.")


def _read_header(member) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"array format {version} is not known")
    return read[version](member)
