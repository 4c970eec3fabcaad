"""Masks: every format, every way they can be wrong, and the promise that they stay small in memory."""

import zipfile
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from videopainter.masks import MaskError, MaskTrack, dilate, load_masks

N, H, W = 12, 20, 30


class Source:
    """What load_masks looks at in a video."""

    size = (H, W)

    def __len__(self):
        return N


@pytest.fixture
def labels():
    """uint8 (N, H, W): label 1 moves right, label 7 stands still."""
    labels = np.zeros((N, H, W), np.uint8)
    for i in range(N):
        labels[i, 4:9, i : i + 6] = 1
    labels[:, 14:18, 20:26] = 7
    return labels


def write_pngs(folder, labels, palette):
    folder.mkdir()
    for i, frame in enumerate(labels):
        image = Image.fromarray(frame)
        if palette:
            image = image.convert("P")
            image.putdata(frame.ravel().tolist())
            image.putpalette([0, 0, 0, 128, 0, 0] + [9, 9, 9] * 5 + [0, 0, 0] + [1, 2, 3] * 248)
        image.save(folder / f"{i}.png")  # no leading zeros: 10.png must come after 2.png


def test_from_array_slices_like_the_array(labels):
    masks = MaskTrack.from_array(labels)
    expected = labels != 0
    assert len(masks) == N and masks.size == (H, W)
    assert masks[3:8].dtype == bool
    np.testing.assert_array_equal(masks[3:8], expected[3:8])
    np.testing.assert_array_equal(masks[:], expected)
    np.testing.assert_array_equal(masks[-1], expected[-1])
    np.testing.assert_array_equal(np.stack(list(masks)), expected)
    assert masks[5:5].shape == (0, H, W)
    with pytest.raises(IndexError):
        masks[N]


def test_reading_gives_a_copy(labels):
    masks = MaskTrack.from_array(labels)
    masks[0:2][:] = True
    masks[0][:] = True
    np.testing.assert_array_equal(masks[0], labels[0] != 0)


def test_a_long_track_stays_compressed():
    frame = np.zeros((480, 720), bool)
    frame[100:300, 200:330] = True
    masks = MaskTrack.build(np.roll(frame, i % 90, axis=1) for i in range(200))
    stored = sum(len(p) for p in masks.dilate(16)._packed if p) + sum(len(p) for p in masks._packed)
    assert stored < 200 * 480 * 720 / 300


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), bool), np.zeros((0, 4, 4), bool), np.zeros((2, 4, 4), float)]
)
def test_from_array_refuses(bad):
    with pytest.raises(MaskError):
        MaskTrack.from_array(bad)


def test_build_refuses_frames_of_two_sizes():
    with pytest.raises(MaskError, match="5 x 4.*6 x 4"):
        MaskTrack.build([np.zeros((4, 6), bool), np.zeros((4, 5), bool)])


@pytest.mark.parametrize("radius", [1, 2.5, 6])
def test_dilation_is_a_disc(radius):
    mask = np.zeros((40, 50), bool)
    mask[3, 4] = mask[30, 48] = True  # near the borders, where the crop must not cut it short
    y, x = np.mgrid[:40, :50]
    expected = np.minimum(np.hypot(y - 3, x - 4), np.hypot(y - 30, x - 48)) <= radius + 1e-2
    np.testing.assert_array_equal(dilate(mask, radius), expected)


def test_dilate_and_invert_are_lazy_and_chain(labels):
    masks = MaskTrack.from_array(labels)
    grown = masks.dilate(2)
    assert grown.size == masks.size and len(grown) == len(masks)
    assert not any(grown._packed)
    for _ in range(2):  # computed, then kept
        np.testing.assert_array_equal(grown[4], dilate(masks[4], 2))
    np.testing.assert_array_equal(grown.invert()[4:6], ~grown[4:6])
    np.testing.assert_array_equal(grown.select([3, 1])[:], grown[:][[3, 1]])
    assert masks.dilate(0) is masks
    with pytest.raises(MaskError, match="-1"):
        masks.dilate(-1)


