"""The processor: every form of frames and masks, outpainting, saving, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from clips import random_clip
from PIL import Image

from videopainter.ops.pictures import dilate, resize_mask
from videopainter.propainter.frames import Canvas, process_size
from videopainter.propainter.video_processing import ProPainterImageProcessor, ProPainterVideoProcessor

FRAMES, MASKS = random_clip(3, 24, 40)
GREY = MASKS.astype(np.uint8) * 255


def process(videos=None, masks=None, **options):
    processor = ProPainterVideoProcessor(mask_dilation=0)
    return processor(
        list(FRAMES) if videos is None else videos, masks=list(GREY) if masks is None else masks, **options
    )


EXPECTED = process(return_tensors="pt")


def test_what_comes_out():
    values = EXPECTED["pixel_values_videos"]
    assert values.shape == (1, 3, 3, 24, 40) and values.dtype == torch.float32
    np.testing.assert_allclose(values[0].permute(0, 2, 3, 1).numpy() * 255, FRAMES, atol=1e-4)
    for name in ("flow_masks", "masks_dilated"):
        assert EXPECTED[name].dtype == torch.float32
        assert np.array_equal(EXPECTED[name][0, :, 0].numpy(), MASKS)


VIDEOS = {
    "arrays": list(FRAMES),
    "one array": FRAMES,
    "channels first": list(FRAMES.transpose(0, 3, 1, 2)),
    "pictures": [Image.fromarray(frame) for frame in FRAMES],
    "tensors": [torch.from_numpy(frame) for frame in FRAMES],
    "one tensor": torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
    "floats": FRAMES.astype(np.float32),
    "a list of one video": [list(FRAMES)],
    "a batch of one": FRAMES[None],
    "a list of one array": [FRAMES],
}


@pytest.mark.parametrize("name", VIDEOS)
def test_forms_of_frames(name):
    found = process(VIDEOS[name], return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(found, EXPECTED["pixel_values_videos"])


TRACKS = {
    "grey": list(GREY),
    "bool": list(MASKS),
    "0 and 1": MASKS.astype(np.int64),
    "one channel": list(GREY[..., None]),
    "one channel first": list(GREY[:, None]),
    "three channels": list(GREY[..., None].repeat(3, 3)),
    "three channels first": list(GREY[:, None].repeat(3, 1)),
    "pictures": [Image.fromarray(mask) for mask in GREY],
    "colour pictures": [Image.fromarray(mask).convert("RGB") for mask in GREY],
    "1-bit pictures": [Image.fromarray(mask).convert("1") for mask in GREY],
    "floats": [mask.astype(np.float32) for mask in MASKS],
    "tensors": [torch.from_numpy(mask) for mask in MASKS],
    "nested": [list(GREY)],
}


@pytest.mark.parametrize("name", TRACKS)
def test_forms_of_masks(name):
    assert torch.equal(
        process(masks=TRACKS[name], return_tensors="pt")["masks_dilated"], EXPECTED["masks_dilated"]
    )


@pytest.mark.parametrize(
    "mask", [GREY[0], [GREY[0]], Image.fromarray(GREY[0]), GREY[:1]], ids=lambda m: type(m).__name__
)
def test_one_mask_for_all_frames(mask):
    found = process(masks=mask, return_tensors="np")["masks_dilated"]
    assert found.shape == (1, 3, 1, 24, 40) and np.array_equal(found[0, 2, 0], MASKS[0])


def test_every_grey_that_is_not_black_counts():
    mask = np.zeros((24, 40), np.uint8)
    mask[3, 4] = 1
    for form in (mask, Image.fromarray(mask)):
        assert process(masks=[form], return_tensors="np")["masks_dilated"][0, 0, 0].sum() == 1


def test_what_a_codec_leaves_in_black_does_not_count():
    """But dark colours that masks are drawn with do."""
    mask = np.random.default_rng(0).integers(0, 20, (24, 40, 3)).astype(np.uint8)
    mask[3, 4] = 0, 0, 64
    for form in (mask, Image.fromarray(mask), torch.from_numpy(mask)):
        assert process(masks=[form], return_tensors="np")["masks_dilated"][0, 0, 0].sum() == 1


def test_values_that_are_scaled_already():
    found = process(FRAMES.astype(np.float32) / 255, do_rescale=False, return_tensors="pt")
    torch.testing.assert_close(found["pixel_values_videos"], EXPECTED["pixel_values_videos"])


def test_lists_numpy_and_device():
    lists = process()
    assert isinstance(lists["pixel_values_videos"][0][0], np.ndarray)
    arrays = process(return_tensors="np")
    assert isinstance(arrays["pixel_values_videos"], np.ndarray)
    there = process(return_tensors="pt").to("cpu", torch.float16)
    assert there["pixel_values_videos"].dtype == torch.float16
    # What the model makes of it is still exact.
    assert np.array_equal(
        (there["pixel_values_videos"][0].float() * 255).round().permute(0, 2, 3, 1).numpy(), FRAMES
    )


def test_dilation_in_rounds_of_four_neighbours():
    mask = np.zeros((24, 40), bool)
    mask[10, 20] = True
    found = ProPainterVideoProcessor(mask_dilation=3)(FRAMES, [mask], return_tensors="np")["masks_dilated"][
        0, 0, 0
    ]
    rows, columns = np.indices(mask.shape)
    assert np.array_equal(found > 0, abs(rows - 10) + abs(columns - 20) <= 3)
    assert np.array_equal(dilate(mask, 0), mask)


def test_resizing():
    found = process(do_resize=True, size={"height": 48, "width": 64}, return_tensors="np")
    assert found["pixel_values_videos"].shape == (1, 3, 3, 48, 64)
    assert np.array_equal(found["masks_dilated"][0, 0, 0] > 0, resize_mask(MASKS[0], (48, 64)))
    found = process(do_resize=True, size={"shortest_edge": 48}, return_tensors="np")
    assert found["pixel_values_videos"].shape == (1, 3, 3, 48, 80)


@pytest.mark.parametrize("name", ["scale_hw", "scale_size"])
def test_outpainting_gives_the_larger_picture(name):
    found = process(
        masks=list(GREY), video_painting_mode="video_outpainting", return_tensors="np", **{name: (2.0, 1.6)}
    )
    assert found["pixel_values_videos"].shape == (1, 3, 3, 48, 64)
    frame = np.rint(found["pixel_values_videos"][0, 1] * 255).transpose(1, 2, 0)
    assert np.array_equal(frame[12:36, 12:52], FRAMES[1]) and frame.sum() == FRAMES[1].sum()
    hole = found["masks_dilated"][0, 1, 0]
    assert hole[12:36, 12:52].sum() == 0 and hole.sum() == 48 * 64 - 24 * 40
    assert found["flow_masks"][0, 1, 0][16:32, 16:48].sum() == 0
    assert found["flow_masks"].sum() == 3 * (
        48 * 64 - 16 * 32
    )  # 4 pixels into the frame, as margins exceed 10


def test_outpainting_never_cuts_the_frame():
    canvas = Canvas((23, 37), (1.0, 1.5))
    assert canvas.size == (23, 48) and canvas.inside[0] == slice(0, 23)
    assert process_size(23, 37) == (16, 32)


def test_saved_and_loaded(tmp_path):
    one = ProPainterVideoProcessor(
        mask_dilation=7, scale_size=(1.0, 1.5), video_painting_mode="video_outpainting"
    )
    one.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["mask_dilation"] == 7
    again = ProPainterVideoProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == one.to_dict() and again.scale_hw == [1.0, 1.5]
    assert json.loads(one.to_json_string())["scale_hw"] == [1.0, 1.5]
    for first, second in zip(
        one(FRAMES, return_tensors="np").values(), again(FRAMES, return_tensors="np").values()
    ):
        assert np.array_equal(first, second)


def test_the_earlier_processor():
    found = ProPainterImageProcessor(mask_dilation=0).preprocess(list(FRAMES), list(GREY))
    assert set(found) == {"frames", "flow_masks", "masks_dilated", "frames_inp"}
    torch.testing.assert_close(found["frames"], EXPECTED["pixel_values_videos"] * 2 - 1)
    assert np.array_equal(found["frames_inp"][0].numpy(), FRAMES) and found["frames_inp"].dtype == torch.uint8


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: process([]), "videos has no frames"),
        (lambda: process("clip.mp4"), "not str"),
        (lambda: process([list(FRAMES)] * 2), "videos holds 2 videos; ProPainter takes one at a time"),
        (lambda: process(FRAMES[..., :2]), "three channels, first or last, not the shape .24, 40, 2"),
        (
            lambda: process([FRAMES[0], FRAMES[1][:20]]),
            "Frame 1 is 40x20 .width x height., those before it 40x24",
        ),
        (lambda: process(FRAMES / 255 - 2), "must lie in 0..255, not -2"),
        (lambda: process(FRAMES * np.nan), "must lie in 0..255, not nan"),
        (lambda: process(masks=list(GREY[:2])), "There are 2 masks for 3 frames"),
        (lambda: process(masks=list(GREY[:, :20])), "Mask 0 is 40x20 .width x height., the frames are 40x24"),
        (
            lambda: process(masks=list(FRAMES[..., :2])),
            "one or three channels or none, not the shape .24, 40, 2",
        ),
        (lambda: ProPainterVideoProcessor()(FRAMES), "Inpainting needs masks"),
        (lambda: process(mask_dilation=-1), "mask_dilation must be 0 or more, not -1"),
        (lambda: process(video_painting_mode="magic"), "video_inpainting, video_outpainting, not 'magic'"),
        (lambda: process(video_painting_mode="video_outpainting"), "Outpainting needs scale_hw"),
        (
            lambda: process(video_painting_mode="video_outpainting", scale_hw=(0.5, 1)),
            r"two factors \(height, width\) of 1 or more, not \[0.5, 1\]",
        ),
        (
            lambda: process(video_painting_mode="video_outpainting", scale_hw=(1, 2), scale_size=(2, 1)),
            "give one",
        ),
        (
            lambda: process(do_resize=True, size={"width": 3}),
            "height and width, or shortest_edge, not {'width': 3}",
        ),
        (lambda: ProPainterVideoProcessor(do_normalize=True), "do_normalize=True is not possible"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
