"""Which result belongs to which true clip and which masks, on disk, and how they are read.

Folders as DAVIS, YouTube-VOS and the published evaluations have them:

- truth: `ROOT/CLIP/00000.jpg ...`, or the data set itself, `ROOT/JPEGImages/[480p/]CLIP/00000.jpg`;
- masks: `ROOT/CLIP/00000.png ...`, or `ROOT/Annotations/[480p/]CLIP/...`, or the `test_masks` folder beside
  `JPEGImages`; one image for a clip (`ROOT/CLIP.png`, or the only one in `ROOT/CLIP/`) or for all of them (ROOT is an
  image) is stationary; and whatever else `load_masks` reads, `ROOT/CLIP.npz` or `ROOT/CLIP.mp4`;
- results: `ROOT/CLIP/00000.png ...`, `ROOT/CLIP.mp4`, or `ROOT/CLIP/result.mp4` as `infer/inpaint.py` writes it.

Each of the three may be a single clip instead, if all of them are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from videopainter.masks import IMAGE_SUFFIXES, MaskTrack, load_masks, open_masks, sorted_images
from videopainter.ops.resize import resize
from videopainter.video import VideoSource, open_video

VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"}
MASK_SUFFIXES = IMAGE_SUFFIXES | {".npz", ".npy"}
RESULT = "result.mp4"
RESOLUTIONS = ("480p", "Full-Resolution", "1080p")  # of DAVIS, the field's own first
CHUNK = 8  # frames in memory at once; what one position in time of I3D's features stands for

# E2FGVI and FuseFormer shrink frames with PIL's default, ProPainter with OpenCV's.
RESIZE = {
    "bicubic": "pillow-bicubic",
    "bilinear": "linear",
}


@dataclass(frozen=True)
class Clip:
    """One clip: where its result, truth and masks lie."""

    name: str
    result: Path
    truth: Path
    masks: Path


def find_clips(
    results: str | Path, truth: str | Path, masks: str | Path, names: Sequence[str] | None = None
) -> list[Clip]:
    """The clips to measure, by name.

    Args:
        names: which ones; None: all those of `masks`, or of `truth` if one mask serves all.

    Raises ValueError, one sentence, if one of them has no result, truth or masks, or nothing is there at all.
    """
    results, masks = _inside(results, ()), _inside(masks, ("test_masks", "Annotations"))
    truth = _inside(truth, ("JPEGImages",))
    if _is_clip(results) != _is_clip(truth):
        one, many = (results, truth) if _is_clip(results) else (truth, results)
        raise ValueError(
            f"'{one}' is one clip, but '{many}' is not; give one clip twice, or two folders of clips."
        )
    if _is_clip(truth):
        if names and list(names) != [results.stem]:
            raise ValueError(f"There is only the clip '{results.stem}', not {', '.join(names)}.")
        return [Clip(results.stem, results, truth, masks)]
    found = {"result": _clips(results), "true clip": _clips(truth)}
    if masks.is_file():
        if masks.suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(f"'{masks}' has the masks of one clip, but '{truth}' has several clips.")
        found["masks"] = dict.fromkeys(found["true clip"], masks)
    else:
        found["masks"] = _clips(masks, masks=True)
    chosen = list(found["masks"]) if names is None else list(dict.fromkeys(names))
    if not chosen:
        raise ValueError(f"There are no masks in '{masks}'." if names is None else "No clip is named.")
    for kind, root in (("result", results), ("true clip", truth), ("masks", masks)):
        absent = [name for name in chosen if name not in found[kind]]
        if absent:
            listed = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            hint = " --clips picks the ones to measure." if names is None else ""
            raise ValueError(
                f"'{root}' has no {kind} for {len(absent)} of {len(chosen)} clips: {listed}.{hint}"
            )
    return [Clip(name, *(found[kind][name] for kind in found)) for name in chosen]


def _inside(path: str | Path, folders: Sequence[str]) -> Path:
    """`path`, or the folder of clips in a data set whose root it is."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is nothing at '{path}'.")
    path = next((path / name for name in folders if (path / name).is_dir()), path)
    return next((path / name for name in RESOLUTIONS if (path / name).is_dir()), path)


def _is_clip(path: Path) -> bool:
    return path.is_file() or bool(sorted_images(path))


