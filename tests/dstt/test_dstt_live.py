"""The command line of the stream: every way in and out, dropped frames, Ctrl-C, and mistakes."""

import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from small_dstt import box, film

from videopainter import MaskTrack, inpaint_video, open_video
from videopainter.cli import live, stream
from videopainter.dstt import capture
from videopainter.masks import MaskError
from videopainter.video import VideoError

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "examples" / "cup.mp4"
COUNT = 8  # frames of it
BOX = "20,12,35,25"


def command(weights, *flags) -> list[str]:
    return [
        *(sys.executable, "-m", "videopainter.dstt.stream", "--weights", str(weights), "--threads", "1"),
        *map(str, flags),
    ]


def start(weights, *flags, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(weights, *flags), env=environment, **pipes, **options)


@pytest.fixture(scope="module")
def real():
    """(frames uint8 (n, h, w, 3), masks bool (107, h, w): a hole that wanders over the example)."""
    with open_video(CLIP) as source:
        masks = np.zeros((len(source), *source.size), bool)
        for i, mask in enumerate(masks):
            mask[200:300, 200 + 2 * i : 300 + 2 * i] = True
        return source[:COUNT], masks


def test_a_video_and_a_pipe_give_the_frames_of_the_batch_engine(real, tiny_file, tmp_path):
    frames, masks = real
    MaskTrack.from_array(masks).save_npz(tmp_path / "masks.npz")
    options = {"weights": tiny_file, "threads": 1, "device": "cpu"}
    expected = inpaint_video(frames, masks=masks[:COUNT], engine="dstt", **options).frames
    assert (expected != frames).any(axis=(1, 2, 3)).all()

    video = start(
        tiny_file, "--source", CLIP, "--mask", tmp_path / "masks.npz", "--max_frames", COUNT, "--output", "-"
    )
    rgba = np.concatenate([frames, 255 * masks[:COUNT, ..., None].astype(np.uint8)], -1)
    pipe = start(tiny_file, "--source", "-", "--size", "640x480", "--alpha_mask", "--output", "-")
    for process, data in ((video, b""), (pipe, rgba.tobytes())):
        out, said = process.communicate(data, timeout=120)
        assert process.returncode == 0 and f"dstt: {COUNT} frames".encode() in said
        assert np.array_equal(np.frombuffer(out, np.uint8).reshape(frames.shape), expected)


def test_a_file_with_its_sound(tiny_file, tmp_path, moving_texture, write_clip, capsys):
    clip = write_clip(tmp_path / "in.mp4", moving_texture(20, 48, 64), sound="aac")
    Image.fromarray(box((48, 64)).astype(np.uint8) * 255).save(tmp_path / "hole.png")
    flags = ["--source", clip, "--mask", tmp_path / "hole.png"]
    assert stream.main([*base(tiny_file), *map(str, flags), "--output", str(tmp_path / "all.mp4")]) == 0
    part = tmp_path / "part.mp4"
    assert stream.main([*base(tiny_file), *map(str, flags), "--output", str(part), "--max_frames", "5"]) == 0
    assert "dstt: 20 frames" in capsys.readouterr().err
    for path, count in ((tmp_path / "all.mp4", 20), (part, 5)):
        with open_video(path) as video:
            assert len(video) == count and video.size == (48, 64) and video.fps == 25
        with av.open(str(path)) as container:
            sound = container.streams.audio[0]
            assert abs(float(sound.duration * sound.time_base) - count / 25) < 0.06  # an AAC frame or two
    with open_video(clip) as before, open_video(tmp_path / "all.mp4") as after:
        far = ~box((48, 64), 6, 14, 26, 28)  # the hole, dilated
        assert np.abs(before[5].astype(int) - after[5])[far].mean() < 4  # the codec's loss
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.mp4", "hole.png", "in.mp4", "part.mp4"]


def base(weights) -> list[str]:
    return ["--weights", str(weights), "--threads", "1", "--device", "cpu"]


