"""How commands end: the ladder of exit statuses, one sentence for each error, streams that are closed, full or gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from videopainter.cli import errors
from videopainter.cli.main import main
from videopainter.utils.sentences import LONGEST
from videopainter.utils.signals import Stop, Stopped

ROOT = Path(__file__).resolve().parents[2]


def raising(error):
    def work():
        raise error

    return work


def stopped_by(number):
    stop = Stop()
    stop.number = number
    return Stopped("Stopped after step 3.", stop)


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: errors.FAILED, 1, ""),
        (raising(ValueError("It is\nbroken.")), 2, "it: error: It is\n"),
        (
            raising(OSError(28, "No space left on device", "a.mp4")),
            2,
            "it: error: No space left on device: 'a.mp4'\n",
        ),
        (raising(FloatingPointError("nan")), 2, "it: error: nan\n"),
        (raising(MemoryError()), 2, "it: error: MemoryError\n"),
        (raising(KeyError("a word")), 1, None),
        (
            raising(ModuleNotFoundError("no", name="torch.nn")),
            2,
            "it: error: torch.nn is not installed; pip install 'videopainter[diffusion]' gets it.\n",
        ),
        (raising(ModuleNotFoundError("no", name="unheard_of")), 1, None),
        (raising(RuntimeError("a fault of ours")), 1, None),
        (raising(KeyboardInterrupt()), 130, "\nStopped; nothing half-written is left.\n"),
        (raising(stopped_by(2)), 130, "\nStopped after step 3.\n"),
        (raising(stopped_by(15)), 143, "\nStopped after step 3.\n"),
    ],
)
def test_the_ladder(work, status, said, capsys):
    if said is None:  # nobody foresaw it: it keeps its traceback
        with pytest.raises((KeyError, RuntimeError, ModuleNotFoundError)):
            errors.run(work, "it")
        return
    assert errors.run(work, "it") == status
    assert capsys.readouterr().err == said


def test_a_sentence_is_one_line_of_bounded_length():
    assert errors.sentence(ValueError("\n  first \nsecond")) == "first"
    assert errors.sentence(ValueError()) == "ValueError"
    assert errors.sentence(KeyError("a word")) == "a word"
    assert errors.sentence(OSError("without a number")) == "without a number"
    long = errors.sentence(ValueError(f"'{'x' * 5000}' cannot be read."))
    assert len(long) <= LONGEST and long.startswith("'xx") and long.endswith("x' cannot be read.")


def test_arguments_become_flags():
    names = ("target_fps", "mask_id", "weights", "max_seconds")
    assert errors.in_flags("target_fps must be above 0.", names) == "--target_fps must be above 0."
    assert errors.in_flags("Name `weights`, or mask_id.", names) == "Name --weights, or --mask_id."
    same = "The weights in 'mask_id/a.npz', 'my_mask_id' and target_fps.csv: --max_seconds is given."
    assert errors.in_flags(same, names) == same


def test_words_that_are_no_command(capsys):
    for wrong in (["paint"], [], ["--magic"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2
    assert "invalid choice: 'paint'" in capsys.readouterr().err


PRINTS = """
import sys
from videopainter.cli.errors import door, fail, say
def main():
    print("x" * 100_000, flush=True)
    say("on stderr")
    with open(sys.argv[1], "w") as file:  # the first to be opened by the work itself
        print("whole", file=file)
    import os
    os.write(2, b"of a library")
    print("more")
    return int(sys.argv[2])
door(main)
"""


def shell(redirection, path, status=0):
    script = f'"$0" -c "$1" "$2" {status} {redirection}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    full = ["bash", "-c", f"set -o pipefail; {script}", sys.executable, PRINTS, str(path)]
    return subprocess.run(full, env=environment, capture_output=True, text=True, timeout=60)


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        ("2>&-", 0, ""),
        (">&-", 0, "on stderr\nof a library"),
        ("<&- >&- 2>&-", 0, ""),
        ("| true", 0, "on stderr\nof a library"),
        pytest.param("2>/dev/full", 0, "", marks=FULL),
        pytest.param(
            ">/dev/full",
            2,
            "on stderr\nof a libraryerror: stdout cannot be written: No space left on device\n",
            marks=FULL,
        ),
    ],
)
def test_broken_streams_do_not_end_the_work(tmp_path, redirection, status, said):
    done = shell(redirection, tmp_path / "file")
    assert (done.returncode, done.stderr) == (status, said)
    assert (tmp_path / "file").read_text() == "whole\n"


def test_a_status_is_kept_where_streams_are_broken(tmp_path):
    assert shell("| true", tmp_path / "file", status=1).returncode == 1
    assert shell("2>&-", tmp_path / "file", status=2).returncode == 2


def test_names_that_are_no_text_can_be_said(tmp_path):
    code = "from videopainter.cli.errors import door\ndoor(lambda: print('file\\udcff.mp4'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "file\\udcff.mp4\n")


@pytest.mark.parametrize("redirection", ["2>&-", "| true"])
def test_a_real_run_with_a_broken_stream(tmp_path, redirection):
    """Bars and lines have nowhere to go; the result is there."""
    import numpy as np
    from clips import moving_texture, write_clip

    write_clip(tmp_path / "clip.mp4", moving_texture()[:6])
    masks = np.zeros((6, 96, 128), np.uint8)
    masks[:, 20:40, 30:60] = 1
    np.savez(tmp_path / "masks.npz", masks)
    command = f'"$0" "$1" --video clip.mp4 --mask masks.npz --engine propagation {redirection}'
    full = ["bash", "-c", f"set -o pipefail; {command}", sys.executable, str(ROOT / "run_demo.py")]
    done = subprocess.run(full, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output/result.mp4").stat().st_size > 0 and "Traceback" not in done.stderr
