"""Panels of a result: labelled, and made of copies."""

import numpy as np

from videopainter.steps.visualization import panel_size, panels


def test_panels_leave_their_pictures_as_they_are():
    """A small frame is as large as its panel, so that nothing is scaled; it is written and exported afterwards."""
    original = np.full((96, 128, 3), 120, np.uint8)
    result = np.full((96, 128, 3), 90, np.uint8)
    mask = np.zeros((96, 128), bool)
    mask[40:60, 50:80] = True
    assert panel_size(mask.shape) == mask.shape
    row = panels(original, mask, mask, result)
    assert row.shape == (96, 4 * 128, 3) and (row[:40, :128] != 120).any()  # the label
    assert (original == 120).all() and (result == 90).all()
