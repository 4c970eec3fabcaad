"""Which part of the holes other frames show, told by engines that know it."""

from __future__ import annotations

import logging

import numpy as np

from videopainter.masks import MaskTrack, pack

log = logging.getLogger("videopainter")


class SeenRecord:
    """A `Confidence` that keeps what was never seen.

    holes: what is inpainted. never_seen: the part of it that no other frame shows, once every frame has been told of.
    """

    def __init__(self, holes: MaskTrack):
        self.holes = holes
        self._packed: list[bytes] = []
        self._pixels: list[tuple[int, int]] = []  # of the hole, and of what of it was never seen, a frame

    def __call__(self, i: int, confidence: np.ndarray) -> None:
        unseen = confidence == 0
        self._packed.append(pack(unseen))
        self._pixels.append((int(np.count_nonzero(self.holes[i])), int(np.count_nonzero(unseen))))

    @property
    def complete(self) -> bool:
        """Whether every frame has been told of."""
        return len(self._pixels) == len(self.holes)

    @property
    def never_seen(self) -> MaskTrack | None:
        """True where no other frame shows what the hole hides; None if that was not told of every frame."""
        return MaskTrack(self._packed, self.holes.size) if self.complete else None

    def unseen(self, i: int) -> np.ndarray | None:
        """`never_seen` of frame `i`, bool (height, width); None as long as it has not been told."""
        return MaskTrack(self._packed, self.holes.size)[i] if i < len(self._packed) else None

    @property
    def share(self) -> float:
        """Of all hole pixels, how many other frames show, 0 to 1; 1 where there is no hole."""
        return _share(*map(sum, zip(*self._pixels)))

    def report(self) -> dict | None:
        """What `run.json` says of it: share, never_seen_pixels, frames (the share of each); None if not known."""
        if not self.complete:
            return None
        return {
            "share": round(self.share, 6),
            "never_seen_pixels": sum(unseen for _, unseen in self._pixels),
            "frames": [round(_share(*pixels), 4) for pixels in self._pixels],
        }

    def say(self) -> None:
        """One line for people."""
        if not self.complete or not any(hole for hole, _ in self._pixels):
            return
        frames = sum(unseen > 0 for _, unseen in self._pixels)
        if frames:
            text = f"{_percent(self.share)} of the hole; something of {frames} frames was never seen"
        else:
            text = "all of the hole"
        log.info("Other frames show %s.", text)


def _share(hole: int, unseen: int) -> float:
    return 1 - unseen / hole if hole else 1.0


def _percent(share: float) -> str:
    """Never 100 or 0 % for what is not quite that."""
    return f"{min(max(100 * share, 0.1 if share else 0), 99.9 if share < 1 else 100):.1f} %"
