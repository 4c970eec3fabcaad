"""Clicks become masks: clicked pixels are in or out, further clicks do no harm, readings come in order."""

import cv2
import numpy as np
import pytest

from videopainter.segmentation.clicks import interaction
from videopainter.segmentation.clicks.interaction import Cues, best, correct, first_look, iou, refine
from videopainter.segmentation.clicks.network import EXTENTS, ClickNetwork, Point


@pytest.fixture(scope="module")
def network():
    return ClickNetwork()


def scene(number: int):
    """A small labelled picture: something of two colours on grainy ground, with another thing beside it."""
    rng = np.random.default_rng(number)
    height, width = 150, 200
    ground = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)), (0, 0), 6)
    frame = 120 + 40 * ground / np.abs(ground).max() + rng.normal(0, 4, (height, width, 3))
    truth = np.zeros((height, width), np.uint8)
    x, y = int(rng.integers(60, 90)), int(rng.integers(60, 90))
    kind = number % 3
    if kind == 0:
        cv2.ellipse(truth, (x, y), (34, 22), int(rng.integers(180)), 0, 360, 1, -1)
    elif kind == 1:
        cv2.rectangle(truth, (x - 30, y - 18), (x + 30, y + 24), 1, -1)
    else:  # a body, a head, two legs
        cv2.rectangle(truth, (x - 12, y - 25), (x + 12, y + 12), 1, -1)
        cv2.circle(truth, (x, y - 34), 10, 1, -1)
        cv2.rectangle(truth, (x - 12, y + 12), (x - 3, y + 45), 1, -1)
        cv2.rectangle(truth, (x + 3, y + 12), (x + 12, y + 45), 1, -1)
    colours = rng.uniform(0, 255, (3, 3))
    frame[truth > 0] = colours[0] + rng.normal(0, 4, 3)
    lower = (truth > 0) & (np.arange(height)[:, None] > y + 8)
    frame[lower] = colours[1]
    cv2.circle(frame, (160, int(rng.integers(40, 110))), 16, tuple(colours[2]), -1)
    frame = cv2.GaussianBlur(np.clip(frame, 0, 255).astype(np.uint8), (0, 0), 0.8)
    return frame, truth > 0, (x, y)


