"""A whole set of clips: the figures of every clip, their means, a table and a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videopainter.metrics.frames import SSIM_WINDOW, Pair, WarpingError, frame_psnr, frame_ssim
from videopainter.metrics.layout import Clip, ClipFrames
from videopainter.utils.atomic import whole_file

FLOW = "DIS"  # the optical flow of E_warp
THOUSANDTH = 1e-3  # E_warp is told in thousandths, as E_warp x 1e-3 in papers

MEASURES = ("psnr", "ssim", "e_warp")  # dB; up to 1; thousandths
COLUMNS = (*MEASURES, *(f"{name}_hole" for name in MEASURES))
BY_FRAME, BY_CLIP = "(mean of frames)", "(mean of clips)"

Figures = dict[str, float | None]  # a value, or None where there is no pixel to measure, for each of COLUMNS


class Tally:
    """Sum and number of each figure over frames."""

    def __init__(self):
        self.sums, self.counts = dict.fromkeys(COLUMNS, 0.0), dict.fromkeys(COLUMNS, 0)

    def add(self, name: str, values: Pair) -> None:
        for column, value in zip((name, f"{name}_hole"), values):
            if value is not None:
                self.sums[column] += value
                self.counts[column] += 1

    def include(self, other: Tally) -> None:
        for column in COLUMNS:
            self.sums[column] += other.sums[column]
            self.counts[column] += other.counts[column]

    def means(self) -> Figures:
        return {c: self.sums[c] / self.counts[c] if self.counts[c] else None for c in COLUMNS}


@dataclass
class ClipReport:
    """One clip. `mask` is "stationary" or "moving", `hole` the share of all pixels (0 to 1)."""

    name: str
    frames: int = 0
    mask: str = "stationary"
    hole: float = 0.0
    tally: Tally = field(default_factory=Tally)

    @property
    def figures(self) -> Figures:
        return self.tally.means()


@dataclass
class Report:
    """All clips. `vfid` and `vfid_hole` are None where they were not asked for or, the latter, without holes."""

    clips: list[ClipReport]
    vfid: float | None = None
    vfid_hole: float | None = None

    def by_frame(self) -> Figures:
        """Means over the frames of all clips, in which PSNR and SSIM are published."""
        all_frames = Tally()
        for clip in self.clips:
            all_frames.include(clip.tally)
        return all_frames.means()

    def by_clip(self) -> Figures:
        """Means of the clips' own figures, in which E_warp is published."""
        rows = [clip.figures for clip in self.clips]
        known = {column: [row[column] for row in rows if row[column] is not None] for column in COLUMNS}
        return {column: float(np.mean(values)) if values else None for column, values in known.items()}


def evaluate(
    clips: Sequence[Clip],
    size: tuple[int, int] | None = (432, 240),
    resize: str = "bicubic",
    dilate: int = 0,
    ssim_window: int = SSIM_WINDOW,
    features=None,
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Measure clips, a few frames of one in memory at a time.

    Args:
        clips: of `find_clips`.
        size, resize, dilate: as for `ClipFrames`.
        ssim_window: as for `frame_ssim`.
        features: `VideoFeatures`, for VFID; None: without. Needs two clips or more.
        progress: called with a clip's name and how many frames have been dealt with since it was last called; a
            frame counts once, and twice more for VFID.

    Raises ValueError, one sentence that begins with the clip's name, for what cannot be read or does not match.
    """
    if features is not None and len(clips) < 2:
        raise ValueError(f"VFID compares sets of 2 clips or more, and there is {len(clips)}.")
    reports, vectors = [], []
    for clip in clips:
        tell = (lambda count, name=clip.name: progress(name, count)) if progress else (lambda count: None)
        with _named(clip), ClipFrames(clip, size, resize, dilate) as frames:
            reports.append(_measure(clip.name, frames, ssim_window, tell))
            if features is not None:
                vectors.append(_features(frames, features, tell))
    report = Report(reports)
    if features is not None:
        report.vfid, report.vfid_hole = _vfid(vectors)
    return report


def count_frames(clips: Sequence[Clip], with_vfid: bool) -> int:
    """What `progress` will have been told in all; opens every clip, so that what does not match is found early."""
    total = 0
    for clip in clips:
        with _named(clip), ClipFrames(clip) as frames:
            total += len(frames)
    return total * (3 if with_vfid else 1)


@contextmanager
def _named(clip: Clip) -> Iterator[None]:
    """Whatever is wrong inside is said of the clip."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{clip.name}: {error}") from error


