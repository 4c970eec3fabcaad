"""Which frames are seen together: windows of neighbours, and references from the rest of the video."""

from collections.abc import Iterator
from dataclasses import dataclass

NEAREST = 8  # references, unless another number is asked for: all that a video of up to 80 frames has


@dataclass(frozen=True)
class Window:
    """Frames painted together, and frames that are only looked at."""

    neighbours: list[int]
    references: list[int]


def windows(
    length: int, neighbor_stride: int = 5, ref_stride: int = 10, num_ref: int | None = None
) -> Iterator[Window]:
    """The windows of a video of ``length`` frames, one every ``neighbor_stride`` frames, reaching as far each way.

    References are frames that are not neighbours. ``num_ref``:
      None: of every ``ref_stride``-th frame the `NEAREST`; the same as -1 where there are no more.
      -1: every ``ref_stride``-th frame of the video, as published; windows then grow with the video.
      n: as published with a limit: every ``ref_stride``-th frame, n // 2 of them to each side of the middle.
    """
    for middle in range(0, length, neighbor_stride):
        near = range(max(0, middle - neighbor_stride), min(length, middle + neighbor_stride + 1))
        if num_ref == -1:
            candidates = range(0, length, ref_stride)
        elif num_ref is None:
            # More than enough on either side, neighbours among them; in a long video not all there are.
            first, enough = middle // ref_stride, NEAREST + 1 + neighbor_stride // ref_stride
            low, high = max(0, first - enough), first + enough + 1
            candidates = range(low * ref_stride, min(length, high * ref_stride), ref_stride)
        else:
            reach = ref_stride * (num_ref // 2)
            # The published script looks at `length` itself, too, which is one past the end.
            candidates = range(max(0, middle - reach), min(length, middle + reach + 1), ref_stride)
        others = [i for i in candidates if i not in near]
        if num_ref is None:
            others = sorted(sorted(others, key=lambda i: abs(i - middle))[:NEAREST])
        yield Window(list(near), others)


def check_options(neighbor_stride: int, ref_stride: int, num_ref: int | None) -> None:
    """Raise ValueError for options that no video could be painted with."""
    least = {"neighbor_stride": 1, "ref_stride": 1, "num_ref": -1}
    for (name, minimum), value in zip(least.items(), (neighbor_stride, ref_stride, num_ref)):
        if value is None and name == "num_ref":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{name} must be a whole number of {minimum} or more, not {value!r}.")
