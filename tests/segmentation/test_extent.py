"""An extent that is asked for: the reading with which a track begins."""

import numpy as np
import pytest

from videopainter.masks import MaskError
from videopainter.segmentation import Candidate, ClickPrompt, MaskPrompt, Segmenter, collect
from videopainter.segmentation.base import Step
from videopainter.video import ArraySource

N, H, W = 4, 20, 40
SIZES = {"part": 2, "object": 4, "group": 8}


class Squares(Segmenter):
    """Reads a click as squares of three sizes, and follows a mask where it is."""

    name = "squares"
    extents = ("object", "part", "group")

    def _candidates(self, frame, prompts):
        whole = [p for p in prompts if isinstance(p, MaskPrompt)]
        if whole:
            return [Candidate(whole[0].mask, 1.0)]
        return [
            Candidate(self.square(prompts[0], extent), 0.9 - 0.1 * i, extent)
            for i, extent in enumerate(self.extents)
        ]

    def _follow(self, prompts, start, known):
        first = min(p.frame for p in prompts)
        mask = self._candidates(first, [p for p in prompts if p.frame == first])[0].mask
        for i in range(len(self.source)):
            yield Step(i, mask, 1.0)

    def square(self, click, extent):
        mask = np.zeros((H, W), bool)
        mask[: SIZES[extent], int(click.x) : int(click.x) + SIZES[extent]] = True
        return mask


@pytest.fixture
def squares():
    return Squares(ArraySource(np.zeros((N, H, W, 3), np.uint8)))


@pytest.mark.parametrize("extent, size", [(None, 4), ("part", 2), ("object", 4), ("group", 8)])
def test_a_track_begins_with_the_reading_of_that_extent(squares, extent, size):
    found = collect(squares.track([ClickPrompt(5, 1)], extent=extent), squares.source)
    assert [mask.sum() for mask in found.masks] == [size**2] * N


def test_every_object_begins_so(squares):
    clicks = [ClickPrompt(2, 1, object_id=1), ClickPrompt(20, 1, 2, object_id=4)]
    found = collect(squares.track(clicks, extent="group"), squares.source)
    assert {number: track[0].sum() for number, track in found.objects.items()} == {1: 64, 4: 64}


def test_without_such_a_reading_the_best_is_taken(squares):
    squares.extents = ("object",)
    found = collect(squares.track([ClickPrompt(5, 1)], extent="part"), squares.source)
    assert found.masks[0].sum() == 16


def test_an_unknown_extent(squares):
    with pytest.raises(MaskError, match="There is no extent 'all'; the names are part, object, group."):
        squares.track([ClickPrompt(5, 1)], extent="all")
