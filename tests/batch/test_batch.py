"""The batch: rows in, folders out; bad rows, second starts, kills, several processes."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from halted import start_halting

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from batch_painter import Painter  # noqa: E402

from videopainter import engine as engines  # noqa: E402
from videopainter.batch import command as inpaint  # noqa: E402
from videopainter.batch.records import Records  # noqa: E402
from videopainter.engines.base import option  # noqa: E402
from videopainter.video import VideoWriter, open_video  # noqa: E402

N, H, W = 6, 32, 48
FILES = {
    "result.mp4",
    "result_vis.mp4",
    "frame0_original.png",
    "frame0_with_mask.png",
    "mask0.png",
    "run.json",
}


def write_video(path, count=N, seed=0, fps=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(60, 200, (count, H // 8, W // 8, 3), np.uint8)
    with VideoWriter(path, Fraction(fps), (H, W)) as writer:
        writer.write(small.repeat(8, 1).repeat(8, 2))


def write_masks(path, count=N, label=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = np.zeros((count, H, W), np.uint8)
    masks[:, 8:16, 8:24] = label
    np.savez_compressed(path, masks)


def write_table(path, header, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


@pytest.fixture
def painter(monkeypatch):
    """The engine `propagation` is the one of `batch_painter.py`, which also takes two options."""
    info = dataclasses.replace(
        engines.ENGINES["propagation"],
        location="batch_painter:Painter",
        options=dataclasses.make_dataclass(
            "Options",
            [("guidance_scale", float, option(6.0, "scale")), ("overlap", int, option(1, "frames"))],
        ),
    )
    monkeypatch.setitem(engines.ENGINES, "propagation", info)
    Painter.made, Painter.asked = [], []
    return info


@pytest.fixture
def clips(tmp_path):
    """A plain table of three clips; the third has no truth."""
    for i in range(3):
        write_video(tmp_path / f"c{i}.mp4", seed=i)
        write_masks(tmp_path / f"m{i}.npz")
    rows = [
        ["c0.mp4", "m0.npz", "a", "c0.mp4"],
        ["c1.mp4", "m1.npz", "b", "c1.mp4"],
        ["c2.mp4", "m2.npz", "c", ""],
    ]
    return write_table(tmp_path / "clips.csv", "video,mask,prompt,truth", *rows)


def run(table, out, *more):
    arguments = ["--csv", str(table), "--output_dir", str(out), "--engine", "propagation"]
    return inpaint.main([*arguments, *map(str, more)])


def summary(out):
    with open(out / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def stamps(out):
    """When each row was finished, by its folder's name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/row.json")}


