"""Pasting back: what lies outside the hole is the source, bit for bit."""

import numpy as np
import pytest

from videopainter.masks import dilate
from videopainter.steps.composition import composite, fade, paste

H, W = 60, 80


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, H, W, 3), np.uint8)


def blob():
    hole = np.zeros((H, W), bool)
    hole[20:40, 30:55] = True
    return hole


@pytest.mark.parametrize("feather", [0, 2.5, 8])
def test_outside_the_hole_nothing_changes(pictures, feather):
    original, painted = pictures
    hole = dilate(blob(), 5)
    before = original.copy()
    out = paste(original, painted, hole, feather)
    np.testing.assert_array_equal(out[~hole], original[~hole])
    np.testing.assert_array_equal(original, before)


def test_the_object_itself_is_painted_fully_and_the_rim_fades(pictures):
    original, painted = pictures
    hole = dilate(blob(), 8)
    out = paste(original, painted, hole, 4)
    np.testing.assert_array_equal(out[blob()], painted[blob()])
    flat = paste(np.zeros_like(original), np.full_like(painted, 200), hole, 4)
    column = flat[12:20, 40, 0].astype(int)
    assert column[0] == 40 and (np.diff(column) >= 0).all() and column[-1] == 200


def test_without_feather_the_hole_is_the_painting(pictures):
    original, painted = pictures
    np.testing.assert_array_equal(
        paste(original, painted, blob(), 0), np.where(blob()[..., None], painted, original)
    )


def test_empty_and_full_holes(pictures):
    original, painted = pictures
    np.testing.assert_array_equal(paste(original, painted, np.zeros((H, W), bool), 3), original)
    np.testing.assert_array_equal(paste(original, painted, np.ones((H, W), bool), 3), painted)


def test_no_fade_at_the_edge_of_the_picture():
    hole = np.zeros((H, W), bool)
    hole[:, :20] = True
    alpha = fade(hole, 3)
    assert (alpha[:, :16] == 1).all() and (alpha[:, 20:] == 0).all()
    assert 0 < alpha[5, 19] < alpha[5, 17] < 1


def test_an_engine_must_paint_every_frame_once(pictures):
    originals, holes = [pictures[0]] * 3, [blob()] * 3
    assert len(list(composite(originals, holes, [pictures[1]] * 3, 1))) == 3
    with pytest.raises(ValueError, match="after 2 frames"):
        list(composite(originals, holes, [pictures[1]] * 2, 1))
    with pytest.raises(ValueError, match="more frames"):
        list(composite(originals, holes, [pictures[1]] * 4, 1))
    with pytest.raises(ValueError, match="frame 0 as float64"):
        list(composite(originals, holes, [pictures[1] / 255] * 3, 1))
