"""Things that move past a hole by themselves, and how far around a hole agreement looks."""

import numpy as np
import pytest
from made_clips import N, db, fill, handheld, hidden, moving_hole, texture

from videopainter.masks import MaskTrack
from videopainter.ops.motion import Motion
from videopainter.propagation import references
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import hole_views
from videopainter.propagation.movers import Movers
from videopainter.video import ArraySource

pytestmark = pytest.mark.filterwarnings("error")

HIGH, WIDE = 120, 180


def passing(pan=0.0, step=3.0, side=56, n=N, high=HIGH):
    """A textured square that moves past a hole which stands still: the clip, its masks, and where both are."""
    truth = handheld(n, shift=(pan, 0), height=high, width=WIDE)
    thing, there = texture(side, side, seed=7), np.zeros((n, high, WIDE), bool)
    for t in range(n):
        x, y = round(20 + step * t), 30
        truth[t, y : y + side, x : x + side] = thing
        there[t, y : y + side, x : x + side] = True
    masks = np.zeros((n, high, WIDE), bool)
    masks[:, 40:76, 84:108] = True
    return truth, masks, masks & there


@pytest.fixture
def none(monkeypatch):
    """Turns what finds movers off."""
    return lambda: monkeypatch.setattr(Movers, "find", lambda *args: None)


@pytest.mark.parametrize("pan", [0.0, 1.0])
def test_a_thing_that_is_partly_hidden_is_brought_back(pan, none):
    truth, masks, its = passing(pan)
    result = fill(truth, masks)
    none()
    without = fill(truth, masks)
    assert db(result, truth, its) > db(without, truth, its) + 2.2
    assert db(result, truth, masks) > db(without, truth, masks) + 0.8


def test_where_nothing_moves_by_itself_nothing_changes(none):
    truth, masks = handheld(10, shift=(1, 0.5), shake=1), moving_hole(10)
    result = fill(truth, masks)
    none()
    np.testing.assert_array_equal(result, fill(truth, masks))


def view_of(truth, masks, t):
    store = FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), 60)
    store.advance(t)
    (view,) = hole_views(store, t)
    return view


def test_the_path_of_a_thing_tells_where_it_is_in_frames_further_off():
    truth, masks, _ = passing(step=4)
    view, motion = view_of(truth, masks, 9), Motion()
    movers, found = Movers(view, motion), {}
    for i in (10, 11, 13):
        there, blind = view.grey_of(i)
        flow = motion.rest(view.grey[0], there)
        found[i] = movers.find(i, there, blind, flow, np.zeros_like(flow))
    for i, mover in found.items():
        assert mover is not None
        # Along its path the thing's left edge, seen beside the hole, is where it is in the other frame.
        x, y = 56 - view.working[1].start, 60 - view.working[0].start
        np.testing.assert_allclose(mover.flow[y, x], (4 * (i - 9), 0), atol=0.5)
    # Alone it finds nothing there: the thing has moved by more than flow follows.
    assert Movers(view, motion).find(13, there, blind, flow, np.zeros_like(flow)) is None


def test_a_small_thing_is_not_looked_for_all_over_a_large_hole():
    truth, masks, _ = passing(step=4, side=30, high=280)
    masks[:, 20:260] |= masks.any(axis=1, keepdims=True)
    view, motion = view_of(truth, masks, 9), Motion()
    there, blind = view.grey_of(10)
    flow = motion.rest(view.grey[0], there)
    mover = Movers(view, motion).find(10, there, blind, flow, np.zeros_like(flow))
    rows = mover.near[:, 96 - view.working[1].start]
    first = 45 - view.working[0].start  # the middle of the thing
    assert rows[first] == 1 and rows[first + 150 :].max() == 0


def test_agreement_looks_twenty_pixels_around_a_hole(monkeypatch):
    looked = []
    real = Motion.rest
    monkeypatch.setattr(
        Motion, "rest", lambda self, here, there: looked.append(here.shape) or real(self, here, there)
    )
    truth = handheld(4, shift=(2, 0), height=HIGH, width=WIDE)
    masks = moving_hole(4, size=(20, 24), start=(60, 45), step=(8, 0), height=HIGH, width=WIDE)
    view = view_of(truth, masks, 0)
    references.fetch(view, Motion(), [1, 2, 3])
    assert looked[:3] == [view.grey[0].shape] * 3
    assert looked[3:] == [(24 + 40, 20 + 40)] * 3


def test_any_number_of_workers_brings_the_same_back():
    truth, masks, _ = passing(1.0, n=9, step=6)
    np.testing.assert_array_equal(fill(truth, masks, workers=1), fill(truth, masks, workers=2))


def test_flows_are_moved_by_what_the_bracket_says(monkeypatch):
    truth, masks, _ = passing(1.0)
    view, motion = view_of(truth, masks, 6), Motion()
    aligned = [references.Aligned(i, np.zeros((*view.grey[0].shape, 2), np.float32)) for i in (3, 8)]
    asked = []

    def misplaced(frames, flows, seen, hole):
        asked.append((frames.tolist(), flows.shape[:3] == seen.shape == (2, *hole.shape)))
        return np.where(hole[..., None], np.float32([0.5, 0]), 0)

    monkeypatch.setattr(references, "misplaced", lambda *args: None)
    before = references._agreeing(view, motion, aligned)
    monkeypatch.setattr(references, "misplaced", misplaced)
    after = references._agreeing(view, motion, aligned)
    passing_thing = references.Aligned(8, aligned[0].flow, np.ones(view.grey[0].shape, np.float32))
    references._agreeing(view, motion, [*aligned, passing_thing])
    assert asked == [([-3, 2], True)]  # where a thing moves past, the bracket is not asked
    for one, other in zip(before, after):
        moved = one.flow - other.flow
        assert np.allclose(moved[view.grey[1]], (0.5, 0), atol=1e-5) and not moved[~view.grey[1]].any()
