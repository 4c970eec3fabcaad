"""What a reader of videos has to do; the table is in `videopainter.video.readers`.

To add a reader, write one file in this folder with a class that

- derives from `VideoReader` and sets `name`, the word for `open_video(backend=...)`, and `automatic`, whether it is
  tried where nobody asked for it;
- says in `objection(path)`, without decoding anything, why it should not read a path, or None;
- is made with `(path, fps=None)`, sets `_length`, `size`, `fps` and whatever else of `VideoSource` it knows, and raises
  `VideoError`, one sentence, for what it cannot read;
- gives a frame in `_decode(i)` and, where files hold more than 8-bit RGB, in `stored(i)`;

and put the class into `READERS`. `tests/video/test_readers.py` then runs over it: frames, random access, times, bounded
memory, closing, and errors that are sentences.
"""

from __future__ import annotations

from abc import abstractmethod

from videopainter.video.source import CachedSource


class VideoReader(CachedSource):
    """A source over a path on the disk."""

    name: str = ""
    automatic: bool = True

    def __init__(self, path: str, fps=None):
        super().__init__()
        self.path, self.backend = path, self.name

    @classmethod
    @abstractmethod
    def objection(cls, path: str) -> str | None:
        """Why this reader should not be given `path`, one sentence; None if it may try."""
