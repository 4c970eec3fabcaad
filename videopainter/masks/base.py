"""What a mask format is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from videopainter.masks.meaning import Meaning, meaning_of
from videopainter.masks.picture import Picture
from videopainter.masks.track import MaskError, MaskTrack

Objects = Mapping[int, MaskTrack]  # number of the object, 1 to 255 -> its masks


class MaskFormat(ABC):
    """Masks as they lie on disk, in one way of keeping them. `Format(path)` opens what is there.

    To add one: derive a class in a file of this folder, say which paths are its own (`suffixes`, or `claims`),
    read the number and size of the masks in `__init__` and the labels in `frames`, write them in `write` if the
    format can, and name the class in the table of `formats.py`. The suite `tests/masks/test_formats.py` runs over
    that table; it asks for one function that makes a sample.

    Attributes:
        name: what `save_masks(format=...)` calls it. what: a few words, for messages.
        has_labels: whether objects have numbers, so that `mask_id` can pick one.
        count: number of masks; None: one for however many frames there are.
        size: (height, width) of the first.
        numbers: those that the masks have, where they have names with numbers, rising. times, duration: seconds,
            Fractions, at which each is shown and for which all are, where that is kept.

    Opening and reading raise MaskError, one sentence, for what is no such file, damaged or incomplete.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()  # endings, in small letters
    has_labels: bool = True

    path: Path
    count: int | None
    size: tuple[int, int]
    numbers: list[int] | None = None
    times: Sequence[Fraction] | None = None
    duration: Fraction | None = None

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether what is at `path`, which exists, is read as this format."""
        return path.is_file() and path.suffix.lower() in cls.suffixes

    @classmethod
    def claims_new(cls, path: Path) -> bool:
        """Whether masks saved at `path`, where nothing needs to be, get this format."""
        return path.suffix.lower() in cls.suffixes

    @abstractmethod
    def __init__(self, path: Path): ...

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """The masks in order, as they are kept; may be called again."""

    @cached_property
    def meaning(self) -> Meaning:
        """What the values of all of them mean; they are read for that."""
        return meaning_of(self.pictures())

    def frames(self) -> Iterator[np.ndarray]:
        """bool or integers (height, width) in order, 0 = keep; may be called again."""
        return (self.meaning(picture) for picture in self.pictures())

    def labels(self) -> Iterator[np.ndarray]:
        """Integers (height, width) in order: the numbers that stand in the file, of which `mask_id` picks one."""
        return (picture.labels() for picture in self.pictures())

    def file_of(self, i: int) -> Path:
        """Where mask `i` lies, for messages."""
        return self.path

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        """Write the masks of some objects, of one length and size; whole or not at all.

        Formats without labels unite them. `fps`: frames a second, for formats that keep time.
        Raises MaskError if this format cannot hold them.
        """
        raise MaskError(f"Masks cannot be saved as {cls.what}.")


def label_maps(objects: Objects) -> Iterator[np.ndarray]:
    """uint8 (height, width) a frame: the number of the object, of the highest where several lie, 0 elsewhere."""
    tracks = dict(sorted(objects.items()))
    for number in tracks:
        if not 1 <= number <= 255:
            raise MaskError(f"Objects are numbered from 1 to 255 in files of labels, not {number}.")
    for masks in zip(*tracks.values(), strict=True):
        labels = np.zeros(masks[0].shape, np.uint8)
        for number, mask in zip(tracks, masks):
            labels[mask] = number
        yield labels


def united(objects: Objects) -> Iterator[np.ndarray]:
    """bool (height, width) a frame: all objects together."""
    return (np.logical_or.reduce(masks) for masks in zip(*objects.values(), strict=True))


def first_line(error: BaseException) -> str:
    """What an error says, to stand within a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
