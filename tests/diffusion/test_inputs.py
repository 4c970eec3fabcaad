"""Videos and masks in the forms people have them."""

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image

from videopainter import ArraySource, MaskTrack
from videopainter.diffusion.inputs import MaskInput, VideoInput, as_image

PROCESSOR = VideoProcessor(vae_scale_factor=8)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
MASKS = np.zeros((5, 16, 24), bool)
MASKS[1:, 4:9, 5:12] = True


def tensor(frames=FRAMES):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


VIDEOS = {
    "uint8 array": FRAMES,
    "float array": FRAMES.astype(np.float32) / 255,
    "float tensor": tensor(),
    "uint8 tensor": torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
    "images": [Image.fromarray(frame) for frame in FRAMES],
    "arrays": list(FRAMES),
    "float arrays": list(FRAMES.astype(np.float32) / 255),
    "tensors": list(tensor()),
    "tuple": tuple(Image.fromarray(frame) for frame in FRAMES),
    "source": ArraySource(FRAMES),
}


@pytest.mark.parametrize("video", VIDEOS.values(), ids=VIDEOS)
def test_videos_of_any_form_are_the_same(video):
    given = VideoInput(video)
    assert len(given) == 5
    window = given.window(range(1, 4), PROCESSOR, 16, 24)
    assert window.shape == (1, 3, 3, 16, 24) and window.dtype == torch.float32
    expected = tensor(FRAMES[1:4]).transpose(0, 1)[None] * 2 - 1
    assert torch.allclose(window, expected, atol=1e-6)


@pytest.mark.parametrize(
    "video",
    [
        np.stack([FRAMES, FRAMES[::-1]]),
        torch.stack([tensor(), tensor(FRAMES[::-1].copy())]),
        [FRAMES, FRAMES[::-1]],
    ],
    ids=["array", "tensor", "list"],
)
def test_several_videos(video):
    window = VideoInput(video).window(range(5), PROCESSOR, 16, 24)
    assert window.shape == (2, 3, 5, 16, 24)
    assert torch.allclose(window[0], window[1].flip(1))


@pytest.mark.parametrize("video", VIDEOS.values(), ids=VIDEOS)
def test_beyond_the_end_the_last_frame_is_repeated(video):
    window = VideoInput(video).window(range(3, 9), PROCESSOR, 16, 24)
    assert window.shape[2] == 6
    assert (window[:, :, 2:] == window[:, :, 1:2]).all()


def test_frames_are_resized_as_diffusers_does_it():
    images = [Image.fromarray(frame) for frame in FRAMES]
    window = VideoInput(FRAMES).window(range(5), PROCESSOR, 32, 40)
    assert torch.equal(window, PROCESSOR.preprocess_video(images, height=32, width=40))


@pytest.mark.parametrize(
    ("video", "said"),
    [
        ([], "`video` is empty"),
        (FRAMES[0], "4 or 5 dimensions but has 3"),
        (3, "but is <class 'int'>"),
        (FRAMES[..., :2], "3 channels but has 2"),
        (tensor() * 2 - 1, r"0\.\.1 but reaches from -"),
        ([FRAMES, FRAMES[:3]], r"different lengths: \[5, 3\]"),
    ],
)
def test_videos_that_are_none(video, said):
    with pytest.raises(ValueError, match=said):
        VideoInput(video).window(range(3), PROCESSOR, 16, 24)


MASK_FORMS = {
    "bool": MASKS,
    "uint8": MASKS.astype(np.uint8) * 255,
    "float": MASKS.astype(np.float32),
    "labels": MASKS.astype(np.uint8),
    "integers": MASKS.astype(np.int64) * 3,
    "grey 16 and 235": np.where(MASKS, 235, 16).astype(np.uint8),
    "half": MASKS.astype(np.float16),
    "channels": np.repeat(MASKS[..., None].astype(np.uint8) * 255, 3, axis=-1),
    "bool tensor": torch.from_numpy(MASKS),
    "float tensor": torch.from_numpy(MASKS).float()[:, None],
    "images": [Image.fromarray(mask.astype(np.uint8) * 255) for mask in MASKS],
    "RGB images": [Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB") for mask in MASKS],
    "binary images": [Image.fromarray(mask.astype(np.uint8) * 255).convert("1") for mask in MASKS],
    "arrays": list(MASKS),
    "arrays with channels": list(np.repeat(MASKS[..., None], 3, axis=-1)),
    "tensors": list(torch.from_numpy(MASKS)),
    "tensors with channels": list(torch.from_numpy(MASKS)[:, None]),
    "track": MaskTrack.from_array(MASKS),
}


@pytest.mark.parametrize("masks", MASK_FORMS.values(), ids=MASK_FORMS)
def test_masks_of_any_form_are_the_same(masks):
    window = MaskInput(masks, 5).window(range(0, 7), 16, 24)
    assert window.shape == (1, 1, 7, 16, 24) and window.dtype == torch.bool
    assert np.array_equal(window[0, 0, :5].numpy(), MASKS)
    assert np.array_equal(window[0, 0, 5:].numpy(), MASKS[[4, 4]])


@pytest.mark.parametrize("mask", [MASKS[1], Image.fromarray(MASKS[1]), torch.from_numpy(MASKS[1])])
def test_one_picture_for_all_frames(mask):
    window = MaskInput(mask, 5).window(range(5), 16, 24)
    assert (window.numpy() == MASKS[1]).all()


def test_masks_of_several_videos():
    window = MaskInput(np.stack([MASKS, ~MASKS]), 5).window(range(5), 16, 24)
    assert window.shape == (2, 1, 5, 16, 24)
    assert torch.equal(window[0], ~window[1])


def test_a_thin_mask_survives_being_made_smaller():
    thin = np.zeros((1, 480, 720), bool)
    thin[0, 101, :] = True
    window = MaskInput(thin, 1).window(range(1), 60, 90)
    assert window[0, 0, 0].any(1).nonzero().flatten().tolist() == [12]
    assert window[0, 0, 0, 12].all()


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (MASKS[:4], "4 masks for 5 frames"),
        (MASKS.astype(np.complex64), "not complex64"),
        (np.zeros((5, 16, 24, 2), bool), "16 masks for 5 frames"),
        ([np.zeros(24, bool)] * 5, r"not \(24,\)"),
    ],
)
def test_masks_that_are_none(masks, said):
    with pytest.raises(ValueError, match=said):
        MaskInput(masks, 5).window(range(5), 16, 24)


def test_images():
    assert as_image(FRAMES[0]).size == (24, 16)
    assert len(as_image(FRAMES[:2])) == 2
    with pytest.raises(ValueError, match="but is <class 'str'>"):
        as_image("first.png")


def test_only_the_window_is_read():
    class Source:
        asked = []

        def __len__(self):
            return 1000

        def __getitem__(self, frames):
            self.asked.append((frames.start, frames.stop))
            return FRAMES[:4]

    VideoInput(Source()).window(range(300, 304), PROCESSOR, 16, 24)
    assert Source.asked == [(300, 304)]
