"""Masks mean what their maker meant: every way of keeping the same moving object, 1.5 % of the picture, comes back.

Each member of the table makes its own file. `docs/masks.md` has the same table in words.
"""

import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from videopainter.masks import MaskError, load_masks
from videopainter.masks.images import davis_palette

N, H, W = 4, 240, 320
NOISE = np.random.default_rng(5)


class Source:
    size, fps, duration = (H, W), Fraction(25), Fraction(N, 25)
    times = [Fraction(i, 25) for i in range(N)]

    def __len__(self):
        return N


def truth():
    """bool (N, H, W): an ellipse that moves right, 1.5 % of the picture; at 4 times the size and cut down: soft."""
    out = np.zeros((N, H, W), np.uint8)
    for i, frame in enumerate(out):
        cv2.ellipse(frame, (80 + 30 * i, 120), (22, 17), 0, 0, 360, 255, -1)
    return out > 0


MASKS = truth()
GREY = MASKS.astype(np.uint8) * 255


def soft(top=255):
    """Edges of three pixels; half of `top` lies where the edge of the mask does."""
    return (cv2.GaussianBlur(GREY.transpose(1, 2, 0), (5, 5), 1).transpose(2, 0, 1) / 255.0) * top


def two_levels(dark, bright, dtype=np.uint8):
    return np.where(MASKS, bright, dark).astype(dtype)


def noisy(dark, bright, by=2):
    levels = two_levels(dark, bright, int) + NOISE.integers(-by, by + 1, MASKS.shape)
    return levels.clip(0, 255).astype(np.uint8)


def with_alpha(colour, mask=GREY):
    """RGBA: the mask in alpha; under it one colour, or noise."""
    colours = NOISE.integers(0, 256, (N, H, W, 3)) if colour is None else np.full((N, H, W, 3), colour)
    return np.concatenate([colours.astype(np.uint8), mask[..., None]], axis=3)


