"""Two things of the example clip, labelled by hand: what clicks on them give, and that the way there does no harm."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from videopainter.segmentation.clicks.interaction import best, correct, first_look, iou
from videopainter.segmentation.clicks.network import ClickNetwork, Point
from videopainter.video import open_video

EXAMPLE = Path(__file__).parents[2] / "examples" / "cup.mp4"
LABELS = Path(__file__).parent / "data" / "cup_things.npz"
# name -> frame of the example, first click, least IoU after one click and after four
THINGS = {"cup_bottle": (10, (345, 240), 0.75, 0.9), "cup_arm": (58, (470, 225), 0.75, 0.9)}


@pytest.fixture(scope="module")
def network():
    return ClickNetwork()


def next_click(mask, truth):
    """The middle of the largest error."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ truth).astype(np.uint8))
    wrong = labels == 1 + int(stats[1:, 4].argmax())
    distance = cv2.distanceTransform(np.pad(wrong.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return Point(int(x), int(y), bool(truth[y, x]))


@pytest.mark.parametrize("name", THINGS)
def test_clicks_on_a_labelled_thing(network, name):
    number, click, least, later = THINGS[name]
    with open_video(EXAMPLE) as source:
        frame = np.ascontiguousarray(source[number : number + 1][0])
    with np.load(LABELS) as labels:
        readings = [
            np.unpackbits(labels[f"{name}_{key}"])[: frame.shape[0] * frame.shape[1]].reshape(frame.shape[:2])
            > 0
            for key in ("masks", "alt")
            if f"{name}_{key}" in labels
        ]
    points = [Point(*click)]
    candidates = first_look(network, frame, points)
    shown = best(candidates)
    truth = max(readings, key=lambda reading: iou(shown.mask, reading))
    values = [iou(shown.mask, truth)]
    assert values[0] >= least
    assert max(iou(one.mask, reading) for one in candidates for reading in readings) >= 0.85
    for _ in range(3):
        points.append(next_click(shown.mask, truth))
        shown = correct(network, frame, points, shown.probability)
        values.append(iou(shown.mask, truth))
        assert all(shown.mask[int(p.y), int(p.x)] == p.positive for p in points)
    assert all(b >= a - 0.02 for a, b in zip(values, values[1:])), values
    assert values[-1] >= later, values
