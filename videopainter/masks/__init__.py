"""Masks: which pixels of each frame are to be repainted, in every format people keep them in.

A `MaskTrack` is to masks what a `VideoSource` is to frames, and is stored compressed: a minute of 1080p masks
takes a few megabytes, so a long track sits in memory while its video never does.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from videopainter.utils.atomic import whole_file

IMAGE_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg", ".webp"}
LOSSY_SUFFIXES = {".jpg", ".jpeg", ".webp"}

# Above this many distinct grey levels a picture is a soft or once lossy mask, not a map of labels.
MOST_LABELS_IN_A_GREY_IMAGE = 32
# In soft masks and in mask videos, whose codec rings around edges, brighter than this means repaint.
THRESHOLD = 127

CHUNK = 16  # frames decoded at a time when a mask video is read


class MaskError(ValueError):
    """Masks that cannot be used, in one sentence that a user can act on."""


class MaskCountError(MaskError):
    """Masks for another number of frames than the video has."""


def _pack(mask: np.ndarray) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpack(data: bytes, size: tuple[int, int]) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).view(bool)


class MaskTrack:
    """One bool mask a frame, compressed; `masks[i:j]` -> bool (n, height, width), True = repaint.

    Make one with `from_array`, `build` or `load_masks`.
    """

    def __init__(self, packed: list[bytes], size: tuple[int, int]):
        self._packed = packed
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
                    f"Mask {len(packed)} is {_by(frame.shape)} (width x height), those before it {_by(size)}."
                )
            packed.append(_pack(frame))
        if size is None:
            raise MaskError("There are 0 masks; at least one is needed.")
        return cls(packed, size)

    @classmethod
    def still(cls, mask: np.ndarray, count: int) -> "MaskTrack":
        """The same bool (height, width) mask in `count` frames; it is stored once."""
        return cls([_pack(mask)] * count, mask.shape)

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]

    def __len__(self) -> int:
        return len(self._packed)

    def _frame(self, i: int) -> np.ndarray:
        return _unpack(self._packed[i], self.size)

    def __getitem__(self, key) -> np.ndarray:
        """`masks[i]` -> bool (height, width); `masks[i:j]` -> bool (n, height, width); copies."""
        if isinstance(key, slice):
            chosen = range(*key.indices(len(self)))
            out = np.empty((len(chosen), *self.size), bool)
            for row, i in zip(out, chosen):
                row[:] = self._frame(i)
            return out
        i = int(key)
        if not -len(self) <= i < len(self):
            raise IndexError(f"mask {i} of {len(self)}")
        return self._frame(i % len(self))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._frame(i) for i in range(len(self)))

    def any(self) -> bool:
        """Whether any pixel of any frame is to be repainted."""
        return any(frame.any() for frame in self)

    def dilate(self, radius: float) -> "MaskTrack":
        """Every mask grown by `radius` pixels (>= 0, may be fractional) all around; computed when read."""
        if radius < 0:
            raise MaskError(f"The masks cannot be dilated by {radius} pixels; 0 or more is needed.")
        return self if radius == 0 else _MappedTrack(self, lambda mask: dilate(mask, radius))

    def invert(self) -> "MaskTrack":
        """What was to be kept is repainted and the other way round; computed when read."""
        return _MappedTrack(self, np.logical_not)

    def select(self, indices: Iterable[int]) -> "MaskTrack":
        """The masks of these frames, in this order."""
        return MaskTrack([self._packed[i] for i in indices], self.size)

    def save_npz(self, path: str | os.PathLike) -> None:
        """Write `arr_0`, uint8 (frames, height, width) with 1 = repaint, compressed: what `load_masks` reads.

        Written frame by frame, and whole or not at all.
        """
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(self), *self.size)}
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for frame in self:
                    member.write(frame.tobytes())


class _MappedTrack(MaskTrack):
    """A function of another track's masks; each result is kept, compressed, once it has been asked for."""

    def __init__(self, base: MaskTrack, function: Callable[[np.ndarray], np.ndarray]):
        super().__init__([None] * len(base), base.size)
        self._base, self._function = base, function

    def _frame(self, i: int) -> np.ndarray:
        if self._packed[i] is None:
            mask = self._function(self._base._frame(i))
            self._packed[i] = _pack(mask)
            return mask
        return super()._frame(i)

    def select(self, indices: Iterable[int]) -> MaskTrack:
        return _MappedTrack(self._base.select(indices), self._function)


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Bool (height, width) grown by a disc of `radius` pixels; exact, and its cost does not grow with it."""
    out = np.zeros_like(mask, dtype=bool)
    box = bounding_box(mask, int(np.ceil(radius)))
    if box is not None:
        outside = (~mask[box]).astype(np.uint8)
        out[box] = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius + 1e-3
    return out


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice] | None:
    """(rows, columns) that hold all of a bool mask (height, width) and `margin` more; None if it is empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8) if mask.dtype == bool else mask)
    if width == 0:
        return None
    return slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)