def test_warm_start_shows_what_was_there_before(tiny_file, tmp_path, capsys):
    before = film(3, (40, 64))
    for folder, frames in (("before", before), ("now", film(2, (40, 64)))):
        (tmp_path / folder).mkdir()
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / folder / f"{i}.png")
    results = []
    for flags in ([], ["--warm_start", str(tmp_path / "before")]):
        path = tmp_path / "out.mp4"
        flags = [*flags, "--source", str(tmp_path / "now"), "--box", BOX, "--output", str(path)]
        assert stream.main([*base(tiny_file), *flags]) == 0
        with open_video(path) as video:
            results.append(video[0].astype(int))
    assert np.abs(results[0] - results[1])[box()].mean() > 1
    wrong = [
        "--warm_start",
        str(CLIP),
        "--source",
        str(tmp_path / "now"),
        "--box",
        BOX,
        "--output",
        str(path),
    ]
    assert stream.main([*base(tiny_file), *wrong]) == 2
    assert "cup.mp4' is 640 x 480, but the stream is 64 x 40" in capsys.readouterr().err


def test_ctrl_c_finishes_the_file(tiny_file, tmp_path):
    output = tmp_path / "out.mp4"
    flags = ["--source", "-", "--size", "64x40", "--fps", "10", "--box", BOX, "--output", output]
    process = start(tiny_file, *flags)
    given = 0
    try:
        while not any(tmp_path.iterdir()):  # until the encoder has enough frames to write the first
            process.stdin.write(film(1).tobytes())
            process.stdin.flush()
            given += 1
            assert given < 1000
        # The pipe stays open: without Ctrl-C this goes on for ever.
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and b"frames" in said and b"Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    with open_video(output) as video:
        assert 1 <= len(video) <= given and video.fps == 10


def test_ctrl_c_before_the_first_frame_leaves_nothing(tiny_file, tmp_path, monkeypatch, capsys):
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    monkeypatch.setattr(
        live.Loop, "run", lambda self, *args, run=live.Loop.run: (timer.start(), run(self, *args))
    )
    flags = ["--source", "-", "--size", "64x40", "--box", BOX, "--output", str(tmp_path / "out.mp4")]
    assert stream.main([*base(tiny_file), *flags]) == 130
    assert "nothing is written" in capsys.readouterr().err and not list(tmp_path.iterdir())
    os.close(writing)


def test_nobody_reads_the_output(tiny_file):
    process = start(tiny_file, "--source", "-", "--size", "64x40", "--box", BOX, "--output", "-")
    frames = film(4).tobytes()
    process.stdin.write(frames)
    process.stdin.flush()
    assert len(process.stdout.read(64 * 40 * 3)) == 64 * 40 * 3
    process.stdout.close()
    process.stdin.write(frames)
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert b"nobody reads" in process.stderr.read()
    process.stderr.close()


# --- dropped frames ----------------------------------------------------------------------------------------------


class Arrivals:
    """A capture whose frames arrive as they are listed: (number, frame), None for a wait in vain."""

    def __init__(self, *items):
        self.items = list(items)

    def get(self, timeout):
        if not self.items:
            raise EOFError
        item = self.items.pop(0)
        return item and (item[0], 0.0, item[1])


def numbered(i: int) -> np.ndarray:
    return np.full((8, 8, 3), i, np.uint8)


def run_loop(*items, most=None, stopped=lambda: False):
    written = []
    loop = live.Loop(
        lambda frame, hole: frame + 100,
        live.fixed_mask(np.ones((8, 8), bool), 0),
        lambda frame: written.append(int(frame[0, 0, 0])),
    )
    loop.run(Arrivals(*items), stopped, most)
    return written, loop.summary


def test_dropped_frames_repeat_the_last_result_and_keep_time():
    items = [(0, numbered(0)), None, (1, numbered(1)), (4, numbered(4)), (5, numbered(5))]
    written, summary = run_loop(*items)
    assert written == [100, 101, 101, 101, 104, 105]
    assert (summary.painted, summary.written, summary.dropped) == (4, 6, 2) and "4 frames, 2 dropped" in str(
        summary
    )


def test_frames_dropped_before_the_first_result_show_that():
    assert run_loop((2, numbered(2)))[0] == [102, 102, 102]


def test_no_more_frames_than_asked_for():
    assert run_loop((0, numbered(0)), (7, numbered(7)), most=4)[0] == [100, 100, 100, 107]


def test_it_stops_when_told():
    asked = iter([False, False, True])
    written, _ = run_loop(*((i, numbered(i)) for i in range(9)), stopped=lambda: next(asked))
    assert written == [100, 101]


