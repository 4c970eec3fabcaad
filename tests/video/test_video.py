"""Every way of reading gives the same, right frames; what is written can be read back as promised."""

import importlib.util
import os
import random
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from videopainter.video import ArraySource, VideoError, VideoSource, VideoWriter, open_video
from videopainter.video.colour import NAMED
from videopainter.video.readers import decord as decord_reader
from videopainter.video.readers.pyav import PyAVReader
from videopainter.video.source import CachedSource

needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None,
    reason="decord, no longer maintained and made for Linux on x86-64 only, is not installed",
)
FILE_BACKENDS = ["pyav", "auto", pytest.param("decord", marks=needs_decord)]
ALL = FILE_BACKENDS + ["images", "array"]

X264 = {
    "plain": dict(options={"x264-params": "keyint=12:bframes=3"}),
    "long": dict(options={"x264-params": "keyint=1000:bframes=3:b-pyramid=2"}),
    "open_gop": dict(options={"x264-params": "keyint=10:bframes=3:open-gop=1:scenecut=0"}),
    "intra_refresh": dict(options={"x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
    "bt709": dict(tags=(1, 1, "ITU709")),
    "full_range": dict(tags=(6, 2, "ITU601")),
    "yuv444": dict(pix_fmt="yuv444p"),
    "ten_bit": dict(pix_fmt="yuv420p10le"),
    "variable_rate": dict(stamps=[i + 3 * (i // 5) for i in range(40)]),
}
OTHERS = {
    "matroska.mkv": dict(),
    "stream.ts": dict(options={"g": "10"}),
    "programme.mpg": dict(codec="mpeg2video", options={"g": "8", "bf": "2"}),
    "bare.h264": dict(options={"g": "10"}),
    "divx.avi": dict(codec="mpeg4", options={"g": "10"}),
    "jpeg.avi": dict(codec="mjpeg", pix_fmt="yuvj420p"),
    "vp8.webm": dict(codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.webm": dict(codec="libvpx-vp9", options={"cpu-used": "8"}),
    "hevc.mp4": dict(codec="libx265", options={"x265-params": "keyint=10:log-level=none"}),
}


def decode_all(path):
    """The plain truth: all frames, decoded from start to end by PyAV alone."""
    with av.open(path) as container:
        return np.stack(
            [f.to_ndarray(format="rgb24", interpolation="BICUBIC") for f in container.decode(video=0)]
        )


@pytest.fixture(params=ALL)
def source_and_truth(request, tmp_path, clip):
    truth = decode_all(clip)
    if request.param == "array":
        source = ArraySource(truth)
    elif request.param == "images":
        for i, frame in enumerate(truth):
            Image.fromarray(frame).save(tmp_path / f"{i}.png")
        source = open_video(tmp_path)
    else:
        source = open_video(clip, backend=request.param)
    with source:
        yield source, truth


def test_the_interface(source_and_truth):
    source, truth = source_and_truth
    assert len(source) == 40 and source.fps == 25 and isinstance(source.fps, Fraction)
    assert source.size == (96, 128) and source.height == 96 and source.width == 128
    assert source.duration == Fraction(40, 25) and source.warnings == []
    frame, some = source[7], source[3:9]
    assert (
        frame.dtype == some.dtype == np.uint8
        and frame.shape == (96, 128, 3)
        and some.shape == (6, 96, 128, 3)
    )
    assert np.array_equal(source[:], truth)
    assert np.array_equal(source[-1], truth[-1]) and np.array_equal(source[30:2:-7], truth[30:2:-7])
    assert source[5:5].shape == (0, 96, 128, 3) and np.array_equal(source[38:99], truth[38:])
    for outside in (40, -41):
        with pytest.raises(IndexError):
            source[outside]


def test_a_source_without_frames_cannot_be_made():
    for kind in (VideoSource, CachedSource):
        with pytest.raises(TypeError, match="abstract"):
            kind()


def test_frames_belong_to_the_caller(source_and_truth):
    source, truth = source_and_truth
    truth = truth.copy()
    source[4][:] = 0
    source[4:6][:] = 0
    assert np.array_equal(source[4], truth[4])


def test_random_and_windowed_access_with_a_small_cache(source_and_truth):
    source, truth = source_and_truth
    source._cache_bytes = 0  # the least: eight frames
    order = list(range(40)) + list(range(39, -1, -1))
    order += random.Random(0).sample(range(40), 40)
    for i in order:
        assert np.array_equal(source[i], truth[i]), i
    for i in range(0, 30, 5):
        assert np.array_equal(source[i : i + 10], truth[i : i + 10])
    assert isinstance(source, ArraySource) or len(source._cache) <= 8


@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("name", X264)
def test_kinds_of_h264(name, backend, tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / "a.mp4", moving_texture(), **X264[name])
    check_against_truth(path, backend)


@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_codecs_and_containers(name, backend, tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / name, moving_texture(), **OTHERS[name])
    check_against_truth(path, backend)


def check_against_truth(path, backend):
    truth = decode_all(path)
    with open_video(path, backend=backend) as source:
        source._cache_bytes = 0
        assert len(source) == len(truth) == 40 and source.warnings == []
        for i in random.Random(1).sample(range(40), 40):
            assert np.array_equal(source[i], truth[i]), i
        assert np.array_equal(source[:], truth)


def test_av1(tmp_path, moving_texture, write_clip, capfd):
    path = write_clip(tmp_path / "a.mp4", moving_texture(10), codec="libsvtav1", options={"preset": "12"})
    capfd.readouterr()
    with open_video(path) as source:
        assert source.backend == "pyav" and np.array_equal(source[:], decode_all(path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="threads have no scheduling policy here")
def test_writing_av1_leaves_no_real_time_threads(tmp_path):
    """The encoder makes them where root runs it."""

    def policies():
        return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}

    before = policies()
    with VideoWriter(tmp_path / "a.mkv", 25, (64, 64), codec="av1") as writer:
        for level in range(4):
            writer.write(np.full((64, 64, 3), 60 * level, np.uint8))
            assert policies() == before
    assert policies() == before


@needs_decord
@pytest.mark.parametrize("name", X264)
def test_decord_is_taken_only_where_it_is_right(name, tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / "a.mp4", moving_texture(), **X264[name])
    with open_video(path) as source:
        assert source.backend == "pyav"  # decord decodes ahead without a bound, so nobody gets it unasked
    if name in ("plain", "long", "bt709", "full_range"):
        with open_video(path, backend="decord") as source:
            assert source.backend == "decord" and np.array_equal(source[:], decode_all(path))
    else:
        with pytest.raises(VideoError, match="decord cannot be relied on"):
            open_video(path, backend="decord")


@needs_decord
def test_decord_is_refused_what_it_would_fill_the_memory_with(clip, monkeypatch):
    monkeypatch.setattr(decord_reader, "MOST_AHEAD", 39 * 96 * 128 * 3)
    with pytest.raises(VideoError, match="decodes ahead"):
        open_video(clip, backend="decord")


def test_without_decord(clip, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with open_video(clip) as source:
        assert source.backend == "pyav" and len(source[:]) == 40
    with pytest.raises(VideoError, match="decord is not installed"):
        open_video(clip, backend="decord")


def test_frames_of_open_gop_are_not_taken_from_a_broken_start(tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / "a.mp4", moving_texture(), **X264["open_gop"])
    truth = decode_all(path)
    with open_video(path, backend="pyav") as source:
        assert source.reordered_keys
    for i in range(40):  # a new source each time: every frame is the first one asked for
        with PyAVReader(path) as source:
            assert np.array_equal(source[i], truth[i]), i


def test_sequential_reading_decodes_once(clip):
    with open_video(clip, backend="pyav") as source:
        seeks = []
        seek = source._seek
        source._seek = lambda k: (seeks.append(k), seek(k))
        for i in range(0, 40, 4):
            source[max(0, i - 20) : i + 4]
        assert len(seeks) == 1


def test_memory_stays_bounded(tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / "a.mp4", moving_texture(100))
    with open_video(path, backend="pyav") as source:
        source._cache_bytes = 20 * 96 * 128 * 3
        for i in range(0, 100, 10):
            source[i : i + 10]
        source[99], source[0]
        assert sum(f.nbytes for f in source._cache.values()) <= source._cache_bytes


def test_decoded_frames_are_let_go():
    psutil = pytest.importorskip("psutil")
    example = Path(__file__).parents[2] / "examples" / "cup.mp4"
    with open_video(example, backend="pyav") as source:
        source._cache_bytes = 0
        used = []
        for _ in range(3):
            for i in range(0, len(source), 5):
                source[i : i + 5]
            used.append(psutil.Process().memory_info().rss)
    assert used[2] - used[0] < 30 * 2**20  # a leak of every frame would be 98 MB


# display matrix of each turn or flip, and what numpy does to the stored picture for the same
TURNS = {
    "90": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "180": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "270": ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda a: a[::-1]),
    "transposed": ((0, 1, 1, 0), lambda a: a.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("backend", ["pyav", "auto"])
def test_rotation_metadata(turn, backend, tmp_path, moving_texture, write_clip):
    path = write_clip(tmp_path / "a.mp4", moving_texture(6))
    upright = decode_all(path)
    (a, b, c, d), expected = TURNS[turn]
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of other fields
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    with open_video(path, backend=backend) as source:
        assert source.size == expected(upright[0]).shape[:2]
        for i in range(6):
            assert np.array_equal(source[i], expected(upright[i]))
        height, width = source.size
        source.limit_memory(2**20)
        small = source.reduced(3, (height // 2, width // 2)).astype(float).mean(2)
        whole = source[3].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3, 4))
        assert np.abs(small - whole).mean() < 4  # turned another way it is ten times as much


@pytest.mark.parametrize("name", ["odd.mkv", "odd.webm"])
def test_odd_sizes_are_read(name, tmp_path, moving_texture, write_clip):
    codec = {"odd.mkv": dict(codec="ffv1"), "odd.webm": dict(codec="libvpx-vp9")}[name]
    path = write_clip(tmp_path / name, moving_texture(8, 95, 127), **codec)
    with open_video(path) as source:
        assert source.size == (95, 127) and np.array_equal(source[:], decode_all(path))


def test_variable_rate_keeps_every_frame_and_the_duration(tmp_path, moving_texture, write_clip):
    stamps = [i + 3 * (i // 5) for i in range(40)]
    path = write_clip(tmp_path / "a.mp4", moving_texture(), stamps=stamps)
    with open_video(path) as source:
        assert source.variable_rate and len(source) == 40
        assert float(source.duration) == pytest.approx((stamps[-1] + 1) / 25, abs=0.05)
        with VideoWriter(tmp_path / "b.mp4", source.fps, source.size) as writer:
            writer.write(source[:])
        with open_video(tmp_path / "b.mp4") as again:
            assert again.fps == source.fps and not again.variable_rate
            assert float(again.duration) == pytest.approx(float(source.duration), abs=0.01)


@pytest.mark.parametrize("count, gap", [(3, 1), (4, 2), (6, 2), (6, 4), (8, 3), (10, 5), (17, 8)])
def test_a_gap_in_a_short_clip_is_kept(count, gap, tmp_path, moving_texture, write_clip):
    stamps = [i + 2 * (i >= gap) for i in range(count)]
    with open_video(write_clip(tmp_path / "a.mp4", moving_texture(count), stamps=stamps)) as source:
        assert [round(time * 25) for time in source.times] == stamps and source.variable_rate


def test_folder_of_images(tmp_path, moving_texture):
    frames = moving_texture(12, 31, 45)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(
            tmp_path / f"frame{i}.png"
        )  # frame10 comes after frame9, not after frame1
    (tmp_path / "notes.txt").write_text("not an image")
    with open_video(tmp_path, fps=Fraction(30000, 1001)) as source:
        assert source.backend == "images" and source.fps == Fraction(30000, 1001) and not source.has_audio
        assert np.array_equal(source[:], frames)
    Image.fromarray(frames[0][:30]).save(tmp_path / "frame99.png")
    with open_video(tmp_path) as source, pytest.raises(VideoError, match="45x30.*45x31"):
        source[12]


def test_images_of_other_kinds_become_rgb(tmp_path):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(grey * 257).save(tmp_path / "2.png")  # 16 bit
    with open_video(tmp_path) as source:
        for i in range(2):
            assert np.array_equal(source[i], np.repeat(grey[..., None], 3, 2))


# -- writing --


@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001), Fraction(26777, 1000), Fraction(45000, 1499), 8])
def test_written_rate_size_and_format(rate, tmp_path, moving_texture):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, rate, (96, 128)) as writer:
        writer.write(moving_texture(10))
        writer.write(moving_texture(1)[0])
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (128, 96, 11)
        assert stream.average_rate == rate
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with open_video(path) as source:
        assert len(source) == 11 and source.fps == rate and source.size == (96, 128)


@pytest.mark.parametrize("colour", ["bt601", "bt709", "untagged", None])
def test_colours_survive_writing_and_reading(colour, tmp_path):
    levels = np.array(
        [[10, 10, 10], [200, 30, 40], [30, 180, 60], [40, 50, 210], [128, 128, 128], [240, 240, 240]]
    )
    picture = np.repeat(np.repeat(levels.astype(np.uint8)[None], 16, 1), 64, 0)
    once, twice = tmp_path / "1.mp4", tmp_path / "2.mp4"
    with VideoWriter(once, 25, picture.shape[:2], colour=colour, quality=92) as writer:
        writer.write(np.stack([picture] * 3))
    with open_video(once) as source:
        assert source.colour == NAMED[colour or "bt601"]
        assert np.abs(source[1].astype(int) - picture)[:, 4::16].max() <= 4
        with VideoWriter(twice, 25, source.size, colour=source.colour, quality=92) as writer:
            writer.write(source[:])
        with open_video(twice) as again:
            assert abs((again[1].astype(int) - source[1]).mean()) < 0.5  # does not drift darker or lighter


def test_odd_size_is_padded_by_one_pixel(tmp_path, moving_texture):
    frames = moving_texture(5, 95, 127)
    frames[:] = frames[..., :1]  # grey, for the colours are stored at half the size
    with VideoWriter(tmp_path / "a.mp4", 25, (95, 127), quality=92) as writer:
        writer.write(frames)
        assert writer.encoded_size == (96, 128)
    with open_video(tmp_path / "a.mp4") as source:
        assert source.size == (96, 128)
        assert np.abs(source[:][:, :95, :127].astype(int) - frames).mean() < 4


def audio_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [p for p in container.demux(stream) if p.size]
        return stream.codec_context.name, [(float(p.pts * p.time_base), bytes(p)) for p in packets]


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3"])
def test_sound_is_copied_byte_for_byte(codec, tmp_path, moving_texture, write_clip):
    clip = write_clip(tmp_path / "a.mp4", moving_texture(), sound=codec)
    with open_video(clip) as source:
        assert source.has_audio
        with VideoWriter(tmp_path / "b.mp4", source.fps, source.size, audio_from=clip) as writer:
            for i in range(0, 40, 10):
                writer.write(source[i : i + 10])
    (name, before), (same, after) = audio_packets(clip), audio_packets(tmp_path / "b.mp4")
    assert name == same and [d for _, d in before] == [d for _, d in after]
    assert np.allclose([t for t, _ in before], [t for t, _ in after], atol=0.001)


def test_sound_of_part_of_a_video(tmp_path, clip):
    with VideoWriter(
        tmp_path / "b.mp4",
        25,
        (96, 128),
        audio_from=clip,
        audio_start=Fraction(1, 2),
        duration=Fraction(2, 5),
    ) as writer:
        writer.write(np.zeros((10, 96, 128, 3), np.uint8))
    _, before = audio_packets(clip)
    _, after = audio_packets(tmp_path / "b.mp4")
    expected = [(t - 0.5, d) for t, d in before if 0.5 <= t < 0.9]
    assert [d for _, d in after] == [d for _, d in expected]
    assert np.allclose([t for t, _ in after], [t for t, _ in expected], atol=0.002)


def test_sound_that_mp4_cannot_hold_becomes_aac(tmp_path, moving_texture, write_clip):
    clip = write_clip(tmp_path / "a.mkv", moving_texture(), sound="pcm_s16le")
    with VideoWriter(tmp_path / "b.mp4", 25, (96, 128), audio_from=clip) as writer:
        writer.write(moving_texture())
    name, packets = audio_packets(tmp_path / "b.mp4")
    assert name == "aac" and packets[-1][0] == pytest.approx(1.6, abs=0.1)
    with av.open(str(tmp_path / "b.mp4")) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(heard[4800:52800]))
    assert spectrum.argmax() == pytest.approx(440, abs=2)


def test_a_silent_source_gives_a_silent_result(tmp_path, moving_texture, write_clip):
    silent = write_clip(tmp_path / "a.mp4", moving_texture(4))
    with VideoWriter(tmp_path / "b.mp4", 25, (96, 128), audio_from=silent) as writer:
        writer.write(moving_texture(4))
    with open_video(tmp_path / "b.mp4") as source:
        assert not source.has_audio


def test_importing_the_package_is_light():
    heavy = ("av", "cv2", "numpy", "torch", "decord")
    code = (
        f"import sys, videopainter as v; print([m for m in sys.modules if m in {heavy} or not v.__version__])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
