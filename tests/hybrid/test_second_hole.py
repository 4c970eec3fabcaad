"""Which part of a hole is generated."""

import numpy as np
import pytest

from videopainter.hybrid.second_hole import second_holes, spans
from videopainter.masks import MaskTrack

N, H, W = 9, 480, 640  # at 480 lines, sizes are the options' own


def tracks(*parts):
    """The hole, rows 100-300 and columns 100-400 of every frame, and further tracks from (frame, rows, columns)."""
    out = [MaskTrack.still(box(100, 300, 100, 400), N)]
    for part in parts:
        track = np.zeros((N, H, W), bool)
        for frames, rows, columns in part:
            track[frames, rows, columns] = True
        out.append(MaskTrack.from_array(track))
    return out


def box(top, bottom, left, right):
    mask = np.zeros((H, W), bool)
    mask[top:bottom, left:right] = True
    return mask


ALL, PATCH = slice(None), (slice(150, 200), slice(150, 200))


def test_what_was_never_seen_grows_a_little_and_stays_in_the_hole():
    holes, never, doubtful = tracks(
        [(ALL, slice(100, 150), slice(100, 150))], [(ALL, slice(100, 150), slice(100, 150))]
    )
    found = second_holes(holes, never, doubtful, 64)
    assert (found[:] <= holes[:]).all() and (found[:] >= never[:]).all()
    for mask in found:
        assert not mask[:, 155:].any() and mask[120, 150:153].all()


def test_doubt_in_most_frames_counts_and_in_few_does_not():
    holes, never, doubtful = tracks([], [(slice(2, 8), *PATCH), (4, slice(250, 280), slice(300, 330))])
    found = second_holes(holes, never, doubtful, 64)
    assert found[5][150:200, 150:200].all()
    assert not found[4][250:280, 300:330].any()


def test_what_flickers_for_one_frame_is_never_seen_in_it_too():
    holes, never, doubtful = tracks([([3, 5], *PATCH)], [([3, 5], *PATCH)])
    assert second_holes(holes, never, doubtful, 64)[4][150:200, 150:200].all()


@pytest.mark.parametrize("side, kept", [(7, False), (8, True)])
def test_small_patches_are_left(side, kept):
    patch = (ALL, slice(150, 150 + side), slice(150, 150 + side))
    holes, never, doubtful = tracks([patch], [patch])
    assert second_holes(holes, never, doubtful, 64).any() == kept


def test_a_patch_that_shrinks_stays_for_a_frame():
    holes, never, doubtful = tracks(
        [(slice(0, 5), slice(150, 158), slice(150, 158)), (5, slice(150, 158), slice(150, 155))], []
    )
    found = second_holes(holes, never, never, 64)
    assert found[5].any() and not found[6].any()


def test_spans_have_context_and_are_joined():
    masks = np.zeros((100, 4, 4), bool)
    masks[[3, 40, 55, 99], 1, 1] = True
    assert spans(MaskTrack.from_array(masks), 10) == [range(0, 14), range(30, 66), range(89, 100)]
    assert spans(MaskTrack.empty(5, (4, 4))) == []