def load_masks(path, source, mask_id: int | None = None, invert: bool = False) -> MaskTrack:
    """Masks for `source` (anything with `len` and `size` = (height, width)) from a file or folder.

    - `.npz`: `arr_0`, integers (frames, height, width); a map of labels. Never unpickled.
    - a folder of images, one a frame, sorted as people count (`2.png` before `10.png`). The palette index or
      the grey level is the label.
    - one image: the same mask in every frame.
    - a video: brighter than 127 is repainted.

    `mask_id` picks one label; without it every label but 0 is repainted. `invert` repaints everything else.
    Raises MaskError if the masks cannot be read, fit neither the number nor the size of the frames, lack that
    label, or mark nothing at all.
    """
    path = Path(path)
    if not path.exists():
        raise MaskError(f"There are no masks at '{path}'.")
    if mask_id is not None and mask_id < 0:
        raise MaskError(f"A mask id is 0 or more, not {mask_id}.")
    if path.is_dir():
        masks = _from_images(sorted_images(path), path, source, mask_id)
    elif path.suffix.lower() == ".npz":
        masks = _from_npz(path, source, mask_id)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        labels = _read_image(path)
        _check_size(path, labels.shape, source)
        masks = MaskTrack.still(_pick(labels, mask_id, path, lambda: [labels]), len(source))
    else:
        masks = _from_video(path, source, mask_id)
    if invert:
        masks = masks.invert()
    if not masks.any():
        raise MaskError(f"The masks in '{path}' mark no pixel in any frame, so there is nothing to repaint.")
    return masks


def sorted_images(folder: Path) -> list[Path]:
    """The images in a folder, `2.png` before `10.png`; hidden files are left out."""
    images = [
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    return sorted(images, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])


def _from_images(images: list[Path], folder: Path, source, mask_id: int | None) -> MaskTrack:
    if not images:
        raise MaskError(f"There is no image in the mask folder '{folder}'.")
    _check_count(folder, len(images), source)

    def frames() -> Iterator[np.ndarray]:
        for image in images:
            labels = _read_image(image)
            _check_size(image, labels.shape, source)
            yield labels

    return _pick_all(frames, mask_id, folder)


def _from_npz(path: Path, source, mask_id: int | None) -> MaskTrack:
    try:
        shape = _npz_header(path)[0]
        check_fit(path, shape[0], shape[1:], source)
        return _pick_all(lambda: _npz_frames(path), mask_id, path)
    except MaskError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise MaskError(f"'{path}' cannot be read as an .npz file of masks: {_sentence(error)}.") from error


def _npz_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    with zipfile.ZipFile(path) as archive:
        if "arr_0.npy" not in archive.namelist():
            names = ", ".join(n.removesuffix(".npy") for n in archive.namelist()) or "nothing"
            raise MaskError(f"'{path}' has no array called arr_0; it holds {names}.")
        with archive.open("arr_0.npy") as member:
            shape, fortran, dtype = _read_header(member)
    if dtype.hasobject:
        raise MaskError(
            f"'{path}' holds pickled objects, which are not read; save it as an array of integers."
        )
    if dtype.kind not in "bui":
        raise MaskError(f"arr_0 in '{path}' needs to be bool or integers, not {dtype}.")
    if len(shape) != 3:
        raise MaskError(f"arr_0 in '{path}' needs the shape (frames, height, width), not {shape}.")
    return shape, fortran, dtype


