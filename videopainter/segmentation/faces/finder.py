"""All faces of a video, each followed by itself, with margins: for privacy, so rather one too many than one missed."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.masks import MaskTrack
from videopainter.ops.motion import Motion
from videopainter.segmentation.base import Progress, TrackResult
from videopainter.segmentation.faces.detector import Face, FaceDetector, overlap

FOUND, SURE = 0.5, 0.75  # score from which a face is believed that has it in two frames, or in one
REACH = 1.0  # sizes of a face that it may move from one frame to the next in which it is seen
LIKE = 1.8  # times the size that it may get
GAP = 1.5  # seconds for which a face may not be seen and be the same afterwards
AROUND = 0.4  # seconds before a face is first seen and after it is last seen that it is masked too
MARGIN = 0.35  # of a face's size, on every side: forehead, ears, chin
SMALL = (160, 90)  # pictures in which cuts are looked for
EVERYWHERE = np.ones(SMALL[::-1], bool)
BLOCK = 8  # frames decoded at a time
MOST = 255  # objects have numbers up to this


class FaceFinder:
    """Finds the faces of `source`, a `VideoSource`; each is an object of its own.

    `detector`: called with a frame, returns `Face`s. Raises MaskError if what it needs is not installed.
    """

    def __init__(self, source, detector=None):
        self.source, self._detect = source, detector or FaceDetector()
        self._fps = float(source.fps)

    def find(self, progress: Progress | None = None) -> TrackResult:
        """Their masks in every frame. `progress`: called as progress("select", done, total)."""
        count, size = len(self.source), (self.source.height, self.source.width)
        tracks: list[dict[int, Face]] = []
        shots, shot, last, motion = [], 0, None, Motion()
        for start in range(0, count, BLOCK):
            for i, frame in enumerate(self.source[start : start + BLOCK], start):
                small = cv2.cvtColor(
                    cv2.resize(frame, SMALL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
                )
                if last is not None:
                    shot += motion.cut(last, small, EVERYWHERE)
                last = small
                shots.append(shot)
                self._add(tracks, i, self._detect(frame), shots)
                if progress is not None:
                    progress("select", i + 1, count)
        boxes = [self._everywhere(track, shots) for track in tracks if _believed(track)]
        objects = {k + 1: _masks(boxes[k::MOST], count, size) for k in range(min(len(boxes), MOST))}
        return TrackResult(_masks(boxes, count, size), [], objects)

    def _add(self, tracks: list[dict[int, Face]], i: int, faces: list[Face], shots: list[int]) -> None:
        """Give each face of frame `i` to the track that it fits best, or a new one."""
        alive = [t for t in tracks if i - max(t) <= GAP * self._fps and shots[max(t)] == shots[i]]
        pairs = [(_fit(t, i, face), t, face) for t in alive for face in faces]
        taken: list[int] = []
        for fit, track, face in sorted(pairs, key=lambda pair: -pair[0]):
            if fit > 0 and i not in track and id(face) not in taken:
                track[i] = face
                taken.append(id(face))
        tracks += [{i: face} for face in faces if id(face) not in taken]

    def _everywhere(self, track: dict[int, Face], shots: list[int]) -> dict[int, np.ndarray]:
        """Frame -> box, also where the face was not seen: between frames in which it was, and around them."""
        seen = sorted(track)
        frames = np.arange(seen[0], seen[-1] + 1)
        known = np.array([track[i].box for i in seen])
        boxes = dict(zip(frames, np.stack([np.interp(frames, seen, known[:, k]) for k in range(4)], axis=1)))
        out = dict(boxes)
        for i, box in boxes.items():  # what the detector is unsure of changes from frame to frame: no flicker
            near = np.array([boxes[j] for j in range(i - 2, i + 3) if j in boxes])
            middle = np.median(near, axis=0)
            out[i] = np.concatenate([np.minimum(box, middle)[:2], np.maximum(box, middle)[2:]])
        for end, way in ((seen[0], -1), (seen[-1], 1)):
            inner = end - way * min(3, len(frames) - 1)
            step = (boxes[end] - boxes[inner]) / max(abs(end - inner), 1)
            speed = np.tile((step[:2] + step[2:]) / 2, 2)
            for k in range(1, round(AROUND * self._fps) + 1):
                i = end + way * k
                if not 0 <= i < len(shots) or shots[i] != shots[end]:
                    break
                wider = 0.03 * k * np.tile(track[end].size, 2) * [-1, -1, 1, 1]
                out[i] = boxes[end] + k * speed + wider
        return out


def _believed(track: dict[int, Face]) -> bool:
    scores = [face.score for face in track.values()]
    return max(scores) >= SURE or sum(score >= FOUND for score in scores) >= 2


def _fit(track: dict[int, Face], i: int, face: Face) -> float:
    """How well a face of frame `i` goes on from a track; 0: not at all."""
    last = max(track)
    if last == i:
        return 0.0
    before, gap = track[last], i - last
    ratio = np.sqrt(face.size.prod() / before.size.prod())
    away = np.linalg.norm(face.middle - before.middle) / np.sqrt(before.size.prod())
    if not 1 / LIKE <= ratio <= LIKE or away > REACH * (1 + 0.1 * (gap - 1)):
        return 0.0
    return overlap(face.box, before.box) + 1 / (1 + away) + 0.1 / gap


def _masks(tracks: list[dict[int, np.ndarray]], count: int, size: tuple[int, int]) -> MaskTrack:
    return MaskTrack.build(_drawn([boxes[i] for boxes in tracks if i in boxes], size) for i in range(count))


def _drawn(boxes: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """bool `size`: ellipses over the boxes and their margins."""
    mask = np.zeros(size, np.uint8)
    for box in boxes:
        middle, axes = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * (0.5 + MARGIN)
        bits = 4
        where = [tuple(int(round(v * (1 << bits))) for v in pair) for pair in (middle, axes)]
        cv2.ellipse(mask, *where, 0, 0, 360, 1, -1, cv2.LINE_8, bits)
    return mask > 0
