"""CSV files: two layouts, what may stand in a cell, and no way out of the data folder."""

import codecs
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from videopainter.batch.rows import BadRow, Row, TableError, read_rows

HEADER = "path,mask_id,start_frame,end_frame,fps,caption\n"


def write(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_the_references_layout(tmp_path):
    table = write(
        tmp_path,
        "\ufeff,path,mask_id,start_frame,end_frame,fps,caption\n"  # as pandas writes it, with an index
        '0,123456.0.mp4,2,0,49,23.976,"A dog, running."\n'
        "1,1234567890ab.mp4,1.0,10,,0,\n",
    )
    first, second = read_rows(table)
    videos, masks = tmp_path / "videovo/raw_video", tmp_path / "video_inpainting"
    assert first == Row(
        number=0,
        name="00000_123456",
        video=videos / "123/123456.0.mp4",
        mask=masks / "videovo/123456/all_masks.npz",
        prompt="A dog, running.",
        mask_id=2,
        start=0,
        end=49,
        fps=Fraction(2997, 125),
        truth=videos / "123/123456.0.mp4",
        reference=True,
    )
    assert second.video == tmp_path / "pexels/pexels/raw_video/123456789/1234567890ab.mp4"
    assert second.mask == masks / "pexels/1234567890ab/all_masks.npz"
    assert (second.prompt, second.mask_id, second.start, second.end, second.fps) == (None, 1, 10, None, None)
    (tmp_path / "videovo/raw_video").mkdir(parents=True)
    (tmp_path / "videovo/raw_video/123456.0.mp4").touch()  # not sorted into folders
    assert read_rows(table)[0].video == videos / "123456.0.mp4"


def test_the_plain_layout(tmp_path):
    table = write(
        tmp_path, "video, mask, prompt, truth\nsub/a b.mov, m/a.npz, a wall, \nb.mp4, masks,, c.mp4\n"
    )
    first, second = read_rows(table)
    assert first == Row(0, "00000_a_b", tmp_path / "sub/a b.mov", tmp_path / "m/a.npz", "a wall")
    assert second == Row(1, "00001_b", tmp_path / "b.mp4", tmp_path / "masks", truth=tmp_path / "c.mp4")
    (tmp_path / "data").mkdir()
    assert read_rows(table, tmp_path / "data")[1].video == tmp_path / "data/b.mp4"


OUT = [
    "/etc/passwd",
    "../a.mp4",
    "a/../../b.mp4",
    "a/..",
    "C:\\a.mp4",
    "\\a.mp4",
    "\\\\host\\a.mp4",
    "..\\a.mp4",
]


@pytest.mark.parametrize("path", OUT)
@pytest.mark.parametrize("column", ["video", "mask", "truth"])
def test_no_way_out_of_the_data_folder(tmp_path, path, column):
    cells = {"video": "a.mp4", "mask": "a.npz", "truth": "", column: path}
    (row,) = read_rows(write(tmp_path, f"video,mask,truth\n{','.join(cells.values())}\n"))
    assert isinstance(row, BadRow)
    lifted = "; allow_absolute lets it be" if path.startswith("/") else ""
    assert row.error == f"{column} must lie inside the data folder, unlike '{path}'{lifted}."
    assert "/" not in row.name and "\\" not in row.name and ".." not in row.name


def test_absolute_paths_where_they_are_allowed(tmp_path):
    table = write(tmp_path, "video,mask\n/data/a.mp4,m.npz\n../a.mp4,m.npz\n")
    first, second = read_rows(table, allow_absolute=True)
    assert first == Row(0, "00000_a", Path("/data/a.mp4"), tmp_path / "m.npz")
    assert isinstance(second, BadRow) and second.error.endswith("unlike '../a.mp4'.")


TABLE = "video,mask,prompt\na.mp4,m/ä.npz,a wall; grey\nb.mp4,b.npz,\n"


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_as_spreadsheets_save_them(tmp_path, mark, encoding, end):
    text = TABLE.replace(",", mark).replace("a wall; grey", '"a wall; grey"').replace("\n", end)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    first, second = read_rows(tmp_path / "a.csv")
    assert first == Row(0, "00000_a", tmp_path / "a.mp4", tmp_path / "m/ä.npz", "a wall; grey")
    assert second == Row(1, "00001_b", tmp_path / "b.mp4", tmp_path / "b.npz")


def test_utf16_with_its_mark_and_the_other_order_of_bytes(tmp_path):
    (tmp_path / "a.csv").write_bytes(codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"))
    assert read_rows(tmp_path / "a.csv")[0].mask == tmp_path / "m/ä.npz"


def test_columns_in_capitals_and_rows_without_text(tmp_path):
    table = write(
        tmp_path, "\n Video ,MASK,Mask_ID,Start_Frame\n\na.mp4,a.npz,2,3\n,,,\n , ,,\nb.mp4,b.npz,,\n\n"
    )
    first, second = read_rows(table)
    assert (first.number, first.mask_id, first.start) == (0, 2, 3)
    assert (second.number, second.video) == (1, tmp_path / "b.mp4")


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="no /dev/stdin")
@pytest.mark.parametrize("redirected", [False, True])
def test_a_table_from_a_pipe(tmp_path, redirected):
    table = write(tmp_path, TABLE)
    code = "from videopainter.batch.rows import read_rows; from pathlib import Path\n"
    code += "print(read_rows(Path('/dev/stdin'))[0].video)"
    with open(table) as file:
        given = {"stdin": file} if redirected else {"input": TABLE}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **given)
    assert done.stdout == "a.mp4\n", done.stderr


