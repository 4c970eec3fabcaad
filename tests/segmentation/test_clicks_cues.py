"""What other frames tell the click network about the clicked one."""

import cv2
import numpy as np

from videopainter.segmentation.clicks.cues import background_of, before_background, motion_cue, of_clicked
from videopainter.segmentation.clicks.network import Point
from videopainter.segmentation.clicks.segmenter import ClicksSegmenter
from videopainter.video import ArraySource

H, W = 96, 144


def wall(seed=0, width=W):
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.normal(0, 1, (H // 8, width // 8, 3)), (width, H), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (H, width, 3)), (0, 0), 1.0)
    return np.clip(120 + 30 * coarse + 40 * fine, 0, 255)


def disc(x, y=48, radius=14):
    yy, xx = np.mgrid[:H, :W]
    return (xx - x) ** 2 + (yy - y) ** 2 <= radius**2


def frames(places, ground=None):
    """A spotted disc at each x before a wall that stands still; every frame has its own noise."""
    rng = np.random.default_rng(1)
    spots = wall(7)
    out = []
    for x in places:
        frame = (wall() if ground is None else ground).copy()
        shifted = np.roll(spots, int(x), axis=1) * 0.5 + np.float32([120, 20, 20])
        frame[disc(x)] = shifted[disc(x)]
        out.append(np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8))
    return out


def test_what_stands_before_a_still_background_stands_out():
    here, *others = frames([40, 70, 80, 90, 100, 110, 120])
    cue = before_background(here, background_of(here, others))
    assert cue.shape == (H, W) and cue.dtype == np.float32 and np.abs(cue).max() <= 1
    inside = disc(40, radius=11)
    assert (cue[inside] > 0.5).mean() > 0.9
    assert (cue[~disc(40, radius=18)] < 0).mean() > 0.9


def test_a_moving_camera_or_too_few_frames_show_no_background():
    here, *others = frames([40, 70, 80, 90, 100, 110, 120])
    assert background_of(here, others[:4]) is None
    wide = wall(width=W + 80)
    panned = [np.clip(wide[:, 10 * k : 10 * k + W], 0, 255).astype(np.uint8) for k in range(7)]
    assert background_of(panned[0], panned[1:]) is None
    flat = np.full((H, W, 3), 90, np.uint8)
    assert background_of(flat, [flat] * 6) is None


def test_what_moves_like_the_click_is_told_from_what_stands():
    ground = cv2.GaussianBlur(wall(), (0, 0), 2)
    piece = cv2.GaussianBlur(wall(7), (0, 0), 2)[24:72, 20:68] * 1.5 - 60
    views = []
    for x in (50, 46, 54):
        view = ground.copy()
        view[24:72, x : x + 48] = piece
        views.append(np.clip(view, 0, 255).astype(np.uint8))
    cue = motion_cue(views[0], views[1:], [Point(74, 48)])
    assert cue.shape == (H, W) and np.abs(cue).max() <= 1
    assert cue[32:64, 58:90].mean() > 0.4 and cue[:, :30].mean() < -0.4 and cue[:, 116:].mean() < -0.4


def test_a_click_on_what_stands_still_tells_nothing():
    here, before, after = frames([70, 67, 73])
    assert motion_cue(here, [before, after], [Point(15, 15)]) is None


def test_a_camera_that_turns_and_zooms_tells_nothing():
    ground = cv2.GaussianBlur(wall(), (0, 0), 1.5).astype(np.uint8)
    views = []
    for turn, zoom in ((0, 1), (-2, 0.96), (2, 1.04)):
        matrix = cv2.getRotationMatrix2D((W / 2, H / 2), turn, zoom)
        views.append(cv2.warpAffine(ground, matrix, (W, H), borderMode=cv2.BORDER_REFLECT_101))
    assert motion_cue(views[0], views[1:], [Point(125, 80)]) is None


def test_what_moves_by_itself_is_told_where_the_camera_zooms():
    ground = cv2.GaussianBlur(wall(), (0, 0), 1.5)
    piece = cv2.GaussianBlur(wall(7), (0, 0), 1.5)[24:72, 20:68] * 1.5 - 60
    views = []
    for x, zoom in ((50, 1), (46, 0.97), (54, 1.03)):
        matrix = cv2.getRotationMatrix2D((W / 2, H / 2), 0, zoom)
        view = cv2.warpAffine(ground, matrix, (W, H), borderMode=cv2.BORDER_REFLECT_101)
        view[24:72, x : x + 48] = piece
        views.append(np.clip(view, 0, 255).astype(np.uint8))
    cue = motion_cue(views[0], views[1:], [Point(74, 48)])
    assert cue[32:64, 58:90].mean() > 0.4 and cue[:, :30].mean() < -0.4 and cue[:, 116:].mean() < -0.4


def test_a_thing_that_stands_still_is_not_called_background():
    # A second disc moves; the clicked one is in every frame, so that the background shows it.
    ground = wall()
    ground[disc(30)] = np.float32([20, 20, 120])
    clip = ArraySource(np.stack(frames([60 + 2 * k for k in range(40)], ground)))
    segmenter = ClicksSegmenter(clip)
    rgb = segmenter.full(20)
    assert segmenter.background(20, (W, H)).background is not None
    assert segmenter._cues(20, rgb, [Point(30, 48)], True).background is None
    assert segmenter._cues(20, rgb, [Point(100, 48)], True).background is not None


def test_what_else_stands_out_is_left_to_others():
    cue = np.full((60, 90), -0.8, np.float32)
    cue[10:40, 10:20] = 0.9  # the clicked one
    cue[43:50, 10:20] = 0.9  # its feet, a few pixels away
    cue[10:40, 50:60] = 0.9  # somebody else
    kept = of_clicked(cue, [Point(15, 20), Point(55, 20, False)])
    assert np.array_equal(kept[:, :30], cue[:, :30])
    assert (kept[10:40, 50:60] == 0).all() and np.allclose(kept[:, 70:], -0.8)
