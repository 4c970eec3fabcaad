"""A batch whatever its rows, its folder and its surroundings are like: no row is lost, none ends the others."""

import errno
import json
import os
import subprocess
import sys

import pytest
from batch_folder import ROOT, run, summary, table

from videopainter.batch import command
from videopainter.batch.records import Records, disk_is_full
from videopainter.batch.rows import BadRow, Row, TableError, read_rows

# -- one bad row ------------------------------------------------------------------------------------------

GOOD = "a.mp4,a.npz,,\n"
BAD = {
    "a name of 300 letters": f"{'x' * 300}.mp4,a.npz,,\n",
    "a name of 5000 letters": f"{'x' * 5000}.mp4,a.npz,,\n",
    "a mask of 300 letters": f"a.mp4,{'x' * 300}.npz,,\n",
    "200 folders": f"{'x/' * 2000}a.mp4,a.npz,,\n",
    "below a file": "a.mp4/b.mp4,a.npz,,\n",
    "a mask below a file": "a.mp4,a.npz/b.npz,,\n",
    "a long cell": f"a.mp4,a.npz,,{'x' * 200_000}\n",
    "a long cell in quotes": f'a.mp4,a.npz,,"{"x" * 200_000}"\n',
    "fps of many digits": f"a.mp4,a.npz,{'9' * 5000},\n",
    "fps with a large exponent": "a.mp4,a.npz,1e999999999,\n",
    "fps with a small exponent": "a.mp4,a.npz,1e-999999999,\n",
    "fps as a large fraction": f"a.mp4,a.npz,1/{'9' * 5000},\n",
    "fps through nothing": "a.mp4,a.npz,1/0,\n",
    "infinite fps": "a.mp4,a.npz,inf,\n",
    "negative fps": "a.mp4,a.npz,-1,\n",
    "no quote at the end": 'a.mp4,"a.npz,,\n',
    "a quote in a word": 'a.mp4,"a"npz,,\n',
    "no UTF-8": "a.mp4,\udcff.npz,,\n",
    "a zero byte": "a.mp4,a\0.npz,,\n",
    "a folder": ".,a.npz,,\n",
    "too few cells": "a.mp4\n",
    "too many cells": "a.mp4,a.npz,,,,,,\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_row_does_not_end_the_batch(folder, capsys, kind):
    text = "video,mask,fps,prompt\n" + GOOD + BAD[kind] + GOOD
    (folder / "a.csv").write_bytes(text.encode(errors="surrogateescape"))
    assert run(folder) == 1
    lines = summary(folder)
    assert [line["status"] for line in lines] == ["done", "failed", "done"]
    assert 10 < len(lines[1]["error"]) <= 500
    err = capsys.readouterr().err
    assert "Traceback" not in err and max(map(len, err.splitlines())) < 700
    assert run(folder) == 1 and (folder / "out/failed").is_dir()  # and once more


def test_a_row_in_a_folder_that_cannot_be_read(folder, capsys, monkeypatch):
    """As root everything can be read: the system's answer is made up."""
    real = os.stat

    def stat(path, *more, **settings):
        if "secret" in os.fsdecode(path if isinstance(path, str | bytes | os.PathLike) else ""):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path, *more, **settings)

    monkeypatch.setattr(os, "stat", stat)
    table(folder, ["secret/a.mp4", "a.npz"], ["a.mp4", "a.npz"], ["a.mp4", "secret/a.npz"])
    assert run(folder) == 1
    assert [line["status"] for line in summary(folder)] == ["failed", "done", "failed"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"\xff\xfe\0", b"\0", b'video,mask\n"', b"video\n" * 3, b"\xff,\xff\na,b\n"]
)
def test_tables_that_are_none(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(TableError) as raised:
        read_rows(tmp_path / "a.csv")
    assert "\n" not in str(raised.value)


def test_things_that_are_no_table(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "x" * 300, "gone.csv"):
        assert command.main(["--csv", str(tmp_path / name), "--output_dir", str(tmp_path / "out")]) == 2
        assert "cannot be read as a CSV file" in (err := capsys.readouterr().err) or "is not a file" in err
    many = ",".join(f"column{i}" for i in range(100_000))
    (tmp_path / "a.csv").write_text(f"{many}\n")
    assert command.main(["--csv", str(tmp_path / "a.csv"), "--output_dir", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err) < 700


def test_quotes_and_what_follows(tmp_path):
    (tmp_path / "a.csv").write_text('video,mask\na.mp4,"a\n.npz"\n"b.mp4,b.npz\nc.mp4,c.npz\n\nd.mp4,d.npz\n')
    rows = read_rows(tmp_path / "a.csv")
    assert [type(row) for row in rows] == [Row, BadRow, Row, Row] and rows[0].mask.name == "a\n.npz"
    assert [row.number for row in rows] == [0, 1, 2, 3] and rows[3].video.name == "d.mp4"


@pytest.mark.parametrize("rows", ["1:", "5:9", "0:0", "3:1"])
def test_no_rows(folder, capsys, rows):
    assert run(folder, "--rows", rows) == 2
    assert capsys.readouterr().err.endswith(f"No row is among those of --rows; '{folder / 'a.csv'}' has 1.\n")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("rows", ["-1:2", "1", "a:b", "9" * 5000 + ":", "", ":::"])
def test_rows_that_are_no_span(folder, capsys, rows):
    with pytest.raises(SystemExit) as stop:
        run(folder, f"--rows={rows}")
    assert stop.value.code == 2 and "Traceback" not in capsys.readouterr().err


# -- whose folder it is -----------------------------------------------------------------------------------


def test_another_table_needs_another_folder(folder, capsys):
    assert run(folder) == 0
    before = (folder / "out/00000_a/row.json").stat().st_mtime_ns
    table(folder, ["a.mp4", "a.npz"], name="b.csv")
    assert run(folder, name="b.csv") == 2
    assert f"holds the rows of another table, '{folder / 'a.csv'}'; name another" in capsys.readouterr().err
    assert (folder / "out/00000_a/row.json").stat().st_mtime_ns == before
    table(folder, ["a.mp4", "a.npz"], ["a.mp4", "a.npz"])  # the same table may grow
    assert run(folder) == 0 and (folder / "out/00000_a/row.json").stat().st_mtime_ns == before


OTHER = [
    ("--seed", 43, "seed 42, not 43"),
    ("--prompt", "x", "prompt by default, not 'x'"),
    ("--dilate_size", 3, "dilate_size by default, not 3"),
    ("--max_seconds", 1, "max_seconds by default, not 1"),
    ("--down_sample_fps", 5, "down_sample_fps by default, not 5"),
    ("--data_dir", ".", "data_dir"),
]


@pytest.mark.parametrize("flag, value, words", OTHER)
def test_other_settings_need_another_folder(folder, capsys, monkeypatch, flag, value, words):
    monkeypatch.chdir(ROOT)
    assert run(folder) == 0
    assert run(folder, flag, value) == 2
    said = capsys.readouterr().err
    assert words in said and "name another output folder" in said
    assert summary(folder)[0]["status"] == "done"


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"table": ["x"]}', '{"seed": 1e999}'])
def test_a_damaged_note_of_whose_it_is(folder, capsys, text):
    assert run(folder) == 0
    (folder / "out/batch.json").write_text(text)
    assert run(folder) == 2
    assert "name another output folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"key": 3}',
        '{"key": "KEY", "files": 3}',
        '{"key": "KEY", "files": {"../x": "y"}}',
    ],
)
@pytest.mark.parametrize("name", ["00000_a/row.json", "failed/00000_a.json"])
def test_damaged_records(folder, capsys, name, text):
    assert run(folder) == 0
    key = json.loads((folder / "out/00000_a/row.json").read_text())["key"]
    (folder / "out" / name).parent.mkdir(exist_ok=True)
    (folder / "out" / name).write_text(text.replace("KEY", key))
    assert run(folder) == 0 and summary(folder)[0]["status"] == "done"


