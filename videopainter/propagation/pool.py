"""Work on several frames at once, in threads: nearly all of it is OpenCV's and NumPy's, which let others run."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import cv2

from videopainter.ops.motion import Motion

MOST = 8  # threads, unless more are asked for; the two blocks of frames at work have no more
_BEAT_SECONDS = 0.1
# A thread that waits for the interpreter is woken each time the other one makes a short call, in vain, until it may ask
# for it: Python's own 5 ms cost an eighth of all time.
_HAND_OVER_SECONDS = 0.0003


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _SideBySide:
    """Settings of the whole process that suit threads side by side, as long as anybody wants them.

    Python's switch interval is shorter, and OpenCV has no threads of its own, which would wait for each other.
    """

    def __init__(self) -> None:
        self._lock, self._wanted = threading.Lock(), 0
        self._before = sys.getswitchinterval(), cv2.getNumThreads()

    def __enter__(self) -> None:
        with self._lock:
            if not self._wanted:
                self._before = sys.getswitchinterval(), cv2.getNumThreads()
                sys.setswitchinterval(min(self._before[0], _HAND_OVER_SECONDS))
                cv2.setNumThreads(1)
            self._wanted += 1

    def __exit__(self, *error) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                sys.setswitchinterval(self._before[0])
                cv2.setNumThreads(self._before[1])


_side_by_side = _SideBySide()


class Pool:
    """Threads, each with flow estimators of its own; none with one worker, which works when results are asked for.

    Used as a context manager; at its end work that has not begun is dropped. Meanwhile Python hands over between all
    threads of the process more often, and OpenCV has one thread.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._motions: queue.SimpleQueue[Motion] = queue.SimpleQueue()
        for _ in range(workers):
            self._motions.put(Motion())
        self._threads = ThreadPoolExecutor(workers, "propagation") if workers > 1 else None

    @property
    def threads(self) -> int:
        """How many work while nobody waits for it."""
        return 0 if self._threads is None else self._workers

    def __enter__(self) -> Pool:
        if self._threads is not None:
            _side_by_side.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            _side_by_side.__exit__()

    def start(self, work: Callable, items: Iterable, beat: Callable[[], None]) -> Iterator:
        """Begin ``work(item, motion)`` for each; what is returned gives the results in order, and calls ``beat``."""
        if self._threads is None:
            return self._one_by_one(work, items, beat)
        return _in_order(deque(self.submit(work, item) for item in items), beat)

    def submit(self, work: Callable, item) -> Future:
        """Begin ``work(item, motion)``, where there are threads; it may wait for what was begun before it."""
        return self._threads.submit(self._with_motion, work, item)

    def _one_by_one(self, work: Callable, items: Iterable, beat: Callable[[], None]) -> Iterator:
        for item in items:
            beat()
            yield self._with_motion(work, item)

    def _with_motion(self, work: Callable, item):
        motion = self._motions.get()
        try:
            return work(item, motion)
        finally:
            self._motions.put(motion)


def _in_order(futures: deque[Future], beat: Callable[[], None]) -> Iterator:
    while futures:
        yield waited(futures.popleft(), beat)


def waited(future: Future, beat: Callable[[], None]):
    """The result of a ``future``; until it is there ``beat`` is called."""
    while not wait([future], _BEAT_SECONDS).done:
        beat()
    return future.result()
