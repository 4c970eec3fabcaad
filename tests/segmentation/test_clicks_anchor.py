"""A mask that is known well stays what it is while its thing only moves along with the camera."""

import cv2
import numpy as np
import pytest

from videopainter.masks import MaskTrack
from videopainter.segmentation import ClickPrompt, MaskPrompt
from videopainter.segmentation.classical.motion import Clip
from videopainter.segmentation.clicks.anchor import PATIENCE, Anchor
from videopainter.segmentation.clicks.interaction import Candidate, iou
from videopainter.segmentation.clicks.segmenter import ClicksSegmenter
from videopainter.video import ArraySource

H, W = 120, 176


def wall(seed=0):
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.normal(0, 1, (H // 8, W // 8, 3)), (W, H), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (H, W, 3)), (0, 0), 1.2)
    return np.clip(140 + 25 * coarse + 40 * fine, 0, 255).astype(np.uint8)


def stand():
    """bool (H, W): three legs of two pixels and a post, as a tripod has them."""
    mask = np.zeros((H, W), np.uint8)
    for foot in (62, 88, 112):
        cv2.line(mask, (88, 50), (foot, 95), 1, 2)
    cv2.rectangle(mask, (84, 28), (92, 50), 1, -1)
    return mask > 0


def scene():
    """uint8 (H, W, 3): the stand before a wall."""
    picture = wall()
    picture[stand()] = (30, 25, 35)
    return picture


def seen(picture, turn=0.0, zoom=1.0, shift=(0.0, 0.0)):
    """What a camera shows that was turned (degrees), zoomed and shifted (pixels), and the matrix of that."""
    matrix = cv2.getRotationMatrix2D((W / 2, H / 2), turn, zoom)
    matrix[:, 2] += shift
    how = cv2.INTER_NEAREST if picture.dtype == bool else cv2.INTER_LINEAR
    moved = cv2.warpAffine(
        picture.astype(np.uint8), matrix, (W, H), flags=how, borderMode=cv2.BORDER_REFLECT_101
    )
    return moved.astype(picture.dtype)


def anchored(views):
    return Anchor(Clip(ArraySource(np.stack(views))), 0, stand(), stand())


def test_a_thin_thing_keeps_its_mask_while_the_camera_pans_turns_and_zooms():
    ways = [(0.12 * k, 1 + 0.004 * k, (0.8 * k, -0.4 * k)) for k in range(25)]
    anchor = anchored([seen(scene(), *way) for way in ways])
    for i, way in enumerate(ways[1:], 1):
        found = anchor.mask_in(i)
        assert found is not None and iou(found, seen(stand(), *way)) > 0.75  # legs are two pixels wide
        assert found.shape == (H, W) and found.dtype == bool


def test_noise_of_a_camera_changes_nothing_in_a_still_picture():
    rng = np.random.default_rng(1)
    views = [np.clip(scene() + rng.normal(0, 3, (H, W, 3)), 0, 255).astype(np.uint8) for _ in range(6)]
    anchor = anchored(views)
    assert all(np.array_equal(anchor.mask_in(i), stand()) for i in range(1, 6))


def test_no_mask_is_left_where_a_thing_has_gone_from():
    legs = stand()
    gone = wall()
    elsewhere = wall()
    elsewhere[np.roll(legs, 9, 1)] = (30, 25, 35)  # it moved, the wall did not
    anchor = anchored([scene(), gone, elsewhere])
    assert anchor.mask_in(1) is None and anchor.mask_in(2) is None


def test_what_was_hidden_is_found_again_but_not_looked_for_for_ever():
    hidden = scene()
    hidden[20:100, 70:100] = 200
    views = [scene(), hidden, hidden, scene(), *[hidden] * PATIENCE, scene()]
    anchor = anchored(views)
    found = [anchor.mask_in(i) is not None for i in range(1, len(views))]
    assert found == [False, False, True, *[False] * PATIENCE, False]


def test_an_empty_mask_is_nowhere():
    empty = np.zeros((H, W), bool)
    clip = Clip(ArraySource(np.stack([scene()] * 2)))
    assert Anchor(clip, 0, empty, empty).mask_in(1) is None


def test_a_track_leaves_the_mask_of_a_still_thing_alone():
    rng = np.random.default_rng(2)
    clip = [np.clip(scene() + rng.normal(0, 2, (H, W, 3)), 0, 255).astype(np.uint8) for _ in range(9)]
    steps = ClicksSegmenter(ArraySource(np.stack(clip))).track([MaskPrompt(stand(), 4)])
    masks = {step.frame: step.mask for step in steps}
    assert sorted(masks) == list(range(9)) and all(np.array_equal(m, stand()) for m in masks.values())


@pytest.mark.parametrize("frame", [0, 5])
def test_a_correction_of_a_known_track_is_what_the_network_reads(frame, monkeypatch):
    still = np.stack([scene()] * 8)
    segmenter = ClicksSegmenter(ArraySource(still))
    known = MaskTrack.from_array(np.stack([stand()] * 8))
    better = stand()
    better[28:50, 93:97] = True
    asked = []

    def readings(number, prompts, previous=None, around=False):
        asked.append((number, previous.copy()))
        return [Candidate("object", better, better.astype(np.float32), 0.9)]

    monkeypatch.setattr(segmenter, "readings", readings)
    steps = segmenter.track([ClickPrompt(94, 40, frame)], start=frame, known=known)
    masks = {step.frame: step.mask for step in steps}
    assert asked[0][0] == frame and np.array_equal(asked[0][1] > 0.5, stand())
    assert np.array_equal(masks[frame], better)
    assert np.array_equal(masks[7], better)  # and it goes on from there
