"""Masks as images: one for the whole video, or a folder with one a frame."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks.base import MaskFormat, Objects, label_maps
from videopainter.masks.track import MaskError
from videopainter.utils.atomic import whole_folder

IMAGE_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg", ".webp"}
LOSSY_SUFFIXES = {".jpg", ".jpeg", ".webp"}

# Above this many distinct grey levels a picture is a soft or once lossy mask, not a map of labels.
MOST_LABELS_IN_A_GREY_IMAGE = 32
# In soft masks and in mask videos, whose codec rings around edges, brighter than this means repaint.
THRESHOLD = 127


class StillImage(MaskFormat):
    """One image: the same mask in every frame. The palette index or the grey level is the label."""

    name, what, suffixes = "image", "one image", tuple(sorted(IMAGE_SUFFIXES))

    def __init__(self, path: Path):
        self.path, self.count = path, None
        self._labels = read_image(path)
        self.size = self._labels.shape

    def frames(self) -> Iterator[np.ndarray]:
        yield self._labels

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        raise MaskError(f"'{path}' is one image, which holds one mask; name a folder instead.")


class ImageFolder(MaskFormat):
    """A folder of images, one a frame, sorted as people count; the palette index or the grey level is the label.

    Written as grey PNGs, 0 and 255, `00000.png` and so on; of several objects each gets a folder named by its
    number.
    """

    name, what = "png", "a folder of images"

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.is_dir()

    @classmethod
    def claims_new(cls, path: Path) -> bool:
        return path.suffix == "" or path.is_dir()

    def __init__(self, path: Path):
        self.path = path
        self._images = sorted_images(path)
        if not self._images:
            raise MaskError(f"There is no image in the mask folder '{path}'.")
        self.count = len(self._images)
        self.size = read_image(self._images[0]).shape

    def frames(self) -> Iterator[np.ndarray]:
        return (read_image(image) for image in self._images)

    def file_of(self, i: int) -> Path:
        return self._images[i]

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        with _new_folder(path) as folder:
            for number, track in objects.items():
                into = folder / str(number) if len(objects) > 1 else folder
                into.mkdir(exist_ok=True)
                for i, mask in enumerate(track):
                    _write_png(into / f"{i:05d}.png", mask.view(np.uint8) * 255)


class DavisFolder(MaskFormat):
    """A folder as DAVIS has it: PNGs with a palette, `00000.png` and so on, whose indices are the objects' numbers.

    Only for writing: `ImageFolder` reads it like every other.
    """

    name, what = "davis", "a folder of images with a palette"

    @classmethod
    def claims(cls, path: Path) -> bool:
        return False

    @classmethod
    def claims_new(cls, path: Path) -> bool:
        return False

    def __init__(self, path: Path):
        raise MaskError(f"'{path}' is read as {ImageFolder.what}.")

    def frames(self) -> Iterator[np.ndarray]:
        raise NotImplementedError

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        from PIL import Image

        with _new_folder(path) as folder:
            for i, labels in enumerate(label_maps(objects)):
                image = Image.fromarray(labels)
                image.putpalette(davis_palette())
                image.save(folder / f"{i:05d}.png")


def davis_palette() -> bytes:
    """The 256 colours, RGB, in which DAVIS and PASCAL VOC draw labels: black, dark red, dark green, ..."""
    colours = np.zeros((256, 3), np.uint8)
    for label in range(256):
        for bit in range(8):
            # the lowest bits of the label make the highest of red, green and blue
            colours[label] |= np.array([label >> 3 * bit + c & 1 for c in range(3)], np.uint8) << 7 - bit
    return colours.tobytes()


def sorted_images(folder: Path) -> list[Path]:
    """The images in a folder, `2.png` before `10.png`; hidden files are left out."""
    images = [
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    return sorted(images, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])


def read_image(path: Path) -> np.ndarray:
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


def _write_png(path: Path, grey: np.ndarray) -> None:
    done, data = cv2.imencode(".png", grey)
    if not done:
        raise MaskError(f"The mask '{path}' cannot be written.")
    path.write_bytes(data.tobytes())


def _new_folder(path: Path):
    """A folder to write masks in; refuses one that holds something."""
    if path.is_dir() and any(path.iterdir()):
        raise MaskError(f"The folder '{path}' is not empty; masks are saved in one of their own.")
    return whole_folder(path)
