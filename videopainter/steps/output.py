"""Write: the files of a run, each of them whole or not there at all."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from videopainter import masks as mask_files
from videopainter.engines.base import Progress
from videopainter.masks import MaskTrack
from videopainter.masks.formats import check_new
from videopainter.segmentation.prompts import MaskPrompt
from videopainter.steps.export import EXPORTS, Exports
from videopainter.steps.seen import SeenRecord
from videopainter.steps.visualization import marked, panel_size, panels, save_image
from videopainter.utils.atomic import sweep, whole_file
from videopainter.utils.report import peak_memory_mb, versions
from videopainter.video import VideoError, VideoSource, VideoWriter
from videopainter.video.formats import FAITHFUL, codec_for, container_of, ending_for
from videopainter.video.subset import original_numbers, whole_source


class RunFiles:
    """Where a run's results go: a file, the folder of the guide, or, with neither, `frames` in memory.

    The folder is made when the first file is written, so a run that fails before that leaves nothing behind.
    `exports`: further files of the folder, see `videopainter.steps.export`. `codec`, `quality`: of the result, as for
    `VideoWriter`; without a quality what is not repainted stays as near to the source as can be seen. `save_masks`,
    `masks_format`: where masks go, see `videopainter.masks.save_masks`. `warnings`: what of the source could not be
    kept.
    """

    def __init__(
        self,
        output: str | os.PathLike | None,
        output_dir: str | os.PathLike | None,
        codec: str | None = None,
        quality: float | None = None,
        exports: tuple[str, ...] = (),
        save_masks: str | os.PathLike | None = None,
        masks_format: str | None = None,
    ):
        self.files: list[Path] = []
        self.frames: np.ndarray | None = None
        self.warnings: list[str] = []
        self._codec, self._quality = codec, FAITHFUL if quality is None else quality
        if not 0 <= self._quality <= 100:
            raise VideoError(f"The quality must be between 0 and 100, not {quality!r}.")
        self._single = os.fspath(output) if output is not None else None
        self._folder = Path(output_dir) if output_dir is not None else None
        self._made: Path | None = None
        self._swept: set[Path] = set()
        self._masks = Path(save_masks) if save_masks is not None else None
        self._masks_format = masks_format
        if self._masks is not None:
            check_new(self._masks, masks_format)
        self._result = f"result{ending_for(codec)}"
        self._exports = exports
        if exports and output_dir is None:
            raise VideoError("Exports go into the output folder, and there is none.")
        if self._single is not None:
            codec_for(self._single, codec, 8)
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise VideoError(f"The output folder '{self._folder}' is a file.")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._made is not None and not any(self._made.iterdir()):
            self._made.rmdir()

    def save_masks(self, source: VideoSource, objects: Mapping[int, MaskTrack]) -> None:
        """The masks of all objects where the caller wants them, if he does."""
        if self._masks is not None:
            self._masks.parent.mkdir(parents=True, exist_ok=True)
            mask_files.save_masks(objects, self._masks, self._masks_format, float(source.fps))
            self.files.append(self._masks)

    def write_masks(
        self,
        source: VideoSource,
        masks: MaskTrack,
        effects: MaskTrack | None,
        prompts: Iterable,
        mask_only: bool,
        progress: Progress,
    ) -> None:
        """The pictures of the first frame; with `mask_only` also `masks.npz`, of `masks` alone, and `masks_vis.mp4`."""
        if self._folder is None:
            return
        first, mask = source[0], masks[0]
        save_image(self._new("frame0_original.png"), first)
        save_image(self._new("frame0_with_mask.png"), marked(first, mask, prompts, effects and effects[0]))
        save_image(self._new("mask0.png"), mask.astype(np.uint8) * 255)
        if mask_only:
            masks.save_npz(self._new("masks.npz"))
            panes = VideoWriter(self._new("masks_vis.mp4"), source.fps, source.size, **_shown(source))
            with panes as writer, self._exported(source) as exports:
                for i, (frame, mask) in enumerate(zip(source, masks)):
                    writer.write(marked(frame, mask, effects=effects and effects[i]))
                    exports.write(frame, mask)
                    progress("write", i + 1, len(source))

    def write_result(
        self,
        source: VideoSource,
        masks: MaskTrack,
        holes: MaskTrack,
        frames: Iterable[tuple[np.ndarray, np.ndarray]],
        reader: VideoSource,
        progress: Progress,
        seen: SeenRecord | None = None,
    ) -> None:
        """`result.mp4` and `result_vis.mp4`, or the single file, or `frames`; from (original, finished).

        reader: gives the originals as they are stored when they have been read from it. seen: what other frames show.
        """
        with ExitStack() as stack:
            results, panes = [], None
            for path in self._result_files():
                writer = VideoWriter(
                    path,
                    source.fps,
                    source.size,
                    codec=self._codec,
                    quality=self._quality,
                    **_companions(source),
                    **_like(source),
                )
                results.append(stack.enter_context(writer))
            if self._folder is not None:
                height, width = panel_size(source.size)
                path = self._new("result_vis.mp4")
                panes = VideoWriter(path, source.fps, (height, 4 * width), **_shown(source))
                stack.enter_context(panes)
            exports = stack.enter_context(self._exported(source))
            if not results:
                self.frames = np.empty((len(source), *source.size, 3), np.uint8)
            # The frames come first, so that the composite sees the end of what an engine paints.
            for i, ((original, frame), mask, hole) in enumerate(zip(frames, masks, holes)):
                for writer in results:
                    writer.write_over(reader.stored(i), frame, hole)
                if panes is not None:
                    panes.write(panels(original, mask, hole, frame))
                exports.write(original, mask, hole, seen.unseen(i) if seen else None)
                if self.frames is not None:
                    self.frames[i] = frame
                progress("write", i + 1, len(source))
        for writer in results:
            self.warnings += [sentence for sentence in writer.warnings if sentence not in self.warnings]

    def write_report(
        self,
        settings: dict,
        source: VideoSource,
        masks: MaskTrack,
        effects: MaskTrack | None,
        lost: list[int],
        seconds: dict,
        seen: SeenRecord | None = None,
    ) -> None:
        """`run.json`: what was asked for, with what versions, how long each stage took, how much memory."""
        if self._folder is None:
            return
        report = {
            "settings": settings,
            "frames": len(source),
            "width": source.width,
            "height": source.height,
            "fps": str(source.fps),
            "marked_share": round(masks.share(), 6),
            "effects_share": round(effects.share(), 6) if effects else 0,
            "seen": seen.report() if seen else None,
            "lost_at_frames": lost,
            "warnings": [*masks.notes, *source.warnings, *self.warnings],
            "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
            "peak_memory_mb": peak_memory_mb(),
            "versions": versions(),
        }
        with whole_file(self._new("run.json")) as file:
            text = json.dumps(report, indent=2, ensure_ascii=False, default=_plain)
            file.write(f"{text}\n".encode(errors="backslashreplace"))  # names need not be text

    def _exported(self, source: VideoSource) -> Exports:
        paths = {name: self._new(EXPORTS[name]) for name in self._exports}
        return Exports(self._exports, paths, source.fps, source.size, **_shown(source))

    def _result_files(self) -> Iterator[str | Path]:
        if self._single is not None:
            container_of(self._single)
            path = Path(self._single)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(path.parent)
            self.files.append(path)
            yield self._single
        if self._folder is not None:
            yield self._new(self._result)

    def _sweep(self, folder: Path) -> None:
        """Once in a run: what runs into this folder were writing when they were killed."""
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder)

    def _new(self, name: str) -> Path:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True)
            self._made = self._folder
        self._sweep(self._folder)
        self.files.append(self._folder / name)
        return self._folder / name


def _like(source: VideoSource) -> dict:
    """What a writer has to know to keep the source as it is."""
    times = source.times if source.variable_rate else None
    return {
        "colour": source.colour,
        "pixel_format": source.pixel_format,
        "aspect": source.aspect,
        "times": times,
    }


def _shown(source: VideoSource) -> dict:
    """The same for pictures for people: 8 bits, and HDR toned down."""
    colour = source.colour
    if colour is not None:
        colour = None if colour.hdr else dataclasses.replace(colour, depth=8)
    return {**_like(source), "colour": colour, "pixel_format": None}


def _companions(source: VideoSource) -> dict:
    """The part of the source's sound and other tracks that belongs to its frames."""
    if source.companions is None:
        return {}
    whole = whole_source(source)
    start = source.start - whole.start
    # Only where the end was cut off do they need cutting: sound may last longer than the pictures.
    cut = original_numbers(source)[-1] < len(whole) - 1 and whole.duration > start + source.duration
    return {
        "audio_from": source.companions,
        "audio_start": start,
        "duration": source.duration if cut else None,
    }


def _plain(value):
    """What JSON has no word for."""
    if isinstance(value, MaskPrompt):
        where = f"{int(value.mask.sum())} pixels"
        return {"mask": where, "frame": value.frame, "mode": value.mode, "object_id": value.object_id}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)
