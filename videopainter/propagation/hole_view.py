"""The part of a frame that is filled at once, and what the other frames show of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from videopainter.ops.motion import project
from videopainter.propagation.frames import FrameStore

MARGIN = 28  # context around a hole, working pixels: enough for DIS to lock on at its coarsest scale
_ROW = 1024  # pixels of a list that lie in a row when OpenCV looks them up
_TAPS = np.ones((3, 3), np.uint8)
_LONGEST = 32766  # pixels; OpenCV's remap takes no longer sides


class HoleView:
    """A rectangle of frame ``t`` that holds one or more holes.

    Args:
        store: the frames.
        t: number of the frame.
        working: (rows, columns) of the rectangle in working pixels.
        pixels: (rows, columns) of it in pixels of the source.
    """

    def __init__(self, store: FrameStore, t: int, working: tuple[slice, slice], pixels: tuple[slice, slice]):
        self.store, self.t, self.working, self.pixels = store, t, working, pixels
        self.hole = store.hole(t)[pixels]  # bool (h, w)
        self._cameras: dict[int, np.ndarray | None] = {}

    @classmethod
    def whole(cls, store: FrameStore, t: int) -> HoleView:
        """All of frame ``t``."""
        height, width = store.working_size
        return cls(
            store,
            t,
            (slice(0, height), slice(0, width)),
            (slice(0, store.height), slice(0, store.width)),
        )

    # -- frame t -----------------------------------------------------------------------------------------

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the source."""
        return self.hole.shape

    @property
    def frame(self) -> np.ndarray:
        """uint8 ``(h, w, 3)``, with what stands in the hole."""
        return self.store.colour(self.t)[self.pixels]

    @property
    def grey(self) -> tuple[np.ndarray, np.ndarray]:
        """``(grey, hole)`` in working pixels: uint8 with the hole filled smoothly, and bool."""
        grey, hole = self.store.grey(self.t)
        return grey[self.working], hole[self.working]

    @property
    def noise(self) -> float:
        """Of this frame, in grey levels; 0 where there is none to speak of."""
        return self.store.noise(self.t)

    @property
    def camera_is_fixed(self) -> bool:
        return self.store.is_fixed(self.t)

    @property
    def background_stands(self) -> bool:
        return self.store.background_stands(self.t)

    def to_grey(self, colour: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `grey` would be if the frame were ``colour`` with ``hole`` here."""
        return self.store.to_grey(colour, hole, self._working_size, self.noise)

    def shrunk(self, colour: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, with what stands in the hole."""
        return self.store.shrunk(colour, hole, self._working_size, self.noise)

    @property
    def _working_size(self) -> tuple[int, int]:
        rows, columns = self.working
        return rows.stop - rows.start, columns.stop - columns.start

    # -- other frames ------------------------------------------------------------------------------------

    def neighbours(self) -> list[int]:
        """Frames that may show what is hidden here, near ones first."""
        return self.store.neighbours(self.t)

    def camera(self, i: int) -> np.ndarray | None:
        """Homography from this frame to frame ``i`` in working pixels; None over a cut."""
        if i not in self._cameras:
            self._cameras[i] = self.store.camera(self.t, i)
        return self._cameras[i]

    def in_place(self, i: int, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """``(colour, hole)`` of frame ``i`` at the same pixels, which are the same places if the camera is fixed.

        The colour, uint8 ``(3, n)``, is in this frame's light; what the other one's light has burnt out counts as
        hidden, bool ``(n,)``.
        """
        # Channels by themselves, as NumPy is slow where an axis is short.
        planes = cv2.split(self.store.colour(i)[self.pixels])
        colour = np.stack([plane.ravel()[points.places] for plane in planes])
        hole = self.store.hole(i)[self.pixels].ravel()[points.places]
        light = self.store.light(self.t, i)
        if light is None:
            return colour, hole
        colour = np.ascontiguousarray(colour.T)[None]
        lost = light.lost(colour)
        return light.apply(colour)[0].T, hole if lost is None else hole | lost[0]

    def sees(self, i: int, points: np.ndarray) -> np.ndarray | None:
        """Which places frame ``i`` shows: bool ``(n,)``; None over a cut.

        ``points``: float64 ``(n, 2)``, x and y in working pixels of this frame.
        """
        camera = self.camera(i)
        if camera is None:
            return None
        x, y = np.rint(project(camera, points)).T
        h, w = self.store.working_size
        seen = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        seen[seen] = ~self.store.coarse_hole(i)[y[seen].astype(int) // 4, x[seen].astype(int) // 4]
        return seen

    def grey_of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame ``i`` brought here by the camera's motion and in this frame's light, in working pixels.

        Returns uint8 grey, and uint8 that is 1 where the frame shows nothing of this place.
        """
        grey, hole = self.store.grey(i)
        x, y = self._places(self.camera(i))
        aligned = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        light = self.store.light(self.t, i)
        if light is not None:
            aligned = light.grey.apply(aligned)
        blind = cv2.remap(
            hole.view(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1
        )
        return aligned, blind

    def grey_along(self, i: int, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same brought here along ``flow``, float32 ``(h, w, 2)``, as well, by one bicubic sample."""
        grey, hole = self.store.grey(i)
        x, y = self._places(self.camera(i), flow)
        aligned = cv2.remap(grey, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        light = self.store.light(self.t, i)
        if light is not None:
            aligned = light.grey.apply(aligned)
        hole = cv2.dilate(hole.view(np.uint8), _TAPS)
        blind = cv2.remap(hole, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
        return aligned, blind

    def points(self, where: np.ndarray) -> Points:
        """Those pixels of the view that are True in ``where``, bool ``(h, w)``; there is one at least."""
        rows, columns = (list_.astype(np.float32) for list_ in np.nonzero(where))
        x, y = columns + self.pixels[1].start, rows + self.pixels[0].start
        store = self.store
        if store.scale != 1:
            # Pixel centres: working x covers source (x + 0.5) * s - 0.5.
            sy, sx = store.height / store.working_size[0], store.width / store.working_size[1]
            x, y = (x + 0.5) / np.float32(sx) - 0.5, (y + 0.5) / np.float32(sy) - 0.5
        width = min(len(x), _ROW)
        fill = -len(x) % width
        return Points(where, *(np.pad(list_, (0, fill), "edge").reshape(-1, width) for list_ in (x, y)))

    def sample(self, i: int, flow: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """One bicubic sample of frame ``i`` at each of ``points``, in this frame's light.

        Args:
            flow: float32, of the view's size in working pixels and 2 channels, motion beside the camera's.

        Returns uint8 ``(n, 3)`` and bool ``(n,)``, True where every tap is known and inside the picture.
        """
        store, count = self.store, points.count
        along = self._at(points, flow)
        x, y = _projected(self.camera(i), points.x + along[..., 0], points.y + along[..., 1])
        if store.scale != 1:
            sy, sx = store.height / store.working_size[0], store.width / store.working_size[1]
            x, y = (x + 0.5) * np.float32(sx) - 0.5, (y + 0.5) * np.float32(sy) - 0.5
        colour = remap(store.colour(i), x, y, cv2.INTER_CUBIC).reshape(-1, 3)[:count]
        # Cubic taps reach one pixel further than linear ones: the hole is grown by it.
        blind = remap(store.grown_hole(i), x, y, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 255)
        valid = (x >= 0) & (y >= 0) & (x <= store.width - 1) & (y <= store.height - 1) & (blind == 0)
        valid = valid.reshape(-1)[:count]
        light = store.light(self.t, i)
        if light is None:
            return colour, valid
        lost = light.lost(colour[None])
        return light.apply(colour[None])[0], valid if lost is None else valid & ~lost[0]

    def at(self, points: Points, plane: np.ndarray) -> np.ndarray:
        """A float32 plane of the view's size in working pixels, at each of ``points``: float32 ``(n,)``."""
        return self._at(points, plane).reshape(-1)[: points.count]

    def _at(self, points: Points, plane: np.ndarray) -> np.ndarray:
        x0, y0 = points.x - np.float32(self.working[1].start), points.y - np.float32(self.working[0].start)
        return cv2.remap(plane, x0, y0, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def source_places(self, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel lies in another frame, float32 x and y in the source's pixels, by ``camera`` alone."""
        return self._to_source(*self._places(camera))

    def _places(self, camera: np.ndarray, flow: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Where each working pixel lies in another frame, float32 x and y in working pixels."""
        y, x = self._grid
        if flow is not None:
            # Channels by themselves, as NumPy is slow where an axis is short.
            along = cv2.split(flow)
            x, y = along[0] + x, along[1] + y
        return _projected(camera, x, y)

    @cached_property
    def _grid(self) -> np.ndarray:
        """float32 ``(2, h, w)``: y and x of each working pixel."""
        return np.mgrid[self.working].astype(np.float32)

    def _to_source(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of working pixels, in working pixels, as places of the source's pixels in the source's pixels."""
        store = self.store
        if store.scale == 1:
            return x, y
        sy, sx = store.height / store.working_size[0], store.width / store.working_size[1]
        qy, qx = np.mgrid[self.pixels].astype(np.float32)
        # Pixel centres: working x covers source (x + 0.5) * s - 0.5.
        qx = ((qx + 0.5) / sx - 0.5 - self.working[1].start).astype(np.float32)
        qy = ((qy + 0.5) / sy - 0.5 - self.working[0].start).astype(np.float32)
        x = cv2.remap(x, qx, qy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        y = cv2.remap(y, qx, qy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return (x + 0.5) * np.float32(sx) - 0.5, (y + 0.5) * np.float32(sy) - 0.5


@dataclass(frozen=True)
class Points:
    """Some pixels of a view: ``where``, bool ``(h, w)``.

    x, y: float32, their places in working pixels of the whole frame, as pictures, which is how OpenCV takes them; the
    last place is repeated to fill a row.
    """

    where: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @cached_property
    def places(self) -> np.ndarray:
        """Their numbers in the view, row by row: int (n,)."""
        return np.flatnonzero(self.where)

    @property
    def count(self) -> int:
        return len(self.places)


def hole_views(store: FrameStore, t: int) -> list[HoleView]:
    """Views of the holes of frame ``t``; holes whose margins meet share one."""
    _, hole = store.grey(t)
    h, w = hole.shape
    side = MARGIN | 1
    grown = cv2.dilate(hole.view(np.uint8), np.ones((side, side), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(grown)
    rest = MARGIN - side // 2  # what growing has not yet added of the margin
    sy, sx = store.height / h, store.width / w
    views = []
    for left, top, width, height, _ in stats[1:count]:
        y0, y1 = max(0, top - rest), min(h, top + height + rest)
        x0, x1 = max(0, left - rest), min(w, left + width + rest)
        pixels = (
            slice(int(y0 * sy), min(store.height, int(np.ceil(y1 * sy)))),
            slice(int(x0 * sx), min(store.width, int(np.ceil(x1 * sx)))),
        )
        views.append(HoleView(store, t, (slice(y0, y1), slice(x0, x1)), pixels))
    return views


def _projected(camera: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`project` for float32 planes."""
    if np.array_equal(camera, np.eye(3)):
        return x, y
    there_x, there_y, z = (_weighed(*row, x, y) for row in camera.tolist())
    np.divide(1, z, out=z)
    there_x *= z
    there_y *= z
    return there_x, there_y


def _weighed(a: float, b: float, c: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    out = a * x
    out += b * y
    out += c
    return out


def remap(image, x, y, interpolation, border=cv2.BORDER_REPLICATE, value=0):
    """``cv2.remap`` for images of any size: OpenCV's own stops at sides of 32767, so only the part used goes in."""
    h, w = image.shape[:2]
    if max(h, w) <= _LONGEST:
        return cv2.remap(image, x, y, interpolation, borderMode=border, borderValue=value)
    x0 = int(np.clip(np.floor(x.min()) - 4, 0, w - 1))
    y0 = int(np.clip(np.floor(y.min()) - 4, 0, h - 1))
    part = image[y0 : y0 + _LONGEST, x0 : x0 + _LONGEST]
    return cv2.remap(part, x - x0, y - y0, interpolation, borderMode=border, borderValue=value)


def grown(mask: np.ndarray, side: int) -> np.ndarray:
    """bool ``(h, w)``: ``mask`` grown by squares of odd ``side``."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).view(bool)
