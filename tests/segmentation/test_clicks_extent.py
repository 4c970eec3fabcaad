"""`--extent` on the command line with the click network, from the clip to the masks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from videopainter.cli.inpaint import main
from videopainter.segmentation import ClickPrompt
from videopainter.segmentation.clicks.interaction import best, iou
from videopainter.segmentation.clicks.network import EXTENTS
from videopainter.segmentation.clicks.segmenter import ClicksSegmenter
from videopainter.video import ArraySource, open_video

EXAMPLE = Path(__file__).parents[2] / "examples" / "cup.mp4"
X, Y = 235, 112  # on the arm that holds the bottle, at half size


@pytest.fixture(scope="module")
def frames():
    with open_video(EXAMPLE) as source:
        return np.stack(
            [cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for f in source[58:61]]
        )


@pytest.fixture(scope="module")
def readings(frames):
    return ClicksSegmenter(ArraySource(frames)).readings(0, [ClickPrompt(X, Y)], around=True)


def selected(frames, folder, *flags):
    clip = folder / "clip"
    clip.mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(clip / f"{i:03d}.png"), frame[..., ::-1])
    command = ["--video", str(clip), "--click", f"{X},{Y}", "--segmenter", "clicks", "--mask_only"]
    assert main([*command, "--dilate_size", "0", "--output_dir", str(folder / "out"), *flags]) == 0
    with np.load(folder / "out" / "masks.npz") as content:
        return content[content.files[0]] > 0


def test_the_clicked_spot_has_readings_of_more_than_one_extent(readings):
    assert len(readings) > 1
    masks = {extent: best(readings, extent).mask for extent in EXTENTS}
    areas = [np.count_nonzero(masks[extent]) for extent in EXTENTS]
    assert areas == sorted(areas) and areas[0] < areas[-1]


@pytest.mark.parametrize("extent", EXTENTS)
def test_an_extent_selects_its_reading_and_follows_it(frames, readings, tmp_path, extent):
    masks = selected(frames, tmp_path, "--extent", extent)
    assert masks.shape == frames.shape[:3]
    assert iou(masks[0], best(readings, extent).mask) > 0.97
    areas = masks.sum((1, 2))
    assert areas.min() > 0.7 * areas.max()  # three frames on, it is still that


def test_without_an_extent_it_is_the_object(frames, readings, tmp_path):
    assert iou(selected(frames, tmp_path)[0], best(readings).mask) > 0.97
