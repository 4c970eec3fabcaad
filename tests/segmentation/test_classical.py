"""Click to mask on small synthetic clips whose true masks are known."""

import cv2
import numpy as np
import pytest

from videopainter import segmentation
from videopainter.masks import MaskError
from videopainter.segmentation import BoxPrompt, ClickPrompt
from videopainter.segmentation.classical.appearance import Bank
from videopainter.video import ArraySource

SIZE = (120, 176)  # height, width


def track(source, prompts, progress=None):
    return segmentation.track(source, prompts, progress, "classical")


def texture(seed, size, base=(120, 120, 120), strength=35):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, strength, (size[0] // 5, size[1] // 5, 3))
    noise = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(noise + base, 0, 255).astype(np.uint8)


def disc(centre, radius):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def clip(count=16, speed=4.0, pan=1.0, radius=18, start=(45, 60), colour=(190, 70, 60), seed=1, grain=25):
    """A textured disc before a panned textured background: frames, true masks."""
    wide = texture(seed, (SIZE[0], SIZE[1] + 200), (90, 130, 100))
    skin = texture(seed + 50, (2 * radius + 2, 2 * radius + 2), colour, grain)
    frames, masks = [], []
    for t in range(count):
        shift = np.float32([[1, 0, -20 - pan * t], [0, 1, 0]])
        frame = cv2.warpAffine(wide, shift, SIZE[::-1])
        centre = (start[0] + speed * t, start[1])
        mask = disc(centre, radius)
        place = np.float32([[1, 0, centre[0] - radius], [0, 1, centre[1] - radius]])
        frame[mask] = cv2.warpAffine(skin, place, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)[mask]
        frames.append(frame)
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def iou(found, truth):
    return (found & truth).sum((1, 2)) / np.maximum((found | truth).sum((1, 2)), 1)


@pytest.mark.parametrize("pan", [0.0, 1.5])
def test_a_moving_disc_is_followed(pan):
    frames, truth = clip(pan=pan)
    calls = []
    result = track(ArraySource(frames), [ClickPrompt(45, 60)], lambda *step: calls.append(step))
    found = result.masks[0 : len(frames)]
    assert found.shape == truth.shape and found.dtype == bool
    assert iou(found, truth).mean() > 0.78 and iou(found, truth).min() > 0.7
    assert result.lost == []
    assert calls[-1] == ("select", 16, 16)


def test_a_disc_of_the_backgrounds_colour_is_followed_by_its_motion():
    frames, truth = clip(colour=(90, 130, 100), pan=0.0)
    result = track(ArraySource(frames), [ClickPrompt(45, 60)])
    assert iou(result.masks[0:16], truth).mean() > 0.7


def test_a_thing_that_stands_still_is_found_under_a_moving_camera():
    frames, truth = clip(speed=-1.0, pan=1.0, start=(90, 60))
    result = track(ArraySource(frames), [ClickPrompt(90, 60)])
    assert iou(result.masks[0:16], truth).mean() > 0.8
    assert result.lost == []


def test_a_box_is_enough():
    frames, truth = clip()
    result = track(ArraySource(frames), [BoxPrompt(25, 40, 65, 80)])
    assert iou(result.masks[0:16], truth).mean() > 0.8


def test_a_negative_click_takes_a_neighbour_away():
    frames, truth = clip(speed=0, pan=0, start=(60, 60))
    neighbour = disc((98, 60), 18)  # touches the disc and looks like it
    frames[:, neighbour] = np.roll(frames, 38, axis=2)[:, neighbour]
    positive = ClickPrompt(60, 60)
    without = track(ArraySource(frames), [positive]).masks[0:16]
    with_it = track(ArraySource(frames), [positive, ClickPrompt(98, 60, positive=False)]).masks[0:16]
    assert (with_it & neighbour).sum() < 0.5 * max((without & neighbour).sum(), neighbour.sum())
    assert not with_it[0][60, 98]
    assert iou(with_it, truth).mean() > 0.6


def two_shots():
    first, truth_first = clip(count=10)
    second, truth_second = clip(count=10, start=(100, 50), speed=-3, colour=(60, 60, 200), seed=9)
    # another scene altogether: darker, another hue
    second[~truth_second] = (second[~truth_second] * [1.2, 0.4, 0.3]).clip(0, 255).astype(np.uint8)
    return np.concatenate([first, second]), np.concatenate([truth_first, truth_second])


def test_nothing_is_carried_over_a_cut_and_the_loss_is_reported():
    frames, truth = two_shots()
    result = track(ArraySource(frames), [ClickPrompt(45, 60)])
    assert result.lost == [10]
    assert not result.masks[10:20].any()
    assert iou(result.masks[0:10], truth[:10]).mean() > 0.8


def test_a_click_after_the_cut_finds_the_object_again():
    frames, truth = two_shots()
    result = track(ArraySource(frames), [ClickPrompt(45, 60), ClickPrompt(91, 50, frame=13)])
    assert result.lost == []
    assert iou(result.masks[0:20], truth).mean() > 0.7


def test_a_click_on_a_later_frame_also_masks_the_frames_before_it():
    frames, truth = clip()
    result = track(ArraySource(frames), [ClickPrompt(45 + 4 * 8, 60, frame=8)])
    assert iou(result.masks[0:16], truth).mean() > 0.8


def test_a_thing_that_vanishes_is_reported():
    frames, truth = clip(count=20, pan=0.0)
    behind, _ = clip(count=20, pan=0.0, start=(-900, 60))
    frames[12:] = behind[12:]
    result = track(ArraySource(frames), [ClickPrompt(45, 60)])
    assert result.lost and 12 <= result.lost[0] <= 15
    assert not result.masks[16:20].any()


@pytest.mark.parametrize("pan", [0.0, 0.5])
def test_a_thing_that_leaves_past_its_like_leaves_no_mask_on_it(pan):
    dark, radius, count = (40, 42, 45), 22, 34
    frames, truth = clip(count, 7.0, pan, radius, (25, 60), dark, grain=8)
    before = texture(52, (80, 40), dark, 8)  # at the right border, as plain and dark as the disc
    for t, frame in enumerate(frames):
        left = round(136 - pan * t)
        there = np.zeros(SIZE, bool)
        there[20:100, left : left + 40] = True
        frame[there & ~truth[t]] = before[:, : SIZE[1] - left][~truth[t][20:100, left : left + 40]]
    found = track(ArraySource(frames), [ClickPrompt(25, 60)])
    away = int(np.argmax(~truth.any((1, 2))))
    assert iou(found.masks[0:15], truth[:15]).min() > 0.7
    assert away < count - 6 and not found.masks[away + 1 : count].any() and found.lost


def test_a_thing_that_comes_back_is_found_again():
    frames, truth = clip(count=24, pan=0.0, speed=3.0)
    behind, _ = clip(count=24, pan=0.0, start=(-900, 60))
    frames[10:13] = behind[10:13]  # hidden for three frames
    result = track(ArraySource(frames), [ClickPrompt(45, 60)])
    assert iou(result.masks[16:24], truth[16:24]).mean() > 0.6
    assert result.lost == [] or result.lost[0] in range(10, 14)


def test_large_frames_are_worked_on_small_and_given_back_at_their_size():
    frames, truth = clip(count=8)
    large = np.stack([cv2.resize(f, (704, 480), interpolation=cv2.INTER_CUBIC) for f in frames])
    true = np.stack([cv2.resize(m.astype(np.uint8), (704, 480)) > 0 for m in truth])
    result = track(ArraySource(large), [ClickPrompt(45 * 4 + 1.5, 60 * 4 + 1.5)])
    assert result.masks.size == (480, 704)
    assert iou(result.masks[0:8], true).mean() > 0.8


class Watched:
    """A long video made frame by frame that notes how much is asked for at once."""

    height, width = SIZE

    def __init__(self, count):
        self.count, self.frames, self.most = count, clip(count=8)[0], 0

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        assert isinstance(key, slice)
        chosen = range(*key.indices(self.count))
        self.most = max(self.most, len(chosen))
        return np.stack([self.frames[min(i % 14, 14 - i % 14)] for i in chosen])


def test_only_small_slices_are_read():
    source = Watched(60)
    result = track(source, [ClickPrompt(45, 60)])
    assert len(result.masks) == 60
    assert source.most <= 16


@pytest.mark.parametrize(
    "prompts, words",
    [
        ([], ["0 prompts"]),
        ([ClickPrompt(5, 5, positive=False)], ["1 prompt", "positive"]),
        ([ClickPrompt(176, 5)], ["176,5", "176 x 120"]),
        ([ClickPrompt(-1, 5)], ["-1,5", "176 x 120"]),
        ([ClickPrompt(5, float("nan"))], ["5,nan", "176 x 120"]),
        ([ClickPrompt(5, 5, frame=8)], ["frame 8", "8 frames"]),
        ([ClickPrompt(5, 5, frame=-1)], ["frame -1", "8 frames"]),
        ([BoxPrompt(200, 5, 300, 9)], ["200,5,300,9", "176 x 120"]),
        ([BoxPrompt(20, 5, 20, 9)], ["20,5,20,9"]),
    ],
)
def test_prompts_that_cannot_be_used(prompts, words):
    frames, _ = clip(count=8)
    with pytest.raises(MaskError) as error:
        track(ArraySource(frames), prompts)
    for word in words:
        assert word in str(error.value)


def test_what_little_of_a_neighbour_is_in_the_mask_is_not_learned():
    rng = np.random.default_rng(0)
    feature = rng.normal(0, 1, (40, 80, 10)).astype(np.float32)
    feature[:, 40:] += 30  # the neighbour
    inside, outside = np.zeros((40, 80), bool), np.zeros((40, 80), bool)
    inside[5:35, 5:40], inside[15:25, 40:46] = True, True
    outside[5:35, 46:75] = True
    bank = Bank(feature, inside, outside)
    before = bank.log_odds(feature)[15:25, 60:70].mean()
    bank.drop_strays()
    after = bank.log_odds(feature)
    assert before > -1 and after[15:25, 60:70].mean() < -2  # the neighbour, before and after
    assert after[10:30, 10:30].mean() > 2  # the thing itself


def test_a_thing_that_looks_like_what_is_around_it_keeps_its_samples():
    feature = np.random.default_rng(0).normal(0, 1, (40, 80, 10)).astype(np.float32)
    inside = np.zeros((40, 80), bool)
    inside[15:20, 15:20] = True
    bank = Bank(feature, inside, ~inside)
    bank.drop_strays()
    assert len(bank.samples[0][0]) == 25
