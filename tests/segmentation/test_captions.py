"""Text burned into real frames: found where and while it is shown, with masks that fit its strokes."""

from pathlib import Path

import numpy as np
import pytest
from burned_in import burn, burn_picture, fit

from videopainter import MaskError, inpaint_video, select_object
from videopainter.segmentation import finders
from videopainter.segmentation.captions.detector import Detection
from videopainter.segmentation.captions.finder import CaptionFinder
from videopainter.segmentation.captions.strokes import completed, outlined, strokes, whole_text
from videopainter.video import ArraySource, VideoWriter, open_video

CUP = Path(__file__).resolve().parents[2] / "examples" / "cup.mp4"
COUNT = 24


@pytest.fixture(scope="module")
def clean():
    with open_video(CUP) as source:
        return source[20 : 20 + COUNT]


def found_in(frames, **more):
    return select_object(frames, select="captions", **more)


def test_outlined_captions_that_follow_on_each_other(clean):
    frames = clean.copy()
    burn(frames, "And then he shook\nthe bottle, twice.", (170, 390), 30, 3, 12, width=2)
    burn(frames, "Nobody knew why.", (180, 400), 30, 12, 21, width=2)
    found = found_in(frames)
    covered, false, worst = fit(found.masks, frames, clean)
    assert covered >= 0.99 and worst >= 0.99 and false < 0.01
    # No flicker: one mask for as long as a caption is shown, and none before and after.
    masks = found.masks[:]
    assert not masks[:3].any() and not masks[21:].any()
    assert (masks[3:12] == masks[3]).all() and (masks[12:21] == masks[12]).all()
    assert set(found.objects) == {1}


@pytest.mark.parametrize(
    "style",
    [
        {"fill": (255, 230, 0)},  # bare, and bright
        {"fill": (20, 20, 90), "fade": 5},
        {"fill": "white", "outline": (20, 20, 60), "width": 4},
    ],
    ids=["bare", "fading", "wide outline"],
)
def test_other_looks(clean, style):
    frames = clean.copy()
    burn(frames, "What a bottle this is", (150, 300), 34, 2, 20, **style)
    covered, false, worst = fit(found_in(frames).masks, frames, clean)
    assert covered >= 0.99 and worst >= (0.9 if "fade" in style else 0.99) and false < 0.01


@pytest.mark.parametrize("script", ["chinese", "arabic", "cyrillic"])
def test_other_scripts(clean, script):
    frames = clean[:14].copy()
    burn_picture(frames, script, (110, 400), 2, 12)
    masks = found_in(frames).masks[:]
    covered, false, worst = fit(masks, frames, clean)
    assert covered >= 0.99 and worst >= 0.99 and false < 0.01
    assert not masks[:2].any() and not masks[12:].any() and (masks[2:12] == masks[2]).all()


def test_what_is_solid_needs_a_surer_detector(clean):
    """Leaves that the detector takes for a line, again and again, are none where it is not quite sure."""
    frames = clean[:12].copy()
    burn(frames, "HHHHH", (200, 200), 40, 0, 12, width=5)
    region = np.ones((44, 140), bool)

    def masks(score):
        seen = Detection(slice(200, 244), slice(202, 342), region, score, 44)
        return CaptionFinder(ArraySource(frames), detector=lambda frame: [seen]).find().masks

    assert masks(0.83).any() and not masks(0.81).any()


def test_after_a_codec(clean, tmp_path):
    frames = clean.copy()
    burn(frames, "Seen on television", (180, 400), 32, 4, 20, width=2)
    with VideoWriter(tmp_path / "x.mp4", 25, frames.shape[1:3]) as writer:
        for frame in frames:
            writer.write(frame)
    found = select_object(tmp_path / "x.mp4", select="captions")
    covered, false, _ = fit(found.masks, frames, clean)
    assert covered >= 0.99 and false < 0.01


def test_moving_and_still_text_are_told_apart(clean):
    still, both = clean.copy(), clean.copy()
    burn(still, "CHANNEL FOUR", (20, 20), 26, 0, COUNT, width=1)
    both[:] = still
    burn(both, "Directed by\nSomebody Else", (200, 420), 34, 0, COUNT, width=2, speed=(0, -4))
    found = found_in(both)
    assert set(found.objects) == {1, 2}
    covered, _, _ = fit(found.objects[1], still, clean)
    assert covered >= 0.99
    covered, _, worst = fit(found.objects[2], both, still)
    assert covered >= 0.99 and worst > 0.97
    only = select_object(both, select="moving captions")
    assert set(only.objects) == {2} and (only.masks[:] == found.objects[2][:]).all()


def test_only_within_an_area(clean):
    frames = clean.copy()
    burn(frames, "CHANNEL FOUR", (20, 20), 26, 0, COUNT, width=1)
    burn(frames, "Down here", (200, 400), 34, 0, COUNT, width=1)
    masks = found_in(frames, select_area=(0, 300, 639, 479)).masks[:]
    assert masks.any() and not masks[:, :300].any()
    with pytest.raises(MaskError, match="The area 700,0,800,10 holds no pixel of the 640 x 480 frame."):
        found_in(frames, select_area=(700, 0, 800, 10))


