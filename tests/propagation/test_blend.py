"""What was fetched weighed against what would be guessed."""

import numpy as np

from videopainter.ops.harmonic import expected_error
from videopainter.propagation.blend import contradicted, fetched_share
from videopainter.propagation.smooth import smooth_fill


def a_wall_and_an_arm():
    """A plain wall, an arm before it, and a tall hole across both."""
    truth = np.full((192, 256, 3), 215, np.uint8)
    truth[100:144] = (150, 90, 60)
    hole = np.zeros((192, 256), bool)
    hole[28:176, 90:166] = True
    return truth, hole


def test_an_arm_leaves_no_haze_on_the_plain_wall_above_it():
    truth, hole = a_wall_and_an_arm()
    frame = np.where(hole[..., None], np.uint8(0), truth)
    fetched, error = truth.astype(np.float32), np.full(hole.shape, 40, np.float32)
    doubt, smooth = expected_error(frame, hole), smooth_fill(frame, hole)

    def haze(doubt):
        share = fetched_share(error, doubt)[..., None]
        return np.abs(share * fetched + (1 - share) * smooth - truth)[66:82, 118:138].mean()

    assert haze(contradicted(doubt, smooth, fetched, error, hole)) < 0.4 * haze(doubt)


def test_what_was_fetched_with_much_error_contradicts_nothing():
    truth, hole = a_wall_and_an_arm()
    frame = np.where(hole[..., None], np.uint8(0), truth)
    doubt, smooth = expected_error(frame, hole), smooth_fill(frame, hole)
    for error in (1e5, np.inf):
        errors = np.full(hole.shape, error, np.float32)
        wrong = contradicted(doubt, smooth, truth[::-1].astype(np.float32), errors, hole)
        np.testing.assert_array_equal(wrong, doubt)


def test_noise_contradicts_nothing():
    truth, hole = a_wall_and_an_arm()
    truth[:] = 120
    noisy = truth + np.random.default_rng(0).normal(0, 14, truth.shape).astype(np.float32)
    doubt = np.full(hole.shape, 30, np.float32)
    errors = np.full(hole.shape, 6, np.float32)
    more = contradicted(doubt, truth.astype(np.float32), noisy, errors, hole, noise=14)[hole]
    assert more.mean() < 1.5 * doubt[hole].mean()
