"""Commands as processes that come to a halt in the middle of a video: whatever a test does to them, it is in time."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 120  # seconds that a busy machine may take to begin

CODE = """
import importlib, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from videopainter.video.writer import VideoWriter

def halting(method):
    def write(self, *frames):
        method(self, *frames)
        folder, name = os.path.split(self.path)
        if {where!r} in self.path and list(Path(folder).glob("." + name + "*")):
            Path({sign!r}).touch()
            time.sleep(3600)
    return write

VideoWriter.write, VideoWriter.write_over = halting(VideoWriter.write), halting(VideoWriter.write_over)
from videopainter.cli.errors import door
door(importlib.import_module({module!r}).main)
"""


def start_halting(module, arguments, where, sign, **options) -> subprocess.Popen:
    """The command of `module`, started; it has halted at the first frames that are in the file of the video whose
    path `where` is part of. Encoders keep some back: the video needs a hundred or more.

    `sign`: a file that it makes then.
    """
    code = CODE.format(root=str(ROOT), module=module, where=where, sign=str(sign))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    wait_for(Path(sign).exists, process)
    return process


def wait_for(begun, *processes) -> None:
    """Wait until `begun()`; the test fails if one of the processes ends before, or none gets there."""
    deadline = time.monotonic() + LONGEST
    while not begun():
        ended = [process.poll() for process in processes]
        if any(status is not None for status in ended) or time.monotonic() > deadline:
            for process in processes:
                process.kill()
            said = [process.communicate()[1] for process in processes]
            raise AssertionError(f"It has not begun; exit statuses {ended}, it said {said}.")
        time.sleep(0.02)
