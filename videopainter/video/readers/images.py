"""Images as a video: the files of a folder in the order of their names, or the pictures of an animated file."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from videopainter.video.colour import SRGB
from videopainter.video.container import check_size, regular_file, shown
from videopainter.video.readers.base import VideoReader
from videopainter.video.source import VideoError, exact_rate
from videopainter.video.stored import StoredFrame
from videopainter.video.times import is_even

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ANIMATED_SUFFIXES = (".gif", ".apng", ".avif")  # one file; those above may hold several pictures too
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
RATE = 25  # frames a second of images that do not say
INSTANT = Fraction(1, 10)  # browsers show pictures that are to be shown for no time for that long
KEPT_PLACES = 200_000  # pictures of one file


class ImageReader(VideoReader):
    """A folder of images of one size, in natural order of their names (2.png before 10.png), or one image file.

    An animated GIF, PNG, WebP or AVIF and a TIFF of several pages give all their pictures, at their own times. Alpha
    and 16 bits a channel stay in `stored(i)`. Only Pillow reads here, and only what it knows as an image.
    """

    name = "images"

    @classmethod
    def objection(cls, path):
        if os.path.isdir(path) or path.lower().endswith((*IMAGE_SUFFIXES, *ANIMATED_SUFFIXES)):
            return None
        return f"{shown(path)} is not a folder of images, nor an image."

    def __init__(self, path, fps=None):
        super().__init__(path, fps)
        self._opened = None  # (name, image, number of the picture that it stands at)
        self.fps = exact_rate(RATE if fps is None else fps)
        if os.path.isdir(path):
            self._names = _images_in(path)
            self._pages = [(k, 0) for k in range(len(self._names))]
        else:
            regular_file(path)
            self._names = [path]
            with _sentences(path):
                self._read_animation(path, fps)
        self._length = len(self._pages)
        first = self.stored(0)
        self.size = first.size
        self.pixel_format = first.frame.format.name
        self.colour = replace(SRGB, depth=16 if "48" in self.pixel_format or "64" in self.pixel_format else 8)

    def close(self):
        super().close()
        self._shut()
        self._names = None

    def _read_animation(self, path, fps):
        """The pictures of one file and how long each is shown."""
        image = self._image(0)
        count = getattr(image, "n_frames", 1)
        if count > KEPT_PLACES:
            raise VideoError(f"{shown(path)} holds {count} pictures; more than {KEPT_PLACES} are not taken.")
        self._pages = [(0, k) for k in range(count)]
        if count < 2 or fps is not None or image.format == "TIFF":
            return
        ends = []
        for k in range(count):
            self._turn_to(0, k)
            if image.format == "WEBP":
                image.load()  # which says how long it is shown
            spent = Fraction(image.info.get("duration", 0) or 0).limit_denominator(1000) / 1000
            ends.append((ends[-1] if ends else 0) + (spent if spent > 0 else INSTANT))
        times = [Fraction(0), *ends[:-1]]
        self.fps = exact_rate(count / ends[-1])
        if not is_even([1000 * time for time in (*times, ends[-1])], self.fps, Fraction(1, 1000)):
            self._times, self.variable_rate = times, True

    def _image(self, number):
        """The opened image file; its size is known, and nothing is decoded."""
        from PIL import Image

        name = self._names[number]
        if self._opened is None or self._opened[0] != name:
            self._shut()
            regular_file(name)
            with _sentences(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about sizes: they are checked here
                image = Image.open(name, formats=FORMATS)
            self._opened = [name, image, 0]
            check_size(name, *image.size)
        return self._opened[1]

    def _shut(self):
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _turn_to(self, number, page):
        image = self._image(number)
        if page != self._opened[2]:
            image.seek(page)
            self._opened[2] = page
        return image

    def stored(self, i):
        if self._names is None:
            raise VideoError(f"{shown(self.path)} has been closed.")
        number, page = self._pages[i]
        name = self._names[number]
        with _sentences(name):
            image = self._turn_to(number, page)
            array, kind = _deep(name) if _is_deep(image) else _pixels(image)
        if self._length and i and array.shape[:2] != tuple(self.size):
            (h, w), (h0, w0) = array.shape[:2], self.size
            raise VideoError(
                f"{os.path.basename(name)!r} is {w}x{h}, but the images before it are {w0}x{h0}."
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=kind)
        return StoredFrame(frame, array.shape[:2])

    def _decode(self, i):
        array = self.stored(i).frame.to_ndarray()[..., :3]
        return (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array


@contextmanager
def _sentences(name):
    """VideoError for whatever goes wrong in an image: broken ones lead Pillow into exceptions of all kinds."""
    try:
        yield
    except VideoError:
        raise
    except Exception:
        raise VideoError(f"The image {shown(name)} cannot be read.") from None


def _images_in(path):
    try:
        names = [n for n in os.listdir(path) if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")]
    except OSError:
        raise VideoError(f"The folder {shown(path)} cannot be read.") from None
    if not names:
        raise VideoError(f"There are no images in the folder {shown(path)}.")
    names.sort(key=lambda n: [int(p) if p.isdecimal() else p.lower() for p in re.split(r"(\d+)", n)])
    return [os.path.join(path, n) for n in names]


def _is_deep(image):
    """Whether it has 16 bits a channel and colours, of which Pillow reads 8."""
    return image.format == "PNG" and image.tile and image.tile[0][3] in ("RGB;16B", "RGBA;16B")


def _deep(name):
    import cv2

    array = cv2.imdecode(np.fromfile(name, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 3:
        raise OSError(name)
    if array.shape[2] == 4:
        return cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA), "rgba64le"
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB), "rgb48le"


def _pixels(image):
    """(array (h, w, 3 or 4), libav's name of it): RGB with the alpha that there is, of 8 or of 16 bits."""
    from PIL import ImageOps

    if image.mode.startswith("I"):  # 16 bit grey: Pillow would clip it at 255
        grey = np.asarray(image).astype(np.int64).clip(0, 65535).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=2), "rgb48le"
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    upright = ImageOps.exif_transpose(image)
    return np.asarray(upright.convert("RGBA" if has_alpha else "RGB")), "rgba" if has_alpha else "rgb24"
