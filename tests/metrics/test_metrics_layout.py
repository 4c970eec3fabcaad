"""Clips in the folders of DAVIS, YouTube-VOS and the published evaluations, and what does not match."""

import cv2
import numpy as np
import pytest
from PIL import Image

from videopainter.masks import MaskError
from videopainter.metrics.layout import ClipFrames, find_clips
from videopainter.video import VideoError, VideoWriter

H, W = 24, 40


def frames(n=5, height=H, width=W, seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 256, (n, 1, 1, 3), np.uint8), height, 1).repeat(width, 2)


def write(folder, images, suffix=".png", names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{names[i] if names else f'{i:05d}'}{suffix}", quality=95)


def write_video(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25, images.shape[1:3], quality=100) as file:
        file.write(images)


def hole(n=5, height=H, width=W):
    masks = np.zeros((n, height, width), np.uint8)
    masks[:, 6:12, 10:20] = 255
    return masks


def read(clip, **options):
    with ClipFrames(clip, **options) as opened:
        return [np.concatenate(parts) for parts in zip(*opened.chunks())]


@pytest.fixture
def davis(tmp_path):
    """DAVIS as it is unpacked, palette annotations included, and results of two clips as PNG and mp4."""
    root = tmp_path / "DAVIS"
    for i, name in enumerate(("bear", "camel")):
        write(root / "JPEGImages" / "480p" / name, frames(seed=i), ".jpg")
        write(root / "JPEGImages" / "Full-Resolution" / name, frames(height=2 * H, width=2 * W), ".jpg")
        labels = [Image.fromarray(np.where(m > 0, np.uint8(2), np.uint8(0))) for m in hole()]
        folder = root / "Annotations" / "480p" / name
        folder.mkdir(parents=True)
        for k, image in enumerate(labels):
            image.putpalette([0, 0, 0, 200, 0, 0, 0, 60, 0])
            image.save(folder / f"{k:05d}.png")
    (root / "ImageSets").mkdir()
    write(tmp_path / "results" / "bear", frames(seed=0))
    write_video(tmp_path / "results" / "camel.mp4", frames(seed=1))
    return root


def test_davis(davis, tmp_path):
    clips = find_clips(tmp_path / "results", davis, davis)
    assert [clip.name for clip in clips] == ["bear", "camel"]
    for i, clip in enumerate(clips):
        assert "480p" in clip.truth.parts and "480p" in clip.masks.parts
        results, truths, masks = read(clip, size=None)
        assert results.shape == truths.shape == (5, H, W, 3) and masks.shape == (5, H, W)
        assert np.abs(results.astype(int) - frames(seed=i)).max() <= 6
        assert np.abs(truths.astype(int) - frames(seed=i)).max() <= 3
        assert masks.dtype == bool and (masks == (hole() > 0)).all()


def test_youtube_vos_with_test_masks(tmp_path):
    """Frames of a video that starts late, results and masks counted from 0, beside each other as E2FGVI has them."""
    data, results = tmp_path / "youtube-vos", tmp_path / "results"
    write(data / "JPEGImages" / "0a7b27fde9", frames(3), ".jpg", ["00010", "00015", "00020"])
    write(data / "test_masks" / "0a7b27fde9", hole(3))
    write(results / "0a7b27fde9", frames(3))
    (clip,) = find_clips(results, data, data)
    assert clip.name == "0a7b27fde9" and clip.masks.parent.name == "test_masks"
    results, truths, masks = read(clip, size=None)
    assert len(results) == len(truths) == len(masks) == 3 and masks.all(0).sum() == 60


def test_stationary_masks_in_all_their_forms(davis, tmp_path):
    for form in ("in a folder", "beside", "for all"):
        masks = tmp_path / form
        masks.mkdir()
        if form == "in a folder":
            write(masks / "bear", hole(1)), write(masks / "camel", hole(1))
        elif form == "beside":
            write(masks, hole(2), names=["bear", "camel"])
        else:
            write(masks, hole(1), names=["all"])
            masks = masks / "all.png"
        clips = find_clips(tmp_path / "results", davis, masks)
        assert [clip.name for clip in clips] == ["bear", "camel"]
        for clip in clips:
            assert (read(clip, size=None)[2] == (hole() > 0)).all()


def test_results_of_the_batch_runner_and_mask_videos(davis, tmp_path):
    write_video(tmp_path / "out" / "bear" / "result.mp4", frames())
    (tmp_path / "out" / "camel").mkdir()  # failed: nothing in it
    write_video(tmp_path / "masks" / "bear.mp4", np.repeat(hole()[..., None], 3, 3))
    (clip,) = find_clips(tmp_path / "out", davis, tmp_path / "masks")
    assert clip.result.name == "result.mp4"
    assert (read(clip, size=None)[2] == (hole() > 0)).mean() > 0.97


def test_a_single_clip(davis, tmp_path):
    write_video(tmp_path / "one.mp4", frames())
    for result in (tmp_path / "one.mp4", tmp_path / "results" / "bear"):
        (clip,) = find_clips(
            result, davis / "JPEGImages" / "480p" / "bear", davis / "Annotations" / "480p" / "bear"
        )
        assert clip.name == result.stem and len(read(clip)[0]) == 5


def test_resizing_as_the_published_evaluations_do(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 85, 3), np.uint8)
    masks = np.zeros((2, 48, 85), np.uint8)
    masks[:, 20:29, 31:54] = 255
    write(tmp_path / "truth", noise), write(tmp_path / "masks", masks)
    write(tmp_path / "result", np.zeros((2, 24, 43, 3), np.uint8))
    (clip,) = find_clips(tmp_path / "result", tmp_path / "truth", tmp_path / "masks")
    size = (43, 24)
    results, truths, holes = read(clip, size=size, dilate=4)
    assert results.shape == (2, 24, 43, 3) and not results.any()
    assert (truths[0] == np.asarray(Image.fromarray(noise[0]).resize(size))).all()
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    small = np.asarray(Image.fromarray(masks[0]).resize(size, Image.Resampling.NEAREST)) > 0
    assert (holes[0] == cv2.dilate(small.view(np.uint8), cross, iterations=4)).all()
    assert (read(clip, size=size)[2][0] == small).all()
    bilinear = read(clip, size=size, resize="bilinear")[1]
    assert (bilinear[0] == cv2.resize(noise[0], size, interpolation=cv2.INTER_LINEAR)).all()


