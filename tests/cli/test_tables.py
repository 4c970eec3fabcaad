"""The tables of the documentation are those of the specs."""

from pathlib import Path

import pytest

from videopainter.cli.tables import engine_table, option_table
from videopainter.engine import ENGINES

ROOT = Path(__file__).resolve().parents[2]


def test_the_engines_in_the_readme():
    assert engine_table() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ENGINES)
def test_every_option_has_a_line(name):
    lines = option_table(ENGINES[name]).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == list(ENGINES[name].option_names)
    assert len({line.count(" | ") for line in lines if "---" not in line}) == 1
