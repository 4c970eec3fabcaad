"""Broken input and interrupted output: what can be had plus a warning, or one clear sentence."""

import importlib.util
import os
import signal
import struct
import subprocess
import sys
import warnings

import av
import numpy as np
import pytest

from videopainter.video import VideoError, VideoWriter, open_video

needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord is not installed"
)
BACKENDS = ["auto", "pyav", pytest.param("decord", marks=needs_decord)]


def sentence(excinfo):
    text = str(excinfo.value)
    assert text.endswith(".") and "\n" not in text and "Traceback" not in text
    return text


def refused(path, backend="auto"):
    with pytest.raises(VideoError) as excinfo:
        open_video(path, backend=backend)
    return sentence(excinfo)


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_that_are_no_video(backend, tmp_path, capfd):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("This is a text file, whatever it is called.\n" * 50)
    (tmp_path / "notes.txt").write_text("plain text, which libav would draw as a film\n" * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"
    )
    assert "empty" in refused(tmp_path / "empty.mp4", backend)
    for name in ("text.mp4", "notes.txt", "noise.mp4", "list.m3u8"):
        assert name in refused(tmp_path / name, backend)
    assert "There is no video at" in refused(tmp_path / "missing.mp4", backend)
    assert capfd.readouterr() == ("", "")


def test_folders_and_backends(tmp_path, clip):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "no images" in refused(folder)
    assert "is a folder" in refused(folder, "pyav")
    (folder / "a.png").write_bytes(b"not a picture")
    assert "a.png" in refused(folder)
    assert "not a folder of images" in refused(clip, "images")
    assert "'ffmpeg'" in refused(clip, "ffmpeg")
    for rate in (0, -1, float("nan"), "fast"):
        with pytest.raises(VideoError, match="frame rate"):
            open_video(folder, fps=rate)
    with pytest.raises(VideoError, match="for images only"):
        open_video(clip, fps=10)


def test_audio_only(tmp_path):
    with av.open(str(tmp_path / "tone.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for k in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video" in refused(tmp_path / "tone.mp4")


def written_by_us(path, frames):
    """An mp4 with its index in front, so that a cut loses pictures and not the index."""
    with VideoWriter(path, 25, frames.shape[1:3]) as writer:
        writer.write(frames)
    return path


def places(path):
    """(start, end) in the file of every packet of pictures."""
    with av.open(str(path)) as container:
        return [(p.pos, p.pos + p.size) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("backend", ["auto", "pyav"])
@pytest.mark.parametrize("packet", [20, 45, 59])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_cut_off_in_the_middle(suffix, packet, backend, tmp_path, moving_texture, write_clip, capfd):
    frames = moving_texture(60)
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".mp4":
        written_by_us(whole, frames)
    else:
        write_clip(whole, frames, options={"g": "15"}, codec="libx264" if suffix == ".mkv" else "mpeg4")
    start, end = places(whole)[packet]
    cut.write_bytes(whole.read_bytes()[: (start + end) // 2])
    with pytest.warns(UserWarning, match="announces"):
        source = open_video(cut, backend=backend)
    with source, open_video(whole, backend="pyav") as complete:
        n = len(source)
        assert packet - 4 <= n <= packet and source.backend == "pyav" and source.fps == 25
        assert source.warnings == [f"Only {n} of the 60 frames that {str(cut)!r} announces can be decoded."]
        assert source[:].shape == (n, 96, 128, 3)
        assert np.array_equal(source[: n - 4], complete[: n - 4])
    assert capfd.readouterr() == ("", "")


def test_cut_off_before_the_index(tmp_path, moving_texture, write_clip, capfd):
    path = tmp_path / "a.mp4"
    write_clip(path, moving_texture())  # the index is at the end
    path.write_bytes(path.read_bytes()[:-2000])
    assert "a.mp4" in refused(path)
    assert capfd.readouterr() == ("", "")


def test_a_header_that_lies(tmp_path, moving_texture, write_clip):
    path = tmp_path / "a.avi"
    write_clip(path, moving_texture(20), codec="mjpeg", pix_fmt="yuvj420p")
    truth = open_video(path)[:]
    data = bytearray(path.read_bytes())
    main, stream = data.index(b"avih"), data.index(b"strh")
    data[main + 8 + 16 : main + 8 + 20] = struct.pack("<I", 444)
    data[stream + 8 + 32 : stream + 8 + 36] = struct.pack("<I", 444)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="Only 20 of the 444 frames"):
        source = open_video(path)
    assert len(source) == 20 and np.array_equal(source[:], truth) and source.fps == 25


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_damage_in_the_middle(backend, tmp_path, moving_texture, capfd):
    path = written_by_us(tmp_path / "a.mp4", moving_texture(60))
    truth = open_video(path, backend="pyav")[:]
    data = bytearray(path.read_bytes())
    (start, _), (_, end) = places(path)[30], places(path)[32]
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    with open_video(path, backend=backend) as source:
        assert len(source) == 60
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = source[:]
            assert np.array_equal(source[50], frames[50])
    assert frames.shape == truth.shape and np.array_equal(frames[:20], truth[:20])
    assert capfd.readouterr() == ("", "")


def test_lost_frames_repeat_their_neighbour_and_say_so(tmp_path, moving_texture, write_clip):
    path = tmp_path / "a.mkv"
    write_clip(path, moving_texture(20), codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    data = path.read_bytes()
    data = data.replace(packets[9], bytes(len(packets[9])))
    path.write_bytes(data)
    source = open_video(path, backend="pyav")
    assert len(source) == 20
    with pytest.warns(UserWarning, match="Frame 9 of .* is damaged"):
        frames = source[:]
    assert np.array_equal(frames[9], frames[8]) and not np.array_equal(frames[10], frames[9])
    assert len(source.warnings) == 1


def test_a_closed_source_says_so(clip):
    source = open_video(clip, backend="pyav")
    source.close()
    source.close()
    with pytest.raises(VideoError, match="closed"):
        source[0]


# -- writing --


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_write_leaves_nothing(error, tmp_path, clip):
    target = tmp_path / "out" / "result.mp4"
    target.parent.mkdir()
    with pytest.raises(error), VideoWriter(target, 25, (96, 128), audio_from=clip) as writer:
        writer.write(np.zeros((30, 96, 128, 3), np.uint8))
        assert not target.exists() and len(os.listdir(target.parent)) == 1
        raise error
    assert os.listdir(target.parent) == []


def test_an_interrupted_write_keeps_the_old_result(tmp_path):
    target = tmp_path / "result.mp4"
    target.write_bytes(b"the result of an earlier run")
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, 25, (96, 128)) as writer:
        writer.write(np.zeros((3, 96, 128, 3), np.uint8))
        raise KeyboardInterrupt
    assert target.read_bytes() == b"the result of an earlier run" and os.listdir(tmp_path) == ["result.mp4"]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 96, 130, 3), np.uint8),
        np.zeros((96, 128, 3), np.float32),
        np.zeros((96, 128), np.uint8),
        np.zeros((96, 128, 4), np.uint8),
    ],
)
def test_frames_of_the_wrong_kind(frames, tmp_path):
    with (
        pytest.raises(VideoError, match="96, 128, 3") as excinfo,
        VideoWriter(tmp_path / "a.mp4", 25, (96, 128)) as writer,
    ):
        writer.write(np.zeros((96, 128, 3), np.uint8))
        writer.write(frames)
    sentence(excinfo)
    assert os.listdir(tmp_path) == []


