"""What moves in a video: small frames decoded on demand, optical flow, camera motion, cuts, background.

Everything here works on *working frames*: the video scaled down so that its longest side is at most
`WORKING_SIDE` pixels. A `Clip` keeps a bounded number of them, so videos of any length can be walked through.
"""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np

from videopainter.ops.motion import is_cut

WORKING_SIDE = 480  # longest side in pixels; larger frames cost more and rarely give better outlines
BLOCK = 8  # frames decoded at once
LAB_WEIGHTS = np.float32([0.7, 1.5, 1.5])  # shadows change lightness more than colour
CACHED_BLOCKS = 14  # enough for LOOK frames on both sides of the present one
LOOK = 36  # how far, in frames, the background is looked for
OFFSETS = (4, 8, 12, 17, 22, 28, 35)  # distances of the frames in which the background is looked for
# the same where no masks are known yet: so far away that the object itself is no longer there
FAR_OFFSETS = (9, 13, 17, 21, 26, 30, 35)


class Clip:
    """Working frames of a source with their flows and camera motion, computed when asked for.

    `source` needs `len()`, `height`, `width` and `source[i:j]` -> uint8 (n, h, w, 3) RGB.
    """

    def __init__(self, source, side: int = WORKING_SIDE):
        self.source = source
        self.length = len(source)
        self.scale = min(1.0, side / max(source.height, source.width))
        self.width = max(16, round(source.width * self.scale))
        self.height = max(16, round(source.height * self.scale))
        self._blocks: OrderedDict[int, list] = OrderedDict()
        self._flows: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._cameras: OrderedDict[int, np.ndarray | None] = OrderedDict()
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def _frame(self, i: int) -> dict:
        b = i // BLOCK
        if b not in self._blocks:
            block = range(b * BLOCK, min((b + 1) * BLOCK, self.length))
            small = [self._shrink(self.source[j : j + 1][0]) for j in block]  # one large frame at a time
            self._blocks[b] = [{"rgb": f, "gray": cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)} for f in small]
            while len(self._blocks) > CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(b)
        return self._blocks[b][i - b * BLOCK]

    def _shrink(self, frame: np.ndarray) -> np.ndarray:
        if frame.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(frame)
        return cv2.resize(frame, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def rgb(self, i: int) -> np.ndarray:
        """Working frame `i`, uint8 (height, width, 3)."""
        return self._frame(i)["rgb"]

    def gray(self, i: int) -> np.ndarray:
        """Working frame `i` in grey, uint8 (height, width)."""
        return self._frame(i)["gray"]

    def lab(self, i: int) -> np.ndarray:
        """Working frame `i` in Lab, lightness weighed down, float32 (height, width, 3), about 0..255 each."""
        return self.lab_bytes(i).astype(np.float32) * LAB_WEIGHTS

    def lab_bytes(self, i: int) -> np.ndarray:
        """Working frame `i` in Lab, not weighed, uint8 (height, width, 3)."""
        frame = self._frame(i)
        if "lab" not in frame:
            frame["lab"] = cv2.cvtColor(cv2.GaussianBlur(frame["rgb"], (0, 0), 0.6), cv2.COLOR_RGB2LAB)
        return frame["lab"]

    def flow(self, i: int, j: int) -> np.ndarray:
        """Optical flow float32 (height, width, 2), in pixels: how far each pixel of frame `i` is away
        in `j`.
        """
        if (i, j) not in self._flows:
            # half precision is 1/100 pixel at usual speeds, and half the memory
            self._flows[i, j] = self.flow_between(self.gray(i), self.gray(j)).astype(np.float16)
            while len(self._flows) > 2 * LOOK + 8:
                self._flows.popitem(last=False)
        return self._flows[i, j].astype(np.float32)

    def flow_between(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """The same of two pictures, uint8 (height, width)."""
        return self._dis.calc(here, there, None)

    def camera(self, i: int) -> np.ndarray | None:
        """Homography float64 (3, 3) that takes the background of frame `i` to `i + 1`; None at a hard cut."""
        if i not in self._cameras:
            flow = self.flow(i, i + 1)
            self._cameras[i] = None if self._is_cut(i, flow) else homography(flow)
            while len(self._cameras) > 6 * LOOK:
                self._cameras.popitem(last=False)
        return self._cameras[i]

    def knows_around(self, i: int) -> bool:
        """Whether what is needed of the frames around `i` to tell what moves there has been computed."""
        first, last = max(i - LOOK, 0), min(i + LOOK, self.length - 1)
        return all(b in self._blocks for b in range(first // BLOCK, last // BLOCK + 1)) and all(
            j in self._cameras for j in range(first, last)
        )

    def cut_between(self, i: int, j: int) -> bool:
        """Whether a hard cut lies between the neighbouring frames `i` and `j`."""
        return self.camera(min(i, j)) is None

    def _is_cut(self, i: int, flow: np.ndarray) -> bool:
        here, there = self.gray(i), self.gray(i + 1)
        everywhere = np.ones(here.shape, bool)
        return is_cut(here, there, everywhere, warp(there, flow), lambda: (flow, self.flow(i + 1, i)))

    def cameras_from(self, i: int, step: int, count: int) -> list[np.ndarray]:
        """Homographies from frame `i` to i + step, i + 2 step, ..., at most `count`; fewer at a cut or
        the end.
        """
        result, total = [], np.eye(3)
        for k in range(count):
            j = i + k * step
            if not 0 <= j + step < self.length:
                break
            single = self.camera(j if step > 0 else j - 1)
            if single is None:
                break
            total = (single if step > 0 else np.linalg.inv(single)) @ total
            result.append(total)
        return result


def homography(flow: np.ndarray) -> np.ndarray:
    """The homography float64 (3, 3) that most of a flow field, float32 (h, w, 2), agrees with."""
    h, w = flow.shape[:2]
    y, x = np.mgrid[6 : h - 6 : 9, 6 : w - 6 : 9]
    start = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
    end = start + flow[y, x].reshape(-1, 2)
    cv2.setRNGSeed(1)
    found, inliers = cv2.findHomography(start, end, cv2.RANSAC, 1.0, maxIters=300)
    if found is None or inliers.mean() < 0.25:
        # too little agreement for eight parameters: fall back on the commonest shift
        found = np.eye(3)
        found[:2, 2] = np.median(end - start, axis=0)
    return found


def grid(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates x, y as float32 (h, w) each."""
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return x, y


def warp(image: np.ndarray, flow: np.ndarray, border=cv2.BORDER_REPLICATE) -> np.ndarray:
    """Take `image` (h, w[, c]) back along `flow` float32 (h, w, 2), bilinear."""
    x, y = grid(*flow.shape[:2])
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=border)


def ground_motion(camera: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far a homography moves the points x, y float32 (h, w): float32 (h, w, 2)."""
    z = camera[2, 0] * x + camera[2, 1] * y + camera[2, 2]
    moved = [(camera[r, 0] * x + camera[r, 1] * y + camera[r, 2]) / z for r in (0, 1)]
    return np.stack([moved[0] - x, moved[1] - y], -1).astype(np.float32)


def trajectories(clip: Clip, i: int, times=(2, 5, 9)) -> list[np.ndarray]:
    """Displacement against the camera after each of `times` frames, float32 (height, width, 2) each.

    Pixels are followed from frame to frame; forwards, or backwards where a cut or the end is too near.
    """
    x, y = grid(clip.height, clip.width)
    ways = {step: clip.cameras_from(i, step, times[-1]) for step in (1, -1)}
    step = 1 if len(ways[1]) >= len(ways[-1]) else -1
    moved, found = np.zeros((clip.height, clip.width, 2), np.float32), []
    for k, camera in enumerate(ways[step]):
        moved = moved + warp(clip.flow(i + k * step, i + (k + 1) * step), moved)
        if k + 1 in times:
            found.append(moved - ground_motion(camera, x, y))
    return found


def likeness(residual: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """How much a motion against the camera, float32 (h, w, 2), is like `mine` (broadcast): float32 in -1..1.

    1 moves like it, -1 stands still or moves elsewhere.
    """
    away = np.linalg.norm(residual - mine, axis=-1)
    scale = np.linalg.norm(mine, axis=-1) + 0.5
    return np.clip(1 - 2 * away / scale, -1, 1).astype(np.float32)


def tolerant_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Weighed distance float32 (h, w) of Lab uint8 `a` to the nearest of `b`'s values in 3 x 3 pixels.

    Per channel. Half a pixel of misalignment at a strong edge then costs nothing.
    """
    kernel = np.ones((3, 3), np.uint8)
    excess = cv2.max(cv2.subtract(cv2.erode(b, kernel), a), cv2.subtract(a, cv2.dilate(b, kernel)))
    return np.sqrt(np.square(excess, dtype=np.float32) @ (LAB_WEIGHTS**2))


def background_difference(
    clip: Clip, i: int, roi, masks, offsets=OFFSETS, quantile: float = 0.4, only_known: bool = False
):
    """How much each pixel of frame `i` differs from what neighbouring frames show behind it.

    Args:
        roi: (x0, y0, x1, y1) in working pixels.
        masks: object masks, bool (height, width), of frames where they are known; not used as background.
        only_known: leave out the frames without a mask.
    Returns:
        difference float32 (h, w) over the roi; support int (h, w), the number of frames it was seen in.
    """
    x0, y0, x1, y1 = roi
    w, h = x1 - x0, y1 - y0
    here = clip.lab_bytes(i)[y0:y1, x0:x1]
    grey = clip.gray(i)[::4, ::4].astype(np.float32)
    shift = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]], float)
    differences = []
    for step in (-1, 1):
        cameras = clip.cameras_from(i, step, offsets[-1])
        for offset in offsets:
            if offset > len(cameras):
                break
            j = i + step * offset
            if only_known and j not in masks:
                continue
            total = steadied(cameras[offset - 1], clip, grey, j)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            other = cv2.warpPerspective(clip.lab_bytes(j), total @ shift, (w, h), flags=flags)
            seen = np.full((clip.height, clip.width), 255, np.uint8)
            if j in masks:
                seen[cv2.dilate(masks[j].astype(np.uint8), np.ones((7, 7), np.uint8)) > 0] = 0
            seen = cv2.warpPerspective(seen, total @ shift, (w, h), flags=flags) > 250
            d = tolerant_difference(here, other)
            d[~seen] = np.nan
            differences.append(d)
    if not differences:
        return np.zeros((h, w), np.float32), np.zeros((h, w), int)
    return lower_quantile(np.stack(differences), quantile)


def lower_quantile(stack: np.ndarray, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Quantile over the first axis without NaN, 0 where all are NaN; and the count of values."""
    count = (~np.isnan(stack)).sum(0)
    ordered = np.sort(stack, axis=0)  # NaN sorts last
    index = np.clip(np.floor(q * (count - 1) + 0.5).astype(int), 0, None)
    value = np.take_along_axis(ordered, index[None], 0)[0]
    return np.where(count > 0, value, 0).astype(np.float32), count


def steadied(total: np.ndarray, clip: Clip, grey: np.ndarray, j: int) -> np.ndarray:
    """`total`, or identity where frame `j` fits as well unmoved: chained homographies of a fixed
    camera drift.
    """
    h, w = grey.shape
    small = clip.gray(j)
    quarter = np.diag([4.0, 4.0, 1.0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(small, total @ quarter, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    still = small[::4, ::4]
    if np.abs(grey - still).mean() <= np.abs(grey - moved).mean() * 1.02:
        return np.eye(3)
    return total
