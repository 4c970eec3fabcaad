"""How long pieces and how large pictures may be in the memory that is free.

Bytes a pixel are those of the stages on a CPU in float32 at 320 x 240, rounded up; half precision needs less.
"""

from videopainter.ops.memory import free_bytes, give_back

__all__ = ["free_bytes", "give_back", "resize_ratio", "subvideo_length"]

LONGEST, SHORTEST = 80, 10  # frames of a piece: the public default, and what the overlaps leave sense in
_SHARE = 0.5  # of the free memory that is planned with: estimates err, and others need memory too
# Flow completion keeps the flows of a piece (16 bytes) and coarse features (16), and what painting needs of them.
_PIECE_BYTES = 40
_PIECE_OVERLAP = 10
# A painting window with references, float32; the correlations of one flow grow with the square of the area.
_WINDOW_BYTES = 5000
_FLOW_BYTES = 4 / 64**2 * 4 / 3 * 1.5


def subvideo_length(height: int, width: int, free: int) -> int:
    """Frames of a piece, 10 to 80, for frames of this many pixels and ``free`` bytes."""
    frames = _SHARE * free / (_PIECE_BYTES * height * width) - _PIECE_OVERLAP
    return int(min(LONGEST, max(SHORTEST, frames)))


def resize_ratio(height: int, width: int, free: int) -> float:
    """The largest of 1, 0.9, 0.8, ... 0.1 at which a window and the flow of a pair of frames fit into ``free``."""
    for tenths in range(10, 1, -1):
        area = height * width * (tenths / 10) ** 2
        if _WINDOW_BYTES * area + _FLOW_BYTES * area**2 <= _SHARE * free:
            return tenths / 10
    return 0.1
