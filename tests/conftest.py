"""What all tests share: no weights but their own, small clips, one thread."""

import logging
import os
import signal
import sys

import pytest

# Read when OpenCV and NumPy are imported. Two processes of tests share the cores: threads that wait for each other by
# turning round cost more than they bring, in the commands that tests start, too.
os.environ["OPENCV_FOR_THREADS_NUM"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

from clips import moving_texture, write_clip  # noqa: E402

# Tests, and the processes that they start, see no weights but their own.
os.environ["VIDEOPAINTER_CKPT"] = os.path.join(os.path.dirname(__file__), "no weights")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
os.environ["SVT_LOG"] = "0"  # read once in a process, by whichever test is the first to encode AV1


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(7200))


@pytest.fixture(autouse=True)
def usual_priority():
    """No test leaves a real-time thread behind: what waits by turning round would then stop everything else."""
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """PyTorch, where a module of tests has imported it, works in one thread: networks as small as those of tests
    are slower in several, and two processes of tests share the cores."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def heeds_signals():
    """What started the tests may have it that signals are ignored, as nohup and shells in the background do, and every
    child would inherit that. With a handler instead, which does as little, children begin with the default."""
    ignored = [number for number in STOPS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda number, frame: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def handlers_of_its_own():
    """A command that a test runs sets up logging to a stream that is gone after the test."""
    before, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


@pytest.fixture(name="moving_texture")
def _moving_texture():
    return moving_texture


@pytest.fixture(name="write_clip")
def _write_clip():
    return write_clip


@pytest.fixture
def clip(tmp_path):
    """An ordinary H.264 clip of 40 frames, 128 x 96, 25 a second, with AAC sound."""
    return write_clip(tmp_path / "clip.mp4", moving_texture(), options={"g": "12"}, sound="aac")


@pytest.fixture
def heeds_sigint():
    """Ctrl-C raises KeyboardInterrupt in this process, wherever tests run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
