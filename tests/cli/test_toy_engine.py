"""A sixth engine is one folder with a spec and one row in the table: everything else follows."""

import importlib
import json
import sys

import numpy as np
import pytest

from videopainter.cli import inpaint as command
from videopainter.cli.tables import engine_table, option_table
from videopainter.engine import ENGINES
from videopainter.masks import MaskTrack
from videopainter.video import VideoWriter, open_video

SPEC = """
from __future__ import annotations

from dataclasses import dataclass

from videopainter.engines.base import EngineSpec, option


@dataclass(frozen=True)
class ToyOptions:
    tint: int = option(40, "the grey that holes get, 100 % of it", aliases=("shade",), metavar="GREY")
    stripes: bool = option(False, "leave every other column out")
    device: str | None = option(None, "where it plays")


def missing(tint: int = 40, **options) -> str | None:
    return None if tint < 256 else f"there is no grey of {tint}"


SPEC = EngineSpec(
    name="toy",
    location="toy_engine.engine:ToyEngine",
    summary="grey holes",
    needs="patience",
    options=ToyOptions,
    missing=missing,
    dilate_size=0,
    target_fps=4,
    unit="brick",
)
"""

ENGINE = """
import numpy as np

from toy_engine.spec import SPEC, ToyOptions
from videopainter.engines.base import StepReport, check_masks


class ToyEngine:
    spec = SPEC

    def __init__(self, **options):
        self.options = ToyOptions(**options)

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        check_masks(source, masks)
        steps = StepReport(progress, len(source))
        steps.reached(0)
        for i, (frame, mask) in enumerate(zip(source, masks)):
            if self.options.stripes:
                mask[:, ::2] = False
            frame[mask] = self.options.tint
            yield frame
            steps.reached(i + 1)

    def close(self):
        pass
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The folder, and the row."""
    folder = tmp_path / "engines" / "toy_engine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "spec.py").write_text(SPEC)
    (folder / "engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(folder.parent)
    spec = importlib.import_module("toy_engine.spec").SPEC
    monkeypatch.setitem(ENGINES, "toy", spec)
    yield spec
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_engine"]:
        del sys.modules[name]


@pytest.fixture
def clip(tmp_path):
    """A clip of 8 frames a second, and its masks."""
    frames = np.full((16, 48, 64, 3), 200, np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, 16:32, 24:40] = True
    with VideoWriter(tmp_path / "in.mp4", 8, (48, 64)) as writer:
        writer.write(frames)
    MaskTrack.from_array(masks).save_npz(tmp_path / "masks.npz")
    return ["--video", str(tmp_path / "in.mp4"), "--mask", str(tmp_path / "masks.npz")]


def test_through_the_command_line_with_its_own_option(toy, clip, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [*clip, "--engine", "toy", "--output_dir", str(out), "--shade", "90", "--guidance_scale", "3"]
    assert command.main(arguments) == 0
    said = capsys.readouterr()
    assert (
        "Engine: toy (as asked for)" in said.out
        and "The engine toy has no use for guidance_scale." in said.out
    )
    assert "brick" in said.err
    with open_video(out / "result.mp4") as result:
        assert (len(result), result.fps) == (8, 4)  # at its own rate
        assert abs(result[3][24, 32].astype(int) - 90).max() < 6 and result[3][4, 4].mean() > 190
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["engine"] == "toy" and settings["target_fps"] == 4
    assert (settings["tint"], settings["stripes"], settings["dilate_size"]) == (90, False, 0)


def test_without_limits_it_gets_every_frame(toy, clip, tmp_path):
    out = tmp_path / "out"
    arguments = ["--engine", "toy", "--target_fps", "all", "--max_seconds", "all", "--stripes"]
    assert command.main([*clip, *arguments, "--output_dir", str(out)]) == 0
    with open_video(out / "result.mp4") as result:
        assert len(result) == 16


def test_errors_name_it(toy, clip, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main([*clip, "--engine", "toy", "--tint", "dark"])
    assert "--tint" in capsys.readouterr().err
    assert command.main([*clip, "--engine", "toy", "--tint", "256", "--output_dir", str(tmp_path / "o")]) == 2
    assert "The engine 'toy' cannot be used: there is no grey of 256; there is" in capsys.readouterr().err
    assert command.main([*clip, "--engine", "top", "--output_dir", str(tmp_path / "o")]) == 2
    assert "dstt, toy." in capsys.readouterr().err


def test_help_and_tables_tell_of_it(toy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(command.build_parser().format_help().split())
    assert "dstt, toy, or auto" in text and "videopainter 8, toy 4, others all" in text
    # Since Python 3.13 argparse names what flags take once, after the last of them.
    flag = "toy only: --tint GREY, --shade GREY the grey that holes get, 100 % of it (default: 40)"
    assert flag in text or flag.replace("--tint GREY", "--tint") in text
    assert "videopainter, propainter, e2fgvi, dstt and toy: --device DEVICE" in text
    assert "| `toy` | grey holes | patience | 0 | 4 | all |" in engine_table()
    assert (
        "| `tint` | `--tint`, `--shade` | the grey that holes get, 100 % of it (default: 40) |"
        in option_table(toy)
    )


def test_in_a_batch(toy, clip, tmp_path, capsys):
    from videopainter.batch import command as batch

    (tmp_path / "rows.csv").write_text("video,mask\nin.mp4,masks.npz\n")
    out = tmp_path / "out"
    given = ["--csv", str(tmp_path / "rows.csv"), "--output_dir", str(out), "--engine", "toy", "--tint", "90"]
    assert batch.main(given) == 0, capsys.readouterr().err
    with open_video(next(out.glob("*/result.mp4"))) as result:
        assert len(result) == 8 and abs(result[3][24, 32].astype(int) - 90).max() < 6
