"""One object of settings: the engine's own values and "no limit" are two things."""

from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest

import videopainter
from videopainter import DEFAULT, inpaint_video
from videopainter.engines.base import EngineError, EngineSpec, NoOptions
from videopainter.masks import MaskError
from videopainter.steps.settings import InpaintSettings
from videopainter.video import ArraySource, VideoError

SPEC = EngineSpec("slow", dilate_size=60, target_fps=8, max_seconds=0.5)


class Slow:
    """Works on eight frames a second of half a second, unless told otherwise."""

    spec, options = SPEC, NoOptions()

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        yield from source

    def close(self):
        pass


def test_default_is_the_engines_own_and_none_is_no_limit():
    own = InpaintSettings().for_engine(SPEC)
    assert (own.dilate_size, own.target_fps, own.max_seconds) == (60, 8, 0.5)
    free = InpaintSettings(target_fps=None, max_seconds=None, dilate_size=0).for_engine(SPEC)
    assert (free.dilate_size, free.target_fps, free.max_seconds) == (0, None, None)
    given = InpaintSettings(target_fps=3, max_seconds=2, dilate_size=4)
    assert asdict(given.for_engine(SPEC)) == asdict(given)
    assert videopainter.DEFAULT is DEFAULT and repr(DEFAULT) == "DEFAULT"


@pytest.mark.parametrize(
    "given, numbers",
    [
        ({}, [0, 3, 6, 9]),
        ({"target_fps": None}, range(12)),
        ({"max_seconds": None}, range(0, 24, 3)),
        ({"target_fps": None, "max_seconds": None}, range(24)),
        ({"target_fps": DEFAULT, "max_seconds": DEFAULT}, [0, 3, 6, 9]),
        ({"target_fps": "source", "max_seconds": None}, range(24)),
    ],
)
def test_on_the_spine(given, numbers):
    frames = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 40, 3), np.uint8)
    mask = np.zeros((32, 40), bool)
    mask[8:16, 8:16] = True
    result = inpaint_video(ArraySource(frames, Fraction(24)), mask, engine=Slow(), **given)
    assert list(result.numbers) == list(numbers) and len(result.frames) == len(numbers)
    assert result.holes[0].sum() > result.masks[0].sum() == 64


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"region": "face"}, EngineError, "auto or frame, not 'face'"),
        ({"target_fps": "fast"}, VideoError, "a number or 'source', not 'fast'"),
        ({"dilate_size": -1}, MaskError, "0 or more pixels, not -1"),
        ({"dilate_size": float("nan")}, MaskError, "not nan"),
        ({"seed": -1}, EngineError, "0 or more, not -1"),
    ],
)
def test_values_that_make_no_sense(given, error, words):
    with pytest.raises(error, match=words):
        InpaintSettings(**given)


def test_it_cannot_be_changed_in_flight():
    with pytest.raises(AttributeError):
        InpaintSettings().seed = 3