@pytest.mark.parametrize(
    "path", ["../x.mp4", "a/b.mp4", "..mp4", ".mp4", "a\\b.mp4", "C:a.mp4", "x.avi", "x.1.mp4", ""]
)
def test_names_of_the_reference_are_names(tmp_path, path):
    (row,) = read_rows(write(tmp_path, f"{HEADER}{path},1,0,9,8,x\n"))
    assert isinstance(row, BadRow) and row.error == f"path must be NAME.0.mp4 or NAME.mp4, not '{path}'."


@pytest.mark.parametrize(
    "cells, words",
    [
        ("a.mp4,x,0,9,8,c", "mask_id must be a whole number, 0 or more, not 'x'"),
        ("a.mp4,1.5,0,9,8,c", "not '1.5'"),
        ("a.mp4,,0,9,8,c", "mask_id is empty"),
        ("a.mp4,1,-3,9,8,c", "start_frame must be a whole number, 0 or more, not '-3'"),
        ("a.mp4,1,9,9,8,c", "end_frame must be above start_frame, 9, not 9"),
        ("a.mp4,1,0,9,fast,c", "fps must be 0 to 1000, not 'fast'"),
        ("a.mp4,1,0,9,nan,c", "fps must be 0 to 1000, not 'nan'"),
        ("a.mp4,1,0,9", "another number of cells"),
        ("a.mp4,1,0,9,8,c,d", "another number of cells"),
    ],
)
def test_a_bad_row_does_not_spoil_the_next(tmp_path, cells, words):
    bad, good = read_rows(write(tmp_path, f"{HEADER}{cells}\nb.mp4,1,0,9,8,c\n"))
    assert isinstance(bad, BadRow) and words in bad.error and bad.number == 0 and bad.name == "00000_a"
    assert isinstance(good, Row) and good.number == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "it has none"),
        ("video,prompt\na,b\n", "needs the columns path, .* or video, mask; it has video, prompt"),
        ("video,mask\n", "has no rows"),
        ('video,mask\n"a,b\n', "cannot be read as a CSV file"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, words):
    with pytest.raises(TableError, match=words):
        read_rows(write(tmp_path, text))


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"video,mask\n\xff\xfe\x00,b\n")
    with pytest.raises(TableError, match="cannot be read as a CSV file"):
        read_rows(tmp_path / "a.csv")
    with pytest.raises(TableError, match="No such file"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(TableError, match="no data folder"):
        read_rows(tmp_path / "a.csv", tmp_path / "gone")
