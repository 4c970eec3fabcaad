"""Videos and masks in the forms people have them, read a window at a time as tensors of the network's size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.video_processor import VideoProcessor
from PIL import Image

from videopainter.diffusion.settings import PipelineSettings
from videopainter.diffusion.windows import WindowPlan
from videopainter.masks import MaskTrack
from videopainter.masks.arrays import CHANNELS, PLANES, GivenMasks
from videopainter.utils.pixels import plain


class VideoInput:
    """One video, or several of the same length.

    A video is a list of PIL images, of arrays ``[height, width, 3]`` or of tensors ``[3, height, width]``; an
    array ``[frames, height, width, 3]``; a tensor ``[frames, 3, height, width]``; or anything with a length whose
    slices are uint8 arrays, such as `VideoSource`, of which only the window in work is read. Several videos are
    a list of those, or an array or tensor with one more dimension. Integer values are 0 to 255, floats 0 to 1.
    """

    def __init__(self, video: Any):
        self.videos = _split(video, "video", single=4)
        if len({len(one) for one in self.videos}) != 1:
            raise ValueError(
                f"The videos have different lengths: {[len(one) for one in self.videos]} frames."
            )

    def __len__(self) -> int:
        return len(self.videos[0])

    def window(self, frames: range, processor: VideoProcessor, height: int, width: int) -> torch.Tensor:
        """float32 ``[videos, 3, frames, height, width]`` in -1..1; beyond its end the last frame is repeated.

        Float tensors stay on their device, the first video's where there are several.
        """
        parts = [
            processor.preprocess_video(_pictures(_cut(one, frames)), height=height, width=width)
            for one in self.videos
        ]
        return torch.cat([part.to(parts[0].device) for part in parts]).float()


class MaskInput:
    """Masks of one or several videos, read as everywhere (`videopainter.masks.load_masks`): bright is repainted.

    Lists of images or arrays, arrays and tensors ``[frames, height, width]`` with or without one or three
    channels, `MaskTrack`, or one single picture for all frames. What their values mean is told from all masks of a
    video together; unlike files, they have to be as many as the frames.
    """

    def __init__(self, masks: Any, frames: int):
        masks = plain(masks)
        if isinstance(masks, np.ndarray):
            if masks.ndim >= 4 and masks.shape[-1] not in CHANNELS and masks.shape[-3] in PLANES:
                masks = np.moveaxis(masks, -3, -1)
            if masks.ndim >= 4 and masks.shape[-1] in CHANNELS:
                masks = masks[..., :3].max(axis=-1)
        elif isinstance(masks, (list, tuple)):
            masks = [_without_channels(mask) for mask in masks]
        single = isinstance(masks, Image.Image) or getattr(masks, "ndim", 0) == 2
        self.masks = [
            self._track(one, frames) for one in ([masks] if single else _split(masks, "masks", single=3))
        ]

    @staticmethod
    def _track(masks: Any, frames: int) -> MaskTrack:
        if isinstance(masks, MaskTrack):
            track = masks
        else:
            given = GivenMasks(masks, frames)
            track = MaskTrack.build(labels != 0 for labels in given.frames())
            if given.count is None:
                track = MaskTrack.still(track[0], frames)
        if len(track) != frames:
            raise ValueError(f"There are {len(track)} masks for {frames} frames.")
        return track

    def window(self, frames: range, height: int, width: int, as_pictures: bool = False) -> torch.Tensor:
        """bool ``[videos, 1, frames, height, width]``: a pixel is masked if any of the source's under it is.

        as_pictures: it is masked if Pillow's Lanczos filter gives it a half or more.
        """
        return torch.stack([self._one(_cut(one, frames), height, width, as_pictures) for one in self.masks])

    @staticmethod
    def _one(masks: np.ndarray, height: int, width: int, as_pictures: bool) -> torch.Tensor:
        planes = torch.from_numpy(masks)[None]
        if planes.shape[2:] == (height, width):
            return planes
        if as_pictures:
            pictures = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks]
            resized = [one.resize((width, height), Image.Resampling.LANCZOS) for one in pictures]
            return torch.from_numpy(np.stack([np.asarray(one) for one in resized]) >= 127.5)[None]
        return F.adaptive_max_pool2d(planes[0].float(), (height, width))[None] > 0


@dataclass(frozen=True)
class WindowPixels:
    """What one window shows, at the network's size.

    video: float32 ``[videos, 3, frames, height, width]`` in -1..1. masked_video: the same, 0 in the hole.
    first_frame: float32 ``[videos, 3, height, width]``, masked unless the caller finished it. hole: bool
    ``[videos, 1, frames, height, width]``, what is repainted. network_mask: the same, as the networks see it.
    """

    video: torch.Tensor
    masked_video: torch.Tensor
    first_frame: torch.Tensor
    hole: torch.Tensor
    network_mask: torch.Tensor


def read_holes(
    number: int, masks: MaskInput, settings: PipelineSettings, plan: WindowPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hole and network mask of window ``number``, see `WindowPixels`."""
    size = (settings.height, settings.width)
    given = masks.window(plan.frames_of(number), *size, settings.policy.masks_resized_as_pictures)
    hole = ~given if settings.mask_background else given.clone()
    if number == 0 and settings.keeps_first_frame:
        hole[:, :, 0] = False
    inverted = settings.mask_background and settings.policy.network_sees_given_mask
    return hole, ~hole if inverted else hole


