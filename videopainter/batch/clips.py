"""From a row to what the spine takes: its frames, its masks, and what they should become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from videopainter.batch.rows import Row
from videopainter.inpaint import InpaintResult
from videopainter.masks import MaskTrack, count_masks, load_masks
from videopainter.video import VideoSource, open_video
from videopainter.video.subset import SubsetSource, original_numbers


def excerpt(row: Row, video: VideoSource) -> VideoSource:
    """The row's frames of its video, at the rate that the row says. Raises ValueError if there are none.

    A rate that is less than 1 off the video's own is taken for the latter, rounded.
    """
    if row.start >= len(video):
        raise ValueError(f"start_frame is {row.start}, but '{row.video}' has {len(video)} frames.")
    end = min(len(video) if row.end is None else row.end, len(video))
    rounded = row.fps is None or abs(row.fps - video.fps) < 1
    return _cut(video, range(row.start, end), video.fps if rounded else row.fps)


def given_masks(row: Row, video: VideoSource, source: VideoSource) -> tuple[Path | MaskTrack, VideoSource]:
    """(the row's masks as `inpaint_video` takes them, its frames as far as there are masks for them).

    Masks are for the whole video or for the row's frames. In the reference's data their number may differ from
    that of the frames, as decoders count them; then the row ends where one of them does.
    """
    if not row.reference:
        return row.mask, source
    count = count_masks(row.mask)
    if count is None or count in (len(video), len(source)):
        return row.mask, source
    numbers = [i for i in original_numbers(source) if i < count]
    if not numbers:
        raise ValueError(f"start_frame is {row.start}, but '{row.mask}' has {count} masks.")
    masks = load_masks(row.mask, _Extent(count, video.size), row.mask_id)
    return masks.select(numbers), _cut(video, range(row.start, row.start + len(numbers)), source.fps)


@contextmanager
def truth_of(row: Row, video: VideoSource, result: InpaintResult) -> Iterator[VideoSource]:
    """What the frames of `video` that were worked on should look like: as many frames of `row.truth`."""
    numbers, fps = result.numbers, Fraction(result.fps).limit_denominator(1001)
    if row.truth == row.video:
        yield SubsetSource(video, numbers, fps)
        return
    with open_video(row.truth) as truth:
        if len(truth) == len(numbers):
            yield truth
        elif len(truth) == len(video):
            yield SubsetSource(truth, numbers, fps)
        else:
            raise ValueError(
                f"'{row.truth}' has {len(truth)} frames, neither the {len(video)} of the video nor the "
                f"{len(numbers)} that were worked on."
            )


class _Extent:
    """The length and size that masks have to fit."""

    def __init__(self, count: int, size: tuple[int, int]):
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count


def _cut(video: VideoSource, numbers: range, fps) -> VideoSource:
    if len(numbers) == len(video) and fps == video.fps:
        return video
    if fps == video.fps:
        return SubsetSource(video, numbers)
    part = SubsetSource(video, numbers, fps)
    if video.has_audio:
        part.warnings = [
            *video.warnings,
            f"The sound is dropped, since the row is played at {float(fps):g} a second.",
        ]
    part.has_audio, part.companions = False, None
    return part
