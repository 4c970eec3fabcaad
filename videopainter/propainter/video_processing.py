"""Frames and masks, in every form people have them, to what `ProPainterModel` takes."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor
from transformers.image_processing_base import BatchFeature, ImageProcessingMixin

from videopainter.ops.pictures import dilate, resize, resize_mask
from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.frames import Canvas

MODES = ("video_inpainting", "video_outpainting")
LAYOUTS = ("channels_first", "channels_last")

# Masks in colour come from videos and JPEG files, whose codecs leave a few levels everywhere in black; the
# darkest colour that masks are drawn with has a channel of 64.
NOISE = 32


class ProPainterVideoProcessor(ImageProcessingMixin):
    """Prepares one video and its masks.

    Args:
        do_resize: change the size of frames and masks to `size`.
        size: ``{"height": h, "width": w}`` or ``{"shortest_edge": n}`` in pixels.
        resample: Pillow's filter for frames; masks are always resized to the nearest pixel.
        do_rescale, rescale_factor: multiply 8-bit values by this. Without it frames hold 0..1 already.
        video_painting_mode: "video_inpainting", or "video_outpainting" for a larger picture.
        scale_hw: how many times (higher, wider) outpainting makes the picture; `scale_size` is the same.
        mask_dilation: rounds by which masks grow to their four neighbours.
        do_center_crop, crop_size: cut ``{"height": h, "width": w}`` out of the middle of frames and masks, after
            resizing; frames that are smaller get a black border.
        do_normalize: can only be False: the model works on plain 0..1 values. `image_mean` and `image_std`, which other
            processors have for it, are kept and change nothing.

    All arguments can be overridden in a call.
    """

    model_input_names = ["pixel_values_videos", "flow_masks", "masks_dilated"]

    def __init__(
        self,
        do_resize: bool = False,
        size: dict[str, int] | None = None,
        resample: int = Image.Resampling.BICUBIC,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        video_painting_mode: str = "video_inpainting",
        scale_hw: Sequence[float] | None = None,
        scale_size: Sequence[float] | None = None,
        mask_dilation: int = 4,
        do_normalize: bool = False,
        do_center_crop: bool = False,
        crop_size: dict[str, int] | int | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.do_resize = do_resize
        self.size = size or {"shortest_edge": 256}
        self.resample = int(resample)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.video_painting_mode = video_painting_mode
        self.scale_hw = _one_scale(scale_hw, scale_size)
        self.mask_dilation = mask_dilation
        self.do_normalize = do_normalize
        self.do_center_crop = do_center_crop
        self.crop_size = crop_size
        self.image_mean = image_mean
        self.image_std = image_std
        _refuse_normalizing(do_normalize)

    def __call__(self, videos=None, masks=None, **kwargs) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(videos, masks, **kwargs)

    def preprocess(
        self,
        videos=None,
        masks=None,
        *,
        images=None,
        return_tensors: str | None = None,
        do_resize: bool | None = None,
        size: dict[str, int] | None = None,
        resample: int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        video_painting_mode: str | None = None,
        scale_hw: Sequence[float] | None = None,
        scale_size: Sequence[float] | None = None,
        mask_dilation: int | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_center_crop: bool | None = None,
        crop_size: dict[str, int] | int | None = None,
        data_format: str | None = None,
        input_data_format: str | None = None,
    ) -> BatchFeature:
        """Prepare one video.

        Args:
            videos: frames as a list of arrays, PIL images or tensors, or as one array or tensor; with three
                channels, first or last; or a list that holds one such video. Values are 0..255, or 0..1 with
                `do_rescale=False`.
            masks: the same with one or three channels or none, one for each frame or one for all. What is not
                0 is painted; of 8-bit colour, what has a channel over 32. Outpainting does not look at them.
            images: another name for `videos`.
            return_tensors: "pt" or "np"; None: lists of arrays.
            data_format: where the channels of `pixel_values_videos` are: "channels_first", which the model takes, or
                "channels_last".
            input_data_format: where those of `videos` are; None: where there are three.
            The others are those of the class.

        Returns float32 `pixel_values_videos` ``(1, t, 3, h, w)`` and, with 0 and 1, `flow_masks` and
        `masks_dilated` ``(1, t, 1, h, w)``. Raises ValueError for what cannot be made sense of.
        """
        if (videos is None) == (images is None):
            raise ValueError("Give the frames as videos, or as images.")
        videos = images if videos is None else videos
        _refuse_normalizing(self._or("do_normalize", do_normalize))
        for name, value in (("data_format", data_format), ("input_data_format", input_data_format)):
            if value is not None and value not in LAYOUTS:
                raise ValueError(f"{name} must be {' or '.join(LAYOUTS)}, not {value!r}.")
        mode = self._or("video_painting_mode", video_painting_mode)
        if mode not in MODES:
            raise ValueError(f"video_painting_mode must be one of {', '.join(MODES)}, not {mode!r}.")
        unit = (
            255.0
            if not self._or("do_rescale", do_rescale)
            else 255 * self._or("rescale_factor", rescale_factor)
        )
        frames = [_to_frame(frame, unit, input_data_format) for frame in _one_video(videos, "videos")]
        target = None
        if self._or("do_resize", do_resize):
            target = _target(frames[0].shape[:2], self._or("size", size))
            frames = [
                resize(frame, target, Image.Resampling(self._or("resample", resample))) for frame in frames
            ]
        _check_equal(frames)
        whole, crop = frames[0].shape[:2], None
        if self._or("do_center_crop", do_center_crop):
            crop = _crop(self._or("crop_size", crop_size))
            frames = [cut_center(frame, crop) for frame in frames]
        if mode == "video_outpainting":
            frames, holes, flow_holes = self._outpaint(frames, _one_scale(scale_hw, scale_size))
        else:
            rounds = self._or("mask_dilation", mask_dilation)
            holes = self._holes(masks, len(frames), whole, target, crop, rounds)
            flow_holes = holes
        axes = (0, 1, 2) if data_format == LAYOUTS[1] else (2, 0, 1)
        data = {
            "pixel_values_videos": [[frame.transpose(axes).astype(np.float32) / 255 for frame in frames]],
            "flow_masks": [[hole[None].astype(np.float32) for hole in flow_holes]],
            "masks_dilated": [[hole[None].astype(np.float32) for hole in holes]],
        }
        if return_tensors is not None:
            data = {name: np.stack(values[0])[None] for name, values in data.items()}
        return BatchFeature(data, tensor_type=return_tensors)

    def _or(self, name: str, value):
        return getattr(self, name) if value is None else value

    def _outpaint(self, frames: list[np.ndarray], scale):
        scale = scale or self.scale_hw
        if scale is None:
            raise ValueError(
                "Outpainting needs scale_hw=(times higher, times wider), for example (1.0, 1.2)."
            )
        canvas = Canvas(frames[0].shape[:2], scale)
        count = len(frames)
        return [canvas.frame(f) for f in frames], [canvas.hole()] * count, [canvas.flow_hole()] * count

    @staticmethod
    def _holes(masks, count: int, size: tuple[int, int], target, crop, rounds: int) -> list[np.ndarray]:
        if masks is None:
            raise ValueError("Inpainting needs masks.")
        found = [_to_mask(mask) for mask in _one_video(masks, "masks")]
        if target is not None:
            found = [resize_mask(mask, target) for mask in found]
        if len(found) not in (1, count):
            raise ValueError(
                f"There are {len(found)} masks for {count} frames; one each or one for all is needed."
            )
        for i, mask in enumerate(found):
            if mask.shape != size:
                raise ValueError(
                    f"Mask {i} is {_by(mask.shape)} (width x height), the frames are {_by(size)}."
                )
        if crop is not None:
            found = [cut_center(mask, crop) for mask in found]
        found = [dilate(mask, rounds) for mask in found]
        return found * count if len(found) == 1 else found


class ProPainterImageProcessor(ProPainterVideoProcessor):
    """The earlier port's processor: the same, with frames in -1..1 and as 8-bit values.

    `preprocess` returns `frames` ``(1, t, 3, h, w)`` in -1..1, `frames_inp` uint8 ``(1, t, h, w, 3)``, `flow_masks` and
    `masks_dilated`, for `ProPainterForImageInPainting` and `ProPainterForImageOutPainting`.
    """

    model_input_names = ["frames", "flow_masks", "masks_dilated", "frames_inp"]

    def preprocess(self, videos, masks=None, *, return_tensors: str | None = "pt", **kwargs) -> BatchFeature:
        """See the class and `ProPainterVideoProcessor.preprocess`."""
        found = super().preprocess(videos, masks, return_tensors="np", **kwargs)
        values = found.pop("pixel_values_videos")
        data = {
            "frames": values * 2 - 1,
            **found,
            "frames_inp": np.rint(values * 255).astype(np.uint8).transpose(0, 1, 3, 4, 2),
        }
        return BatchFeature(data, tensor_type=return_tensors)


def _one_scale(scale_hw, scale_size):
    if scale_hw is not None and scale_size is not None and tuple(scale_hw) != tuple(scale_size):
        raise ValueError(
            f"scale_hw {scale_hw!r} and scale_size {scale_size!r} say different things; give one."
        )
    scale = scale_hw if scale_hw is not None else scale_size
    return None if scale is None else list(scale)


def _one_video(videos, name: str) -> list:
    """The frames of the only video."""
    if isinstance(videos, Image.Image):
        videos = [videos]
    if isinstance(videos, (list, tuple)) and len(videos) and isinstance(videos[0], (list, tuple)):
        videos = _only(videos, name)
    elif isinstance(videos, (list, tuple)) and len(videos) and getattr(videos[0], "ndim", 0) == 4:
        videos = _only(videos, name)
    elif getattr(videos, "ndim", 0) == 5:
        videos = _only(videos, name)
    elif getattr(videos, "ndim", 4) == 2:
        videos = [videos]
    if not isinstance(videos, (list, tuple, np.ndarray, torch.Tensor)):
        raise ValueError(
            f"{name} must be a list of frames, an array or a tensor, not {type(videos).__name__}."
        )
    if not len(videos):
        raise ValueError(f"{name} has no frames.")
    return list(videos)


def _only(videos, name: str):
    if len(videos) != 1:
        raise ValueError(f"{name} holds {len(videos)} videos; ProPainter takes one at a time.")
    return videos[0]


def _to_array(image) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        return image.detach().cpu().float().numpy() if image.is_floating_point() else image.cpu().numpy()
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"A frame must be a picture, an array or a tensor of numbers, not {type(image).__name__}."
        )
    return array


def _to_frame(image, unit: float, layout: str | None = None) -> np.ndarray:
    """uint8 ``(h, w, 3)``; a value times ``unit`` is 0..255. ``layout``: of `LAYOUTS`; None: it shows."""
    picture = isinstance(image, Image.Image)
    array = _to_array(image.convert("RGB") if picture else image)
    first = array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3
    if layout is not None and not picture and array.ndim == 3:
        first = layout == LAYOUTS[0]
    if first:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"A frame must have three channels, first or last, not the shape {array.shape}.")
    if array.dtype == np.uint8 and unit == 1:
        return np.ascontiguousarray(array)
    values = np.rint(array.astype(np.float64) * unit)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        limit = 255 / unit
        raise ValueError(
            f"Frame values must lie in 0..{limit:g}, not {array.min():g}..{array.max():g}; see do_rescale."
        )
    return values.astype(np.uint8)


def _to_mask(image) -> np.ndarray:
    """bool ``(h, w)``: everything that is not black; in 8-bit colour everything brighter than `NOISE`."""
    if isinstance(image, Image.Image):
        image = image.convert("RGB" if image.mode in ("RGB", "RGBA", "YCbCr") else "L")
    array = _to_array(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] in (1, 3):
        floor = NOISE if array.shape[2] == 3 and array.dtype == np.uint8 else 0
        array = array.max(2) > floor
    if array.ndim != 2:
        raise ValueError(f"A mask must have one or three channels or none, not the shape {array.shape}.")
    return array != 0


def _target(size: tuple[int, int], wanted: dict[str, int]) -> tuple[int, int]:
    if set(wanted) == {"height", "width"}:
        target = wanted["height"], wanted["width"]
    elif set(wanted) == {"shortest_edge"}:
        target = tuple(round(n * wanted["shortest_edge"] / min(size)) for n in size)
    else:
        raise ValueError(f"size must have height and width, or shortest_edge, not {wanted!r}.")
    if min(target) < 1:
        raise ValueError(f"size must be 1 pixel or more, not {wanted!r}.")
    return target


def _crop(size: dict[str, int] | int | None) -> tuple[int, int]:
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, dict) or set(size) != {"height", "width"} or min(size.values()) < 1:
        raise ValueError(f"crop_size must have height and width, 1 pixel or more, not {size!r}.")
    return size["height"], size["width"]


def cut_center(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of ``(h, w, ...)`` at ``size`` = (height, width), with zeros around what is smaller."""
    for axis, wanted in enumerate(size):
        missing = max(0, wanted - picture.shape[axis])
        if missing:
            before = -(-missing // 2)  # as transformers' center_crop
            widths = [(0, 0)] * picture.ndim
            widths[axis] = (before, missing - before)
            picture = np.pad(picture, widths)
        start = (picture.shape[axis] - wanted) // 2
        picture = picture.take(range(start, start + wanted), axis)
    return np.ascontiguousarray(picture)


def _refuse_normalizing(do_normalize: bool) -> None:
    if do_normalize:
        raise ValueError("do_normalize=True is not possible: the model takes plain values 0..1.")


def _check_equal(frames: list[np.ndarray]) -> None:
    for i, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"Frame {i} is {_by(frame.shape)} (width x height), those before it {_by(frames[0].shape)}."
            )


def _by(shape) -> str:
    return f"{shape[1]}x{shape[0]}"


AutoProcessor.register(ProPainterConfig, ProPainterVideoProcessor, exist_ok=True)
