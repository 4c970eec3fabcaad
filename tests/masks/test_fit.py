"""Masks that are not as many, or not as large, as the frames are made to fit where that is plain, and it is said."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from videopainter.masks import MaskError, MaskTrack, load_masks, save_masks
from videopainter.masks.images import numbers_in
from videopainter.video import ArraySource

N, H, W = 20, 48, 64
FPS = Fraction(20)


def truth(count=N, size=(H, W)):
    """A block that moves as frames pass; what it shows at frame i depends on i alone."""
    masks = np.zeros((count, *size), bool)
    for i in range(count):
        masks[i, 10:26, 2 * i : 2 * i + 16] = True
    return masks


MASKS = truth()


def source(count=N, size=(H, W), fps=FPS, times=None):
    return ArraySource(np.zeros((count, *size, 3), np.uint8), fps, times)


def folder(path, masks, names):
    path.mkdir()
    for mask, name in zip(masks, names, strict=True):
        Image.fromarray(mask).save(path / f"{name}.png")
    return path


def loaded(masks, video=None, said=(), **more):
    track = load_masks(masks, video or source(), **more)
    assert len(track.notes) == len(said), track.notes
    for note, words in zip(track.notes, said):
        assert words in note and note.endswith(".") and "\n" not in note
    return track[:]


def refused(masks, video=None, words="masks, but the video has"):
    with pytest.raises(MaskError, match=words):
        load_masks(masks, video or source())


def test_one_more_or_fewer_at_the_end(tmp_path):
    for count, words in ((N + 1, "left out"), (N - 1, "taken twice")):
        expected = truth(count)[np.minimum(np.arange(N), count - 1)]
        np.savez(tmp_path / "m.npz", truth(count))
        for masks in (
            tmp_path / "m.npz",
            truth(count),
            list(truth(count)),
            MaskTrack.from_array(truth(count)),
        ):
            np.testing.assert_array_equal(loaded(masks, said=[words]), expected)
            with pytest.raises(MaskError, match=f"{count} masks, but the video has {N} frames"):
                load_masks(masks, source(), exact=True)
        path = folder(tmp_path / words, truth(count), range(count))
        np.testing.assert_array_equal(loaded(path, said=[words]), expected)
    refused(truth(N + 2))
    refused(truth(N - 2))


@pytest.mark.parametrize("first", [0, 1])
def test_files_for_frames_with_an_object(tmp_path, first):
    seen = [0, 1, 4, 5, 6, 13, 19] if first == 0 else [0, 3, 4, 11, 19]
    path = folder(tmp_path / "m", MASKS[seen], [f"mask_{i + first:04d}" for i in seen])
    expected = MASKS.copy()
    expected[[i for i in range(N) if i not in seen]] = False
    said = [f"masks for {len(seen)} of 20 frames, by the numbers in their names, counted from {first}"]
    np.testing.assert_array_equal(loaded(path, said=said), expected)


def test_a_stretch_in_the_middle_is_placed_by_its_names(tmp_path):
    path = folder(tmp_path / "m", MASKS[8:12], [f"{i:05d}" for i in range(8, 12)])
    expected = np.zeros_like(MASKS)
    expected[8:12] = MASKS[8:12]
    np.testing.assert_array_equal(loaded(path, said=["masks for 4 of 20"]), expected)


def test_names_of_the_frames_themselves_decide(tmp_path):
    from videopainter.video import open_video

    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(N):
        Image.new("RGB", (W, H)).save(frames / f"shot3_{1001 + i}.png")
    path = folder(tmp_path / "m", MASKS[[2, 7]], ["shot3_1003", "shot3_1008"])
    with open_video(frames) as video:
        found = loaded(path, video, said=["as those of the frames are"])
    assert [bool(mask.any()) for mask in found] == [i in (2, 7) for i in range(N)]
    np.testing.assert_array_equal(found[[2, 7]], MASKS[[2, 7]])


@pytest.mark.parametrize("names", [range(1, N + 1), range(100, 100 + N), [3 * i for i in range(N)]])
def test_as_many_as_frames_are_taken_in_order(tmp_path, names):
    np.testing.assert_array_equal(loaded(folder(tmp_path / "m", MASKS, names)), MASKS)


def test_a_mask_for_every_fifth_frame(tmp_path):
    path = folder(tmp_path / "m", MASKS[::5], [f"{i:05d}" for i in range(0, N, 5)])
    found = loaded(path, said=["one mask for 5 frames"])
    np.testing.assert_array_equal(found, MASKS[[min(5 * ((i + 2) // 5), 15) for i in range(N)]])


def test_too_few_files_are_refused(tmp_path):
    refused(folder(tmp_path / "few", MASKS[:12], range(12)))
    refused(folder(tmp_path / "no numbers", MASKS[:3], ["a", "b", "c"]))
    refused(folder(tmp_path / "beyond", MASKS[:3], [5, 9, 77]))


def test_numbers_in_names():
    assert numbers_in(["a_0001_m2", "a_0003_m2"]) == [1, 3]
    assert numbers_in(["v2_7", "v2_9"]) == [7, 9]
    assert (
        numbers_in(["a", "b"]) is None and numbers_in(["1", "1_2"]) is None and numbers_in(["3", "3"]) is None
    )


def test_one_mask_for_all(tmp_path):
    for masks in (folder(tmp_path / "m", MASKS[:1], ["mask"]), MASKS[:1], [MASKS[0]]):
        np.testing.assert_array_equal(
            loaded(masks, said=["1 mask, which is taken"]), np.repeat(MASKS[:1], N, 0)
        )
    np.testing.assert_array_equal(loaded(MASKS[0]), np.repeat(MASKS[:1], N, 0))


@pytest.mark.parametrize("count", [10, 40, 16, 25])
def test_a_mask_video_of_another_rate(tmp_path, count):
    fps = count * FPS / N
    save_masks(MaskTrack.from_array(truth(count)), tmp_path / "m.mp4", fps=float(fps))
    found = loaded(tmp_path / "m.mp4", said=["in the same 1.0 seconds"])
    expected = [min(int(i / FPS * fps + Fraction(1, 100)), count - 1) for i in range(N)]
    np.testing.assert_array_equal(found, truth(count)[expected])


def test_a_mask_video_beside_frames_that_are_not_evenly_spaced(tmp_path):
    times = [Fraction(i * i, 400) for i in range(N)]  # up to 0.9 s
    video = source(times=times)
    video.fps = N / (times[-1] + Fraction(1, 10))
    save_masks(MaskTrack.from_array(truth(25)), tmp_path / "m.mp4", fps=25)
    found = loaded(tmp_path / "m.mp4", video, said=["in the same 1.0 seconds"])
    np.testing.assert_array_equal(found, truth(25)[[int(time * 25 + Fraction(1, 100)) for time in times]])


def test_an_animation_whose_writer_left_out_what_did_not_change(tmp_path):
    still = MASKS.copy()
    still[5:10] = still[5]
    first, *others = [Image.fromarray(mask).convert("P") for mask in still]
    first.save(tmp_path / "m.gif", save_all=True, append_images=others, duration=50)
    with Image.open(tmp_path / "m.gif") as image:
        assert image.n_frames == N - 4
    np.testing.assert_array_equal(loaded(tmp_path / "m.gif", said=["in the same 1.0 seconds"]), still)


def test_a_video_of_another_length_is_refused(tmp_path):
    save_masks(MaskTrack.from_array(truth(12)), tmp_path / "m.mp4", fps=20)
    refused(tmp_path / "m.mp4")


def test_arrays_of_another_rate():
    np.testing.assert_array_equal(
        loaded(MASKS[::2], said=["each is taken for 2 frames"]), MASKS[np.arange(N) // 2 * 2]
    )
    np.testing.assert_array_equal(loaded(truth(60), said=["1 of 3 is taken"]), truth(60)[::3])
    refused(MASKS[:12])


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (480, 640), (36, 48), (16, 21)])
def test_another_size_of_the_same_shape(tmp_path, size):
    small = np.stack(
        [cv2.resize(m.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) >= 0.5 for m in MASKS]
    )
    np.savez(tmp_path / "m.npz", small)
    for masks in (tmp_path / "m.npz", small, MaskTrack.from_array(small)):
        found = loaded(masks, said=[f"scaled from {size[1]} x {size[0]} to 64 x 48"])
        assert min((a & b).sum() / (a | b).sum() for a, b in zip(found, MASKS)) >= (
            0.98 if size[0] % 24 == 0 else 0.75
        )


@pytest.mark.parametrize("size", [(48, 48), (64, 48), (50, 64), (24, 40)])
def test_another_shape_is_refused(size):
    refused(truth(N, size), words=f"are {size[1]} x {size[0]} .* the video is 64 x 48")


def test_folders_of_several_sizes(tmp_path):
    path = folder(tmp_path / "m", MASKS, range(N))
    Image.fromarray(MASKS[3]).resize((2 * W, 2 * H)).save(path / "3.png")
    np.testing.assert_array_equal(loaded(path, said=["scaled from 128 x 96"]), MASKS)
    Image.fromarray(MASKS[3]).resize((W, 2 * H)).save(path / "3.png")
    refused(path, words="3.png")


def test_labels_survive(tmp_path):
    labels = np.where(MASKS[:-1, ::2, ::2], 7, 0).astype(np.uint8)
    np.savez(tmp_path / "m.npz", masks=labels)
    found = loaded(tmp_path / "m.npz", said=["taken twice", "scaled"], mask_id=7)
    assert found.any(axis=(1, 2)).all()
    with pytest.raises(MaskError, match="no label 2 .* it has 7"):
        load_masks(tmp_path / "m.npz", source(), mask_id=2)


def test_pages_of_another_size_are_previews(tmp_path):
    pages = [Image.fromarray(mask) for mask in MASKS[:3]]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=[pages[0].resize((8, 6)), *pages[1:]])
    np.testing.assert_array_equal(loaded(tmp_path / "m.tif", source(3)), MASKS[:3])
