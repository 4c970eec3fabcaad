"""What stands still behind the hole of a fixed camera."""

import numpy as np
import pytest
from made_clips import handheld, hidden, moving_hole

from videopainter.masks import MaskTrack
from videopainter.propagation.background import steady, steady_references, undisputed
from videopainter.propagation.filling import _relit
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import hole_views
from videopainter.video import ArraySource

FRAMES = 16


@pytest.fixture(scope="module")
def scene():
    """(view of frame 0, truth there, bool where others show a thing that passes by), all of the view's size."""
    truth, masks = handheld(FRAMES, (0, 0), 0), moving_hole(FRAMES, step=(4, 0))
    rows, columns = np.nonzero(masks[0])
    spot = slice(rows[0] + 2, rows[0] + 8), slice(columns[0] + 2, columns[0] + 8)
    passing = np.zeros(masks[0].shape, bool)
    passing[spot] = True
    shown = truth.copy()
    for t in range(8, 12):  # four of about ten that show the place
        shown[t][spot] = 255 - shown[t][spot]
    store = FrameStore(ArraySource(hidden(shown, masks)), MaskTrack.from_array(masks), FRAMES)
    store.advance(0)
    (view,) = (view for view in hole_views(store, 0) if view.hole.any())
    return view, truth[0][view.pixels].astype(float), passing[view.pixels]


def test_the_median_leaves_a_passer_by_out(scene):
    view, truth, passing = scene
    fetched, error = steady(view)
    assert np.isfinite(error[passing]).all()
    assert np.abs(fetched - truth)[passing].max() < 2


def test_what_some_frames_dispute_is_left_to_others(scene):
    view, truth, passing = scene
    fetched, error = undisputed(view)
    known = np.isfinite(error) & view.hole
    assert not known[passing].any()
    assert known[view.hole & ~passing].mean() > 0.9
    assert np.abs(fetched - truth)[known].max() < 2


@pytest.mark.parametrize("gain, relit", [(1.03, False), (1.2, True)])
def test_a_camera_that_exposes_a_little_anew_is_in_no_other_light(gain, relit):
    """The median of all frames serves it; where the light is another one, near frames know better."""
    truth, masks = handheld(24, (0, 0), 0), moving_hole(24, step=(3, 0))
    truth[12:] = np.clip(np.rint(truth[12:] * gain), 0, 255).astype(np.uint8)
    store = FrameStore(ArraySource(hidden(truth, masks)), MaskTrack.from_array(masks), 24)
    store.advance(0)
    (view,) = (view for view in hole_views(store, 0) if view.hole.any())
    assert store.light(0, 20) is not None
    assert _relit(view, steady_references(view)) == relit