def last_repainted(masks: MaskInput, settings: PipelineSettings, plan: WindowPlan) -> int | None:
    """Number of the last frame that is not the video's own, as it has a hole, or is ``image``; None if all are."""
    for number in reversed(range(plan.count)):
        holes = read_holes(number, masks, settings, plan)[0]
        found = holes.any(dim=4).any(dim=3).any(dim=0)[0].nonzero()[:, 0]
        if len(found):
            return plan.frames_of(number)[int(found[-1])]
    return None if settings.image is None else 0


def read_window(
    number: int,
    video: VideoInput,
    masks: MaskInput,
    settings: PipelineSettings,
    plan: WindowPlan,
    processor: VideoProcessor,
) -> WindowPixels:
    """Decode, resize and mask the frames of window ``number``."""
    size = (settings.height, settings.width)
    hole, network_mask = read_holes(number, masks, settings, plan)
    pixels = video.window(plan.frames_of(number), processor, *size)
    image = None
    if number == 0 and settings.image is not None:
        image = processor.preprocess(as_image(settings.image), *size).float().to(pixels.device)
        if settings.keeps_first_frame:
            pixels = pixels.expand(max(len(pixels), len(image)), *pixels.shape[1:]).clone()
            pixels[:, :, 0] = image
    masked = pixels * ~hole.to(pixels.device)
    return WindowPixels(pixels, masked, masked[:, :, 0] if image is None else image, hole, network_mask)


def _split(value: Any, name: str, single: int) -> list:
    """A list of videos from one video or several; ``single``: dimensions of one as an array."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        if value.ndim == single:
            return [value]
        if value.ndim == single + 1:
            return list(value)
        raise ValueError(f"`{name}` has to have {single} or {single + 1} dimensions but has {value.ndim}.")
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(f"`{name}` is empty.")
        first = value[0]
        if isinstance(first, (list, tuple)) or getattr(first, "ndim", None) == single:
            return list(value)
        if not isinstance(first, (Image.Image, np.ndarray, torch.Tensor)) and hasattr(first, "__len__"):
            return list(value)
        return [value]
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        return [value]
    raise ValueError(f"`{name}` has to be a list, an array, a tensor or a VideoSource but is {type(value)}.")


def _cut(one: Any, frames: range) -> Any:
    """Frames of a window; beyond the end the last one is repeated."""
    part = one[frames.start : min(frames.stop, len(one))]
    missing = len(frames) - len(part)
    if missing == 0:
        return part
    if isinstance(part, np.ndarray):
        return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
    if isinstance(part, torch.Tensor):
        return torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
    return [*part, *[part[-1]] * missing]


def _pictures(part: Any) -> Any:
    """What diffusers' processor takes: PIL images for integers, arrays or tensors in 0..1 for floats."""
    if isinstance(part, (list, tuple)):
        if all(isinstance(frame, Image.Image) for frame in part):
            return [frame.convert("RGB") for frame in part]
        part = (torch.stack if isinstance(part[0], torch.Tensor) else np.stack)(list(part))
    integer = not part.is_floating_point() if isinstance(part, torch.Tensor) else part.dtype.kind in "ui"
    channels = part.shape[1] if isinstance(part, torch.Tensor) else part.shape[-1]
    if channels != 3:
        raise ValueError(f"A video has to have 3 channels but has {channels} (shape {tuple(part.shape)}).")
    if integer:
        if isinstance(part, torch.Tensor):
            part = part.movedim(1, -1).cpu().numpy()
        return [Image.fromarray(frame) for frame in part.astype(np.uint8)]
    low, high = float(part.min()), float(part.max())
    if low < 0 or high > 1:
        raise ValueError(f"A video of floats has to lie in 0..1 but reaches from {low:g} to {high:g}.")
    return part


def _without_channels(mask: Any) -> Any:
    """One plane of a mask that has channels; other things as they are."""
    mask = plain(mask)
    if isinstance(mask, np.ndarray) and mask.ndim == 3:
        if mask.shape[-1] in CHANNELS:
            return mask[..., :3].max(axis=-1)
        if mask.shape[0] in PLANES:
            return mask.max(axis=0)
    return mask


def as_image(image: Any) -> Any:
    """One image, or one for each prompt, as diffusers' processor takes it; uint8 arrays become PIL images."""
    if isinstance(image, (list, tuple)):
        return [as_image(one) for one in image]
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if image.ndim == 4:
            return [Image.fromarray(one) for one in image]
        return Image.fromarray(image)
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return image
    raise ValueError(f"`image` has to be a PIL image, an array or a tensor but is {type(image)}.")
