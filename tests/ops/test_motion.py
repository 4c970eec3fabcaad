"""The camera between two frames, hard cuts, and homographies."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from videopainter.ops.motion import Motion, corner_motion, detail_stands, is_cut, project

pytestmark = pytest.mark.filterwarnings("error")

H, W = 160, 240
ALL = np.ones((H, W), bool)


def texture(seed=0, h=H, w=W):
    rng = np.random.default_rng(seed)
    picture = np.zeros((h, w))
    for sigma in (1.2, 3, 8):
        layer = cv2.GaussianBlur(rng.normal(size=(h, w)), (0, 0), sigma)
        picture += layer / layer.std()
    return np.clip(125 + 25 * picture, 0, 255).astype(np.uint8)


def seen(big, pose):
    """What a camera sees whose pixel x shows the point pose(x) of the plane ``big``."""
    return cv2.warpPerspective(big, pose, (W, H), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def middle():
    pose = np.eye(3)
    pose[:2, 2] = W / 2, H / 2
    return pose


def turned(degrees, dx, dy, zoom=1.0, tilt=0.0):
    out = np.eye(3)
    out[:2] = cv2.getRotationMatrix2D((W / 2, H / 2), degrees, zoom)
    out[:2, 2] += dx, dy
    out[2, 0] = tilt
    return out


CAMERAS = {
    "still": turned(0, 0, 0),
    "shift": turned(0, 3.3, -2.4),
    "slow": turned(0, 0.5, 0.2),
    "turn": turned(1.2, 1, 2),
    "zoom": turned(0, 0, 0, 1.02),
    "tilt": turned(0.3, 1, -1, 1.0, 4e-5),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_a_known_camera_is_found(name):
    true = CAMERAS[name]
    big = texture(h=2 * H, w=2 * W)
    # here(x) = there(true(x)), so there shows what lies at inverse(true) of its own pixels.
    here, there = seen(big, middle()), seen(big, middle() @ np.linalg.inv(true))
    found = Motion().camera(here, there, ALL)
    grid = np.stack(np.meshgrid(np.arange(0, W + 1, 20), np.arange(0, H + 1, 20)), -1).astype(float)
    assert np.abs(project(found, grid) - project(true, grid)).max() < 0.3


def test_a_smaller_moving_object_is_not_the_camera():
    true = turned(0, 2, 0)
    big, thing = texture(h=2 * H, w=2 * W), texture(5, 70, 70)
    here, there = seen(big, middle()), seen(big, middle() @ np.linalg.inv(true))
    here[40:110, 60:130] = thing
    there[44:114, 53:123] = thing
    found = Motion().camera(here, there, ALL)
    grid = np.array([[0, 0], [W, 0], [0, H], [W, H]], float)
    assert np.abs(project(found, grid) - project(true, grid)).max() < 0.5


@pytest.mark.parametrize("step", [(4, 0), (-3, 2), (-3, -2)])
def test_a_big_thing_before_a_shaded_wall_is_not_the_camera(step):
    y, x = np.mgrid[:H, :W]
    wall = (90 + 60 * x / W + 40 * (y / H) ** 2).astype(np.uint8)
    thing = texture(1, 120, 110)
    here, there = wall.copy(), wall.copy()
    here[20:140, 60:170] = thing
    dx, dy = step
    there[20 + dy : 140 + dy, 60 + dx : 170 + dx] = thing
    assert corner_motion(Motion().camera(here, there, ALL), W, H) < 0.3


def test_the_hole_has_no_say():
    true = turned(0, 3, 1)
    big = texture(h=2 * H, w=2 * W)
    here, there = seen(big, middle()), seen(big, middle() @ np.linalg.inv(true))
    known = ALL.copy()
    known[30:130, 50:190] = False
    # Inside the hole everything stands still.
    here[~known] = there[~known] = texture(7)[~known]
    found = Motion().camera(here, there, known)
    assert abs(corner_motion(found, W, H) - 3) < 0.5


def test_nothing_known_is_no_motion():
    motion = Motion().camera(texture(0), texture(0), np.zeros((H, W), bool))
    np.testing.assert_allclose(motion, np.eye(3))


def test_a_cut_has_no_camera():
    assert Motion().camera(texture(0), texture(1), ALL) is None
    assert Motion().camera(texture(0), np.full((H, W), 120, np.uint8), ALL) is None


def test_a_change_of_exposure_is_not_a_cut():
    here = texture()
    for there in (np.rint(here * 0.5), np.clip(here * 1.3 + 20.0, 0, 255), np.rint(here * 0.3 + 100)):
        there = there.astype(np.uint8)
        assert not is_cut(here, there, ALL, there)
        found = Motion().camera(here, there, ALL)
        assert found is not None and corner_motion(found, W, H) < 1


def test_one_of_two_views_is_enough_to_be_the_same_scene():
    here, other = texture(0), texture(1)
    assert is_cut(here, other, ALL, other)
    assert not is_cut(here, other, ALL, here)  # flow explains it
    assert not is_cut(here, here, ALL, other)  # it stands still


def test_cuts_are_judged_by_known_pixels():
    here, there = texture(0), texture(0)
    known = ALL.copy()
    known[:, : W // 2] = False
    there[~known] = texture(1)[~known]
    assert not is_cut(here, there, known, there)
    assert is_cut(here, texture(1), known, texture(1))
    nothing = np.zeros((H, W), bool)
    assert not is_cut(here, texture(1), nothing, texture(1))


def test_flat_frames_are_told_apart_by_their_level():
    grey, black = np.full((H, W), 100, np.uint8), np.zeros((H, W), np.uint8)
    assert not is_cut(grey, grey + 5, ALL, grey + 5)
    assert is_cut(grey, black, ALL, black)


def test_fine_flow_points_from_here_to_there():
    big = texture(h=2 * H, w=2 * W)
    here, there = big[50 : 50 + H, 60 : 60 + W], big[48 : 48 + H, 63 : 63 + W]
    flow = Motion().fine(here, there)[20:-20, 20:-20]
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), (-3, 2), atol=0.1)


SIZES = """
import numpy as np
from videopainter.ops.motion import Motion
for h, w in [(1, 1), (1, 40), (8, 8), (10, 60), (12, 40), (16, 16), (20, 120), (24, 432), (26, 1500)]:
    for size in ((h, w), (w, h)):
        image = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
        camera = Motion().camera(image, image, np.ones(size, bool))
        assert camera.shape == (3, 3) and abs(camera - np.eye(3)).max() < 0.1, size