def test_the_row_that_h264_adds_is_taken_off(tmp_path):
    write(tmp_path / "truth", frames(height=23, width=39))
    write(tmp_path / "masks", hole(height=23, width=39))
    write_video(tmp_path / "result.mp4", frames(height=23, width=39))
    (clip,) = find_clips(tmp_path / "result.mp4", tmp_path / "truth", tmp_path / "masks")
    results, truths, _ = read(clip, size=None)
    assert results.shape == truths.shape == (5, 23, 39, 3)


def test_long_clips_come_in_order(tmp_path):
    write(tmp_path / "truth", frames(37)), write(tmp_path / "result", frames(37))
    moving = hole(37)
    for i in range(37):
        moving[i] = np.roll(moving[i], i % 20, axis=1)
    write(tmp_path / "masks", moving)
    (clip,) = find_clips(tmp_path / "result", tmp_path / "truth", tmp_path / "masks")
    with ClipFrames(clip, size=None) as opened:
        chunks = list(opened.chunks())
        assert len(opened) == 37 and max(len(results) for results, _, _ in chunks) <= 8
    results, truths, masks = (np.concatenate(parts) for parts in zip(*chunks))
    assert (results == frames(37)).all() and (truths == results).all() and (masks == (moving > 0)).all()


# -- what does not match --


