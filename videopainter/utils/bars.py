"""Progress bars on stderr, one listener to progress among others."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm


class Bars:
    """One tqdm bar a stage, one at a time: called as progress(stage, done, total).

    Args:
        units: what a stage counts, where that is not frames; looked up when its bar appears.
    """

    SILENT = ("read",)  # stages that are over before anybody has looked

    def __init__(self, units: Mapping[str, str] | None = None):
        self._units = {} if units is None else units
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage in self.SILENT:
            return
        if stage != self._stage:
            if self._bar is not None and self._bar.n < self._bar.total and stage != "inpaint":
                return  # inpainting and writing go hand in hand: one of them is shown
            if done >= total:
                return  # and what was done meanwhile is no news
            self._close()
            self._stage = stage
            unit = self._units.get(stage, "frame")
            self._bar = tqdm(desc=stage, total=total, unit=unit, file=sys.stderr)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._stage = self._bar = None
