"""What was fetched weighed against what would be guessed."""

import numpy as np
import pytest

from videopainter.propagation.blend import contradicted, fetched_share

H, W = 96, 128


def a_wall_with_a_haze():
    """A plain wall with a hole in it, as it was fetched, and guessed with the haze of something across the hole."""
    hole = np.zeros((H, W), bool)
    hole[10:86, 30:98] = True
    fetched = np.full((H, W, 3), 215, np.float32)
    smooth = fetched.copy()
    smooth[30:70, 44:84] -= (20, 30, 40)
    return hole, fetched, smooth


def test_a_haze_that_was_not_fetched_is_doubted():
    hole, fetched, smooth = a_wall_with_a_haze()
    doubt = np.full((H, W), 2, np.float32)  # the wall around it is plain

    def left(doubt, error):
        share = fetched_share(np.full((H, W), error, np.float32), doubt)[..., None]
        return np.abs((1 - share) * (smooth - fetched))[40:60, 54:74].mean()

    for error in (10, 40, 100):
        more = contradicted(doubt, smooth, fetched, np.full((H, W), error, np.float32), hole)
        assert left(more, error) < 0.3 * left(doubt, error)
        np.testing.assert_array_equal(more[:24], doubt[:24])


@pytest.mark.parametrize("error", [1e5, np.inf])
def test_what_was_fetched_with_much_error_contradicts_nothing(error):
    hole, fetched, smooth = a_wall_with_a_haze()
    doubt = np.full((H, W), 2, np.float32)
    more = contradicted(doubt, smooth, fetched, np.full((H, W), error, np.float32), hole)
    np.testing.assert_array_equal(more, doubt)


def test_noise_contradicts_nothing():
    hole, fetched, _ = a_wall_with_a_haze()
    noisy = fetched + np.random.default_rng(0).normal(0, 14, fetched.shape).astype(np.float32)
    doubt, error = (np.full((H, W), value, np.float32) for value in (30, 6))
    more = contradicted(doubt, fetched, noisy, error, hole, noise=14)
    assert more[hole].mean() < 1.5 * 30


def test_over_a_thin_stroke_a_guess_is_not_doubted():
    hole, fetched, smooth = a_wall_with_a_haze()
    hole[:] = False
    hole[20:80, 60:63] = True
    doubt, error = (np.full((H, W), value, np.float32) for value in (2, 10))
    assert contradicted(doubt, smooth, fetched, error, hole)[hole].mean() < 0.3 * (900 - 10) * 30 / 40
