"""Text that comes and goes over a background that keeps still: its pixels are what changed."""

import numpy as np
import pytest
from burned_in import burn, fit

from videopainter.segmentation.captions.change import compare, is_of, is_replaced
from videopainter.segmentation.captions.detector import Detection
from videopainter.segmentation.captions.finder import CaptionFinder
from videopainter.video import ArraySource

COUNT, SHOWN = 20, (5, 14)
RING = 0.02  # of the picture that a pixel around all letters is: it is small, and its text large
LINE = slice(70, 104), slice(30, 250)  # rows and columns of the detector's box


@pytest.fixture
def clean():
    """A wall, bright on the left and dark on the right, with bars; the same in all frames but for noise."""
    rng = np.random.default_rng(0)
    wall = np.full((180, 320, 3), 200.0)
    wall[:, 140:] = (28, 26, 34)
    wall[:, 60:68] = wall[:, 200:206] = 90
    return np.clip(wall + rng.normal(0, 2, (COUNT, *wall.shape)), 0, 255).astype(np.uint8)


def found_in(frames, fps=25, first=SHOWN[0], last=SHOWN[1], clean=None):
    """`clean`: the frames without text, by which the box is as long as the text."""

    def detector(frame):
        number = next(i for i, one in enumerate(frames) if (one == frame).all())
        columns = LINE[1]
        if clean is not None and (changed := (frame != clean[number]).any(axis=(0, 2))).any():
            columns = slice(int(changed.argmax()) - 4, int(np.flatnonzero(changed)[-1]) + 5)
        region = np.ones((34, columns.stop - columns.start), bool)
        return [Detection(LINE[0], columns, region, 0.9, 30.0)] if first <= number < last else []

    return CaptionFinder(ArraySource(frames, fps), detector=detector).find()


def test_dark_letters_before_what_is_dark(clean):
    frames = clean.copy()
    burn(frames, "Where is everybody", (34, 72), 26, *SHOWN, fill=(20, 20, 90))
    found = found_in(frames)
    masks = found.masks[:]
    covered, false, worst = fit(masks, frames, clean)
    assert covered > 0.99 and worst > 0.99 and false < RING
    assert not masks[: SHOWN[0]].any() and not masks[SHOWN[1] :].any()
    assert (masks[SHOWN[0] : SHOWN[1]] == masks[SHOWN[0]]).all()


def test_a_letter_far_outside_of_the_box(clean):
    frames = clean.copy()
    burn(frames, "Where is everybody, all of you", (34, 72), 20, *SHOWN)
    covered, false, _ = fit(found_in(frames).masks, frames, clean)
    assert covered > 0.99 and false < RING


def test_a_plate_goes_with_its_text(clean):
    frames = clean.copy()
    frames[slice(*SHOWN), 66:108, 26:254] //= 3
    burn(frames, "Where is everybody", (34, 72), 26, *SHOWN)
    plate = found_in(frames).masks[SHOWN[0]][68:106, 28:138]  # before the bright wall
    assert plate.mean() > 0.95


def test_words_that_take_another_colour_do_not_vanish(clean):
    frames = clean.copy()
    burn(frames, "Where is everybody", (34, 72), 26, *SHOWN, outline="black", width=2)
    sung = clean.copy()
    burn(sung, "Where is everybody", (34, 72), 26, *SHOWN, fill=(40, 220, 255), outline="black", width=2)
    frames[9:, :, :160] = sung[9:, :, :160]
    covered, _, worst = fit(found_in(frames).masks, frames, clean)
    assert covered > 0.99 and worst > 0.99


def test_lines_that_are_long_gone_keep_their_masks(clean):
    frames = clean.copy()
    burn(frames, "Where is everybody", (34, 72), 26, 2, 7)
    found = found_in(frames, fps=4, first=4, last=5)  # seen once, and done with eight frames later
    covered, false, _ = fit(found.masks, frames, clean)
    assert covered > 0.99 and false < RING and not found.masks[7:].any()


def test_a_cut_tells_nothing(clean):
    strokes = np.zeros(clean.shape[1:3], bool)
    strokes[80:84, 40:280:12] = True
    shown = clean[1].copy()
    shown[strokes] = 255
    other = clean[2][::-1, ::-1]
    for without, of_text in ((clean[2], True), (other, False)):
        changed, known = compare(without, shown, [(clean[3], clean[4])])
        assert is_of(changed, known, without, shown, strokes, 16) == of_text
    changed, known = compare(clean[5], clean[6], [(clean[3], clean[4])])
    assert not changed.any() and known.all()


def test_a_word_that_is_added(clean):
    frames = clean.copy()
    burn(frames, "Where is", (34, 72), 26, *SHOWN)
    burn(frames, "Where is everybody", (34, 72), 26, 12, SHOWN[1])  # from a frame on that is looked at
    masks = found_in(frames).masks[:]
    covered, _, worst = fit(masks, frames, clean)
    assert covered > 0.99 and worst > 0.99
    assert not masks[11, :, 155:].any()


def test_words_that_are_added_between_two_looks(clean):
    """The second word is never there alone when it is looked for: the third one is there by then."""
    frames = clean.copy()
    for first, last, text in ((5, 9, "Up"), (9, 12, "Up and"), (12, 16, "Up and away")):
        burn(frames, text, (150, 72), 26, first, last)
    masks = found_in(frames, last=16, clean=clean).masks[:]
    covered, _, worst = fit(masks, frames, clean)
    assert covered > 0.99 and worst > 0.99
    assert not masks[8, :, 190:].any() and not masks[10, :, 240:].any()  # no word before it is there


def test_a_short_word_at_the_end_of_a_long_line(clean):
    frames = clean.copy()
    burn(frames, "Up and away, you", (150, 76), 18, 4, 10)
    burn(frames, "Up and away, you go", (150, 76), 18, 10, 17)
    covered, _, worst = fit(found_in(frames, first=4, last=17, clean=clean).masks, frames, clean)
    assert covered > 0.99 and worst > 0.99


def test_words_in_each_others_place(clean):
    frames = clean.copy()
    for first, text in ((4, "look"), (7, "back"), (10, "again")):  # frame 8 is looked at, 5, 7 and 11 are not
        burn(frames, text, (170, 70), 30, first, first + 3, outline="black", width=2)
    masks = found_in(frames, first=4, last=13).masks[:]
    covered, false, worst = fit(masks, frames, clean)
    assert covered > 0.98 and worst > 0.97 and false < RING
    assert all((masks[i] == masks[i + 2]).all() for i in (4, 7, 10)) and (masks[6] != masks[7]).any()


def test_other_text_is_no_other_colour(clean):
    before, after, yellow = clean[:1].copy(), clean[:1].copy(), clean[:1].copy()
    burn(before, "look", (170, 70), 30, 0, 1, outline="black", width=2)
    burn(after, "back", (170, 70), 30, 0, 1, outline="black", width=2)
    burn(yellow, "look", (170, 70), 30, 0, 1, fill=(255, 220, 0), outline="black", width=2)
    strokes = (before[0] > 250).all(axis=2)
    for other, replaced in ((after, True), (yellow, False), (clean[1:2], False)):
        changed = np.abs(other[0].astype(int) - before[0]).max(axis=2) > 24
        assert is_replaced(changed, other[0], before[0], strokes, 30) == replaced
