"""What only E2FGVI's engine does: two variants, and sizes that follow the memory. The rest: tests/engines."""

import logging

import numpy as np
import pytest
import torch
from clips import ArrayClip, random_clip
from small_e2fgvi import lively_model

from videopainter.e2fgvi import engine as module
from videopainter.e2fgvi.engine import E2FGVIEngine
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource


def paint(engine, frames, masks) -> np.ndarray:
    return np.stack(list(engine(ArraySource(frames), MaskTrack.from_array(masks))))


@pytest.fixture
def engine(model):
    return E2FGVIEngine(model=model, device="cpu")


def test_a_small_picture_is_painted_as_the_model_paints_it(engine):
    frames, masks = random_clip(6, 37, 50)
    masks[2] = False
    alone = np.stack(list(engine.model.paint_video(ArrayClip(frames, masks))))
    assert np.array_equal(paint(engine, frames, masks), alone)


def test_a_hole_nearly_everywhere_takes_the_whole_frame(engine):
    _, masks = random_clip(2, 300, 500)
    masks[:, 20:280, 20:480] = True
    assert engine._region(MaskTrack.from_array(masks), (300, 500)) == (
        (slice(0, 300), slice(0, 500)),
        (300, 500),
    )


def test_it_says_at_which_size_it_works(model, caplog):
    frames, masks = random_clip(1, 70, 90)
    with caplog.at_level(logging.INFO):
        paint(E2FGVIEngine(model=model, device="cpu", resize_ratio=0.5), frames, masks)
    assert "works on 90 x 70 pixels at 45 x 35" in caplog.text


def test_the_size_follows_the_memory():
    assert module._largest_ratio(240, 432, 16 * 2**30) == 1
    ratios = [module._largest_ratio(2160, 3840, n * 2**30) for n in (1, 4, 16, 64, 640)]
    assert ratios == sorted(ratios) and ratios[0] < 0.3 and ratios[-1] == 1


def test_the_base_variant_works_at_its_own_size_and_says_so(caplog):
    engine = E2FGVIEngine(model=lively_model(variant="base"), device="cpu")
    frames, masks = random_clip(2, 50, 64)
    with caplog.at_level(logging.WARNING):
        out = paint(engine, frames, masks)
    assert "base variant works at 432 x 240 only: 64 x 50 pixels are resized" in caplog.text
    assert out.shape == frames.shape and np.array_equal(out[~masks], frames[~masks])
    assert (out != frames).any()
    # In large pictures the region has its proportions.
    masks = np.zeros((1, 800, 1600), bool)
    masks[:, 300:500, 700:760] = True
    (rows, columns), working = engine._region(MaskTrack.from_array(masks), (800, 1600))
    assert working == (240, 432)
    assert (columns.stop - columns.start) / (rows.stop - rows.start) == pytest.approx(1.8, abs=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_in_half_precision():
    frames, masks = random_clip(8, 60, 108)
    exact = paint(E2FGVIEngine(model=lively_model(), device="cpu"), frames, masks)
    for fp16, limit in ((False, 1), (True, 16)):
        out = paint(E2FGVIEngine(model=lively_model(), device="cuda", fp16=fp16), frames, masks)
        assert np.abs(out.astype(int) - exact).mean() < limit
        assert np.array_equal(out[~masks], frames[~masks])
