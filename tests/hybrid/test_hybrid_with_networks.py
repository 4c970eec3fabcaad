"""The hybrid with small random networks in both places: what they paint means nothing, where they paint does."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import random_clip

from videopainter import inpaint_video
from videopainter.hybrid import HybridEngine
from videopainter.masks import MaskTrack
from videopainter.propagation import PropagationEngine
from videopainter.propainter.engine import tell

N, H, W = 6, 64, 96


def small_engines():
    path = Path(__file__).parents[1] / "engines" / "small_engines.py"
    spec = importlib.util.spec_from_file_location("small_engines_for_hybrids", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.SMALL_ENGINES


@pytest.fixture(scope="module")
def clip():
    """A texture that slides behind a box that stands; what it hides in the middle is never seen."""
    frames, masks = random_clip(N, H, W)
    masks[:] = False
    masks[:, 16:48, 30:70] = True
    return frames, masks


@pytest.mark.parametrize(
    "base, generator",
    [
        ("propagation", "videopainter"),
        pytest.param("propagation", "e2fgvi", marks=pytest.mark.slow),
        ("propainter", "e2fgvi"),
    ],
)
def test_routing_and_exactness(clip, tmp_path, base, generator):
    frames, masks = clip
    engines = small_engines()
    first, second = engines[base].make(tmp_path), engines[generator].make(tmp_path)
    options = {"dilate_size": 0, "target_fps": None, "prompt": "a red wall"}
    alone = inpaint_video(frames, masks, engine=first, **options)
    engine = HybridEngine(first=first, second=second, least_pixels=1, threshold=0.0)
    both = inpaint_video(frames, masks, engine=engine, **options)
    assert both.seen_share == alone.seen_share < 1
    np.testing.assert_array_equal(both.never_seen[:], alone.never_seen[:])
    never = both.never_seen[:]
    assert (both.frames[never] != alone.frames[never]).mean() > 0.5
    near = np.stack([cv2.dilate(part.view(np.uint8), np.ones((13, 13), np.uint8)) for part in never]).view(
        bool
    )
    np.testing.assert_array_equal(both.frames[~near], alone.frames[~near])
    engine.close()


def test_propainter_tells_what_flow_found_nowhere(clip):
    frames, masks = clip
    box, told = (slice(8, 56), slice(20, 80)), []
    left = {1: np.zeros((24, 30), np.uint8)}  # worked on at half the size
    left[1][:, :10] = 1
    given = tell(
        (frame for frame in frames), MaskTrack.from_array(masks), box, left, lambda i, sure: told.append(sure)
    )
    np.testing.assert_array_equal(np.stack(list(given)), frames)
    assert (told[0] == 255).all()
    wanted = masks[1].copy()
    wanted[:, 40:] = False
    np.testing.assert_array_equal(told[1] == 0, wanted)


def test_propagation_is_sure_where_a_still_camera_has_seen(clip):
    frames, masks = clip[0][[0] * N], clip[1].copy()
    masks[3:] = False
    result = inpaint_video(frames, masks, engine=PropagationEngine(), dilate_size=0)
    assert result.seen_share == 1