def test_a_capture_gives_all_frames_and_reads_only_a_little_ahead():
    made = []
    frames = capture.CaptureThread(made.append(i) or numbered(i) for i in range(20))
    for i in range(20):
        number, _, frame = frames.get(10)
        assert number == i and frame[0, 0, 0] == i and len(made) <= i + 4
    with pytest.raises(EOFError):
        frames.get(10)
    assert frames.close()


def test_the_newest_frame_only():
    through, more = threading.Event(), threading.Event()

    def pictures():
        yield from map(numbered, range(10))
        through.set()
        assert more.wait(60)
        yield from map(numbered, range(10, 13))

    frames = capture.CaptureThread(pictures(), newest=True)
    assert through.wait(60)
    assert frames.get(10)[0] == 9 and frames.get(0) is None
    more.set()
    frames._thread.join(60)
    assert frames.get(10)[0] == 12
    with pytest.raises(EOFError):
        frames.get(10)


def test_what_breaks_the_source_is_told_after_its_last_frame():
    def pictures():
        yield numbered(0)
        raise VideoError("The cable is gone.")

    frames = capture.CaptureThread(pictures())
    assert frames.get(10)[0] == 0
    with pytest.raises(VideoError, match="cable"):
        frames.get(10)


def test_a_capture_that_is_closed_ends_its_thread():
    frames = capture.CaptureThread(numbered(0) for _ in iter(int, 1))  # for ever
    frames.get(10)
    assert frames.close(10)


def test_a_video_plays_at_its_rate():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(round(seconds, 6))
        now[0] += seconds

    for i, _ in enumerate(capture.paced(iter(range(5)), Fraction(10), lambda: now[0], sleep)):
        now[0] += 0.25 if i == 1 else 0.02  # the second one takes two and a half times as long as there is
    assert slept == [0.08, 0.01]  # 2 and 3 were late, 4 waits for its time again


def test_keeping_up_with_a_video(tiny_file, tmp_path, moving_texture, write_clip, capsys):
    clip = write_clip(tmp_path / "in.mp4", moving_texture(8, 48, 64), rate=40)
    flags = ["--source", clip, "--box", BOX, "--keep_up", "--output", str(tmp_path / "out.mp4")]
    assert stream.main([*base(tiny_file), *flags]) == 0
    with open_video(tmp_path / "out.mp4") as video:
        assert len(video) == 8 and video.fps == 40
    capsys.readouterr()


# --- sources, masks, outputs ---------------------------------------------------------------------------------------


def test_a_pipe_in_pieces_and_one_that_ends_too_early():
    data, (reading, writing) = film(3, (9, 7)).tobytes(), os.pipe()

    def trickle():
        for i in range(0, len(data) - 5, 50):
            os.write(writing, data[i : min(i + 50, len(data) - 5)])
        os.close(writing)

    threading.Thread(target=trickle).start()
    frames = capture.pipe(reading, (9, 7)).frames
    assert np.array_equal(np.stack([next(frames), next(frames)]), film(3, (9, 7))[:2])
    with pytest.raises(VideoError, match="within frame 2: 184 of the 189 bytes of 7 x 9 pixels"):
        next(frames)
    os.close(reading)


class Camera:
    """A device with three frames, as OpenCV shows it."""

    def __init__(self, index):
        self.index, self.given, self.asked, self.released = index, 0, {}, False

    def read(self):
        self.given += 1
        if self.index != 3 or self.given > 3:
            return False, None
        return True, np.full((40, 64, 3), (1, 2, self.given), np.uint8)

    def set(self, name, value):
        self.asked[name] = value

    def get(self, name):
        return 30.0

    def release(self):
        self.released = True


def test_a_camera(monkeypatch, tiny_file, tmp_path, capsys):
    made = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: made.append(Camera(index)) or made[-1])
    source = capture.camera(3, (40, 64), 20)
    assert source.size == (40, 64) and source.fps == 20
    assert made[0].asked == {
        cv2.CAP_PROP_FRAME_HEIGHT: 40,
        cv2.CAP_PROP_FRAME_WIDTH: 64,
        cv2.CAP_PROP_FPS: 20,
    }
    assert [tuple(next(source.frames)[0, 0]) for _ in range(3)] == [(1, 2, 1), (2, 2, 1), (3, 2, 1)]  # RGB
    with pytest.raises(VideoError, match="Camera 3 gives no more pictures"):
        next(source.frames)

    output = tmp_path / "out.mp4"
    flags = [*base(tiny_file), "--box", BOX, "--output", str(output)]
    assert stream.main([*flags, "--source", "3"]) == 2  # it went away: what came before is kept
    said = capsys.readouterr().err
    assert "3 frames" in said and "Camera 3 gives no more pictures. What came before it is written." in said
    with open_video(output) as video:
        assert len(video) == 3 and video.fps == 30
    assert made[1].released
    assert stream.main([*flags, "--source", "5"]) == 2
    assert "Camera 5 gives no picture" in capsys.readouterr().err and made[2].released


