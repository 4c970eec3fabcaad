"""The calls of the Hugging Face page for ProPainter, in its order: video files, images, outpainting.

Only the import line and the checkpoint folder are ours. The page's clips and the modules that it reads and writes
them with are not at hand, so clips are written here, and files are read with PyAV as on the page.
"""

import av
import cv2
import numpy as np
import pytest
import torch
from clips import random_clip
from PIL import Image

from videopainter.propainter import ProPainterModel, ProPainterVideoProcessor
from videopainter.video import VideoWriter

COUNT, HEIGHT, WIDTH = 8, 48, 80


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(video file, mask file, folder of images) of one clip."""
    path = tmp_path_factory.mktemp("clip")
    frames, masks = random_clip(COUNT, HEIGHT, WIDTH)
    for name, pictures in (
        ("video.mp4", frames),
        ("masks.mp4", masks[..., None].repeat(3, 3) * np.uint8(255)),
    ):
        with VideoWriter(path / name, 24, (HEIGHT, WIDTH)) as writer:
            for picture in pictures:
                writer.write(picture)
    images = path / "images"
    images.mkdir()
    for i in range(COUNT):
        Image.fromarray(frames[i]).save(images / f"{i:03}.jpg", quality=95)
        Image.fromarray(masks[i] * np.uint8(255)).save(images / f"{COUNT + i:03}.png")
    return path / "video.mp4", path / "masks.mp4", images


def decode(path, chosen) -> list[np.ndarray]:
    """Frames by number, RGB."""
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [decoded[i] for i in chosen]


def check(outputs, size) -> list[np.ndarray]:
    """The frames of the only video, as the page goes on to resize them."""
    frames = outputs["reconstruction"][0]
    assert all(isinstance(frame, np.ndarray) and frame.dtype == np.uint8 for frame in frames)
    assert {frame.shape for frame in frames} == {(*size, 3)}
    assert all(cv2.resize(frame, (24, 43)).shape == (43, 24, 3) for frame in frames)
    return frames


def test_the_page(folder, clip):
    video_file, masks_file, images = clip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    video_processor = ProPainterVideoProcessor()
    model = ProPainterModel.from_pretrained(folder).to(device)

    # Video files: six frames of each.
    chosen = range(1, 7)
    video, masks = decode(video_file, chosen), decode(masks_file, chosen)
    inputs = video_processor(video, masks=masks, return_tensors="pt").to(device)
    with torch.no_grad():
        outputs = model(**inputs)
    frames = check(outputs, (HEIGHT, WIDTH))
    assert len(frames) == 6
    known = inputs["masks_dilated"][0, :, 0].cpu().numpy() == 0
    assert 0.1 < known.mean() < 0.95
    assert np.array_equal(np.stack(frames)[known], np.stack(video)[known])

    # Images: frames with three channels, masks with one.
    files = sorted(images.iterdir())
    video = [np.array(Image.open(file)) for file in files[:COUNT]]
    masks = [np.stack([np.array(Image.open(file))], axis=-1) for file in files[COUNT:]]
    inputs = video_processor(video, masks=masks, return_tensors="pt").to(device)
    with torch.no_grad():
        outputs = model(**inputs)
    assert len(check(outputs, (HEIGHT, WIDTH))) == COUNT

    # A wider picture.
    inputs = video_processor(
        video, masks=masks, video_painting_mode="video_outpainting", scale_hw=(1.0, 1.2), return_tensors="pt"
    ).to(device)
    with torch.no_grad():
        outputs = model(**inputs)
    frames = check(outputs, (HEIGHT, 96))
    assert np.array_equal(np.stack(frames)[:, :, 8:88], np.stack(video))
    assert np.stack(frames)[:, :, :8].any()