def test_npz_round_trip(tmp_path, labels):
    masks = MaskTrack.from_array(labels)
    masks.save_npz(tmp_path / "masks.npz")
    with np.load(tmp_path / "masks.npz") as archive:
        assert archive["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(archive["arr_0"], labels != 0)
    np.testing.assert_array_equal(load_masks(tmp_path / "masks.npz", Source())[:], masks[:])
    assert [p.name for p in tmp_path.iterdir()] == ["masks.npz"]


def test_an_interrupted_save_leaves_nothing(tmp_path, labels):
    class Interrupted(MaskTrack):
        def _frame(self, i):
            if i == 5:
                raise KeyboardInterrupt
            return super()._frame(i)

    masks = MaskTrack.from_array(labels)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(masks._packed, masks.size).save_npz(tmp_path / "masks.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["npz", "npz uncompressed", "npz fortran", "npz int64", "palette", "grey"])
def test_label_maps(tmp_path, labels, form):
    path = tmp_path / "masks"
    if form.startswith("npz"):
        path = tmp_path / "masks.npz"
        save = np.savez if "uncompressed" in form else np.savez_compressed
        save(
            path,
            np.asfortranarray(labels)
            if "fortran" in form
            else labels.astype(form.split()[-1])
            if "int" in form
            else labels,
        )
    else:
        write_pngs(path, labels, palette=form == "palette")
    np.testing.assert_array_equal(load_masks(path, Source())[:], labels != 0)
    np.testing.assert_array_equal(load_masks(path, Source(), mask_id=7)[:], labels == 7)
    np.testing.assert_array_equal(load_masks(path, Source(), mask_id=1, invert=True)[:], labels != 1)
    with pytest.raises(MaskError, match="no label 3 .* it has 1, 7"):
        load_masks(path, Source(), mask_id=3)


def test_still_image_covers_every_frame(tmp_path, labels):
    Image.fromarray((labels[0] != 0).astype(np.uint8) * 255).save(tmp_path / "still.png")
    masks = load_masks(tmp_path / "still.png", Source())
    assert len(masks) == N
    np.testing.assert_array_equal(masks[:], np.repeat(labels[:1] != 0, N, axis=0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "I;16"])
def test_other_image_modes(tmp_path, labels, mode):
    grey = Image.fromarray((labels[0] == 1).astype(np.uint8) * 255)
    (Image.fromarray(np.asarray(grey).astype(np.uint16)) if mode == "I;16" else grey.convert(mode)).save(
        tmp_path / "still.png"
    )
    np.testing.assert_array_equal(load_masks(tmp_path / "still.png", Source())[0], labels[0] == 1)


def test_soft_and_lossy_masks_are_cut_at_the_middle(tmp_path):
    ramp = np.linspace(0, 255, H * W).astype(np.uint8).reshape(H, W)
    Image.fromarray(ramp).save(tmp_path / "soft.png")
    np.testing.assert_array_equal(load_masks(tmp_path / "soft.png", Source())[0], ramp > 127)
    Image.fromarray(np.where(ramp > 200, 255, 3).astype(np.uint8)).save(tmp_path / "lossy.jpg", quality=100)
    np.testing.assert_array_equal(load_masks(tmp_path / "lossy.jpg", Source())[0], ramp > 200)


def test_mask_video(tmp_path):
    av = pytest.importorskip("av")
    video = pytest.importorskip("videopainter.video")
    expected = np.zeros((N, H, W), bool)
    for i in range(N):
        expected[i, 4:12, i : i + 8] = True
    frames = np.repeat(expected[..., None], 3, axis=3).astype(np.uint8) * 255
    with video.VideoWriter(tmp_path / "masks.mp4", Fraction(10), (H, W)) as writer:
        writer.write(frames)
    masks = load_masks(tmp_path / "masks.mp4", Source())
    assert (masks[:] != expected).mean() < 0.02  # the codec may move an edge by a pixel
    with pytest.raises(MaskError, match="mask id 2"):
        load_masks(tmp_path / "masks.mp4", Source(), mask_id=2)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MaskError, match="text.mp4"):
        load_masks(tmp_path / "text.mp4", Source())
    assert av


def save(array, **more):
    return lambda path: np.savez(path, array, **more)


def cut_in_half(path):
    np.savez(path, np.random.default_rng(0).integers(0, 2, (N, H, W), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])


def short_array(path):
    """A header that promises more masks than the file holds."""
    np.savez(path, np.ones((N, H, W), np.uint8))
    with zipfile.ZipFile(path) as archive:
        data = archive.read("arr_0.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", data[: len(data) // 2])


@pytest.mark.parametrize(
    "write, words",
    [
        (save(np.ones((N + 2, H, W), np.uint8)), f"{N + 2} masks.*{N} frames"),
        (save(np.ones((N, H + 2, W), np.uint8)), f"{W} x {H + 2}.*{W} x {H}"),
        (save(np.ones((2, N, H, W), np.uint8)), r"shape .*\(2, 12, 20, 30\)"),
        (save(np.ones((N, H, W), np.complex64)), "complex64"),
        (save(np.ones((N, H, W), np.uint8)), "every pixel of every frame"),
        (save(np.zeros((N, H, W), np.uint8)), "no pixel"),
        (save(np.array([{"a": 1}], dtype=object)), "pickled"),
        (
            lambda path: np.savez(path, a=np.ones((N, H, W)), b=np.ones(3)),
            "no array called arr_0 or masks or mask; it holds a, b",
        ),
        (lambda path: path.write_text("hello"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (cut_in_half, "cannot be read"),
        (short_array, "ends after 5 of 12"),
        (lambda path: None, "no masks at"),
    ],
)
def test_npz_faults_are_one_sentence(tmp_path, write, words):
    path = tmp_path / "masks.npz"
    write(path)
    with pytest.raises(MaskError, match=words) as error:
        load_masks(path, Source())
    assert "\n" not in str(error.value) and "masks.npz" in str(error.value)


def test_image_faults(tmp_path, labels):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(MaskError, match="no image"):
        load_masks(folder, Source())
    write_pngs(tmp_path / "few", labels[:5], palette=False)
    with pytest.raises(MaskError, match="5 masks.*12 frames"):
        load_masks(tmp_path / "few", Source())
    write_pngs(tmp_path / "small", labels[:, :10], palette=False)
    with pytest.raises(MaskError, match="30 x 10.*30 x 20"):
        load_masks(tmp_path / "small", Source())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(MaskError, match="broken.png"):
        load_masks(tmp_path / "broken.png", Source())
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((H, W), np.uint8))
    with pytest.raises(MaskError, match="no pixel"):
        load_masks(tmp_path / "black.png", Source())
    with pytest.raises(MaskError, match="no label 2 .*only 0"):
        load_masks(tmp_path / "black.png", Source(), mask_id=2)
    with pytest.raises(MaskError, match="-3"):
        load_masks(tmp_path / "black.png", Source(), mask_id=-3)