def test_masks_of_every_kind():
    hole = box((40, 64))
    assert np.array_equal(live.fixed_mask(hole, 0)(7, None), hole)
    assert live.fixed_mask(hole, 2)(0, None).sum() > hole.sum()
    moving = np.stack([hole, np.roll(hole, 3, 1)])
    track = live.track_masks(MaskTrack.from_array(moving), 0)
    assert all(np.array_equal(track(i, None), moving[i]) for i in range(2))
    with pytest.raises(MaskError, match="2 masks"):
        track(2, None)
    frame = np.zeros((40, 64, 4), np.uint8)
    frame[..., 3] = np.where(hole, 128, 127)
    assert np.array_equal(live.alpha_masks(0)(0, frame), hole)
    assert np.array_equal(live.boxes_mask([(20, 12, 35, 25)], (40, 64)), hole)
    two = live.boxes_mask([(-5, -5, 0, 0), (63, 39, 80, 80)], (40, 64))
    assert two.sum() == 2 and two[0, 0] and two[39, 63]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--source", "-", "--box", BOX], "--size"),
        (["--source", CLIP], "one of --mask, --box and --alpha_mask"),
        (["--source", CLIP, "--box", BOX, "--mask", "m.png"], "one of --mask"),
        (["--source", CLIP, "--alpha_mask"], "cup.mp4'"),
        (["--source", CLIP, "--box", BOX, "--size", "64x48"], "own size"),
        (["--source", CLIP, "--box", BOX, "--fps", "9"], "own fps"),
        (["--source", "-", "--size", "64x48", "--fps", "0", "--box", BOX], "not 0"),
        (["--source", "-", "--size", "64x48", "--mask", "masks.npz"], "'masks.npz'"),
        (["--source", "none.mp4", "--box", BOX], "'none.mp4'"),
        (["--source", CLIP, "--box", "700,10,720,20"], "700,10,720,20"),
        (["--source", CLIP, "--mask", "none.png"], "'none.png'"),
        (["--source", CLIP, "--box", BOX, "--max_frames", "0"], "not 0"),
        (["--source", CLIP, "--box", BOX, "--dilate_size", "-1"], "-1"),
        (["--source", CLIP, "--box", BOX, "--threads", "0"], "not 0"),
        (["--source", CLIP, "--box", BOX, "--device", "abacus"], "'abacus'"),
        (["--source", CLIP, "--box", BOX, "--weights", "none.onnx"], "'none.onnx'"),
        (["--source", CLIP, "--box", BOX, "--weights", "net.h5"], "'net.h5'"),
        (["--source", CLIP, "--box", BOX, "--output", "none/out.mp4"], "none'"),
    ],
    ids=[
        *(
            "pipe_size",
            "no_mask",
            "two_masks",
            "alpha_of_a_video",
            "size_of_a_video",
            "fps_of_a_video",
            "fps",
        ),
        *("track_for_a_pipe", "no_video", "box_outside", "no_mask_file", "max_frames", "dilation", "threads"),
        *("device", "no_weights", "other_weights", "no_folder"),
    ],
)
def test_mistakes(flags, said, tiny_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert stream.main(["--weights", str(tiny_file), "--output", "out.mp4", *map(str, flags)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("dstt: error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--size=64", "--size=0x9", "--box=1,2,3", "--box=a,b,c,d"])
def test_numbers_that_are_none(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        stream.main(["--source", "-", "--output", "-", flag])
    assert caught.value.code == 2 and f"'{flag.partition('=')[2]}'" in capsys.readouterr().err


def test_help_is_quick_and_heavy_things_wait():
    code = (
        "import sys, videopainter.cli.live; print([m for m in ('torch', 'onnxruntime') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