def _clips(root: Path, masks: bool = False) -> dict[str, Path]:
    """Name -> folder of frames, video or, of masks, image or array; sorted by name."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        suffix = path.suffix.lower()
        if path.is_dir():
            name = path.name
            if not sorted_images(path):
                path = path / RESULT
                if not path.is_file():
                    continue
        elif suffix in VIDEO_SUFFIXES or (masks and suffix in MASK_SUFFIXES):
            name = path.stem
        else:
            continue
        if name in found:
            raise ValueError(f"The clip '{name}' is there twice: '{found[name]}' and '{path}'.")
        found[name] = path
    return found


class ClipFrames:
    """The frames and masks of one clip at the size that is measured; a context manager.

    Args:
        size: (width, height); None: that of the true frames.
        resize: a key of `RESIZE`, for frames; masks are resized to the nearest pixel.
        dilate: the hole is grown by so many steps of a cross of 3 x 3 pixels, after resizing.

    Raises ValueError if result, truth and masks do not have as many frames, or frames of other names.
    """

    def __init__(
        self, clip: Clip, size: tuple[int, int] | None = (432, 240), resize: str = "bicubic", dilate: int = 0
    ):
        self._open: list[VideoSource] = []
        try:
            self._truth = self._source(clip.truth)
            self._result = self._source(clip.result)
            _check_frames(clip.result, len(self._result), clip.truth, len(self._truth))
            self._masks_file = _masks_file(clip.masks, clip.truth, len(self._truth))
        except BaseException:
            self.__exit__()
            raise
        self.size = size or (self._truth.width, self._truth.height)
        self._filter, self._dilate = RESIZE[resize], dilate

    def _source(self, path: Path) -> VideoSource:
        self._open.append(open_video(path))
        return self._open[-1]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for source in self._open:
            source.close()

    def __len__(self) -> int:
        return len(self._truth)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Results and true frames, uint8 (n, height, width, 3), and masks, bool (n, height, width), in order."""
        masks = self._masks
        for i in range(0, len(self), CHUNK):
            part = slice(i, i + CHUNK)
            results = self._frames(self._result, part)
            yield results, self._frames(self._truth, part), self._holes(masks[part])

    @cached_property
    def _masks(self) -> MaskTrack:
        """All masks at their own size, compressed."""
        return load_masks(self._masks_file, _Shape(len(self), open_masks(self._masks_file).size), exact=True)

    def _frames(self, source: VideoSource, part: slice) -> np.ndarray:
        frames = source[part]
        height, width = self._truth.size
        # H.264 has even sizes only: a result of an odd size is written with one row or column more.
        if source.size == (height + height % 2, width + width % 2):
            frames = frames[:, :height, :width]
        if frames.shape[1:3] == self.size[::-1]:
            return frames
        return np.stack(
            [resize(np.ascontiguousarray(frame), self.size[::-1], self._filter) for frame in frames]
        )

    def _holes(self, masks: np.ndarray) -> np.ndarray:
        masks = masks.view(np.uint8)
        if masks.shape[1:] != self.size[::-1]:
            masks = np.stack([resize(m, self.size[::-1], "pillow-nearest") for m in masks])
        if self._dilate:
            cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
            masks = np.stack([cv2.dilate(m, cross, iterations=self._dilate) for m in masks])
        return masks.astype(bool)


@dataclass(frozen=True)
class _Shape:
    """What `load_masks` asks of a video."""

    count: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.count


def _masks_file(path: Path, truth: Path, count: int) -> Path:
    """What holds the masks of one clip: the only image of a folder if there is just one, which is stationary then."""
    images = sorted_images(path) if path.is_dir() else []
    if len(images) == 1:
        return images[0]
    if images:
        _check_frames(path, len(images), truth, count)
    return path


def _check_frames(path: Path, count: int, truth: Path, expected: int) -> None:
    """Frame i of both has to be the same frame: as many, and of the same names unless they are simply counted."""
    own, true = _stems(path), _stems(truth)
    if count != expected:
        absent = next((name for name in true if name not in set(own)), None) if own else None
        hint = f"; there is no {absent}" if absent is not None and not _counted(own) else ""
        raise ValueError(f"'{path}' has {count} frames, but '{truth}' has {expected}{hint}.")
    if own and true and own != true and not _counted(own):
        mine, theirs = next((a, b) for a, b in zip(own, true) if a != b)
        raise ValueError(
            f"The frames of '{path}' are named otherwise than those of '{truth}' ({mine} for {theirs}) and do not "
            f"simply count."
        )


def _stems(path: Path) -> list[str]:
    return [image.stem for image in sorted_images(path)] if path.is_dir() else []


def _counted(stems: list[str]) -> bool:
    """Whether the names are numbers, each one more than the last."""
    numbers = [int(match[1]) if (match := re.fullmatch(r"\D*(\d+)", stem)) else None for stem in stems]
    return None not in numbers and all(b == a + 1 for a, b in zip(numbers, numbers[1:]))
