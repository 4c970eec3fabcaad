"""Which frames are seen together: pieces of a long video, painting windows and their references."""

from collections.abc import Iterator
from dataclasses import dataclass

FLOW_OVERLAP = 5  # flows that pieces of flow completion see beyond their own, on either side
IMAGE_OVERLAP = 10  # frames that pieces of pixel propagation see beyond their own
LONGEST_PROPAGATION = 100  # frames of a piece of pixel propagation at most


@dataclass(frozen=True)
class Piece:
    """Items start..stop are made, low..high are looked at; ends are exclusive."""

    start: int
    stop: int
    low: int
    high: int


def piece_of(item: int, length: int, size: int, overlap: int) -> Piece:
    """The piece that makes ``item``, of ``length`` items cut into pieces of ``size``."""
    start = item // size * size
    stop = min(start + size, length)
    return Piece(start, stop, max(0, start - overlap), min(length, stop + overlap))


@dataclass(frozen=True)
class Window:
    """Frames painted together, and frames that are only looked at."""

    neighbours: list[int]
    references: list[int]


def windows(length: int, neighbor_length: int, ref_stride: int, subvideo_length: int) -> Iterator[Window]:
    """Painting windows of a video of ``length`` frames, one every half ``neighbor_length``.

    A video of up to ``subvideo_length`` frames takes its references from everywhere, a longer one from around
    the window.
    """
    step = neighbor_length // 2
    count = subvideo_length // ref_stride
    reach = ref_stride * (count // 2)
    for middle in range(0, length, step):
        neighbours = list(range(max(0, middle - step), min(length, middle + step + 1)))
        if length <= subvideo_length:
            candidates = range(0, length, ref_stride)
            most = length
        else:
            candidates = range(max(0, middle - reach), min(length, middle + reach), ref_stride)
            most = count + 1  # one more than fits, as the reference does
        others = [i for i in candidates if not neighbours[0] <= i <= neighbours[-1]]
        yield Window(neighbours, others[:most])
