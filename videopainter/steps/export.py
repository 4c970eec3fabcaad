"""What people need who composite elsewhere: the matte of the object, the object cut out, and what was made up."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from videopainter.steps.visualization import seen_hole
from videopainter.video import VideoError, VideoWriter

EXPORTS = {"matte": "matte.mp4", "foreground": "foreground.mov", "seen": "seen.mp4"}
MATTE_QUALITY = 90  # of 100; edges of a matte show what a codec does to them
SOFT = 0.7  # pixels, the blur that takes the stairs off the outline of a mask


def checked_exports(names) -> tuple[str, ...]:
    """The names, each of `EXPORTS`; from a sequence or from text with commas. Raises VideoError for others."""
    listed = (names.split(",") if names else []) if isinstance(names, str) else list(names or ())
    for name in listed:
        if name not in EXPORTS:
            raise VideoError(f"There is no export '{name}'; the names are {', '.join(EXPORTS)}.")
    return tuple(dict.fromkeys(listed))


class Exports:
    """Files of the object alone, frame by frame; whole when the with-block ends well, else not there.

    Args:
        names: of `EXPORTS`: "matte", a video that is white where the object is; "foreground", ProRes 4444 of the
            source's frames whose alpha is that matte, not multiplied into the colours; "seen", the hole of each frame
            green where other frames show what it hides, red where none does, white where that is not known.
        paths: where each of them goes.
        fps, size: of the frames. like: more arguments of `VideoWriter`: times, aspect, colour of 8 bits.
    """

    def __init__(self, names: tuple[str, ...], paths: dict[str, Path], fps, size: tuple[int, int], **like):
        self._names, self._paths, self._fps, self._size, self._like = names, paths, fps, size, like

    def __enter__(self):
        self._stack, self._writers = ExitStack(), {}
        with self._stack:
            for name in self._names:
                kind: dict = {"quality": MATTE_QUALITY, "colour": None, "pixel_format": None}
                if name == "foreground":
                    kind = {"codec": "prores", "pixel_format": "rgba"}
                writer = VideoWriter(self._paths[name], self._fps, self._size, **{**self._like, **kind})
                self._writers[name] = self._stack.enter_context(writer)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def write(
        self,
        frame: np.ndarray,
        mask: np.ndarray,
        hole: np.ndarray | None = None,
        unseen: np.ndarray | None = None,
    ) -> None:
        """The next frame, uint8 (h, w, 3), the object in it, its hole, and what of that no frame shows, bool (h, w)."""
        if not self._writers:
            return
        if "seen" in self._writers:
            self._writers["seen"].write(seen_hole(frame, mask if hole is None else hole, unseen))
        alpha = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (0, 0), SOFT)
        if "matte" in self._writers:
            self._writers["matte"].write(np.repeat(alpha[..., None], 3, axis=2))
        if "foreground" in self._writers:
            self._writers["foreground"].write_cut_out(frame, alpha)
