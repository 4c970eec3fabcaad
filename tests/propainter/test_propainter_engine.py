"""What only ProPainter's engine does: sizes and pieces that follow the memory. The rest: tests/engines."""

import numpy as np
import pytest
import torch
from clips import random_clip

from videopainter.masks import MaskTrack
from videopainter.propainter import memory
from videopainter.propainter.engine import ProPainterEngine
from videopainter.video import ArraySource


@pytest.fixture
def engine(model):
    return ProPainterEngine(model=model, device="cpu", raft_iter=1)


def test_a_hole_nearly_everywhere_takes_the_whole_frame(engine):
    _, masks = random_clip(2, 300, 300)
    masks[:, 20:280, 20:280] = True
    box, size = engine._region(MaskTrack.from_array(masks), (300, 300), 2**40)
    assert box == (slice(0, 300), slice(0, 300)) and size == (300, 300)


def test_pieces_and_sizes_follow_the_memory():
    assert memory.subvideo_length(240, 432, 32 * 2**30) == 80
    assert memory.subvideo_length(720, 1280, 2**30) == 10
    lengths = [memory.subvideo_length(720, 1280, n * 2**30) for n in range(1, 20)]
    assert lengths == sorted(lengths) and len(set(lengths)) > 3
    assert memory.resize_ratio(240, 432, 16 * 2**30) == 1
    ratios = [memory.resize_ratio(2160, 3840, n * 2**30) for n in (1, 4, 16, 64, 640)]
    assert ratios == sorted(ratios) and ratios[0] < 0.3 and ratios[-1] == 1
    assert memory.free_bytes(torch.device("cpu")) > 2**26


def test_a_given_length_counts(model, monkeypatch):
    engine = ProPainterEngine(model=model, device="cpu", raft_iter=1, subvideo_length=7)
    given = []
    monkeypatch.setattr(
        model, "paint", lambda clip, **options: given.append(options) or (clip.frame(i) for i in range(2))
    )
    frames, masks = random_clip(2, 37, 50)
    out = np.stack(list(engine(ArraySource(frames), MaskTrack.from_array(masks))))
    assert out.shape == frames.shape
    assert given == [{"ref_stride": 10, "neighbor_length": 10, "raft_iter": 1, "subvideo_length": 7}]
