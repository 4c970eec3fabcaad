"""Mistakes in a command's arguments: one sentence, the last line, and no pages of usage; in every command."""

from importlib import import_module

import pytest

from videopainter.cli.main import COMMANDS, main

MODULES = [
    *(module for module, _ in COMMANDS.values()),
    *(f"videopainter.cli.{name}" for name in ("export", "run_onnx", "train_dstt", "train_e2fgvi")),
]


@pytest.mark.parametrize("module", MODULES)
def test_every_command(module, capsys):
    with pytest.raises(SystemExit) as end:
        import_module(module).main(["--no_such_flag"], "it")
    assert end.value.code == 2
    printed = capsys.readouterr()
    first, last = printed.err.splitlines()
    assert first == "it --help lists the flags." and last.startswith("it: error: ") and not printed.out


def test_the_word_itself(capsys):
    with pytest.raises(SystemExit) as end:
        main(["paint"])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "'paint'" in lines[-1]


def test_what_is_wrong_between_flags(capsys):
    with pytest.raises(SystemExit):
        main(["inpaint", "--video", "a.mp4", "--click_x", "3"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("--click_x and --click_y need each other")
