"""Smooth fills: what is harmonic comes back, what is known stays; means of what is known."""

import numpy as np
import pytest

from videopainter.ops.harmonic import (
    extend_each,
    extend_smoothly,
    harmonic_fill,
    harmonic_fills,
    masked_mean,
)

pytestmark = pytest.mark.filterwarnings("error")


def box(h=80, w=100, rows=slice(25, 55), columns=slice(30, 75)):
    hole = np.zeros((h, w), bool)
    hole[rows, columns] = True
    return hole


def ramp(h=80, w=100):
    y, x = np.mgrid[:h, :w]
    return (20 + 1.5 * x + 0.7 * y).astype(np.float32)


@pytest.mark.parametrize("rows, columns", [((25, 55), (30, 75)), ((10, 70), (10, 90)), ((40, 43), (5, 95))])
def test_a_ramp_comes_back(rows, columns):
    hole = box(rows=slice(*rows), columns=slice(*columns))
    values = np.where(hole, -1000, ramp())
    assert np.abs(harmonic_fill(values, hole) - ramp()).max() < 0.5


def test_a_harmonic_function_comes_back_nearly():
    y, x = np.mgrid[:80, :100] / 100
    saddle = (100 * (x * x - y * y)).astype(np.float32)
    filled = harmonic_fill(np.where(box(), 1e4, saddle), box())
    assert np.abs(filled - saddle)[box()].max() < 2


def test_the_fill_stays_between_the_values_around_it():
    rng = np.random.default_rng(0)
    values = rng.uniform(50, 200, (80, 100)).astype(np.float32)
    filled = harmonic_fill(values, box())[box()]
    assert filled.min() > 45 and filled.max() < 205


def test_channels_are_independent():
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 255, (45, 61, 3)).astype(np.float32)
    hole = box(45, 61, slice(10, 30), slice(0, 33))
    together = harmonic_fill(values, hole)
    apart = np.stack([harmonic_fill(values[..., c], hole) for c in range(3)], -1)
    np.testing.assert_allclose(together, apart, atol=1e-3)


@pytest.mark.parametrize("shape", [(80, 100), (80, 100, 3)])
def test_known_pixels_and_the_argument_are_left_alone(shape):
    values = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
    before = values.copy()
    filled = harmonic_fill(values, box())
    np.testing.assert_array_equal(filled[~box()], values[~box()])
    np.testing.assert_array_equal(values, before)
    assert filled.dtype == np.float32


def test_what_stands_in_the_hole_has_no_say():
    values = ramp()
    other = np.where(box(), 1e6, values)
    np.testing.assert_array_equal(harmonic_fill(values, box()), harmonic_fill(other, box()))


def test_nothing_known_gives_zeros_and_no_hole_a_copy():
    values = ramp()
    assert not harmonic_fill(values, np.ones(values.shape, bool)).any()
    same = harmonic_fill(values, np.zeros(values.shape, bool))
    np.testing.assert_array_equal(same, values)
    assert not np.shares_memory(same, values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 31)])
def test_sizes_down_to_one_pixel_row(shape):
    hole = np.ones(shape, bool)
    hole[0, 0] = False
    filled = harmonic_fill(np.full(shape, 90, np.float32), hole)
    np.testing.assert_allclose(filled, 90, atol=0.01)


# -- means of what is known ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_masked_means_by_hand(channels):
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    weight = np.zeros((4, 6), np.float32)
    weight[0, 0], weight[1, 1], weight[0, 2:4], weight[2:, 4:] = 1, 1, 0.5, 1
    if channels is not None:
        values = np.repeat(values[..., None], channels, 2)
    mean, mass = masked_mean(values, weight, (2, 3))
    want = np.array([[(0 + 7) / 2, 2.5, 0], [0, 0, (16 + 17 + 22 + 23) / 4]], np.float32)
    np.testing.assert_allclose(mean, want if channels is None else np.repeat(want[..., None], channels, 2))
    np.testing.assert_allclose(mass, [[0.5, 0.25, 0], [0, 0, 1]])


@pytest.mark.parametrize("shape", [(80, 100), (81, 97, 2), (33, 61, 3)])
def test_what_varies_slowly_is_extended(shape):
    hole = box(*shape[:2], slice(12, 26), slice(15, 40))
    values = ramp(*shape[:2]) if len(shape) == 2 else np.repeat(ramp(*shape[:2])[..., None], shape[2], 2)
    noise = np.random.default_rng(0).normal(0, 3, shape)
    spoiled = (values + noise).astype(np.float32)
    spoiled[hole] = 1e6
    smooth = extend_smoothly(spoiled, ~hole)
    assert smooth.shape == shape and smooth.dtype == np.float32
    inner = np.s_[8:-8, 8:-8]  # at the border of the picture a ramp is flattened by half a cell
    assert np.abs(smooth - values)[inner].max() < 4
    assert np.abs(smooth - values)[inner].mean() < 1


def test_cells_of_which_little_is_known_have_no_say():
    values, use = np.full((40, 40), 10, np.float32), np.ones((40, 40), bool)
    use[:, 20:] = False
    use[1::4, 21::4] = True  # one pixel of 16 in each cell of the right half, and a wrong one
    values[:, 20:] = 200
    np.testing.assert_allclose(extend_smoothly(values, use), 10, atol=1e-3)
    assert extend_smoothly(values, use, least=0.05)[20, 35] > 150


def test_where_nothing_is_known_nothing_is_extended():
    assert extend_smoothly(np.ones((40, 40), np.float32), np.zeros((40, 40), bool)) is None


@pytest.mark.parametrize("shape", [(31, 34), (31, 34, 2), (90, 84, 2), (1, 40), (40, 1, 3), (2, 2)])
@pytest.mark.parametrize("finest", [None, 2])
def test_several_at_once_are_each_as_alone(shape, finest):
    rng = np.random.default_rng(1)
    values = list(rng.uniform(0, 100, (5, *shape)).astype(np.float32))
    holes = list(rng.random((5, *shape[:2])) < 0.4)
    holes[1][:], holes[2][:] = False, True
    for hole in (holes[0], holes[3]):
        hole[shape[0] // 4 : 3 * shape[0] // 4] = True
    for one, hole in zip(values, holes):
        one[hole] = np.nan
    before = np.stack(values)
    together = harmonic_fills(values, holes, 5, finest)
    assert len(together) == 5
    for filled, one, hole in zip(together, values, holes):
        assert filled.shape == shape
        np.testing.assert_allclose(filled, harmonic_fill(one, hole, 5, finest), atol=1e-4)
    np.testing.assert_array_equal(before, np.stack(values))
    assert harmonic_fills([], []) == []


def test_several_are_extended_as_each_alone():
    rng = np.random.default_rng(2)
    pairs = [(rng.uniform(0, 9, (50, 62)).astype(np.float32), rng.random((50, 62)) < 0.9) for _ in range(3)]
    pairs[1][1][:] = False
    pairs[2][1][10:40, 12:50] = False
    found = list(extend_each(pairs, least=0.25, sweeps=4, blur=3))
    assert found[1] is None
    for k in (0, 2):
        alone = extend_smoothly(*pairs[k], least=0.25, sweeps=4, blur=3)
        np.testing.assert_allclose(found[k], alone, atol=1e-4)
    assert list(extend_each([], least=0.25, sweeps=4)) == []
