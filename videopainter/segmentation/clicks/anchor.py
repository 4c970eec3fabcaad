"""A mask that is known well is kept for as long as its thing looks the same, still or carried along by the camera."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.classical.motion import Clip

RING = 5  # working pixels around the mask that have to look the same, too
STILL = (8.0, 8.0)  # grey levels by which 95 % and 99 % of the place may differ where nothing was moved
MOVED = (9.0, 20.0)  # the same after it was moved, which blurs it
SLACK = 0.2  # share of the step to its neighbours by which a moved pixel may differ more
AGREE = 0.6  # share of the flow in it that one shift, turn and zoom has to explain
SEEN = 0.9  # share of it that has to lie in the frame
ENOUGH = 4  # frames in which it was found before the last of them may become the one to compare with
PATIENCE = 8  # frames without a match after which it is given up


class Anchor:
    """The mask of a frame in which it is known well.

    Only a thing that keeps its shape is found in another frame, but that to a fraction of a pixel and with all its
    thin parts, however long the way there was, as it is compared with the same frame for as long as possible.

    Args:
        clip: The working frames.
        frame: The frame's number.
        mask: bool (height, width) of the source, the mask there.
        small: The same in working pixels.
    """

    def __init__(self, clip: Clip, frame: int, mask: np.ndarray, small: np.ndarray):
        self.clip = clip
        self._know(frame, mask, small)
        self.missed = 0 if small.any() else PATIENCE

    def _know(self, frame: int, mask: np.ndarray, small: np.ndarray) -> None:
        """From now on, compare with this frame."""
        around = cv2.dilate(small.astype(np.uint8), np.ones((2 * RING + 1,) * 2, np.uint8)) > 0
        self.y, self.x = (v.astype(np.float32) for v in np.nonzero(around))
        self.mask, self.small = mask, small
        looks = _smooth(self.clip.rgb(frame))
        self.looks = looks[around]
        edges = cv2.morphologyEx(looks, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        self.slack = SLACK * edges[around]
        self.grey = self.clip.gray(frame)
        self.last, self.held = frame, 0  # where it was found last, and in how many frames
        self.to_last = np.eye(3)  # from the known frame to that one, in working pixels

    def mask_in(self, i: int) -> np.ndarray | None:
        """bool (height, width) of the source: the mask in frame `i`; None where the thing does not look the same."""
        if self.missed >= PATIENCE:
            return None
        frame = _smooth(self.clip.rgb(i))
        found = self._found(i, frame)
        if found is None and self.held >= ENOUGH and (masks := self._masks())[1].any():
            self._know(self.last, *masks)
            found = self._found(i, frame)
        if found is None:
            self.missed += 1
            return None
        self.missed, self.to_last, self.last, self.held = 0, found, i, self.held + 1
        return self._masks()[0]

    def _masks(self) -> tuple[np.ndarray, np.ndarray]:
        """The mask where it was found last, in pixels of the source and in working pixels."""
        if np.allclose(self.to_last, np.eye(3)):
            return self.mask, self.small
        scale = self.mask.shape[1] / self.clip.width, self.mask.shape[0] / self.clip.height
        # Pixels are counted by their middles.
        enlarge = np.float64(
            [[scale[0], 0, (scale[0] - 1) / 2], [0, scale[1], (scale[1] - 1) / 2], [0, 0, 1]]
        )
        matrices = enlarge @ self.to_last @ np.linalg.inv(enlarge), self.to_last
        return tuple(
            cv2.warpPerspective(mask.astype(np.float32), matrix, mask.shape[::-1]) > 0.5
            for mask, matrix in zip((self.mask, self.small), matrices)
        )

    def _found(self, i: int, frame: np.ndarray) -> np.ndarray | None:
        """The motion from the known frame to frame `i`; None where the thing does not look the same."""
        if self._alike(frame, self.to_last, STILL):
            return self.to_last
        return self._moved(i, frame)

    def _moved(self, i: int, frame: np.ndarray) -> np.ndarray | None:
        """The motion to frame `i`, found by the flow that is left after the last known one."""
        size = (self.clip.width, self.clip.height)
        back = cv2.warpPerspective(
            self.clip.gray(i), self.to_last, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        flow = self.clip.flow_between(self.grey, back)
        step = max(1, len(self.x) // 800)
        x, y = self.x[::step], self.y[::step]
        here = np.stack((x, y), 1)
        cv2.setRNGSeed(1)
        there = here + flow[y.astype(int), x.astype(int)]
        matrix, inliers = cv2.estimateAffine2D(here, there, ransacReprojThreshold=0.7)
        if matrix is None or inliers.mean() < AGREE:
            return None
        found = self.to_last @ np.vstack((matrix, [0, 0, 1]))
        return found if self._alike(frame, found, MOVED, self.slack) else None

    def _alike(self, frame: np.ndarray, matrix: np.ndarray, most: tuple[float, float], slack=0.0) -> bool:
        """Whether the place, moved by the matrix, looks as it did but for the `slack` of each of its pixels."""
        points = cv2.perspectiveTransform(np.stack((self.x, self.y), 1)[None].astype(np.float64), matrix)[0]
        x, y = np.float32(points.T)
        inside = (x >= 0) & (x <= frame.shape[1] - 1) & (y >= 0) & (y <= frame.shape[0] - 1)
        if inside.mean() < SEEN:
            return False
        count = np.count_nonzero(inside)
        # A picture of one row may have 32767 columns at most.
        places = [np.resize(v[inside], (-(-count // 4096), 4096)) for v in (x, y)]
        seen = cv2.remap(frame, *places, cv2.INTER_LINEAR).reshape(-1, 3)[:count]
        difference = (
            np.abs(seen - self.looks[inside]) - np.broadcast_to(slack, self.looks.shape)[inside]
        ).max(1)
        return all(np.percentile(difference, share) < limit for share, limit in zip((95, 99), most))


def _smooth(rgb: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(rgb, (0, 0), 1.0).astype(np.float32)
