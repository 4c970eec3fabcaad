"""Motion: camera homographies between neighbours, residual optical flow, hard cuts."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from videopainter.ops.harmonic import masked_mean

# RANSAC threshold in pixels of the working size: DIS is good to about half a pixel on texture.
_RANSAC_PIXELS = 1.0
_MIN_POINTS = 40
_SMALLEST = 32  # pixels; DIS reads out of bounds on narrower images where its finest scale is a quarter
_CUT_CORRELATION = 0.45
_FOLLOWED = 0.8  # correlation after flow from which it is one shot for sure
# Pixels that the flow there and back may be apart; the share of pixels of which it is no more in one shot.
_RETURNS, _ONE_SHOT = 1.5, 0.15
_LIMIT = 3  # grey levels; the corner of a thing that moves must not outvote the wall in the rest of a cell
_DECIDED = 1.03  # a cell votes when one explanation is this much better
_DETAIL = (13, 13)  # pixels; what varies over more is light and shading
_INTERPOLATED = np.array([1, 4, 1], np.float32) / 6  # what linear interpolation does to a picture on average


class Motion:
    """Flow estimators with their scratch memory; one object a run, not shared between threads.

    Args:
        precise: find the camera with the fine flow, too, and refine it twice as long: 3 ms more a frame at
            216 x 120. It pays where motion is chained from frame to frame, so that errors add up: after 30 frames
            it gives 0.5 dB more.
    """

    def __init__(self, precise: bool = False):
        self._fast = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._fine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._rest = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._rest.setGradientDescentIterations(12)
        self._rest.setVariationalRefinementIterations(3)
        self._rough = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._rough.setFinestScale(2)
        self._precise = precise
        self._scales = [
            (flow, flow.getFinestScale(), flow.getPatchSize())
            for flow in (self._fast, self._fine, self._rest, self._rough)
        ]
        if precise:
            self._fine.setVariationalRefinementIterations(2 * self._fine.getVariationalRefinementIterations())

    def fine(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Flow float32 ``(h, w, 2)`` with ``here(x) = there(x + flow)`` between uint8 grey images."""
        return self._calc(self._fine, np.ascontiguousarray(here), np.ascontiguousarray(there))

    def rest(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """`fine` in less time for pictures that are aligned already, where less is left to find."""
        return self._calc(self._rest, np.ascontiguousarray(here), np.ascontiguousarray(there))

    def rough(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """`fine` in a third of the time, where a motion is fitted to many of its points."""
        rough = self._rough if min(here.shape) >= _SMALLEST else self._rest
        return self._calc(rough, np.ascontiguousarray(here), np.ascontiguousarray(there))

    def _calc(self, flow, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        # After a small picture an estimator goes on with the scales that it took for that one.
        for one, finest, patch in self._scales:
            one.setFinestScale(finest)
            one.setPatchSize(patch)
        return flow.calc(here, there, None)

    def followed(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """``there`` pulled back onto ``here`` by a quick flow, uint8 ``(h, w)``; itself where it is too narrow."""
        return there if min(here.shape) < _SMALLEST else pulled(there, self._calc(self._fast, here, there))

    def cut(
        self, here: np.ndarray, there: np.ndarray, known: np.ndarray, flow: np.ndarray | None = None
    ) -> bool:
        """`is_cut` by the quick flow, whose ``flow`` is looked for where it is not given."""
        if min(here.shape) < _SMALLEST:
            return is_cut(here, there, known, there)
        flow = self._calc(self._fast, here, there) if flow is None else flow
        return is_cut(
            here, there, known, pulled(there, flow), lambda: (flow, self._calc(self._fast, there, here))
        )

    def camera(self, here: np.ndarray, there: np.ndarray, known: np.ndarray) -> np.ndarray | None:
        """Homography ``(3, 3)`` from pixels of ``here`` to pixels of ``there``, or None across a hard cut.

        Where no homography is found it is the median shift, where nothing is known the identity.

        Args:
            here, there: uint8 grey ``(h, w)``, holes filled smoothly.
            known: bool ``(h, w)``, True where both are real.
        """
        h, w = here.shape
        if min(h, w) < _SMALLEST:
            return np.eye(3)
        flow = self._calc(self._fast, here, there)
        if self.cut(here, there, known, flow):  # its limits hold for the fast flow, which finds less
            return None
        if self._precise:
            flow = self._calc(self._fine, here, there)
        y, x = np.mgrid[4 : h - 4 : 8, 4 : w - 4 : 8]
        sound = known[y, x]
        y, x = y[sound], x[sound]
        if len(x) < _MIN_POINTS:
            return np.eye(3)
        points = np.stack([x, y], 1).astype(np.float32)
        moved = points + flow[y, x]
        # Points on flat ground have no motion of their own and would all vote for standing still.
        edges = cv2.convertScaleAbs(cv2.Laplacian(here, cv2.CV_16S, ksize=3))
        texture = cv2.boxFilter(edges, -1, (9, 9))[y, x]
        strong = texture >= max(2, np.median(texture) * 0.5)
        if strong.sum() >= _MIN_POINTS:
            points, moved = points[strong], moved[strong]
        found, inliers = cv2.findHomography(points, moved, cv2.RANSAC, _RANSAC_PIXELS, maxIters=500)
        if found is None or inliers.sum() < 0.25 * len(points) or not _sane(found, w, h):
            found = np.eye(3)
            found[:2, 2] = np.median(moved - points, axis=0)
        return np.eye(3) if _stands_still(here, there, found, known) else found


def pulled(there: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``there``, uint8 ``(h, w)``, looked up along ``flow``, float32 ``(h, w, 2)``; 0 beyond its edge."""
    return cv2.remap(there, *_led(flow), cv2.INTER_LINEAR)


def _led(flow: np.ndarray) -> list[np.ndarray]:
    """Where ``flow`` leads from each pixel: x and y."""
    x, y = cv2.split(flow)
    x += np.arange(flow.shape[1], dtype=np.float32)
    y += np.arange(flow.shape[0], dtype=np.float32)[:, None]
    return [x, y]


def _stands_still(here: np.ndarray, there: np.ndarray, moved: np.ndarray, known: np.ndarray) -> bool:
    """Whether standing still explains more of the frame than the homography ``moved`` does.

    Before a plain wall all texture may sit on one moving thing, which then passes for the camera. So every
    cell of a grid has one vote, however weak its texture: even a wall's shading tells the two apart.
    """
    h, w = here.shape
    pulled = cv2.warpPerspective(
        there, moved, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return _votes(cv2.absdiff(here, there), cv2.absdiff(here, pulled), known) < 0


def detail_stands(here: np.ndarray, there: np.ndarray, moved: np.ndarray, known: np.ndarray) -> bool:
    """The same, told by detail alone.

    A wall that is a little brighter in the other frame looks like one that has moved along its shading. Detail does
    not, where both explanations are as soft.
    """
    h, w = here.shape
    softened = cv2.sepFilter2D(there, cv2.CV_32F, _INTERPOLATED, _INTERPOLATED)
    pulled = cv2.warpPerspective(
        there, moved, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return _votes(_detail_apart(here, softened), _detail_apart(here, pulled), known) < 0


def _votes(still: np.ndarray, moving: np.ndarray, known: np.ndarray) -> int:
    """How many cells more hold that the camera moves than that it stands, by what either leaves unexplained."""
    still, moving = _cells(still, known), _cells(moving, known)
    votes = (still > moving * _DECIDED + 0.02).astype(int) - (moving > still * _DECIDED + 0.02)
    return int(votes.sum())


def _detail_apart(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Absolute difference of what is finer than light and shading, float32 ``(h, w)``."""
    apart = cv2.subtract(here, there, dtype=cv2.CV_32F)
    return cv2.absdiff(apart, cv2.blur(apart, _DETAIL))


def _cells(difference: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean of known pixels, large ones cut, in each cell of an 8 x 8 grid; NaN where under a fifth are known."""
    mean, mass = masked_mean(np.minimum(difference, _LIMIT), known.astype(np.float32), (8, 8))
    return np.where(mass > 0.2, mean, np.nan)


def _sane(homography: np.ndarray, w: int, h: int) -> bool:
    """No neighbour of a frame shows it mirrored, or at half or double size."""
    corners = project(homography, np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64))
    if not np.isfinite(corners).all():
        return False
    area = cv2.contourArea(corners.astype(np.float32), oriented=True)
    return 0.5 < area / (w * h) < 2.0


def project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homography to points ``(..., 2)`` given as x, y."""
    x, y = points[..., 0], points[..., 1]
    m = homography
    z = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    return np.stack(
        [(m[0, 0] * x + m[0, 1] * y + m[0, 2]) / z, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / z], axis=-1
    )


def corner_motion(homography: np.ndarray, w: int, h: int) -> float:
    """How far a homography moves the farthest corner of the frame, in pixels."""
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    return float(np.abs(project(homography, corners) - corners).max())


def partly(camera: np.ndarray, share: float, size: tuple[int, int]) -> np.ndarray:
    """A homography that moves the corners of a frame of ``size`` (height, width) that share of the way."""
    h, w = size
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    moved = corners + share * (project(camera, corners) - corners)
    return cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))


def misfit(
    here: np.ndarray, there: np.ndarray, known_here: np.ndarray, known_there: np.ndarray, camera: np.ndarray
) -> float:
    """Mean difference between two greys under a camera, where both are known; inf where hardly anything is.

    ``here``, ``there``: uint8 ``(h, w)``. ``known_here``, ``known_there``: bool ``(h, w)``. ``camera``: homography
    from ``here`` to ``there``.
    """
    size, flags = here.shape[::-1], cv2.WARP_INVERSE_MAP
    pulled = cv2.warpPerspective(there, camera, size, flags=cv2.INTER_LINEAR | flags)
    known = cv2.warpPerspective(known_there.view(np.uint8), camera, size, flags=cv2.INTER_NEAREST | flags) > 0
    known &= known_here
    return float(cv2.absdiff(here, pulled)[known].mean()) if known.mean() > 0.1 else float("inf")


def is_cut(
    here: np.ndarray,
    there: np.ndarray,
    known: np.ndarray,
    aligned: np.ndarray,
    flows: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
) -> bool:
    """True when two neighbouring frames show different scenes.

    Between frames of one shot at least one of two correlations stays high: in place (a still camera with
    things moving), or after optical flow (a moving one). Over a cut flow finds little to hold on to: on real
    footage both stay under 0.45 as a rule, while the fastest pans and whip zooms keep one above 0.55. Between blurred
    pictures flow may find a likeness all the same; but then it does not lead back to where it began, as it does for
    a third of the pixels of a shot at least.

    Args:
        here, there: uint8 grey ``(h, w)``.
        known: bool ``(h, w)``, pixels outside both holes.
        aligned: ``there`` pulled back onto ``here`` by flow.
        flows: the flow from ``here`` to ``there`` and the one back, float32 ``(h, w, 2)``; asked for in doubt only.
    """
    places = np.flatnonzero(known)
    if len(places) < 64:
        return False
    in_place, followed = _correlations(
        *(p.ravel()[places].astype(np.float32) for p in (here, there, aligned))
    )
    if max(in_place, followed) < _CUT_CORRELATION:
        return True
    if flows is None or in_place >= _CUT_CORRELATION or followed >= _FOLLOWED:
        return False
    flow, back = flows()
    returned = cv2.remap(back, *_led(flow), cv2.INTER_LINEAR) + flow
    return bool((np.linalg.norm(returned, axis=2)[known] < _RETURNS).mean() < _ONE_SHOT)


def _correlations(a: np.ndarray, *others: np.ndarray) -> list[float]:
    """Of pixels with those of ``others``."""
    mean, spread = a.mean(), a.std()
    found = []
    for b in others:
        other_mean, other_spread = b.mean(), b.std()
        if spread < 2 and other_spread < 2:
            # Two flat frames: the same scene if their level is.
            found.append(1.0 if abs(float(mean - other_mean)) < 12 else 0.0)
        elif spread < 2 or other_spread < 2:
            found.append(0.0)
        else:
            found.append(float(((a - mean) * (b - other_mean)).mean() / (spread * other_spread)))
    return found