def images(frames, mode=None, suffix=".png", **how):
    """Makes a folder of them."""

    def make(tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        for i, frame in enumerate(frames):
            image = frame if isinstance(frame, Image.Image) else Image.fromarray(frame)
            (image if mode is None else image.convert(mode)).save(folder / f"{i:05d}{suffix}", **how)
        return folder

    return make


def palettes(colours, indices):
    def image(frame):
        image = Image.fromarray(frame.astype(np.uint8), "L").convert("P")
        image = Image.fromarray(frame.astype(np.uint8))
        image.putpalette(colours)
        return image

    return [image(frame) for frame in indices]


def quantised(frames):
    return [Image.fromarray(frame).convert("RGB").quantize(8) for frame in frames]


def by_opencv(frames, suffix, *flags):
    def make(tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        for i, frame in enumerate(frames):
            assert cv2.imwrite(str(folder / f"{i}{suffix}"), frame, flags)
        return folder

    return make


def pages(frames, name, **how):
    """Makes one file that holds them all."""

    def make(tmp_path):
        first, *others = [f if isinstance(f, Image.Image) else Image.fromarray(f) for f in frames]
        first.save(tmp_path / name, save_all=True, append_images=others, **how)
        return tmp_path / name

    return make


def min_is_white(bits):
    """TIFFs in which 0 is white; Pillow writes none of 16 bits, so the tag of an ordinary one is turned."""

    def make(tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        for i, mask in enumerate(MASKS):
            if bits == 1:
                Image.fromarray(mask).save(folder / f"{i}.tif", tiffinfo={262: 0})
                continue
            data = io.BytesIO()
            kept = np.where(mask, 0, 65535).astype(np.uint16)
            Image.fromarray(kept).save(data, "TIFF")
            raw = bytearray(data.getvalue())
            at = raw.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
            raw[at + 8 : at + 10] = (0).to_bytes(2, "little")
            (folder / f"{i}.tif").write_bytes(raw)
        return folder

    return make


def video(frames, name="masks.mkv", codec="libx264", stored="yuv420p", given=None, options=None, **tags):
    def make(tmp_path):
        path = tmp_path / name
        with av.open(str(path), "w") as file:
            stream = file.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = W, H, stored
            for key, value in tags.items():
                setattr(stream.codec_context, key, value)
            for array in frames:
                kind = given or ("gray" if array.ndim == 2 else "rgba" if array.shape[2] == 4 else "rgb24")
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=kind)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        return path

    return make


def archive(name="masks.npz", **arrays):
    def make(tmp_path):
        if name.endswith(".npy"):
            np.save(tmp_path / name, arrays["array"])
        else:
            np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return make


def exr(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for i, mask in enumerate(MASKS):
        with av.open(str(folder / f"{i}.exr"), "w", format="image2") as file:
            stream = file.add_stream("exr", rate=25)
            stream.width, stream.height, stream.pix_fmt = W, H, "gbrpf32le"
            frame = av.VideoFrame(W, H, "gbrpf32le")
            for plane in frame.planes:
                lines = np.zeros((H, plane.line_size // 4), np.float32)
                lines[:, :W] = mask
                plane.update(lines)
            file.mux(stream.encode(frame))
            file.mux(stream.encode())
    return folder


def colours(frames=MASKS, colour=(128, 0, 0)):
    return np.where(frames[..., None], np.array(colour), 0).astype(np.uint8)


RGB = np.repeat(GREY[..., None], 3, axis=3)
LA = [Image.merge("LA", [Image.new("L", (W, H), 255), Image.fromarray(m)]) for m in GREY]
BLACK_LA = [Image.merge("LA", [Image.new("L", (W, H), 0), Image.fromarray(m)]) for m in GREY]
LAB = [Image.merge("LAB", [Image.fromarray(m)] + [Image.new("L", (W, H), 128)] * 2) for m in GREY]
WHITE_FIRST = [255, 255, 255, 0, 0, 0] + [0, 0, 0] * 254
DOWN = np.rot90(MASKS, -1, (1, 2)).astype(np.uint8) * 255
UPRIGHT = Image.Exif()
UPRIGHT[0x0112] = 8  # to be turned left when it is shown

EXACT = {
    # alpha
    "white with alpha": images(with_alpha(255)),
    "black with alpha": images(with_alpha(0)),
    "a cut-out of the object": images(with_alpha(None)),
    "a cut-out with soft edges": images(with_alpha(None, soft().astype(np.uint8))),
    "alpha of 0 and 1": images(with_alpha(255, MASKS.astype(np.uint8))),
    "weak alpha": images(with_alpha(255, GREY // 3)),
    "opaque RGBA": images(np.concatenate([RGB, np.full((N, H, W, 1), 255, np.uint8)], axis=3)),
    "transparent RGBA": images(np.concatenate([RGB, np.zeros((N, H, W, 1), np.uint8)], axis=3)),
    "grey and alpha, white": images(LA),
    "grey and alpha, black": images(BLACK_LA),
    "WebP with alpha": images(with_alpha(0), suffix=".webp", lossless=True),
    "TIFF with alpha": images(with_alpha(0), suffix=".tif"),
    "palette with one transparent colour": images(palettes([255, 0, 0, 255, 0, 0], MASKS), transparency=0),
    # palettes
    "black and white palette": images(palettes([0, 0, 0, 255, 255, 255], MASKS)),
    "white and black palette": images(palettes(WHITE_FIRST, ~MASKS)),
    "palette of greys": images(GREY, "P"),
    "palette of soft greys": images(soft().astype(np.uint8), "P"),
    "palettes made anew for each": images(quantised(GREY)),
    "red palette made anew for each": images([Image.fromarray(f).quantize(8) for f in colours()]),
    "palette with red first": images(palettes([255, 0, 0, 0, 0, 0], ~MASKS)),
    "DAVIS": images(palettes(davis_palette(), MASKS * 1)),
    "DAVIS, object 7, which is grey": images(palettes(davis_palette(), MASKS * 7)),
    "DAVIS with a transparent background": images(palettes(davis_palette(), MASKS * 2), transparency=0),
    "DAVIS as RGB": images(colours()),
    # grey levels
    "0 and 255": images(GREY),
    "0 and 1": images(MASKS.astype(np.uint8)),
    "1 and 2": images(two_levels(1, 2)),
    "1 bit": images(MASKS),
    "16 and 235": images(two_levels(16, 235)),
    "noise of 2 levels": images(noisy(0, 255)),
    "noise around 16 and 235": images(noisy(16, 235)),
    "noise around 60 and 120": images(noisy(60, 120, 5)),
    "soft edges": images(soft().astype(np.uint8)),
    "very soft edges": images([cv2.GaussianBlur(grey, (0, 0), 2) for grey in GREY]),
    "soft edges, 16 bit": images(soft(65535).astype(np.uint16)),
    "16 bit": images(two_levels(0, 65535, np.uint16)),
    "12 of 16 bit, soft": images(soft(4095).astype(np.uint16)),
    "16 bit labels": images(two_levels(0, 300, np.uint16)),
    "32 bit": images(two_levels(0, 255, np.int32), suffix=".tif"),
    "coloured": images(colours(colour=(0, 0, 255))),
    "RGB noise": images(np.repeat(noisy(0, 255)[..., None], 3, axis=3)),
    # files
    "BMP": images(GREY, suffix=".bmp"),
    "PGM": images(GREY, suffix=".pgm"),
    "TGA": images(RGB, suffix=".tga"),
    "CMYK": images(RGB, "CMYK", ".tif"),
    "CMYK JPEG": images(RGB, "CMYK", ".jpg", quality=95),
    "LAB": images(LAB, suffix=".tif"),
    "HSV": images([Image.fromarray(f).convert("HSV").convert("RGB") for f in RGB]),
    "1 bit, 0 is white": min_is_white(1),
    "16 bit, 0 is white": min_is_white(16),
    "fractions": images(MASKS.astype(np.float32), suffix=".tif"),
    "soft fractions": images(soft(1).astype(np.float32), suffix=".tif"),
    "fractions in colours": by_opencv(np.repeat(soft(1).astype(np.float32)[..., None], 3, axis=3), ".tif"),
    "16 bit in colours": by_opencv(np.repeat(two_levels(0, 65535, np.uint16)[..., None], 3, axis=3), ".tif"),
    "EXR": exr,
    "turned by its EXIF": images(DOWN, suffix=".png", exif=UPRIGHT),
    "JPEG": images(GREY, suffix=".jpg", quality=90),
    "JPEG of 16 and 235": images(two_levels(16, 235), suffix=".jpg", quality=90),
    "lossy WebP": images(RGB, suffix=".webp", quality=90),
    "PNG that was JPEG": images(
        [cv2.imdecode(cv2.imencode(".jpg", g, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 0) for g in GREY]
    ),
    # several pages
    "TIFF of several pages": pages(GREY, "m.tif"),
    "TIFF of several pages, 0 and 1": pages(MASKS.astype(np.uint8), "m.tif"),
    "GIF": pages(GREY, "m.gif", duration=40),
    "GIF with a transparent background": pages(
        [Image.fromarray(f) for f in with_alpha(255)], "m.gif", duration=40, disposal=2
    ),
    "animated WebP": pages(RGB, "m.webp", lossless=True, duration=40),
    "animated WebP with alpha": pages(with_alpha(0), "m.webp", lossless=True, duration=40),
    "animated PNG": pages(GREY, "m.png", duration=40),
    "animated PNG with alpha": pages(with_alpha(0), "m.apng", duration=40),
    # arrays
    "npz bool": archive(arr_0=MASKS),
    "npz 0 and 255": archive(arr_0=GREY),
    "npz int64": archive(arr_0=MASKS.astype(np.int64)),
    "npz -1": archive(arr_0=-MASKS.astype(np.int8)),
    "npz -1 and 1": archive(arr_0=MASKS.astype(np.int64) * 2 - 1),
    "npz -10. and 10.": archive(arr_0=MASKS * 20.0 - 10),
    "npz masks": archive(masks=MASKS, other=np.ones(3)),
    "npz mask": archive(mask=MASKS, other=np.ones(3)),
    "npz any name": archive(segmentation=MASKS),
    "npz (n, 1, h, w)": archive(arr_0=MASKS[:, None]),
    "npz (n, h, w, 1)": archive(arr_0=MASKS[..., None]),
    "npz (n, h, w, 3)": archive(arr_0=RGB),
    "npz (n, h, w, 4)": archive(arr_0=with_alpha(0)),
    "npz (1, n, h, w)": archive(arr_0=MASKS[None]),
    "npz fractions": archive(arr_0=MASKS.astype(np.float32)),
    "npz soft fractions": archive(arr_0=soft(1).astype(np.float32)),
    "npz half fractions": archive(arr_0=soft(1).astype(np.float16)),
    "npz fractions to 255": archive(arr_0=soft(255)),
    "npz logits": archive(arr_0=(soft(1) * 20 - 10).astype(np.float32)),
    "npz not a number": archive(arr_0=np.where(MASKS, 1.0, np.nan)),
    "npz column by column": archive(arr_0=np.asfortranarray(GREY)),
    "npy": archive("masks.npy", array=MASKS),
    "npy fractions": archive("masks.npy", array=soft(1)),
    "npy (n, 1, h, w)": archive("masks.npy", array=GREY[:, None]),
    # videos without loss
    "FFV1 grey": video(GREY, codec="ffv1", stored="gray"),
    "FFV1 of 0 and 1": video(MASKS.astype(np.uint8), codec="ffv1", stored="gray"),
    "H.264 without loss of 0 and 1": video(
        np.repeat(MASKS[..., None].astype(np.uint8), 3, 3),
        codec="libx264rgb",
        stored="rgb24",
        options={"qp": "0"},
    ),
    "FFV1 with alpha": video(with_alpha(0), codec="ffv1", stored="bgra"),
    "QuickTime PNG with alpha": video(with_alpha(0), "m.mov", "png", "rgba"),
    "FFV1 of 16 bit": video(
        two_levels(0, 65535, np.uint16), codec="ffv1", stored="gray16le", given="gray16le"
    ),
}

LOSSY = {
    "H.264": video(GREY),
    "H.264, many blocks": video(GREY, options={"crf": "35"}),
    "H.264 full range": video(GREY, stored="yuvj420p"),
    "H.264 of 16 and 235": video(two_levels(16, 235)),
    "H.264 in DAVIS red": video(colours()),
    "H.264 in white on grey": video(two_levels(100, 160)),
    "MPEG-4": video(GREY, "m.avi", "mpeg4", options={"qscale": "6"}),
    "motion JPEG": video(GREY, "m.avi", "mjpeg", "yuvj420p"),
    "ProRes": video(GREY, "m.mov", "prores_ks", "yuv422p10le"),
    "ProRes 4444 with alpha": video(with_alpha(0), "m.mov", "prores_ks", "yuva444p10le"),
    "VP9": video(GREY, "m.webm", "libvpx-vp9"),
    "VP9 with alpha": video(with_alpha(0), "m.webm", "libvpx-vp9", "yuva420p"),
    "JPEG of 0 and 1": images(MASKS.astype(np.uint8), suffix=".jpg", quality=95),
    "JPEG of poor quality": images(GREY, suffix=".jpg", quality=20),
    "AVIF": images(RGB, suffix=".avif", quality=50),
    "JPEG 2000": images(GREY, suffix=".jp2"),
    "JPEG in DAVIS red": images(colours(), suffix=".jpg", quality=60),
}


def worst(found, expected=MASKS):
    return min((a & b).sum() / (a | b).sum() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("member", EXACT)
def test_exact(tmp_path, member):
    assert worst(load_masks(EXACT[member](tmp_path), Source())) >= 0.98


@pytest.mark.parametrize("member", LOSSY)
def test_lossy(tmp_path, member):
    assert worst(load_masks(LOSSY[member](tmp_path), Source())) >= 0.9


@pytest.mark.parametrize(
    "make",
    [
        images(noisy(0, 0)),
        images(GREY * 0, suffix=".jpg"),
        video(GREY * 0),
        video(noisy(2, 2), options={"crf": "18"}),
        archive(arr_0=NOISE.random((N, H, W)) * 0.02),
        images(with_alpha(0, GREY * 0)),
    ],
)
def test_noise_alone_marks_nothing(tmp_path, make):
    with pytest.raises(MaskError, match="mark no pixel"):
        load_masks(make(tmp_path), Source())


@pytest.mark.parametrize(
    "make",
    [images(noisy(255, 255)), images(GREY * 0 + 255), images(GREY * 0 + 1), archive(a=np.ones((N, H, W)))],
)
def test_what_marks_everything_is_refused(tmp_path, make):
    with pytest.raises(MaskError, match="mark every pixel of every frame"):
        load_masks(make(tmp_path), Source())


def test_a_frame_without_the_object_means_nothing_by_itself(tmp_path):
    """All frames are looked at together: an empty one of a noisy track stays empty, a full one full."""
    frames = noisy(0, 255)
    frames[1] = NOISE.integers(0, 3, (H, W))
    frames[2] = NOISE.integers(253, 256, (H, W))
    found = load_masks(images(frames)(tmp_path), Source())
    assert not found[1].any() and found[2].all() and worst(found[[0][0]][None], MASKS[:1]) > 0.98


def many_labels():
    """Objects 1 to 3, which stand beside each other, as grey levels."""
    return MASKS * 1 + np.roll(MASKS, 50, axis=1) * 2 + np.roll(MASKS, -50, axis=1) * 3


@pytest.mark.parametrize(
    "make",
    [
        images(many_labels().astype(np.uint8)),
        images(palettes(davis_palette(), many_labels())),
        archive(arr_0=many_labels()),
        archive(arr_0=many_labels().astype(np.float32)),
        images((many_labels() * 60).astype(np.uint8)),
    ],
)
def test_many_small_numbers_are_labels(tmp_path, make):
    path = make(tmp_path)
    np.testing.assert_array_equal(load_masks(path, Source())[:], many_labels() > 0)
    scale = 60 if make.__closure__ and path.is_dir() and _highest(path) > 100 else 1
    for number in (1, 2, 3):
        found = load_masks(path, Source(), mask_id=number * scale)
        np.testing.assert_array_equal(found[:], many_labels() == number)


def _highest(folder):
    return np.asarray(Image.open(folder / "00000.png")).max()


def test_labels_in_a_lossy_video_are_all_marked(tmp_path):
    frames = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)], np.uint8)[many_labels()]
    assert worst(load_masks(video(frames)(tmp_path), Source()), many_labels() > 0) >= 0.9
    greys = video((many_labels() * 80).astype(np.uint8), "greys.mkv")(tmp_path)
    assert worst(load_masks(greys, Source()), many_labels() > 0) >= 0.9
