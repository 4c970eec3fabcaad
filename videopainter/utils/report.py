"""What a run says about itself: seconds a stage, peak memory, versions."""

import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PACKAGES = (
    *("videopainter", "numpy", "opencv-python-headless", "av", "decord", "pillow"),
    *("torch", "diffusers", "transformers"),
)


class Stopwatch:
    """Seconds a stage; while one stage runs inside another, only the inner one counts."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, stage: str):
        self._charge()
        self._stack.append(stage)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """`items`, with the time that each takes to make charged to `stage`."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._stack:
            stage = self._stack[-1]
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def peak_memory_mb() -> float | None:
    """The most memory this process has held, in MiB; None where the system does not tell."""
    try:
        # Not getrusage: on Linux that begins with what the process held that started this one.
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return round(int(found[1]) / 2**10, 1)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def versions() -> dict[str, str]:
    """Version of Python, of the system, and of each package of `PACKAGES` that is installed."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
