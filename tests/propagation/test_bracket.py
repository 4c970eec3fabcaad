"""Frames before and after a hidden place tell where it is."""

import numpy as np
import pytest

from videopainter.propagation.bracket import misplaced

pytestmark = pytest.mark.filterwarnings("error")

FRAMES = np.array([-6, -3, 2, 5], np.float32)


def flows(off, slope, size=(40, 50)):
    """Flows along a line in time that all are ``off`` together, as float32 (k, h, w, 2)."""
    line = np.asarray(off) + FRAMES[:, None] * np.asarray(slope)
    return np.broadcast_to(line[:, None, None], (len(FRAMES), *size, 2)).astype(np.float32)


def hole(size=(40, 50)):
    mask = np.zeros(size, bool)
    mask[8:32, 10:40] = True
    return mask


def test_what_all_flows_are_off_by_is_found_and_even_motion_is_not_touched():
    seen = np.ones((4, 40, 50), bool)
    off = misplaced(FRAMES, flows((0.6, -0.4), (0.5, 0.2)), seen, hole())
    assert off.dtype == np.float32 and off.shape == (40, 50, 2)
    assert not off[~hole()].any()
    middle = off[20, 25]
    np.testing.assert_allclose(middle / (0.6, -0.4), middle[0] / 0.6, rtol=1e-3)
    assert 0.3 < middle[0] < 0.6
    # The motion around the hole was measured: towards its edge less is taken back.
    assert 0 < off[8, 25, 0] < 0.5 * middle[0]
    still = misplaced(FRAMES, flows((0, 0), (0.5, 0.2)), seen, hole())
    assert still is None or np.abs(still).max() < 1e-4


def test_places_that_are_on_no_line_are_left_alone():
    seen = np.ones((4, 40, 50), bool)
    shaken = flows((0.2, 0), (0, 0)).copy()
    shaken[:, ..., 0] += np.array([2, -2, 2, -2], np.float32)[:, None, None]
    off = misplaced(FRAMES, shaken, seen, hole())
    assert off is None or np.abs(off).max() < 0.05


def test_what_is_seen_on_one_side_only_is_not_bracketed():
    seen = np.ones((4, 40, 50), bool)
    seen[2:, :, :25] = False  # the later frames show the right half
    off = misplaced(FRAMES, flows((0.6, 0), (0, 0)), seen, hole())
    assert not off[:, :25].any() and off[20, 30, 0] > 0.3
    assert misplaced(FRAMES[2:], flows((0.6, 0), (0, 0))[2:], seen[2:], hole()) is None
    seen[:2] = False
    assert misplaced(FRAMES, flows((0.6, 0), (0, 0)), seen, hole()) is None
