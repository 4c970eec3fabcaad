"""Masks of several objects, a folder of images each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat, Objects
from videopainter.masks.images import ImageFolder, sorted_images
from videopainter.masks.picture import Picture
from videopainter.masks.track import MaskError, by
from videopainter.utils.atomic import whole_folder


class ObjectFolders(MaskFormat):
    """A folder of folders that are named by the objects' numbers, 1 to 255, each with one image a frame.

    Where objects lie on each other the one with the higher number is the label.
    """

    name, what = "objects", "folders of images, one an object"

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.is_dir() and not sorted_images(path) and bool(_numbered(path))

    @classmethod
    def claims_new(cls, path: Path) -> bool:
        return False

    def __init__(self, path: Path):
        self.path = path
        self._folders = {number: ImageFolder(folder) for number, folder in _numbered(path).items()}
        first = next(iter(self._folders.values()))
        for one in self._folders.values():
            if (one.count, one.size) != (first.count, first.size):
                raise MaskError(
                    f"The objects' masks do not fit together: there are {first.count} of {by(first.size)} in "
                    f"'{first.path}' and {one.count} of {by(one.size)} in '{one.path}'."
                )
        self.count, self.size, self.numbers = first.count, first.size, first.numbers

    def pictures(self) -> Iterator[Picture]:
        return (picture for one in self._folders.values() for picture in one.pictures())

    def frames(self) -> Iterator[np.ndarray]:
        return self.labels()

    def labels(self) -> Iterator[np.ndarray]:
        for masks in zip(*(one.frames() for one in self._folders.values()), strict=True):
            labels = np.zeros(masks[0].shape, np.uint8)
            for number, mask, one in zip(self._folders, masks, self._folders.values()):
                if mask.shape != labels.shape:
                    raise MaskError(
                        f"A mask in '{one.path}' is {by(mask.shape)}, another object's {by(labels.shape)}."
                    )
                labels[mask != 0] = number
            yield labels

    def file_of(self, i: int) -> Path:
        return next(iter(self._folders.values())).file_of(i)

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        with whole_folder(path) as folder:
            for number, track in objects.items():
                ImageFolder.write({1: track}, folder / str(number), fps)


def _numbered(path: Path) -> dict[int, Path]:
    """Number of the object -> its folder, of those in `path` that hold images."""
    found = {int(p.name): p for p in path.iterdir() if p.name.isdecimal() and p.is_dir() and sorted_images(p)}
    return {number: found[number] for number in sorted(found) if 1 <= number <= 255}
