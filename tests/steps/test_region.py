"""The region: it holds the hole, has the network's proportions, is steady, and comes back to where it was."""

import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.steps.region import MARGIN, RegionPath, RegionSource, place_back, plan_region, region_masks
from videopainter.video import ArraySource

NETWORK = (48, 72)


def moving(count, frame, size, path):
    """bool (count, *frame): a block of `size` at path(i) = (top, left)."""
    holes = np.zeros((count, *frame), bool)
    for i in range(count):
        top, left = (round(x) for x in path(i))
        holes[i, max(top, 0) : top + size[0], max(left, 0) : left + size[1]] = True
    return holes


def holds(region, holes):
    for i, hole in enumerate(holes):
        rows, columns = np.nonzero(hole)
        if len(rows):
            assert region.tops[i] <= rows.min() and rows.max() < region.tops[i] + region.size[0]
            assert region.lefts[i] <= columns.min() and columns.max() < region.lefts[i] + region.size[1]


@pytest.mark.parametrize("seed", range(30))
def test_it_holds_every_hole_and_has_the_networks_proportions(seed):
    rng = np.random.default_rng(seed)
    frame = tuple(int(n) for n in rng.integers(40, 260, 2))
    size = [int(rng.integers(1, n + 1)) for n in frame]
    start, step = rng.uniform(-0.2, 1, 2) * frame, rng.uniform(-4, 4, 2)
    holes = moving(30, frame, size, lambda i: start + i * step + rng.uniform(-3, 3, 2))
    region = plan_region(holes, frame, NETWORK, fps=8)
    holds(region, holes)
    height, width = region.size
    assert abs(width - height * 1.5) <= 1.5
    if height <= frame[0] and width <= frame[1]:
        assert min(region.tops) >= 0 and max(region.tops) + height <= frame[0]
        assert min(region.lefts) >= 0 and max(region.lefts) + width <= frame[1]
    else:  # only for a hole which no rectangle of these proportions inside the picture could hold
        most = min(frame[0], frame[1] / 1.5)
        boxes = [np.ptp(np.nonzero(hole), axis=1) + 1 for hole in holes if hole.any()]
        assert max(max(tall, wide / 1.5) for tall, wide in boxes) > most


def test_nothing_is_enlarged_where_the_picture_is_large():
    holes = moving(5, (300, 400), (10, 12), lambda i: (100, 200))
    region = plan_region(holes, (300, 400), NETWORK)
    assert region.size == NETWORK and not region.moves
    assert region.tops[0] == 105 - 24 and region.lefts[0] == 206 - 36  # around the middle of the hole


def test_it_stands_still_where_the_path_fits():
    holes = moving(40, (200, 300), (30, 30), lambda i: (60 + 5 * np.sin(i), 80 + i))
    region = plan_region(holes, (200, 300), NETWORK)
    assert not region.moves
    holds(region, holes)


def test_it_follows_smoothly_where_the_path_does_not_fit():
    rng = np.random.default_rng(0)
    holes = moving(120, (200, 600), (30, 30), lambda i: (80, 20 + 4.5 * i + rng.uniform(-2, 2)))
    region = plan_region(holes, (200, 600), NETWORK, fps=24)
    assert region.moves and region.size == (60, 90)
    holds(region, holes)
    lefts = np.array(region.lefts)
    assert len(set(region.tops)) == 1
    assert np.abs(np.diff(lefts, 2)).max() <= 2  # a hole that shakes by 4 pixels does not shake the region
    assert 0 <= np.diff(lefts).min() and np.diff(lefts).max() <= 7
    margin = int(region.size[1] * MARGIN)
    for i, hole in enumerate(holes):
        columns = np.nonzero(hole)[1]
        assert columns.min() - lefts[i] >= min(margin, columns.min())
        assert lefts[i] + 90 - 1 - columns.max() >= min(margin, 599 - columns.max())


def test_frames_without_a_hole_do_not_matter():
    holes = moving(20, (200, 300), (30, 30), lambda i: (60, 80))
    with_gap = holes.copy()
    with_gap[3:9] = False
    assert plan_region(with_gap, (200, 300), NETWORK) == plan_region(holes, (200, 300), NETWORK)
    none = plan_region(holes & False, (200, 300), NETWORK)
    assert none.size == NETWORK and not none.moves


def test_a_tall_hole_in_a_portrait_video_is_seen_whole_in_a_mirrored_picture():
    frame = (180, 100)
    holes = moving(3, frame, (150, 20), lambda i: (10, 30))
    region = plan_region(holes, frame, NETWORK)
    assert region.size[0] >= 150 and region.lefts[0] < 0
    picture = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    seen = region.cut(picture, 0, region.size)
    top, left = max(region.tops[0], 0), -region.lefts[0]
    middle = seen[max(-region.tops[0], 0) :][: frame[0]]
    rows = picture[top : top + len(middle)]
    np.testing.assert_array_equal(middle[:, left : left + 100], rows)
    np.testing.assert_array_equal(middle[:, left - 30 : left], rows[:, :30][:, ::-1])
    mirrored = region.cut(holes[0], 0, region.size)
    assert mirrored.sum() > holes[0].sum()  # what is to go does not stay in the mirror


@pytest.mark.parametrize("frame, left", [((90, 130), 20), ((90, 40), -16)])
def test_there_and_back(frame, left):
    picture = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    region = RegionPath(NETWORK, (7,), (left,))
    back = region.place(region.cut(picture, 0, NETWORK), 0, frame)
    inside = np.zeros(frame, bool)
    inside[7:55, max(left, 0) : left + 72] = True
    np.testing.assert_array_equal(back[inside], picture[inside])
    assert (back[~inside] == 0).all()


@pytest.mark.parametrize("size", [(24, 36), (96, 144)])
def test_a_smooth_picture_survives_another_size(size):
    y, x = np.mgrid[:90, :130]
    picture = np.stack([120 + 60 * np.sin(x / 25), 120 + 60 * np.cos(y / 20), x + y], -1).astype(np.uint8)
    region = RegionPath(NETWORK, (20,), (30,))
    back = region.place(region.cut(picture, 0, size), 0, (90, 130))[20:68, 30:102]
    assert np.abs(back.astype(int) - picture[20:68, 30:102]).max() <= 6


def test_one_masked_pixel_masks_what_it_falls_into():
    hole = np.zeros((96, 144), bool)
    hole[50, 71] = True
    small = RegionPath((96, 144), (0,), (0,)).cut(hole, 0, (24, 36))
    assert small.dtype == bool and small.sum() == 1 and small[12, 17]


def test_source_masks_and_frames_of_a_region():
    frames = np.random.default_rng(0).integers(0, 256, (4, 90, 130, 3), np.uint8)
    holes = moving(4, (90, 130), (10, 10), lambda i: (30, 40 + i))
    region = RegionPath(NETWORK, (5, 6, 7, 8), (9, 10, 11, 12))
    source = RegionSource(ArraySource(frames, 12), region, NETWORK)
    masks = region_masks(MaskTrack.from_array(holes), region, NETWORK)
    assert (len(source), source.size, source.fps) == (4, NETWORK, 12) and masks.size == NETWORK
    for i, back in enumerate(place_back(source, region, (90, 130))):
        np.testing.assert_array_equal(source[i], frames[i, 5 + i : 53 + i, 9 + i : 81 + i])
        np.testing.assert_array_equal(masks[i], holes[i, 5 + i : 53 + i, 9 + i : 81 + i])
        np.testing.assert_array_equal(back[5 + i : 53 + i, 9 + i : 81 + i], source[i])
