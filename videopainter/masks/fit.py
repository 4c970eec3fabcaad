"""Which mask belongs to which frame, where there are not as many masks as frames, or they have another size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videopainter.masks.base import MaskFormat
from videopainter.masks.images import numbers_in, sorted_images
from videopainter.masks.track import MaskCountError, MaskError, by

SAME_SHAPE = 0.02  # by which proportions may differ, as of 432 x 240 and 854 x 480

Places = Sequence[int | None]  # a frame -> the number of its mask; None: it has none, and nothing is marked


def places(form: MaskFormat, source: Any, exact: bool = False) -> tuple[Places, str | None]:
    """(the mask of each frame of `source`, what was done to find that, one sentence, if anything).

    exact: nothing is done. Raises MaskCountError if the masks are not as many as the frames and nothing helps.
    """
    count, frames = form.count, len(source)
    if count is None:
        return [0] * frames, None
    if count == frames:
        return range(frames), None
    if not exact:
        for way in (_one_for_all, _by_name, _by_end, _by_time, _by_ratio):
            if (found := way(form, count, source)) is not None:
                return found
    raise MaskCountError(f"'{form.path}' has {count} masks, but the video has {frames} frames.")


def _one_for_all(form: MaskFormat, count: int, source: Any) -> tuple[Places, str] | None:
    if count != 1:
        return None
    return [0] * len(source), f"'{form.path}' has 1 mask, which is taken for all {len(source)} frames."


def _by_name(form: MaskFormat, count: int, source: Any) -> tuple[Places, str] | None:
    """By the numbers in the files' names, where some are left out: frames without an object, or all but every nth."""
    numbers, frames = form.numbers, len(source)
    if numbers is None or count > frames:
        return None
    steps = {b - a for a, b in zip(numbers, numbers[1:])}
    own = _frame_numbers(source)
    if own is not None and set(numbers) <= set(own):
        at, counted = {number: i for i, number in enumerate(own)}, "as those of the frames are"
    else:
        first = 0 if numbers[0] == 0 or numbers[-1] < frames else 1
        if numbers[-1] - first >= frames:
            return None
        at, counted = {i + first: i for i in range(frames)}, f"counted from {first}"
    mine = {at[number]: k for k, number in enumerate(numbers)}
    step = steps.pop() if len(steps) == 1 else 0
    if step > 1 and min(mine) < step and max(mine) >= frames - step:
        nearest = [min(mine, key=lambda place: (abs(place - i), place)) for i in range(frames)]
        return (
            [mine[place] for place in nearest],
            f"'{form.path}' has one mask for {step} frames; each frame takes the one nearest to it.",
        )
    if step == 1 and own is None and numbers[0] <= 1:
        return None  # simply too few
    return (
        [mine.get(i) for i in range(frames)],
        f"'{form.path}' has masks for {count} of {frames} frames, by the numbers in their names, {counted}; "
        f"in the others nothing is marked.",
    )


def _frame_numbers(source: Any) -> list[int] | None:
    """The numbers in the names of the frames, where they are images in a folder."""
    path = getattr(source, "path", None)
    if not isinstance(path, str | os.PathLike) or not os.path.isdir(path):
        return None
    names = [image.stem for image in sorted_images(Path(path))]
    return numbers_in(names) if len(names) == len(source) else None


def _by_end(form: MaskFormat, count: int, source: Any) -> tuple[Places, str] | None:
    more = count - len(source)
    if abs(more) != 1 or len(source) < 3:
        return None
    numbers = [min(i, count - 1) for i in range(len(source))]
    done = "the last mask is left out" if more == 1 else "the last mask is taken twice"
    return numbers, f"'{form.path}' has {count} masks for {len(source)} frames; {done}."


def _by_time(form: MaskFormat, count: int, source: Any) -> tuple[Places, str] | None:
    """By when they are shown, where that takes as long as the video does."""
    if form.times is None or form.duration is None or not hasattr(source, "times"):
        return None
    ours, theirs = Fraction(form.duration), Fraction(source.duration)
    frame = max(ours / count, theirs / len(source))
    if abs(ours - theirs) > 1.5 * frame:
        return None
    slack = min(ours / count, theirs / len(source)) / 10  # clocks round
    numbers, mask = [], 0
    for time in source.times:
        while mask + 1 < count and form.times[mask + 1] <= time + slack:
            mask += 1
        numbers.append(mask)
    return (
        numbers,
        f"'{form.path}' has {count} masks for {len(source)} frames in the same {float(theirs):.1f} seconds; each "
        f"frame takes the mask that is shown with it.",
    )


def _by_ratio(form: MaskFormat, count: int, source: Any) -> tuple[Places, str] | None:
    """Every nth frame has a mask, or every nth mask a frame, where masks do not say when they are shown."""
    counted = form.numbers is None or form.numbers[-1] - form.numbers[0] == count - 1
    if form.times is not None or not counted:
        return None
    few, many = sorted((count, len(source)))
    ratio = round(many / few)
    if not 2 <= ratio <= few or -(-many // ratio) != few:
        return None
    if count == few:
        numbers = [min(i // ratio, few - 1) for i in range(many)]
        done = f"each is taken for {ratio} frames"
    else:
        numbers = [i * ratio for i in range(few)]
        done = f"1 of {ratio} is taken"
    return numbers, f"'{form.path}' has {count} masks for {len(source)} frames; {done}."


def check_shape(form: MaskFormat, i: int, size: tuple[int, int], source: Any) -> bool:
    """Whether mask `i` has another size than the frames, and is to be scaled. Raises MaskError for another shape."""
    (height, width), (lines, columns) = size, tuple(source.size)
    if (height, width) == (lines, columns):
        return False
    off = abs(width * lines - height * columns)
    # A side that is nearly the same has been cut or padded, and scaling would move what is marked.
    resized = min(abs(width / columns - 1), abs(height / lines - 1)) > 0.1
    if off <= max(lines, columns) or (resized and off <= SAME_SHAPE * width * lines):
        return True
    raise MaskError(
        f"The masks in '{form.file_of(i) if i else form.path}' are {by(size)} (width x height), but the video is "
        f"{by(source.size)}."
    )


def scaled(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bool mask (height, width) as one of `size`: a pixel is marked if half of what lies under it is."""
    height, width = size
    shrinks = height < mask.shape[0]
    soft = cv2.resize(
        mask.astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    return soft >= 0.5
