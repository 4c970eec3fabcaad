"""Footage to train on: folders in the layouts of the published stages, and sequences drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from videopainter.dstt.align import MotionEstimator, PreparedFrame, preprocess
from videopainter.dstt.training.generator import moving_scene, read_photo, recolour
from videopainter.ops.resize import resize

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg")
PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_KEPT_ROWS = 270  # rows of a video held in memory: more than training looks at
_SLOWEST, _FASTEST = 1, 3  # every so many frames of a video


class Footage(Protocol):
    """A video: frames by number."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        """uint8 ``(h, w, 3)`` RGB each."""
        ...


class FrameFolder:
    """Frames that lie as images in a folder, in the order of their names."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indices):
        return [read_photo(self._paths[i]) for i in indices]


class VideoFile:
    """A video file, decoded once, when it is first read, and held at ``rows`` rows."""

    def __init__(self, path: Path, rows: int = _KEPT_ROWS, start: int = 0, stop: int | None = None):
        self._path, self._rows, self._part = path, rows, slice(start, stop)
        self._frames: np.ndarray | None = None

    def _all(self) -> np.ndarray:
        from videopainter.video import open_video

        if self._frames is None:
            with open_video(self._path) as source:
                height, width = source.size
                scale = min(1.0, self._rows / height)
                size = (round(height * scale), round(width * scale))
                self._frames = np.stack(
                    [resize(source[i], size, "area") for i in range(len(source))[self._part]]
                )
        return self._frames

    def __len__(self) -> int:
        return len(self._all())

    def read(self, indices):
        return [self._all()[i] for i in indices]


def _by_suffix(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))


def _frame_folders(paths: Sequence[Path]) -> list[Footage]:
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return [FrameFolder(frames) for frames in folders.values() if len(frames) > 1]


def _gta_im(folder: Path) -> tuple[list[Footage], list[Path]]:
    # Beside every frame NNNNN.jpg there are PNG maps of depth and of identities.
    return _frame_folders(_by_suffix(folder, (".jpg",))), []


def _mit_indoor(folder: Path) -> tuple[list[Footage], list[Path]]:
    return [], _by_suffix(folder, (".jpg", ".jpeg"))  # Images/CATEGORY/NAME.jpg


def _sun3d(folder: Path) -> tuple[list[Footage], list[Path]]:
    # PLACE/SEQUENCE/image/NUMBER-TIME.jpg, beside depth/
    return _frame_folders([p for p in _by_suffix(folder, (".jpg",)) if p.parent.name == "image"]), []


def _videos(folder: Path) -> tuple[list[Footage], list[Path]]:
    """Videos, and folders of frames."""
    return [
        *(VideoFile(p) for p in _by_suffix(folder, VIDEOS)),
        *_frame_folders(_by_suffix(folder, PHOTOS)),
    ], []


def _photos(folder: Path) -> tuple[list[Footage], list[Path]]:
    return [], _by_suffix(folder, PHOTOS)


# Layout -> what lies in a folder of it: (moving footage, stills).
LAYOUTS: dict[str, Callable[[Path], tuple[list[Footage], list[Path]]]] = {
    "gta_im": _gta_im,
    "mit_indoor": _mit_indoor,
    "sun3d": _sun3d,
    "thumos14": _videos,
    "videos": _videos,
    "photos": _photos,
}


@dataclass
class Sources:
    """What sequences are drawn from: ``footage``, and ``stills`` (uint8 ``(h, w, 3)``) that are set in motion."""

    footage: list[Footage]
    stills: list[np.ndarray]

    def __post_init__(self):
        if not self.footage and not self.stills:
            raise ValueError("There is nothing to train on: no footage and no stills.")


def find(layout: str, folder: str | Path) -> tuple[list[Footage], list[np.ndarray]]:
    """The footage and the stills of a folder in one of `LAYOUTS`. Raises ValueError if there is none."""
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise ValueError(f"There is no layout '{layout}'; there are {', '.join(LAYOUTS)}.")
    if not folder.is_dir():
        raise ValueError(f"There is no folder '{folder}' to train on.")
    footage, stills = LAYOUTS[layout](folder)
    if not footage and not stills:
        raise ValueError(f"In '{folder}' there is nothing in the layout '{layout}'.")
    return footage, [read_photo(path) for path in stills]


def draw_sequence(
    rng: np.random.Generator,
    sources: Sources,
    frames: int,
    size: tuple[int, int],
    speed: float = 1.0,
    footage_share: float = 0.5,
) -> np.ndarray:
    """A sequence to train on, uint8 ``(frames, *size, 3)``: real footage in ``footage_share`` of the cases."""
    real = sources.footage and (not sources.stills or rng.random() < footage_share)
    if not real:
        return moving_scene(rng, sources.stills, frames, size, speed)
    footage = sources.footage[rng.integers(len(sources.footage))]
    step = int(
        np.clip(np.rint(speed * rng.integers(_SLOWEST, _FASTEST + 1)), 1, max(1, len(footage) // frames))
    )
    start = rng.integers(max(1, len(footage) - step * (frames - 1)))
    indices = np.clip(start + step * np.arange(frames), 0, len(footage) - 1)
    return _cropped(rng, footage.read(indices[:: rng.choice((-1, 1))]), size)


def _cropped(rng, pictures: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The same piece of each picture, of the frame's proportions, mirrored and recoloured alike."""
    h, w = size
    rows, columns = pictures[0].shape[:2]
    largest = min(rows / h, columns / w)
    scale = largest * rng.uniform(0.5, 1.0)
    high, wide = max(1, int(h * scale)), max(1, int(w * scale))
    top, left = rng.integers(rows - high + 1), rng.integers(columns - wide + 1)
    how = "area" if scale >= 1 else "cubic"
    cut = [resize(p[top : top + high, left : left + wide], (h, w), how) for p in pictures]
    out = np.stack(cut)
    if rng.random() < 0.5:
        out = out[:, :, ::-1]
    if rng.random() < 0.5:
        return out
    return np.clip(recolour(rng, out.astype(np.float32)), 0, 255).astype(np.uint8)


@dataclass
class Sample:
    """A sequence with holes, its alignment computed: it does not depend on the network.

    ``truth``: uint8 ``(frames, h, w, 3)``. ``prepared``: one a frame. ``fields``: of `align.MotionEstimator`,
    None at the start and after a cut.
    """

    truth: np.ndarray
    prepared: list[PreparedFrame]
    fields: list[np.ndarray | None]


def prepare(truth: np.ndarray, masks: np.ndarray) -> Sample:
    """Frames uint8 ``(n, h, w, 3)`` and holes bool ``(n, h, w)`` to a `Sample`."""
    prepared = [preprocess(frame, hole) for frame, hole in zip(truth, masks)]
    follow = MotionEstimator()
    fields = [None, *(follow(now, before) for before, now in zip(prepared, prepared[1:]))]
    return Sample(truth, prepared, fields)