def _measure(name: str, frames: ClipFrames, window: int, tell: Callable[[int], None]) -> ClipReport:
    report, warping, first = ClipReport(name, len(frames)), WarpingError(), None
    for results, truths, masks in frames.chunks():
        for result, truth, mask in zip(results, truths, masks):
            report.tally.add("psnr", frame_psnr(result, truth, mask))
            report.tally.add("ssim", frame_ssim(result, truth, mask, window))
            if (errors := warping(result, truth, mask)) is not None:
                report.tally.add("e_warp", tuple(e if e is None else e / THOUSANDTH for e in errors))
            first = mask if first is None else first
            if (mask != first).any():
                report.mask = "moving"
            report.hole += float(mask.mean()) / len(frames)
        tell(len(results))
    return report


def _features(frames: ClipFrames, features, tell: Callable[[int], None]) -> tuple:
    """(features of the result, of its hole, of the truth, of its hole)."""

    def pieces(which: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chunk in frames.chunks():
            yield chunk[which], chunk[2]
            tell(len(chunk[2]))

    return (*features(pieces(0), len(frames)), *features(pieces(1), len(frames)))


def _vfid(vectors: list[tuple]) -> tuple[float, float | None]:
    from videopainter.metrics.frechet import frechet_distance

    result, result_hole, truth, truth_hole = zip(*vectors)
    holes = [pair for pair in zip(result_hole, truth_hole) if pair[0] is not None]
    in_hole = frechet_distance(*map(np.stack, zip(*holes))) if len(holes) > 1 else None
    return frechet_distance(np.stack(result), np.stack(truth)), in_hole


def table(report: Report) -> str:
    """The report as text, a line for each clip and one for either mean."""
    width = max(len(name) for name in (BY_FRAME, *(clip.name for clip in report.clips)))
    blank = " " * width
    lines = [
        f"{blank}                             |        over the frame        |         in the hole",
        f"{blank}  frames  mask        hole %  |    PSNR     SSIM    E_warp   |    PSNR     SSIM    E_warp",
    ]
    for clip in report.clips:
        about = f"{clip.name:{width}}  {clip.frames:6d}  {clip.mask:10}  {100 * clip.hole:6.2f}"
        lines.append(about + _cells(clip.figures))
    frames = sum(clip.frames for clip in report.clips)
    lines.append(f"{BY_FRAME:{width}}  {frames:6d}  {'':10}  {'':6}" + _cells(report.by_frame()))
    lines.append(f"{BY_CLIP:{width}}  {'':6}  {'':10}  {'':6}" + _cells(report.by_clip()))
    if report.vfid is not None:
        hole = "-" if report.vfid_hole is None else f"{report.vfid_hole:.4f}"
        lines.append(
            f"VFID of {len(report.clips)} clips: {report.vfid:.4f} over the frame, {hole} in the hole"
        )
    return "\n".join(lines)


def write_csv(path: str | Path, report: Report, settings: dict[str, object]) -> None:
    """The report as CSV, there whole or not at all.

    A line for each clip and for either mean; empty where there is no figure. `settings`, which figures have to share
    to be compared, follow in columns of their own on every line. VFID is on the line of the mean of clips.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    named = {"e_warp": "e_warp_x1e-3", "e_warp_hole": "e_warp_hole_x1e-3"}
    header = [
        "clip",
        "frames",
        "mask",
        "hole",
        *(named.get(c, c) for c in COLUMNS),
        "vfid",
        "vfid_hole",
        *settings,
    ]
    rows.writerow(header)
    frames = sum(clip.frames for clip in report.clips)
    lines = [
        *((c.name, c.frames, c.mask, c.hole, c.figures, None, None) for c in report.clips),
        (BY_FRAME, frames, None, None, report.by_frame(), None, None),
        (BY_CLIP, None, None, None, report.by_clip(), report.vfid, report.vfid_hole),
    ]
    for *about, figures, vfid, vfid_hole in lines:
        values = [*about, *figures.values(), vfid, vfid_hole]
        rows.writerow([_plain(v) for v in values] + list(settings.values()))
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def _plain(value) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def _cells(figures: Figures) -> str:
    psnr, ssim, warp, *hole = (_cell(figures[c], digits) for c, digits in zip(COLUMNS, (2, 4, 3) * 2))
    return f"  | {psnr} {ssim} {warp}   | {' '.join(hole)}"


def _cell(value: float | None, digits: int) -> str:
    return f"{'-':>8}" if value is None else f"{value:8.{digits}f}"
