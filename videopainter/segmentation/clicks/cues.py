"""What a video tells about one of its frames and a picture cannot: what moves alike, and what is not background."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.classical.motion import homography
from videopainter.segmentation.clicks.network import Point

FLOW_SIDE = 480  # optical flow is looked for at this size at most
DARKEST_SHADOW = 0.55  # share of the light that it leaves
JOINED = 4  # pixels from what stands out to what stands out and is counted to the same thing
STILL = 6.0  # grey levels by which an edge of what stands still may differ from frame to frame


def flow_between(here: np.ndarray, there: np.ndarray, dis=None) -> np.ndarray:
    """Where each pixel of `here` lies in `there`: float32 `(height, width, 2)`, shifts in pixels.

    Both are uint8 `(height, width)`; the flow is found at `FLOW_SIDE` at most.
    """
    dis = dis or cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    height, width = here.shape
    scale = min(1.0, FLOW_SIDE / max(height, width))
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        here, there = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (here, there))
    flow = dis.calc(here, there, None)
    if scale < 1:
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        flow *= np.float32([width / size[0], height / size[1]])
    return flow


def motion_cue(frame: np.ndarray, others: list[np.ndarray], points: list[Point]) -> np.ndarray | None:
    """1 where the picture moves like the clicked spots, -1 where it moves otherwise, 0 where nobody knows.

    Args:
        frame: uint8 `(height, width, 3)` RGB, the clicked frame.
        others: Frames near it in time.
        points: The clicks; the positive ones count.

    Returns:
        float32 `(height, width)`, or None where the clicked spots move no differently from the rest.
    """
    here = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    height, width = here.shape
    votes, told = np.zeros((height, width), np.float32), 0
    for other in others:
        flow = flow_between(here, cv2.cvtColor(other, cv2.COLOR_RGB2GRAY))
        flow -= _ground_flow(flow)
        spots = [flow[int(p.y), int(p.x)] for p in points if p.positive]
        speed = max(float(np.linalg.norm(spot)) for spot in spots)
        if speed < 1.0:  # it moves with what is around it: motion tells nothing
            continue
        like = np.min([np.linalg.norm(flow - spot, axis=2) for spot in spots], axis=0)
        unlike = np.linalg.norm(flow, axis=2)
        votes += (unlike - like) / (unlike + like + 0.3 * speed)
        told += 1
    if not told:
        return None
    return np.clip(cv2.GaussianBlur(votes / told, (0, 0), 2) * 1.5, -1, 1)


def _ground_flow(flow: np.ndarray) -> np.ndarray:
    """What the camera's own motion makes of most of a flow, float32 `(height, width, 2)`."""
    height, width = flow.shape[:2]
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2).astype(np.float32)
    return cv2.perspectiveTransform(here, homography(flow)) - here


def background_of(frame: np.ndarray, others: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """What frames show where nothing is in the way: the median of their colours, and by how much they differ.

    Only for a camera that stands still: None where it moves, or where fewer than five other frames are given.

    Args:
        frame: uint8 `(height, width, 3)` RGB.
        others: Frames spread over the same shot.

    Returns:
        float32 `(height, width, 3)` and `(height, width)`.
    """
    if len(others) < 5:
        return None
    small = _small(frame)
    edges = np.abs(cv2.Laplacian(small, cv2.CV_32F)) > 6
    if edges.sum() < 50:  # nothing by which a motion of the camera could be seen
        return None
    # A camera that stands still shows the same edges at the same places.
    kept = [other for other in others if np.median(np.abs(_small(other) - small)[edges]) < STILL]
    if len(kept) < max(5, len(others) // 2):
        return None
    stack = np.stack(kept).astype(np.float32)
    middle = np.median(stack, axis=0)
    return middle, np.median(np.abs(stack - middle), axis=0).max(2)


def before_background(frame: np.ndarray, background: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """1 where the frame differs from the background of `background_of`, -1 where it is the background, float32.

    0 where it is the background but darker, as a cast shadow makes it and some clothes do.
    """
    middle, noise = background
    frame = frame.astype(np.float32)

    def told(difference):
        difference = cv2.GaussianBlur(difference, (0, 0), 1.2)
        return np.tanh((difference - 6 - 3 * noise) / (5 + 2 * noise)).astype(np.float32)

    shade = (frame * middle).sum(2) / np.maximum((middle * middle).sum(2), 1)
    shaded = middle * np.clip(shade, DARKEST_SHADOW, 1)[..., None]
    cue = told(np.abs(frame - middle).max(2))
    return np.minimum(cue, np.maximum(told(np.abs(frame - shaded).max(2)), 0))


def of_clicked(cue: np.ndarray, points: list[Point]) -> np.ndarray:
    """A cue of `before_background` that keeps quiet about what stands out elsewhere: that is something else."""
    blobs = cv2.dilate((cue > 0).astype(np.uint8), np.ones((2 * JOINED + 1,) * 2, np.uint8))
    _, labels = cv2.connectedComponents(blobs)
    clicked = {int(labels[int(p.y), int(p.x)]) for p in points if p.positive} - {0}
    return np.where(np.isin(labels, list(clicked)), cue, np.minimum(cue, 0))


def _small(frame: np.ndarray) -> np.ndarray:
    """float32 grey at half size."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