def next_click(mask, truth):
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ truth).astype(np.uint8))
    if len(stats) < 2:
        return None
    wrong = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    distance = cv2.distanceTransform(np.pad(wrong.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return Point(int(x), int(y), bool(truth[y, x]))


@pytest.mark.parametrize("number", range(6))
def test_further_clicks_do_no_harm_and_clicked_pixels_are_obeyed(network, number):
    frame, truth, (x, y) = scene(number)
    points = [Point(x, y)]
    shown = best(first_look(network, frame, points))
    values = [iou(shown.mask, truth)]
    for _ in range(4):
        click = next_click(shown.mask, truth)
        if click is None:
            break
        points.append(click)
        shown = correct(network, frame, points, shown.probability)
        values.append(iou(shown.mask, truth))
        for point in points:
            assert shown.mask[int(point.y), int(point.x)] == point.positive
    assert all(b >= a - 0.02 for a, b in zip(values, values[1:])), values
    assert values[-1] > 0.85, values


def test_a_wrong_negative_click_takes_away_only_what_is_near(network):
    frame, truth, (x, y) = scene(2)
    points = [Point(x, y)]
    shown = best(first_look(network, frame, points))
    far = Point(5, 5, False)
    after = correct(network, frame, [*points, far], shown.probability)
    assert iou(after.mask, shown.mask) > 0.9


def test_candidates_are_ordered_by_area_and_named(network):
    for number in range(6):
        frame, _, (x, y) = scene(number)
        candidates = first_look(network, frame, [Point(x, y)])
        assert 1 <= len(candidates) <= len(EXTENTS)
        areas = [int(c.mask.sum()) for c in candidates]
        assert areas == sorted(areas)
        assert all(c.extent in EXTENTS and 0 <= c.score <= 1 and c.mask[y, x] for c in candidates)
        assert len({c.mask.tobytes() for c in candidates}) == len(candidates)
        for extent in EXTENTS:
            assert best(candidates, extent) in candidates


def test_the_same_clicks_give_the_same_mask(network):
    frame, _, (x, y) = scene(4)
    first = best(first_look(network, frame, [Point(x, y)]))
    first_look(network, frame[:90], [Point(20, 20)])
    again = best(first_look(network, frame, [Point(x, y)]))
    np.testing.assert_array_equal(first.probability, again.probability)


@pytest.mark.parametrize("point", [(0, 0), (199, 149), (0, 149)])
def test_a_click_in_a_corner_gives_a_mask_that_holds_it(network, point):
    frame, _, _ = scene(1)
    shown = best(first_look(network, frame, [Point(*point)]))
    assert shown.mask[point[1], point[0]]


def test_refining_a_damaged_mask_brings_it_nearer(network):
    gains = []
    for number in range(6):
        frame, truth, _ = scene(number)
        carried = np.roll(truth, (3, -4), (0, 1)).astype(np.float32)
        refined, score = refine(network, frame, carried)
        assert refined.shape == truth.shape and 0 <= score <= 1
        gains.append(iou(refined >= 0.5, truth) - iou(carried >= 0.5, truth))
    assert np.mean(gains) > 0.03, gains


def test_refining_nothing_gives_nothing(network):
    frame, _, _ = scene(0)
    refined, score = refine(network, frame, np.zeros(frame.shape[:2], np.float32))
    assert not refined.any() and score == 0


def test_a_change_stays_where_the_click_is():
    before = np.zeros((100, 100), np.float32)
    before[20:60, 20:60] = 0.9
    proposed = before.copy()
    proposed[60:80, 30:50] = 0.9  # what the click asks for
    proposed[5:12, 80:95] = 0.9  # something elsewhere
    proposed[20:40, 20:40] = 0.1  # and a hole that nobody asked for
    after = interaction.local_change(before, proposed, [Point(30, 30), Point(40, 70)]) >= 0.5
    assert after[60:80, 30:50].all() and not after[5:12, 80:95].any() and after[25:35, 25:35].all()
    less = interaction.local_change(before, proposed, [Point(50, 50), Point(30, 30, False)]) >= 0.5
    assert not less[24:36, 24:36].any() and not less[62:78, 32:48].any()


def test_elsewhere_a_change_needs_more_certainty_than_what_was_there():
    before = np.zeros((100, 100), np.float32)
    before[20:60, 20:60] = 0.9
    before[25:32, 52:60] = 0.55  # hardly taken
    proposed = before.copy()
    proposed[60:80, 30:50] = 0.9  # what the click asks for
    proposed[25:32, 52:60] = 0.1  # what was taken by chance
    after = interaction.local_change(before, proposed, [Point(30, 30), Point(40, 70)]) >= 0.5
    assert after[60:80, 30:50].all() and not after[26:31, 53:59].any() and after[22:58, 22:48].all()
    before[25:50, 40:60] = 0.55
    proposed[25:50, 40:60] = 0.1  # larger than what the click asks for
    assert (interaction.local_change(before, proposed, [Point(30, 30), Point(40, 70)]) >= 0.5)[
        28:48, 42:56
    ].all()


def corrected(monkeypatch, changed, anew, clicks):
    """What `correct` makes of what the network says: (mask, score) of a look at the mask before, and of later looks."""
    told = []

    def look(network, frame, box, points, previous, cues, area=0, mirrored=False):
        told.append(previous is not None)
        mask, score = changed if len(told) == 1 else anew
        return np.stack([mask[box.slices].astype(np.float32)] * 3), np.full(3, score)

    monkeypatch.setattr(interaction, "_look", look)
    before = np.zeros((80, 80), np.float32)
    before[20:60, 20:60] = 1
    found = correct(None, np.zeros((80, 80, 3), np.uint8), clicks, before)
    return found.mask, told


def test_clicks_are_read_anew_where_that_promises_clearly_more(monkeypatch):
    wrong, small = np.zeros((80, 80), bool), np.zeros((80, 80), bool)
    wrong[20:60, 20:60], small[20:40, 20:40] = True, True
    clicks = [Point(30, 30), Point(55, 55, False)]
    mask, told = corrected(monkeypatch, (wrong, 0.7), (small, 0.9), clicks)
    assert told == [True, False, True]  # the second look of the new reading knows what the first one found
    np.testing.assert_array_equal(mask, small)
    mask, _ = corrected(monkeypatch, (wrong, 0.7), (small, 0.75), clicks)
    assert iou(mask, wrong) > 0.95


def test_without_a_click_on_the_thing_nothing_is_read_anew(monkeypatch):
    wrong = np.zeros((80, 80), bool)
    wrong[20:60, 20:60] = True
    mask, told = corrected(monkeypatch, (wrong, 0.1), (~wrong, 0.9), [Point(55, 55, False)])
    assert iou(mask, wrong) > 0.95 and told == [True]


def test_where_the_network_has_one_reading_a_strict_and_a_generous_one_stand_beside_it():
    probability = np.zeros((60, 60), np.float32)
    probability[10:30, 10:30] = 0.9
    probability[30:40, 10:30] = 0.6
    probability[10:40, 30:45] = 0.4
    probability[50:58, 50:58] = 0.9  # apart from the click
    shown = interaction.Candidate("object", probability >= 0.5, probability, 0.8)
    found = interaction._filled([shown], probability, probability, [Point(20, 20)])
    areas = {one.extent: int(one.mask.sum()) for one in found}
    assert areas == {"object": 600 + 64, "part": 400, "group": 600 + 64 + 450}
    for one in found:
        np.testing.assert_array_equal(one.mask, one.probability >= 0.5)
    again = interaction._filled(found, probability, probability, [Point(20, 20)])
    assert [one.extent for one in again] == [one.extent for one in found]


class _Moved:
    """A network that finds a rectangle 20 pixels wide, and one of another width where motion tells of it."""

    def __init__(self, width):
        self.width = width

    def predict(self, frame, box, points, previous=None, motion=None, background=None, area=0):
        mask = np.full(frame.shape[:2], 0.02, np.float32)
        mask[40:80, 60 : 60 + (20 if motion is None else self.width)] = 0.9
        mask = mask[box.slices]
        if points and box.right - box.left == frame.shape[1] and points[0].x > 100:
            mask = mask[:, ::-1]  # the mirrored look
        return np.stack([mask] * 3), np.float32([0.8, 0.8, 0.8])


@pytest.mark.parametrize(("width", "shown"), [(34, 34), (110, 20)])
def test_what_goes_along_is_the_thing_or_a_group(width, shown):
    frame = np.zeros((120, 200, 3), np.uint8)
    cues = Cues(motion=np.ones((120, 200), np.float32))
    found = first_look(_Moved(width), frame, [Point(70, 60)], cues)
    columns = np.flatnonzero(best(found).mask.any(0))
    assert (columns[0], columns[-1]) == (60, 59 + shown)
    largest = max(found, key=lambda one: one.mask.sum())
    assert np.count_nonzero(largest.mask) >= 40 * width * 0.95
    assert largest.extent == ("object" if shown == width else "group")
