"""How flows across a hole are corrected together, and how far what was fetched is believed."""

from types import SimpleNamespace

import numpy as np
import pytest

from videopainter.propagation import references
from videopainter.propagation.blend import fetched_share

pytestmark = pytest.mark.filterwarnings("error")


def test_small_errors_are_hardly_held_against_what_was_fetched_and_large_ones_are():
    doubt = np.full((1, 6), 400, np.float32)
    share = fetched_share(np.array([[0, 40, 400, 4000, 40000, np.inf]], np.float32), doubt)[0]
    assert (np.diff(share) < 0).all()
    noisy = fetched_share(np.array([[40]], np.float32), doubt[:, :1], noise=8.0)
    assert noisy[0, 0] < share[1]
    assert share[1] > 0.99 and share[4] < 0.03 and share[5] == 0


def view_and_flows(size=(40, 50)):
    hole = np.zeros(size, bool)
    hole[10:30, 15:35] = True
    before = [references.Aligned(i, np.zeros((*size, 2), np.float32)) for i in (3, 8)]
    # Beside the hole both were off by the same; in it they were only compared with each other.
    change = np.where(hole[..., None], 0, np.array([0.6, -0.3])).astype(np.float32)
    after = [references.Aligned(one.reference, one.flow + change) for one in before]
    view = SimpleNamespace(grey=(np.zeros(size, np.uint8), hole), t=5)
    return view, hole, before, after


def test_a_correction_common_to_all_beside_the_hole_is_carried_across_it():
    view, hole, before, after = view_and_flows()
    box, seen = (slice(None), slice(None)), [np.ones(hole.shape, bool)] * 2
    for one, was in zip(references._carried(view, before, after, seen, box), after):
        np.testing.assert_array_equal(one.flow[~hole], was.flow[~hole])
        np.testing.assert_allclose(one.flow[hole], np.broadcast_to((0.6, -0.3), (400, 2)), atol=0.02)


def test_nothing_is_carried_on_from_what_follows_another_thing_or_was_not_seen():
    view, hole, before, after = view_and_flows()
    box = (slice(None), slice(None))
    blind = [np.zeros(hole.shape, bool)] * 2
    assert references._carried(view, before, after, blind, box) is after
    passing = references.Aligned(9, before[0].flow, near=np.ones(hole.shape, np.float32))
    seen = [np.ones(hole.shape, bool)] * 3
    assert len(references._carried(view, [*before, passing], [*after, passing], seen, box)) == 3
