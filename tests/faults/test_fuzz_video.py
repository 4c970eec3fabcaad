"""Damaged files of every container, with fixed seeds: right frames or one sentence, and never for long."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import moving_texture, write_clip
from PIL import Image

SECONDS = 100  # for all of them together
LIMIT = 20  # for one, and 2 GB
CODE = """
import resource, sys, warnings
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from videopainter.utils.report import peak_memory_mb
from videopainter.video import VideoError, VideoWriter, open_video
for path in sys.stdin.read().splitlines():
    try:
        with open_video(path) as source:
            with VideoWriter(path + ".out.mp4", source.fps, source.size, audio_from=source.companions,
                             colour=source.colour, pixel_format=source.pixel_format,
                             times=source.times if source.variable_rate else None) as writer:
                for i in range(min(len(source), 50)):
                    writer.write_over(source.stored(i), source[i], source[i][..., 0] > 250)
        print("read", flush=True)
    except VideoError as error:
        text = str(error)
        assert text.endswith(".") and "\\n" not in text and len(text) < 700, text
        print("refused", flush=True)
    used = peak_memory_mb()
    assert used < 2 << 10, (path, used)
"""
KINDS = {
    "a.mp4": dict(sound="aac"),
    "a.mkv": dict(sound="flac"),
    "a.ts": dict(sound="aac"),
    "a.avi": dict(codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le"),
    "a.webm": dict(codec="libvpx-vp9", options={"cpu-used": "8"}, sound="libopus"),
    "b.mp4": dict(codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}),
    "a.mpg": dict(codec="mpeg2video"),
}


def originals(folder):
    frames = moving_texture(12, 48, 64)
    for name, kind in KINDS.items():
        write_clip(folder / name, frames, **kind)
    pictures = [Image.fromarray(frame) for frame in frames]
    for name in ("a.gif", "a.png", "a.webp"):
        pictures[0].save(folder / name, save_all=True, append_images=pictures[1:], duration=40)
    return [*KINDS, "a.gif", "a.png", "a.webp"]


def damaged(data, rng):
    data = bytearray(data)
    kind = rng.integers(5)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:
        start = rng.integers(len(data))
        return data[:start] + data[start + rng.integers(1, 400) :]
    if kind == 2:  # numbers in headers become large
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(min(len(data) - 8, 800))
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00"])
        return data
    for _ in range(rng.integers(1, 30)):
        data[rng.integers(len(data))] = rng.integers(256)
    return data


@pytest.mark.slow
def test_damaged_videos(tmp_path):
    names, rng, begun, tried = originals(tmp_path), np.random.default_rng(0), time.monotonic(), 0
    while time.monotonic() - begun < SECONDS:
        batch = []
        for name in names:
            path = tmp_path / f"{tried}_{name}"
            path.write_bytes(damaged((tmp_path / name).read_bytes(), rng))
            batch.append(str(path))
            tried += 1
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            input="\n".join(batch),
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT * len(batch),
        )
        assert done.returncode == 0, (done.stdout.count("\n"), batch, done.stderr[-2000:])
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
        for path in batch:
            Path(path).unlink()
            Path(path + ".out.mp4").unlink(missing_ok=True)
    assert tried > 50
