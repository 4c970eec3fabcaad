"""Nothing but the named file is opened, nothing hangs, and sizes are looked at before anything is decoded."""

import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest

from videopainter.video import VideoError, VideoWriter, open_video


@pytest.fixture
def secret(tmp_path, write_clip, moving_texture):
    """A video that nobody named."""
    (tmp_path / "secret").mkdir()
    return write_clip(tmp_path / "secret" / "a.ts", moving_texture(8))


def playlists(secret):
    return {
        "live.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n",
        "ended.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "list.txt": f"ffconcat version 1.0\nfile '{secret}'\n",
        "list.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "a.idx": "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
        "timestamp: 00:00:00:000, filepos: 000000000\n",
        "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "a.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{secret}</BaseURL></MPD>',
    }


@pytest.mark.parametrize("name", playlists(""))
def test_playlists_open_no_other_file(name, tmp_path, secret, write_clip, moving_texture):
    path = tmp_path / name
    path.write_text(playlists(secret)[name])
    touched = os.stat(secret).st_atime_ns
    os.utime(secret, ns=(0, 0))
    with pytest.raises(VideoError, match="is not a video"):
        open_video(path)
    assert os.stat(secret).st_atime_ns == 0 != touched
    with pytest.raises(VideoError), VideoWriter(tmp_path / "b.mp4", 25, (96, 128), audio_from=path) as writer:
        writer.write(moving_texture(2))
    assert os.stat(secret).st_atime_ns == 0


@pytest.mark.parametrize(
    "name",
    [
        "concat:{0}|{0}",
        "subfile,,start,0,end,0,,:{0}",
        "http://127.0.0.1:{1}/a.mp4",
        "tcp://127.0.0.1:{1}",
        "crypto:{0}",
    ],
)
def test_protocols_are_names_of_files_that_are_not_there(name, secret):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        with pytest.raises(VideoError, match="There is no video at"):
            open_video(name.format(secret, server.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_pattern_opens_no_sequence(tmp_path):
    from PIL import Image

    for i in range(3):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / f"seq{i:03d}.png")
    with pytest.raises(VideoError, match="There is no video"):
        open_video(tmp_path / "seq%03d.png")
    (tmp_path / "seq%03d.png").write_bytes((tmp_path / "seq000.png").read_bytes())
    with open_video(tmp_path / "seq%03d.png") as source:
        assert len(source) == 1


@pytest.mark.parametrize("name", ["pipe", "pipe.mp4", "pipe.png"])
def test_a_pipe_is_refused_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    found = []

    def attempt():
        try:
            open_video(tmp_path / name)
        except VideoError as error:
            found.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert len(found) == 1 and "pipe or a device" in found[0]


def png(width, height):
    """A PNG of one colour, small on the disk whatever its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack, rows = zlib.compressobj(9), []
    for _ in range(height):
        rows.append(pack.compress(bytes(1 + 3 * width)))
    data = b"".join(rows) + pack.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_sizes_are_checked_before_decoding(tmp_path):
    import tracemalloc

    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "1.png").write_bytes(png(13300, 13300))
    (tmp_path / "a.png").write_bytes((tmp_path / "large" / "1.png").read_bytes())
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02L\x01\x00;"
    (tmp_path / "a.gif").write_bytes(gif)
    tracemalloc.start()
    try:
        for name in ("large", "a.png", "a.gif"):
            with pytest.raises(VideoError, match="million are not taken|cannot be read"):
                open_video(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


def test_names_in_sentences_have_bounded_length(tmp_path):
    with pytest.raises(VideoError) as error:
        open_video(os.path.join(tmp_path, *["x" * 200] * 15))
    assert len(str(error.value)) < 400
    with pytest.raises(VideoError, match="There is no video"):
        open_video("a\0b.mp4")


def test_a_long_name_of_many_bytes_can_be_written(tmp_path):
    path = tmp_path / ("画" * 80 + ".mp4")
    with VideoWriter(path, 25, (16, 16)) as writer:
        writer.write(np.zeros((2, 16, 16, 3), np.uint8))
    with open_video(path) as source:
        assert len(source) == 2


@pytest.mark.parametrize("size", [(16, 16), (18, 34), (32, 48), (64, 64), (96, 128), (130, 66)])
def test_the_same_frames_give_the_same_file(size, tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (30, size[0] // 2, size[1] // 2, 3), np.uint8)
    frames = frames.repeat(2, 1).repeat(2, 2)
    made = []
    for k in range(3):
        with VideoWriter(tmp_path / f"{k}.mp4", 25, size) as writer:
            writer.write(frames)
        made.append((tmp_path / f"{k}.mp4").read_bytes())
    assert made[0] == made[1] == made[2]
