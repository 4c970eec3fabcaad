"""Write: the files of a run, each of them whole or not there at all."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from videopainter.engines.base import Progress
from videopainter.masks import MaskTrack
from videopainter.steps.visualization import marked, panel_size, panels, save_image
from videopainter.utils.atomic import whole_file
from videopainter.utils.report import peak_memory_mb, versions
from videopainter.video import VideoError, VideoSource, VideoWriter
from videopainter.video.subset import original_numbers


class RunFiles:
    """Where a run's results go: a file, the folder of the guide, or, with neither, `frames` in memory.

    The folder is made when the first file is written, so a run that fails before that leaves nothing behind.
    """

    def __init__(self, output: str | os.PathLike | None, output_dir: str | os.PathLike | None):
        self.files: list[Path] = []
        self.frames: np.ndarray | None = None
        self._single = Path(output) if output is not None else None
        self._folder = Path(output_dir) if output_dir is not None else None
        self._made: Path | None = None
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise VideoError(f"The output folder '{self._folder}' is a file.")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._made is not None and not any(self._made.iterdir()):
            self._made.rmdir()

    def write_masks(
        self, source: VideoSource, masks: MaskTrack, prompts: Iterable, mask_only: bool, progress: Progress
    ) -> None:
        """The pictures of the first frame; with `mask_only` also `masks.npz` and `masks_vis.mp4`."""
        if self._folder is None:
            return
        first, mask = source[0], masks[0]
        save_image(self._new("frame0_original.png"), first)
        save_image(self._new("frame0_with_mask.png"), marked(first, mask, prompts))
        save_image(self._new("mask0.png"), mask.astype(np.uint8) * 255)
        if mask_only:
            masks.save_npz(self._new("masks.npz"))
            with VideoWriter(self._new("masks_vis.mp4"), source.fps, source.size, **_like(source)) as writer:
                for i, (frame, mask) in enumerate(zip(source, masks)):
                    writer.write(marked(frame, mask))
                    progress("write", i + 1, len(source))

    def write_result(
        self,
        source: VideoSource,
        masks: MaskTrack,
        holes: MaskTrack,
        frames: Iterable[tuple[np.ndarray, np.ndarray]],
        progress: Progress,
    ) -> None:
        """`result.mp4` and `result_vis.mp4`, or the single file, or `frames`; from (original, finished)."""
        with ExitStack() as stack:
            results, panes = [], None
            for path in self._result_files():
                writer = VideoWriter(path, source.fps, source.size, **_sound(source), **_like(source))
                results.append(stack.enter_context(writer))
            if self._folder is not None:
                height, width = panel_size(source.size)
                path = self._new("result_vis.mp4")
                panes = stack.enter_context(VideoWriter(path, source.fps, (height, 4 * width)))
            if not results:
                self.frames = np.empty((len(source), *source.size, 3), np.uint8)
            # The frames come first, so that the composite sees the end of what an engine paints.
            for i, ((original, frame), mask, hole) in enumerate(zip(frames, masks, holes)):
                for writer in results:
                    writer.write(frame)
                if panes is not None:
                    panes.write(panels(original, mask, hole, frame))
                if self.frames is not None:
                    self.frames[i] = frame
                progress("write", i + 1, len(source))

    def write_report(self, settings: dict, source: VideoSource, lost: list[int], seconds: dict) -> None:
        """`run.json`: what was asked for, with what versions, how long each stage took, how much memory."""
        if self._folder is None:
            return
        report = {
            "settings": settings,
            "frames": len(source),
            "width": source.width,
            "height": source.height,
            "fps": str(source.fps),
            "lost_at_frames": lost,
            "warnings": list(source.warnings),
            "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
            "peak_memory_mb": peak_memory_mb(),
            "versions": versions(),
        }
        with whole_file(self._new("run.json")) as file:
            file.write((json.dumps(report, indent=2, ensure_ascii=False, default=_plain) + "\n").encode())

    def _result_files(self) -> Iterator[Path]:
        if self._single is not None:
            self._single.parent.mkdir(parents=True, exist_ok=True)
            self.files.append(self._single)
            yield self._single
        if self._folder is not None:
            yield self._new("result.mp4")

    def _new(self, name: str) -> Path:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True)
            self._made = self._folder
        self.files.append(self._folder / name)
        return self._folder / name


def _like(source: VideoSource) -> dict:
    return {"colour": source.colour}


def _sound(source: VideoSource) -> dict:
    if not source.has_audio:
        return {}
    # Only where the end was cut off does the sound need cutting: sound may last longer than the pictures.
    whole = source
    while hasattr(whole, "indices"):
        whole = whole.source
    cut = original_numbers(source)[-1] < len(whole) - 1 and whole.duration > source.duration
    return {"audio_from": source.path, "duration": source.duration if cut else None}


def _plain(value):
    """What JSON has no word for."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)
