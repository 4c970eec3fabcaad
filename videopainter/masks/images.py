"""Masks as images: one for the whole video, or a folder with one a frame."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks.base import MaskFormat, Objects, label_maps, united
from videopainter.masks.picture import Picture, picture_of, picture_of_image
from videopainter.masks.track import MaskError
from videopainter.utils.atomic import whole_folder

LOSSY_SUFFIXES = {".jpg", ".jpeg", ".jp2", ".webp", ".avif"}
IMAGE_SUFFIXES = {
    *LOSSY_SUFFIXES,
    *(".png", ".apng", ".bmp", ".tif", ".tiff", ".gif", ".tga", ".pgm", ".pbm", ".ppm", ".pnm", ".exr"),
}
INSTANT = Fraction(1, 10)  # seconds, for which a page is shown that does not say how long


class StillImage(MaskFormat):
    """One image: the same mask in every frame. Of a file of several pages, or an animated one, each is a mask."""

    name, what, suffixes = "image", "one image", tuple(sorted(IMAGE_SUFFIXES))

    def __init__(self, path: Path):
        self.path = path
        self.size = first_image(path).size
        pages, ends = count_pages(path)
        self.count = pages if pages > 1 else None
        self.times, self.duration = (ends[:-1], ends[-1]) if ends else (None, None)

    def pictures(self) -> Iterator[Picture]:
        return read_images(self.path)


class ImageFolder(MaskFormat):
    """A folder of images, one a frame, sorted as people count.

    Written as grey PNGs, 0 and 255, `00000.png` and so on, all objects together; `ObjectFolders` keeps them apart.
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
        self.size = first_image(self._images[0]).size
        self.numbers = numbers_in([image.stem for image in self._images])

    def pictures(self) -> Iterator[Picture]:
        return (first_image(image) for image in self._images)

    def file_of(self, i: int) -> Path:
        return self._images[i]

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        with whole_folder(path) as folder:
            for i, mask in enumerate(united(objects)):
                _write_png(folder / f"{i:05d}.png", mask.view(np.uint8) * 255)


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

    def pictures(self) -> Iterator[Picture]:
        return iter(())  # nobody comes here: it cannot be opened

    @classmethod
    def write(cls, objects: Objects, path: Path, fps: float) -> None:
        from PIL import Image

        with whole_folder(path) as folder:
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


def numbers_in(names: list[str]) -> list[int] | None:
    """The numbers by which names count: the last in each that rises from name to name; None if there is none."""
    found = [[int(digits) for digits in re.findall(r"\d+", name)] for name in names]
    if len({len(numbers) for numbers in found}) != 1:
        return None
    for column in reversed(list(zip(*found))):
        if all(a < b for a, b in zip(column, column[1:])):
            return list(column)
    return None


def read_images(path: Path) -> Iterator[Picture]:
    """The mask in an image file, or, of a file with several pages, all those of the size of the first."""
    from PIL import Image

    lossy = path.suffix.lower() in LOSSY_SUFFIXES
    try:
        if not _is_pillows(path):
            yield from _by_opencv(path)
            return
        with Image.open(path) as image:
            size = _checked(path, image.size)
            for page in range(getattr(image, "n_frames", 1)):
                if page:
                    image.seek(page)
                if image.size == size:  # else it is a preview
                    yield picture_of_image(image, lossy)
    except MaskError:
        raise
    except Exception as error:  # Pillow and OpenCV raise whatever they stumble over
        raise MaskError(f"The mask '{path}' cannot be read as an image.") from error


def first_image(path: Path) -> Picture:
    """The mask in an image file, of several the first."""
    return next(read_images(path))


def count_pages(path: Path) -> tuple[int, list[Fraction] | None]:
    """(how many masks an image file holds, the seconds at which each is shown, if it is animated)."""
    from PIL import Image

    try:
        if not _is_pillows(path):
            return sum(1 for _ in _by_opencv(path)), None
        with Image.open(path) as image:
            size, pages, ends = _checked(path, image.size), 0, [Fraction(0)]
            for page in range(getattr(image, "n_frames", 1)):
                if page:
                    image.seek(page)
                if image.size != size:
                    continue
                pages += 1
                if image.format == "WEBP":
                    image.load()  # which says how long it is shown
                shown = Fraction(image.info.get("duration", 0) or 0).limit_denominator(1000) / 1000
                ends.append(ends[-1] + (shown if shown > 0 else INSTANT))
            return pages, None if image.format == "TIFF" or pages < 2 else ends
    except MaskError:
        raise
    except Exception as error:  # Pillow and OpenCV raise whatever they stumble over
        raise MaskError(f"The mask '{path}' cannot be read as an image.") from error


def _checked(path: Path, size: tuple[int, int]) -> tuple[int, int]:
    """`size` (width, height), looked at before anything is decoded."""
    from videopainter.video.container import MAX_PIXELS

    if size[0] * size[1] > MAX_PIXELS:
        raise MaskError(
            f"The mask '{path}' has {size[0]} x {size[1]} pixels; more than {MAX_PIXELS // 10**6} million are not "
            "taken."
        )
    return size


def _is_pillows(path: Path) -> bool:
    """Whether Pillow reads it; of TIFFs with fractions or 16 bits in several channels, and of EXR, it does not."""
    from PIL import Image

    if path.suffix.lower() == ".exr":
        return False
    try:
        with Image.open(path):
            return True
    except Image.UnidentifiedImageError:
        if path.suffix.lower() in (".tif", ".tiff"):
            return False
        raise


def _by_opencv(path: Path) -> Iterator[Picture]:
    if path.suffix.lower() == ".exr":
        yield _exr(path)
        return
    done, pages = cv2.imdecodemulti(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if not done or not pages:
        raise OSError(f"'{path}' is no image")
    for page in pages:
        if page.shape[:2] == pages[0].shape[:2]:
            yield picture_of(page)


def _exr(path: Path) -> Picture:
    """OpenCV has its reader of EXR switched off; libav's gives planes of fractions."""
    import av

    try:
        # By name any demuxer would be tried, and some open what a file's text names.
        options = {"protocol_whitelist": "file", "pattern_type": "none"}
        with av.open(f"file:{path}", format="exr_pipe", options=options, timeout=20) as file:
            context = file.streams.video[0].codec_context
            _checked(path, (context.width, context.height))
            frame = next(file.decode(video=0))
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise OSError(f"'{path}' is no image") from error
    name = frame.format.name
    if "f32" not in name and "f16" not in name:
        return picture_of(frame.to_ndarray(format="rgba64le" if "a" in name else "rgb48le"))
    planes = [
        np.frombuffer(plane, np.dtype(np.float32)).reshape(-1, plane.line_size // 4)[:, : frame.width]
        for plane in frame.planes
    ]
    if len(planes) < 3:
        return Picture(planes[0].copy())
    return Picture(np.stack(planes[:3], axis=2), planes[3].copy() if len(planes) == 4 else None)


def _write_png(path: Path, grey: np.ndarray) -> None:
    done, data = cv2.imencode(".png", grey)
    if not done:
        raise MaskError(f"The mask '{path}' cannot be written.")
    path.write_bytes(data.tobytes())