def test_a_caption_is_taken_out(clean):
    frames = clean[:12].copy()
    burn(frames, "And then he shook it", (170, 390), 30, 0, 12, width=2)
    result = inpaint_video(frames, select="captions", engine="propagation")
    text = np.abs(frames.astype(int) - clean[:12]).max(axis=3) > 24
    before, after = (np.abs(x.astype(int) - clean[:12])[text].mean() for x in (frames, result.frames))
    assert after < 0.2 * before


def test_nothing_is_found_where_there_is_no_text(clean):
    with pytest.raises(MaskError, match="No captions were found in the video."):
        found_in(clean[:9])


def test_what_cannot_go_together(clean):
    with pytest.raises(MaskError, match="Clicks are given, so 'captions' cannot be selected as well."):
        found_in(clean, clicks=[(3, 3)])
    with pytest.raises(MaskError, match="Masks are given, so 'captions' cannot be selected as well."):
        found_in(clean, masks=np.ones(clean.shape[1:3], bool))
    with pytest.raises(MaskError, match="An area only limits"):
        select_object(clean, clicks=[(3, 3)], select_area=(0, 0, 9, 9))
    for name in ("words", " "):
        with pytest.raises(MaskError, match="It is not said what to look for; name it, such as 'the red car"):
            select_object(clean, select=name)


def test_a_missing_package_is_one_sentence(clean, monkeypatch):
    monkeypatch.setattr(finders, "find_spec", lambda name: None)
    with pytest.raises(MaskError, match=r"needs rapidocr; the extra \[captions\] has it"):
        found_in(clean)


def test_a_line_that_is_missed_in_between_does_not_flicker(clean):
    """The detector sees nothing in some frames; the line is followed by itself."""
    frames = clean.copy()
    burn(frames, "Steady as she goes", (150, 400), 30, 0, COUNT, width=2)
    boxes = []

    def detector(frame):
        boxes.append(1)
        box = slice(395, 445), slice(140, 440)
        region = np.ones((50, 300), bool)
        return [Detection(*box, region, 0.9, 40.0)] if len(boxes) in (3, 5) else []

    found = CaptionFinder(ArraySource(frames), detector=detector).find()
    covered, _, worst = fit(found.masks, frames, clean)
    assert covered >= 0.99 and worst >= 0.99


@pytest.mark.parametrize("text, paper", [((250, 250, 250), (60, 90, 40)), ((10, 10, 10), (190, 180, 170))])
def test_strokes_are_told_from_paper(text, paper):
    picture = np.empty((1, 60, 300, 3), np.uint8)
    picture[:] = paper
    before = picture.copy()
    burn(picture, "Some words", (20, 8), 34, 0, 1, fill=text)
    region = np.zeros((60, 300), bool)
    region[8:54, 10:290] = True
    _, found = strokes(picture[0], region, 40)
    mask = whole_text(picture[0], found, 40)
    change = np.abs(picture[0].astype(int) - before[0]).max(axis=2)
    assert mask[change > 24].mean() > 0.99
    assert (mask & (change == 0)).mean() < 0.1


def _before_leaves(size, width):
    """(picture with text before a restless background, its pixels, where its line is without the first letter)."""
    rng = np.random.default_rng(2)
    leaves = rng.normal(0, 55, (20, 75, 3)).repeat(4, 0).repeat(4, 1) + 140
    before = np.clip(leaves, 0, 255).astype(np.uint8)[None]
    picture = before.copy()
    burn(picture, "Thin letters", (30, 20), size, 0, 1, fill=(20, 20, 70), outline="white", width=width)
    region = np.zeros((80, 300), bool)
    region[18 : 24 + size, 30 + round(0.6 * size) : 270] = True
    return picture[0], np.abs(picture[0].astype(int) - before[0]).max(axis=2) > 24, region


def test_thin_strokes_and_a_letter_outside_of_the_box():
    picture, text, region = _before_leaves(26, 0)
    first, found = strokes(picture, region, 26)
    more = completed(picture, first, region, 26)
    before, after = (whole_text(picture, x, 26) for x in (found, found | more))
    assert before[text].mean() < 0.96 and after[text].mean() > 0.99
    assert after[:, :30].sum() < 0.1 * after.sum()
    assert not completed(picture, np.zeros_like(first), region, 26).any()


def test_an_outline_before_leaves():
    picture, text, region = _before_leaves(26, 2)
    inner = text & (np.linalg.norm(picture.astype(float) - (20, 20, 70), axis=2) < 30)
    outline = outlined(picture, inner, 30)
    before, after = (whole_text(picture, x, 30) for x in (inner, inner | outline))
    assert before[text].mean() < 0.95 and after[text].mean() > 0.99 and outline[~text].mean() < 0.01
    bare, text, _ = _before_leaves(26, 0)
    assert outlined(bare, text, 30).sum() < 0.1 * text.sum()