def test_rows_become_folders_and_a_summary(clips, painter, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(clips, out) == 0
    assert {p.name for p in out.iterdir()} == {
        "00000_c0",
        "00001_c1",
        "00002_c2",
        "batch.json",
        "manifest.json",
        "summary.csv",
    }
    for row in ("00000_c0", "00001_c1", "00002_c2"):
        assert {p.name for p in (out / row).iterdir()} == FILES | {"row.json"}
    with open_video(out / "00001_c1/result.mp4") as video:
        assert len(video) == N and video.size == (H, W) and video.fps == 10
        assert np.abs(video[3][10:14, 12:20].astype(int) - 128).max() < 20
    lines = summary(out)
    assert [line["status"] for line in lines] == ["done"] * 3
    assert float(lines[0]["psnr_outside"]) > 35 > 25 > float(lines[0]["psnr_hole"]) > 5
    assert lines[2]["psnr_hole"] == ""  # nobody knows the truth
    records = json.loads((out / "manifest.json").read_text())
    assert [record["frames"] for record in records] == [N] * 3 and records[1]["measured"]["ssim_hole"] < 1
    assert len(Painter.made) == 1 and Painter.asked == [None] * 3  # made once; it has no use for text
    printed = capsys.readouterr().out
    assert "3 of 3 rows are done" in printed and "psnr_hole" in printed and "mean" in printed


def test_a_second_start_does_what_is_not_done(clips, painter, tmp_path, capsys):
    out = tmp_path / "out"
    run(clips, out)
    before = stamps(out)
    assert run(clips, out) == 0
    assert stamps(out) == before and len(Painter.made) == 1
    assert capsys.readouterr().out.count("done before") == 3
    (out / "00001_c1/result.mp4").write_bytes(b"cut off")
    write_masks(tmp_path / "m2.npz", label=7)  # another file under the same name
    (tmp_path / "m2.npz").write_bytes((tmp_path / "m2.npz").read_bytes() + b"\0")
    assert run(clips, out) == 0
    after = stamps(out)
    assert {name for name in before if after[name] != before[name]} == {"00001_c1", "00002_c2"}
    assert len(summary(out)) == 3 and not (out / ".unfinished").exists()


def test_options_reach_the_engine(clips, painter, tmp_path, capsys):
    more = ("--overlap_frames", 5, "--guidance_scale", 2.5, "--raft_iter", 3, "--rows", "1:2")
    assert run(clips, tmp_path / "out", *more) == 0
    assert Painter.made == [{"overlap": 5, "guidance_scale": 2.5}]
    assert "has no use for --raft_iter." in capsys.readouterr().out
    assert set(stamps(tmp_path / "out")) == {"00001_c1"}


def test_prompts(clips, painter, tmp_path, monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "propagation", dataclasses.replace(painter, takes_prompt=True))
    assert run(clips, tmp_path / "out") == 0
    assert run(clips, tmp_path / "mine", "--prompt", "mine") == 0
    assert Painter.asked == ["a", "b", "c", "mine", "mine", "mine"]
    table = write_table(tmp_path / "bare.csv", "video,mask", ["c0.mp4", "m0.npz"])
    assert run(table, tmp_path / "bare") == 1
    assert (
        summary(tmp_path / "bare")[0]["error"]
        == "The engine 'propagation' needs a prompt, and the row has none."
    )


def test_bad_rows_are_reported_and_the_rest_goes_on(clips, painter, tmp_path, capsys, monkeypatch):
    write_masks(tmp_path / "few.npz", count=N - 2)
    np.savez(tmp_path / "empty.npz", np.zeros((N, H, W), np.uint8))
    (tmp_path / "text.mp4").write_text("words")
    bad = {
        "gone.mp4,m0.npz": "There is no video at",
        "text.mp4,m0.npz": "text.mp4",
        "c0.mp4,gone.npz": "There are no masks at",
        "c0.mp4,few.npz": "4 masks, but the video has 6 frames",
        "c0.mp4,empty.npz": "mark no pixel",
        "../c0.mp4,m0.npz": "must lie inside the data folder",
        "c0.mp4": "another number of cells",
    }
    rows = [line.split(",") for line in bad]
    table = write_table(tmp_path / "bad.csv", "video,mask", *rows, ["c1.mp4", "m1.npz"])
    out = tmp_path / "out"
    assert run(table, out) == 1
    lines = summary(out)
    assert [line["status"] for line in lines] == ["failed"] * len(bad) + ["done"]
    for line, words in zip(lines, bad.values()):
        assert words in line["error"], line["error"]
    printed = capsys.readouterr()
    assert f"1 of {len(bad) + 1} rows are done" in printed.out and "Traceback" not in printed.err
    assert {p.name for p in out.iterdir()} == {
        "00007_c1",
        "batch.json",
        "failed",
        "manifest.json",
        "summary.csv",
    }

    write_video(tmp_path / "gone.mp4")  # put right, it is done at the next start
    assert run(table, out) == 1
    assert [line["status"] for line in summary(out)[:2]] == ["done", "failed"]
    assert not (out / "failed/00000_gone.json").exists()


def test_a_table_of_a_spreadsheet_with_long_names_and_absolute_paths(painter, tmp_path, capsys):
    name = "鸭" * 80
    write_video(tmp_path / f"{name}.mp4")
    np.savez(tmp_path / f"{name}.npz", np.pad(np.ones((N, 8, 16), np.uint8), ((0, 0), (8, 16), (8, 24))))
    (tmp_path / "elsewhere").mkdir()
    write_masks(tmp_path / "elsewhere/m.npz", count=N + 1)
    lines = [
        "Video;MASK;Prompt",
        f"{name}.mp4;{name}.npz;eine Wand; ".rstrip("; "),
        ";;",
        f"{name}.mp4;{tmp_path / 'elsewhere/m.npz'};",
    ]
    table = tmp_path / f"{name}.csv"
    table.write_bytes("\r\n".join(lines).encode("utf-16"))
    assert run(table, tmp_path / "out") == 1
    done, failed = summary(tmp_path / "out")
    assert done["status"] == "done"
    assert failed["error"].endswith("; --allow_absolute lets it be.")
    assert run(table, tmp_path / "out", "--allow_absolute") == 0
    (row,) = (tmp_path / "out").glob("00001_*")
    report = json.loads((row / "run.json").read_text())
    assert 0.08 < report["marked_share"] < 0.09 and "the last mask is left out" in report["warnings"][0]


def test_what_nobody_foresaw_stops_one_row_only(clips, painter, tmp_path, capsys, monkeypatch):
    def paint(self, source, masks, **more):
        raise RuntimeError("out of memory\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(Painter, "__call__", paint)
        assert run(clips, tmp_path / "out", "--rows", ":1") == 1
    assert "Traceback" in capsys.readouterr().err
    assert summary(tmp_path / "out")[0]["error"] == "out of memory"
    assert run(clips, tmp_path / "out") == 0


def test_the_references_data_set(painter, tmp_path):
    """Videos and masks where the reference has them; masks may be fewer or more than frames."""
    data = tmp_path / "data"
    write_video(data / "videovo/raw_video/123/123456.0.mp4", count=9)
    write_masks(data / "video_inpainting/videovo/123456/all_masks.npz", count=8, label=3)
    write_video(data / "pexels/pexels/raw_video/123456789/1234567890.mp4", count=9)
    write_masks(data / "video_inpainting/pexels/1234567890/all_masks.npz", count=12, label=2)
    table = write_table(
        data / "test.csv",
        "path,mask_id,start_frame,end_frame,fps,caption",
        ["123456.0.mp4", 3, 2, 99, 10, "x"],
        ["1234567890.mp4", 2, 1, 7, 0, "y"],
        ["1234567890.mp4", 5, 1, 7, 0, "y"],
        ["123456.0.mp4", 3, 9, 12, 10, "x"],
        ["123456.0.mp4", 3, 8, 12, 10, "x"],
    )
    assert run(table, tmp_path / "out") == 1
    lines = summary(tmp_path / "out")
    assert [line["frames"] for line in lines] == [
        "6",
        "6",
        "",
        "",
        "",
    ]  # 2 to 7, as mask 8 is not there; 1 to 6
    assert "There is no label 5" in lines[2]["error"]
    assert "start_frame is 9, but" in lines[3]["error"] and "has 9 frames" in lines[3]["error"]
    assert "start_frame is 8, but" in lines[4]["error"] and "has 8 masks" in lines[4]["error"]
    assert float(lines[0]["psnr_outside"]) > 35 and float(lines[1]["psnr_outside"]) > 35  # the right frames
    with open_video(tmp_path / "out/00001_1234567890/result.mp4") as result:
        with open_video(data / "pexels/pexels/raw_video/123456789/1234567890.mp4") as source:
            assert np.abs(result[0][24:].astype(int) - source[1][24:]).mean() < 3


def test_fewer_frames_a_second_and_only_the_beginning(clips, painter, tmp_path):
    assert run(clips, tmp_path / "out", "--down_sample_fps", 5, "--rows", "0:1") == 0
    with open_video(tmp_path / "out/00000_c0/result.mp4") as video:
        assert len(video) == 3 and video.fps == 5
    assert float(summary(tmp_path / "out")[0]["psnr_outside"]) > 35
    assert run(clips, tmp_path / "short", "--max_seconds", 0.4, "--rows", "0:1") == 0
    assert summary(tmp_path / "short")[0]["frames"] == "4"


def test_the_codec_and_quality_of_the_results(clips, painter, tmp_path):
    assert run(clips, tmp_path / "out", "--codec", "ffv1", "--rows", "0:1") == 0
    (row,) = summary(tmp_path / "out")
    assert (tmp_path / "out" / row["name"] / "result.mkv").is_file()
    with av.open(str(tmp_path / "out" / row["name"] / "result.mkv")) as file:
        assert file.streams.video[0].codec_context.name == "ffv1"


def test_a_truth_of_another_length(clips, painter, tmp_path):
    write_video(tmp_path / "short.mp4", count=2)
    table = write_table(tmp_path / "a.csv", "video,mask,truth", ["c0.mp4", "m0.npz", "short.mp4"])
    assert run(table, tmp_path / "out") == 1
    assert "has 2 frames, neither the 6 of the video nor the 6" in summary(tmp_path / "out")[0]["error"]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--csv", "gone.csv"], "'gone.csv' cannot be read as a CSV file"),
        (["--engine", "magic"], "There is no engine 'magic'"),
        (["--engine", "e2fgvi"], "'e2fgvi' cannot be used"),
        (["--output_dir", "clips.csv"], "The output folder 'clips.csv' is a file."),
        (["--data_dir", "gone"], "There is no data folder 'gone'."),
    ],
)
def test_mistakes_end_with_one_sentence(clips, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    arguments = ["--csv", "clips.csv", "--output_dir", "out", "--engine", "propagation"]
    assert inpaint.main([*arguments, *more]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("inpaint.py: error: ") and words in last
    assert not (tmp_path / "out").exists()


def test_help_is_quick_and_imports_nothing_heavy():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import videopainter.batch.command as i; "
    code += "i.build_parser().format_help(); "
    code += "print([m for m in ('numpy', 'cv2', 'av', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


KILL = """
import os, sys
sys.path[:0] = {paths}
from batch_painter import Painter
import dataclasses
from videopainter import engine
engine.ENGINES["propagation"] = dataclasses.replace(engine.ENGINES["propagation"], location="batch_painter:Painter")
from videopainter.batch import command as inpaint
left, real = int(sys.argv.pop(1)), os.replace
def replace(*a):
    global left
    left -= 1
    if left == 0:
        os._exit(9)  # as SIGKILL: nothing is cleaned up
    real(*a)
os.replace = replace
sys.exit(inpaint.main(sys.argv[1:]))
"""


def test_killed_at_any_moment_it_loses_and_repeats_nothing(clips, tmp_path):
    """A kill before each of the renames through which every file comes into being."""
    write_table(tmp_path / "two.csv", "video,mask", ["c0.mp4", "m0.npz"], ["c1.mp4", "m1.npz"])
    code = KILL.format(paths=[str(ROOT), str(Path(__file__).parent)])
    out, moment, seen, ends = tmp_path / "out", 0, {}, []
    while not ends or ends[-1] != 0:
        moment += 1
        arguments = ["--csv", str(tmp_path / "two.csv"), "--output_dir", str(out), "--engine", "propagation"]
        done = subprocess.run(
            [sys.executable, "-c", code, str(moment), *arguments], capture_output=True, text=True
        )
        ends.append(done.returncode)
        assert done.returncode in (0, 9), done.stderr
        found = stamps(out)
        assert seen.items() <= found.items()  # what was done stays as it was
        for name in found:
            record = json.loads((out / name / "row.json").read_text())
            assert all((out / name / f).stat().st_size == size for f, size in record["files"].items())
            assert set(record["files"]) == FILES
        seen = found
        assert moment < 40
    assert set(seen) == {"00000_c0", "00001_c1"} and len(ends) > 8
    files = {"batch.json", "manifest.json", "summary.csv"}
    assert {p.name for p in out.iterdir()} == {"00000_c0", "00001_c1", *files}


@pytest.mark.parametrize("sent, status", [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_while_painting(tmp_path, sent, status):
    write_video(tmp_path / "short.mp4", count=4)
    write_masks(tmp_path / "short.npz", count=4)
    write_video(tmp_path / "long.mp4", count=120)
    write_masks(tmp_path / "long.npz", count=120)
    rows = [["short.mp4", "short.npz"], ["long.mp4", "long.npz"]]
    table = write_table(tmp_path / "a.csv", "video,mask", *rows)
    out = tmp_path / "out"
    arguments = ["--csv", str(table), "--output_dir", str(out), "--engine", "propagation"]
    process = start_halting("videopainter.batch.command", arguments, "00001_long@", tmp_path / "begun")
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status and "Traceback" not in errors
    assert set(before := stamps(out)) == {"00000_short"} and not (out / "00001_long").exists()
    write_table(tmp_path / "a.csv", "video,mask", rows[0])  # the long one would take a minute
    full = [sys.executable, str(ROOT / "infer/inpaint.py"), *arguments]
    assert subprocess.run(full, capture_output=True, timeout=120).returncode == 0
    assert stamps(out) == before and not (out / ".unfinished").exists()


def test_the_records_keep_out_of_others_work(tmp_path):
    records = Records(tmp_path)
    with records.begin("a") as place:
        records.sweep()  # its process lives
        assert place.is_dir()
        (place / "file").write_text("x")
        records.finish("a", "key", place, {"row": 0})
    assert records.done("a", "key")["files"] == {"file": 1}
    assert records.done("a", "other") is None and records.done("b", "key") is None
    with records.begin("a") as place:  # other input: what was there gives way
        records.finish("a", "other", place, {"row": 0})
    assert records.done("a", "other")["files"] == {} and not (tmp_path / "a/file").exists()
    records.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def three_real_clips(folder):
    """Three pieces of the shot in examples/, a third of its size, with a rectangle as the hole."""
    folder.mkdir()
    rows = []
    with open_video(ROOT / "examples/cup.mp4") as shot:
        for i, start in enumerate((0, 40, 80)):
            frames = [
                cv2.resize(frame, (216, 160), interpolation=cv2.INTER_AREA)
                for frame in shot[start : start + 8]
            ]
            with VideoWriter(folder / f"clip{i}.mp4", shot.fps, (160, 216)) as writer:
                writer.write(np.stack(frames))
            masks = np.zeros((8, 160, 216), np.uint8)
            masks[:, 20:50, 20 + 5 * i : 60 + 5 * i] = 1
            np.savez_compressed(folder / f"mask{i}.npz", masks)
            rows.append([f"clip{i}.mp4", f"mask{i}.npz", f"clip{i}.mp4"])
    return write_table(folder / "clips.csv", "video,mask,truth", *rows)


def test_three_real_clips_with_two_processes(tmp_path):
    pytest.importorskip("accelerate")
    table = three_real_clips(tmp_path / "clips")
    out = tmp_path / "out"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "python": sys.executable,
        "engine": "propagation",
        "inpainting_mask_meta": str(table),
        "data_dir": str(table.parent),
        "output_base_path": str(out),
        "num_processes": "2",
        "main_process_port": str(_free_port()),
    }
    script = ["bash", str(ROOT / "infer/inpaint.sh")]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = summary(out)
    assert [line["status"] for line in lines] == ["done"] * 3
    assert all(float(line["psnr_hole"]) > 20 and float(line["psnr_outside"]) > 35 for line in lines)
    assert "3 of 3 rows are done" in done.stdout and done.stdout.count("8 frames in") == 3
    before = stamps(out)

    # One more row, and that a bad one: the others are left alone, and everyone hears of it.
    with open(table, "a") as file:
        file.write("gone.mp4,mask0.npz,\n")
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert stamps(out) == before and done.stdout.count("done before") == 3
    assert summary(out)[3]["error"].startswith("There is no video at")


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_split_by_the_environment(clips, painter, tmp_path, monkeypatch, capsys):
    """A launcher that only sets RANK and WORLD_SIZE; each sums up what there is."""
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(clips, tmp_path / "out") == 1  # the others' rows are not there yet
    assert set(stamps(tmp_path / "out")) == {"00001_c1"}
    assert [line["status"] for line in summary(tmp_path / "out")] == ["failed", "done", "failed"]
    monkeypatch.setenv("RANK", "0")
    assert run(clips, tmp_path / "out") == 0
    assert [line["status"] for line in summary(tmp_path / "out")] == ["done"] * 3
    monkeypatch.setenv("RANK", "2")
    assert run(clips, tmp_path / "out") == 2
    assert "RANK must be 0 to 1, as WORLD_SIZE is 2, not 2." in capsys.readouterr().err