def test_two_that_begin_at_once_agree(tmp_path):
    ours, theirs = ({"table": "a.csv", "seed": seed} for seed in (1, 2))
    first, second = Records(tmp_path, ours), Records(tmp_path, theirs)  # neither has begun
    with first.begin("a"), pytest.raises(ValueError, match="seed 1, not 2"), second.begin("a"):
        pass
    with pytest.raises(ValueError, match="seed 1, not 2"):
        Records(tmp_path, theirs)
    Records(tmp_path, ours)


# -- streams and disks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pipe", ["| head -1", "| true", "2>&-", ">&-", "2>/dev/full", "<&- 2>&1 | head -c 1"]
)
def test_rows_are_done_whoever_reads(folder, pipe):
    table(folder, *[["a.mp4", "a.npz"]] * 3)
    line = f'"$0" "$1" --csv a.csv --output_dir out --engine propagation {pipe}'
    full = ["bash", "-c", f"set -o pipefail; {line}", sys.executable, str(ROOT / "infer/inpaint.py")]
    done = subprocess.run(full, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert [line["status"] for line in summary(folder)] == ["done"] * 3 and not (
        folder / "out/failed"
    ).exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_full_disk_ends_the_batch(folder, monkeypatch, capsys, number):
    table(folder, *[["a.mp4", "a.npz"]] * 3)
    tried, real = [], os.replace

    def replace(source, target):
        if str(target).endswith("result.mp4"):
            tried.append(target)
            raise OSError(number, os.strerror(number), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert run(folder) == 2
    said = capsys.readouterr().err
    assert len(tried) == 1 and "whose disk is full" in said and "Traceback" not in said
    monkeypatch.undo()
    assert run(folder) == 0


def test_which_errors_are_a_full_disk():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("cannot be written") from None
    except ValueError as error:
        assert disk_is_full(error)
    assert (
        not disk_is_full(ValueError())
        and not disk_is_full(OSError(errno.EACCES, "x"))
        and not disk_is_full(None)
    )


# -- names that are no text --------------------------------------------------------------------------------


def test_names_that_are_no_utf8(folder):
    name = os.fsdecode(b"out\xff")
    assert run(folder, "--prompt", "caf\udce9", out=name) == 0
    assert json.loads((folder / name / "manifest.json").read_text())[0]["status"] == "done"
    os.rename(folder / "a.csv", folder / os.fsdecode(b"\xff.csv"))
    assert run(folder, name=os.fsdecode(b"\xff.csv")) == 0