def _read_header(member) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"array format {version} is not known")
    return read[version](member)


def _npz_frames(path: Path) -> Iterator[np.ndarray]:
    """The label maps one by one: the file is unpacked as it is read, never all of it at once."""
    shape, fortran, dtype = _npz_header(path)
    if fortran:  # the frames are interleaved, so there is no way around reading all of them
        with np.load(path, allow_pickle=False) as archive:
            yield from archive["arr_0"]
        return
    count = shape[1] * shape[2] * dtype.itemsize
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
        _read_header(member)
        for i in range(shape[0]):
            data = member.read(count)
            if len(data) < count:
                raise EOFError(f"it ends after {i} of {shape[0]} masks")
            yield np.frombuffer(data, dtype).reshape(shape[1:])


def _from_video(path: Path, source, mask_id: int | None) -> MaskTrack:
    from videopainter.video import VideoError, open_video

    if mask_id is not None:
        raise MaskError(
            f"'{path}' is read as a mask video, which has no labels, so mask id {mask_id} cannot be picked."
        )
    try:
        with open_video(path) as video:
            check_fit(path, len(video), video.size, source)
            chunks = (video[i : i + CHUNK] for i in range(0, len(video), CHUNK))
            return MaskTrack.build(frame.max(axis=2) > THRESHOLD for chunk in chunks for frame in chunk)
    except VideoError as error:
        raise MaskError(f"The masks cannot be read: {_sentence(error)}.") from error


def _read_image(path: Path) -> np.ndarray:
    """Integer labels (height, width): the palette index where there is a palette, else the grey level."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in ("P", "L", "I", "I;16", "I;16B"):
                labels = np.asarray(image)
            elif image.mode in ("1", "LA"):
                labels = np.asarray(image.convert("L"))
            else:
                # White on black, drawn in colours: any channel counts.
                labels = np.asarray(image.convert("RGB")).max(axis=2)
            palette = image.mode == "P"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaskError(f"The mask '{path}' cannot be read as an image.") from error
    soft = path.suffix.lower() in LOSSY_SUFFIXES
    if not palette and labels.dtype == np.uint8:
        soft = soft or np.count_nonzero(np.bincount(labels.ravel())) > MOST_LABELS_IN_A_GREY_IMAGE
    return np.where(labels > THRESHOLD, np.uint8(255), np.uint8(0)) if soft else labels


def _pick_all(frames: Callable[[], Iterator[np.ndarray]], mask_id: int | None, path: Path) -> MaskTrack:
    if mask_id is None:
        return MaskTrack.build(labels != 0 for labels in frames())
    masks = MaskTrack.build(labels == mask_id for labels in frames())
    if not masks.any():
        _no_such_label(mask_id, path, frames)
    return masks


def _pick(labels: np.ndarray, mask_id: int | None, path: Path, frames) -> np.ndarray:
    if mask_id is None:
        return labels != 0
    if not (labels == mask_id).any():
        _no_such_label(mask_id, path, frames)
    return labels == mask_id


def _no_such_label(mask_id: int, path: Path, frames) -> None:
    found = sorted(set().union(*(np.unique(labels).tolist() for labels in frames())) - {0})
    listed = ", ".join(str(int(label)) for label in found[:20]) + (", ..." if len(found) > 20 else "")
    raise MaskError(f"There is no label {mask_id} in '{path}'; it has {listed or 'only 0, the background'}.")


def _check_count(path: Path, count: int, source) -> None:
    if count != len(source):
        raise MaskCountError(f"'{path}' has {count} masks, but the video has {len(source)} frames.")


def _check_size(path: Path, size: tuple[int, int], source) -> None:
    if tuple(size) != tuple(source.size):
        raise MaskError(
            f"The masks in '{path}' are {_by(size)} (width x height), but the video is {_by(source.size)}."
        )


def check_fit(path, count: int, size: tuple[int, int], source) -> None:
    """Raise MaskError, naming both numbers, unless `source` has `count` frames of `size`."""
    _check_count(path, count, source)
    _check_size(path, size, source)


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _sentence(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
