"""The rectangles that are filled at once, and looking up other frames."""

import cv2
import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.propagation import background
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import MARGIN, HoleView, hole_views, remap
from videopainter.video import ArraySource

pytestmark = pytest.mark.filterwarnings("error")


def store_of(frames, holes):
    store = FrameStore(ArraySource(frames), MaskTrack.from_array(holes), 5)
    store.advance(0)
    return store


def noise(h, w, seed=0):
    picture = np.random.default_rng(seed).normal(size=(h, w, 3))
    picture = sum(p / p.std() for p in (cv2.GaussianBlur(picture, (0, 0), s) for s in (1.5, 5)))
    return np.clip(125 + 30 * picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("height, width", [(160, 240), (480, 720), (481, 723)])
def test_views_hold_the_holes_with_a_margin(height, width):
    holes = np.zeros((1, height, width), bool)
    holes[0, : height // 10, : width // 10] = True  # in the corner
    holes[0, -height // 8 : -height // 10, -width // 3 : -width // 4] = True
    store = store_of(noise(height, width)[None], holes)
    views = hole_views(store, 0)
    assert len(views) == 2
    left = holes[0].copy()
    for view in views:
        left[view.pixels] = False
        rows, columns = view.working
        assert view.size == view.frame.shape[:2] == view.hole.shape
        assert view.grey[0].shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert not left.any()
    # As much context as there is, up to the margin.
    assert views[0].working[0].start == views[0].working[1].start == 0
    scale = height / store.working_size[0]
    assert views[0].pixels[0].stop == pytest.approx(height // 10 + MARGIN * scale, abs=2 * scale)


def test_near_holes_share_a_view_and_no_hole_has_none():
    holes = np.zeros((2, 160, 240), bool)
    holes[0, 40:60, 40:60] = holes[0, 60 + MARGIN // 2 : 110, 40:60] = True
    store = store_of(np.repeat(noise(160, 240)[None], 2, 0), holes)
    (view,) = hole_views(store, 0)
    assert view.hole.sum() == holes[0].sum()
    assert hole_views(store, 1) == []


@pytest.mark.parametrize("height, width", [(160, 240), (480, 720)])
def test_a_sample_is_what_the_other_frame_shows_of_this_place(height, width):
    big, shift = noise(height, width + 20), 5
    frames = np.stack([big[:, shift * t : shift * t + width] for t in range(2)])
    holes = np.zeros((2, height, width), bool)
    holes[0, 60:90, 100:140] = True
    holes[1, 60:90, 100 - shift : 120 - shift] = True  # half of it is hidden there, too
    (view,) = hole_views(store_of(frames, holes), 0)
    working = np.zeros((*view.grey[0].shape, 2), np.float32)
    colour, valid = view.sample(1, working, view.points(np.ones(view.size, bool)))
    colour, valid = colour.reshape(*view.size, 3), valid.reshape(view.size)
    some = view.points(view.hole)
    in_hole = view.sample(1, working, some)
    np.testing.assert_array_equal(in_hole[0], colour[view.hole])
    np.testing.assert_array_equal(in_hole[1], valid[view.hole])
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(colour.astype(int) - view.frame)[inner][valid[inner]].mean() < 4
    assert not valid[view.hole][: 15 * 20].all() and valid.mean() > 0.5
    hidden_there = np.zeros((height, width), bool)
    hidden_there[60:90, 100:120] = True
    assert not valid[hidden_there[view.pixels]].any()
    points = np.array([[110.0, 75.0], [135.0, 75.0], [1e4, 0.0]]) * min(1, view.store.scale)
    assert view.sees(1, points).tolist() == [False, True, False]


def test_the_whole_frame_is_a_view():
    frames, holes = noise(160, 240)[None], np.zeros((1, 160, 240), bool)
    view = HoleView.whole(store_of(frames, holes), 0)
    np.testing.assert_array_equal(view.frame, frames[0])


@pytest.mark.parametrize("height, width", [(40000, 8), (8, 40000)])
@pytest.mark.parametrize("near", [5, 20000, 39900])
def test_remap_of_very_long_images(height, width, near):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    y, x = np.mgrid[:4, :60].astype(np.float32)
    x, y = (x + near + 0.25, y + 0.5) if width > height else (y + 0.5, x + near + 0.25)
    got = remap(image, x, y, cv2.INTER_LINEAR)
    x0, y0 = int(x.min()), int(y.min())
    part = image[y0 : y0 + 70, x0 : x0 + 70].astype(np.float64)
    fy, fx = y - np.floor(y), x - np.floor(x)
    iy, ix = np.floor(y).astype(int) - y0, np.floor(x).astype(int) - x0
    weights = [((1 - fy) * (1 - fx), 0, 0), ((1 - fy) * fx, 0, 1), (fy * (1 - fx), 1, 0), (fy * fx, 1, 1)]
    want = sum(k[..., None] * part[iy + dy, ix + dx] for k, dy, dx in weights)
    assert np.abs(got - want).max() <= 1.5


def test_remap_of_a_long_image_says_what_lies_outside():
    image = np.full((4, 40000), 7, np.uint8)
    x = np.array([[39998.0, 39999.0, 40001.0, 40010.0]], np.float32)
    got = remap(image, x, np.ones_like(x), cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 255)
    assert got.tolist() == [[7, 7, 255, 255]]


def test_the_ranked_value_is_that_of_sorting():
    values = np.random.default_rng(4).integers(0, 256, (29, 3, 200)).astype(np.uint8)
    values[:, :, 0], values[:, :, 1] = 255, 0
    rank = np.random.default_rng(5).integers(0, 29, 200)
    found = background._ranked(values, rank)
    np.testing.assert_array_equal(found, np.sort(values, axis=0)[rank, :, np.arange(200)].T)


def test_what_is_in_the_same_place():
    rng = np.random.default_rng(6)
    frames = rng.integers(0, 256, (2, 64, 80, 3), np.uint8)
    holes = np.zeros((2, 64, 80), bool)
    holes[0, 30:36, 40:50], holes[1, 20:33, 40:46] = True, True
    store = store_of(frames, holes)
    (view,) = hole_views(store, 0)
    points = view.points(view.hole)
    colour, hidden = view.in_place(1, points)
    light = store.light(0, 1)
    expected = frames[1] if light is None else light.apply(frames[1])
    np.testing.assert_array_equal(colour, expected[holes[0]].T)
    np.testing.assert_array_equal(hidden, holes[1][holes[0]])