def test_missing_clips_are_named(davis, tmp_path):
    (tmp_path / "results" / "camel.mp4").unlink()
    with pytest.raises(ValueError, match=r"results' has no result for 1 of 2 clips: camel\. --clips picks"):
        find_clips(tmp_path / "results", davis, davis)
    assert len(find_clips(tmp_path / "results", davis, davis, ["bear"])) == 1
    with pytest.raises(ValueError, match=r"has no result for 1 of 1 clips: cow\.$"):
        find_clips(tmp_path / "results", davis, davis, ["cow"])
    write(tmp_path / "masks" / "dog", hole())
    write(tmp_path / "results" / "dog", frames())
    with pytest.raises(ValueError, match="DAVIS.*480p' has no true clip for 1 of 1 clips: dog"):
        find_clips(tmp_path / "results", davis, tmp_path / "masks")


def test_folders_that_are_none(davis, tmp_path):
    with pytest.raises(ValueError, match="There is nothing at '.*nowhere'"):
        find_clips(tmp_path / "nowhere", davis, davis)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="There are no masks in '.*empty'"):
        find_clips(tmp_path / "results", davis, tmp_path / "empty")
    with pytest.raises(ValueError, match="bear' is one clip, but '.*480p' is not"):
        find_clips(tmp_path / "results" / "bear", davis, davis)
    with pytest.raises(ValueError, match=r"camel.mp4' has the masks of one clip"):
        find_clips(tmp_path / "results", davis, tmp_path / "results" / "camel.mp4")
    write_video(tmp_path / "results" / "bear.mp4", frames())
    with pytest.raises(ValueError, match="'bear' is there twice: '.*bear' and '.*bear.mp4'"):
        find_clips(tmp_path / "results", davis, davis)


def bear(davis, tmp_path):
    return find_clips(tmp_path / "results", davis, davis, ["bear"])[0]


def test_missing_frames_are_named(davis, tmp_path):
    (tmp_path / "results" / "bear" / "00003.png").unlink()
    with pytest.raises(ValueError, match=r"bear' has 4 frames, but '.*bear' has 5; there is no 00003\."):
        read(bear(davis, tmp_path))
    (tmp_path / "results" / "bear" / "00004.png").unlink()
    with pytest.raises(ValueError, match=r"bear' has 3 frames, but '.*bear' has 5\."):
        read(bear(davis, tmp_path))


def test_masks_of_every_other_frame_are_refused(davis, tmp_path):
    for i in (1, 3):
        (davis / "Annotations" / "480p" / "bear" / f"0000{i}.png").unlink()
    with pytest.raises(ValueError, match=r"Annotations.*bear' has 3 frames, but .* has 5; there is no 00001"):
        read(bear(davis, tmp_path))


def test_frames_of_other_names_are_refused(davis, tmp_path):
    (tmp_path / "results" / "bear" / "00004.png").rename(tmp_path / "results" / "bear" / "00009.png")
    with pytest.raises(ValueError, match=r"named otherwise .*\(00009 for 00004\)"):
        read(bear(davis, tmp_path))


def test_frames_and_masks_that_cannot_be_read(davis, tmp_path):
    (tmp_path / "results" / "bear" / "00002.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match="00002.png' cannot be read"):
        read(bear(davis, tmp_path))
    write(tmp_path / "results" / "bear", frames())
    folder = davis / "Annotations" / "480p" / "bear"
    (folder / "00002.png").write_bytes(b"no image")
    with pytest.raises(MaskError, match="00002.png' cannot be read"):
        read(bear(davis, tmp_path))
    (folder / "00000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="00000.png' cannot be read as an image"):
        read(bear(davis, tmp_path))
    write(folder, np.zeros((5, H, W), np.uint8))
    with pytest.raises(MaskError, match="mark no pixel"):
        read(bear(davis, tmp_path))
    (davis / "JPEGImages" / "480p" / "bear" / "00003.jpg").unlink()
    write(davis / "JPEGImages" / "480p" / "bear", frames(1, 2 * H), ".jpg", ["00003"])
    write(folder, hole())
    with pytest.raises(VideoError, match="00003.jpg' is 40x48, but the images before it are 40x24"):
        read(bear(davis, tmp_path))