def test_places_and_settings_that_cannot_be_written(tmp_path, capfd):
    size, black = (96, 128), np.zeros((96, 128, 3), np.uint8)
    for path, more in [
        (tmp_path / "nowhere" / "a.mp4", {}),
        (tmp_path / "a.mp4", {"codec": "prores"}),
        (tmp_path / "a.mp4", {"codec": "wonder"}),
        (tmp_path / "a.txt", {}),
        (tmp_path.parent, {}),
        (tmp_path / "a.mp4", {"quality": 101}),
        (tmp_path / "a.mp4", {"colour": "sepia"}),
        (tmp_path / "a.mp4", {"audio_from": tmp_path / "missing.mp4"}),
    ]:
        with pytest.raises(VideoError) as excinfo, VideoWriter(path, 25, size, **more) as writer:
            writer.write(black)
        sentence(excinfo)
    with pytest.raises(VideoError, match="no frames"), VideoWriter(tmp_path / "a.mp4", 25, size):
        pass
    with pytest.raises(VideoError, match="size"):
        VideoWriter(tmp_path / "a.mp4", 25, (0, 128))
    assert os.listdir(tmp_path) == [] and capfd.readouterr() == ("", "")


def test_damaged_sound_does_not_stop_the_picture(tmp_path, clip):
    data = bytearray(open(clip, "rb").read())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with VideoWriter(tmp_path / "a.mp4", 25, (96, 128), audio_from=broken) as writer:
        writer.write(np.zeros((10, 96, 128, 3), np.uint8))
    with open_video(tmp_path / "a.mp4") as source:
        assert len(source) == 10


def test_killed_by_ctrl_c_in_the_middle_of_a_write(tmp_path):
    """A real SIGINT to a real process, while it encodes."""
    code = (
        "import numpy as np, sys\n"
        "from videopainter.video import VideoWriter\n"
        "with VideoWriter(sys.argv[1], 25, (480, 640)) as writer:\n"
        "    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)\n"
        "    for i in range(100000):\n"
        "        writer.write(frame)\n"
        "        if i == 3: print('writing', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.mp4")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout.readline().strip() == b"writing"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.stdout.close()
    assert process.returncode != 0 and os.listdir(tmp_path) == []