"""


def test_small_and_narrow_frames_have_a_camera():
    # OpenCV's flow crashes on some sizes, which would take all other tests with it.
    done = subprocess.run([sys.executable, "-c", SIZES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_project_by_hand():
    homography = np.array([[2.0, 0, 1], [0, 3, -1], [0.5, 0, 1]])
    points = np.array([[[0, 0], [2, 4]], [[-1, 1], [4, 0]]], float)
    want = [[[1, -1], [2.5, 5.5]], [[-2, 4], [3, -1 / 3]]]
    np.testing.assert_allclose(project(homography, points), want)


def test_corner_motion_by_hand():
    assert corner_motion(np.eye(3), 100, 50) == 0
    assert corner_motion(turned(0, 2, -3), 100, 50) == pytest.approx(3)
    assert corner_motion(np.diag([1.1, 1, 1]), 100, 50) == pytest.approx(10)
    assert corner_motion(np.diag([1, 1.1, 1]), 100, 50) == pytest.approx(5)


@pytest.mark.parametrize("name", ["shift", "slow", "turn", "zoom"])
def test_the_precise_camera_drifts_less(name):
    """Ten steps chained: what remains of the error at the corners, beside the plain camera's."""
    step = CAMERAS[name]
    big = texture(h=2 * H, w=2 * W)
    frames = [seen(big, middle() @ np.linalg.matrix_power(step, k)) for k in range(11)]
    errors = []
    for precise in (False, True):
        motion, chained = Motion(precise), np.eye(3)
        for here, there in zip(frames, frames[1:]):
            # there(x) shows what here shows at step(x): from here to there it is the inverse.
            chained = motion.camera(here, there, ALL) @ chained
        left = np.linalg.matrix_power(step, 10) @ chained
        errors.append(corner_motion(left / left[2, 2], W, H))
    assert errors[1] < 1.0 and errors[1] < errors[0] + 0.1


def test_the_precise_camera_sees_the_same_cuts():
    a, b = texture(0), texture(5)
    assert Motion(precise=True).camera(a, b, ALL) is None
    assert Motion(precise=True).camera(a, a, ALL) is not None


def test_two_blurred_scenes_that_flow_makes_alike_are_a_cut():
    here, there = (cv2.GaussianBlur(texture(k), (0, 0), 5) for k in (3, 4))
    aligned = cv2.addWeighted(here, 0.5, there, 0.5, 0)  # flow of blurred pictures finds something everywhere
    rng = np.random.default_rng(0)
    astray = [cv2.GaussianBlur(rng.normal(0, 60, (H, W, 2)), (0, 0), 6).astype(np.float32) * 8 for _ in "ab"]
    assert not is_cut(here, there, ALL, aligned)  # by the correlations alone
    assert is_cut(here, there, ALL, aligned, lambda: astray)
    shift = np.float32([9, 0])
    there_and_back = np.broadcast_to(shift, (H, W, 2)).copy(), np.broadcast_to(-shift, (H, W, 2)).copy()
    assert not is_cut(here, there, ALL, aligned, lambda: there_and_back)


def test_flow_back_is_not_asked_for_without_doubt():
    def nobody():
        raise AssertionError("asked")

    here = texture()
    assert not is_cut(here, here, ALL, here, nobody) and not is_cut(here, texture(1), ALL, here, nobody)
    assert is_cut(here, texture(1), ALL, texture(1), nobody)


def test_detail_tells_a_wall_that_grows_brighter_from_a_camera_that_moves():
    wall = np.clip(80 + np.mgrid[:H, :W][1] * 0.4 + 0.1 * (texture(3).astype(float) - 125), 0, 255)
    move = np.array([[1, 0, 5.0], [0, 1, 0], [0, 0, 1]])
    assert detail_stands(wall.astype(np.uint8), (wall + 2).astype(np.uint8), move, ALL)
    moved = cv2.warpPerspective(wall, move, (W, H))
    assert not detail_stands(wall.astype(np.uint8), moved.astype(np.uint8), move, ALL)
