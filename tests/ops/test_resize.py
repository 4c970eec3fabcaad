"""Pictures at another size: every filter is what it says."""

from typing import get_args

import cv2
import numpy as np
import pytest
from PIL import Image

from videopainter.ops.resize import Filter, resize, resize_mask

pytestmark = pytest.mark.filterwarnings("error")

FILTERS = get_args(Filter)
SIZES = [(20, 30), (40, 60), (17, 90), (61, 13)]


def picture(shape=(30, 45, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("how", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_channels_and_dtypes(how, size):
    for shape in ((30, 45), (30, 45, 3)):
        grey = resize(np.full(shape, 77, np.uint8), size, how)
        assert grey.shape == size + shape[2:] and grey.dtype == np.uint8 and (grey == 77).all()
    if not how.startswith("pillow-"):
        for channels in (1, 2, 4):
            values = resize(np.full((30, 45, channels), 0.5, np.float32), size, how)
            assert values.shape == (*size, channels) and values.dtype == np.float32
            np.testing.assert_allclose(values, 0.5, rtol=1e-5)


@pytest.mark.parametrize("how", FILTERS)
def test_a_picture_of_that_size_is_given_back(how):
    same = picture()
    assert resize(same, (30, 45), how) is same


def test_area_is_the_mean_of_what_is_covered():
    values = picture((40, 60)).astype(np.float32)
    want = values.reshape(20, 2, 20, 3).mean((1, 3))
    np.testing.assert_allclose(resize(values, (20, 20), "area"), want, rtol=1e-5)
    assert resize(values, (17, 23), "area").mean() == pytest.approx(values.mean(), abs=1e-3)


@pytest.mark.parametrize(
    "how, size, same",
    [
        ("area-or-linear", (20, 30), "area"),
        ("area-or-linear", (30, 44), "area"),
        ("area-or-linear", (20, 60), "linear"),
        ("area-or-linear", (60, 30), "linear"),
        ("area-or-cubic", (20, 30), "area"),
        ("area-or-cubic", (29, 60), "area"),
        ("area-or-cubic", (30, 44), "cubic"),
        ("area-or-cubic", (60, 30), "cubic"),
    ],
)
def test_filters_that_depend_on_the_size(how, size, same):
    np.testing.assert_array_equal(resize(picture(), size, how), resize(picture(), size, same))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_pillow_filters_are_pillows(name, size):
    want = Image.fromarray(picture()).resize(size[::-1], Image.Resampling[name.upper()])
    np.testing.assert_array_equal(resize(picture(), size, f"pillow-{name}"), np.asarray(want))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["nearest", "linear", "cubic", "area"])
def test_opencv_filters_are_opencvs(name, size):
    want = cv2.resize(picture(), size[::-1], interpolation=getattr(cv2, f"INTER_{name.upper()}"))
    np.testing.assert_array_equal(resize(picture(), size, name), want)


def test_masks_by_hand():
    mask = np.zeros((4, 6), bool)
    mask[:2, :2] = True  # all of one
    mask[0, 2] = True  # a quarter
    mask[2, 4:] = mask[3, 4] = True  # three quarters
    assert resize_mask(mask, (2, 3), "half").tolist() == [[True, False, False], [False, False, True]]
    want = Image.fromarray(mask.view(np.uint8)).resize((3, 2), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_mask(mask, (2, 3)), np.asarray(want) > 0)
    assert resize_mask(mask, (4, 6)) is mask
