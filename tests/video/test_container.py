"""Files are opened, and what they say of themselves is read, in the same way with every PyAV that the project takes."""

import ast
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import moving_texture

import videopainter
from videopainter.video import VideoWriter, open_video
from videopainter.video.container import exact, open_container, words_of

# A name in Latin-1 where containers have UTF-8, of as many bytes as the one that is written in its place.
WRITTEN, DAMAGED, READ = "Größer".encode(), b"Gr\xf6\xdfer  ", "Gr\ufffd\ufffder  "
RATIONALS = {"time_base", "average_rate", "guessed_rate", "base_rate", "framerate", "sample_aspect_ratio"}


@pytest.fixture(params=["as installed", "as since version 19"])
def pyav(request, monkeypatch):
    """`av.open` as it is, and as it is since version 19: without a say in how words are decoded."""
    real = av.open

    def since_19(file, mode=None, format=None, options=None, container_options=None, timeout=None):
        given = {"options": options, "container_options": container_options, "timeout": timeout}
        try:
            return real(file, mode, format, metadata_errors="surrogateescape", **given)
        except TypeError:
            return real(file, mode, format, **given)

    if request.param != "as installed":
        monkeypatch.setattr(av, "open", since_19)


def test_reading_and_copying_the_sound(pyav, clip, tmp_path):
    with open_video(clip, backend="pyav") as source:
        assert len(source) == 40 and source.fps == 25 and source.has_audio
        with VideoWriter(tmp_path / "b.mp4", source.fps, source.size, audio_from=clip) as writer:
            writer.write(source[:])
    with open_video(tmp_path / "b.mp4", backend="pyav") as result:
        assert len(result) == 40 and result.has_audio


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_words_that_are_no_utf8(pyav, ending, tmp_path):
    """They hinder neither reading nor writing; what cannot be read is marked, in titles, chapters and tracks alike."""
    path, result = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = WRITTEN.decode()
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000)}
        file.set_chapters([{**chapter, "metadata": {"title": WRITTEN.decode()}}])
        pictures, sound = file.add_stream("mpeg4", rate=25), file.add_stream("aac", rate=48000)
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        sound.layout = "mono"
        sound.metadata["handler_name" if ending == ".mp4" else "title"] = WRITTEN.decode()
        for frame in moving_texture(5, 48, 64):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(pictures.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 48000, 0
        file.mux(sound.encode(silence))
        file.mux(sound.encode())
    data = path.read_bytes()
    assert data.count(WRITTEN) >= 3
    path.write_bytes(data.replace(WRITTEN, DAMAGED))
    with open_video(path, backend="pyav") as source:
        assert len(source) == 5
        with VideoWriter(result, source.fps, source.size, audio_from=path) as writer:
            writer.write(source[:])
    for file in (path, result):
        container = open_container(str(file))
        assert words_of(container.metadata)["title"] == READ
        assert words_of(container.chapters()[0]["metadata"])["title"] == READ
        assert READ in words_of(container.streams.audio[0].metadata).values()
        container.close()
    assert READ.encode() in result.read_bytes()


def test_times_and_rates_are_fractions(tmp_path, clip):
    with open_video(clip, backend="pyav") as source:
        told = [source.fps, source.start, source.duration, source.aspect, *source.times[:3]]
        assert [type(number) for number in told] == [Fraction] * len(told)


def test_exact():
    class Number:
        """What PyAV gives since version 19, as far as it goes: truth, and two whole numbers."""

        def __init__(self, numerator, denominator):
            self.numerator, self.denominator = numerator, denominator

        def __bool__(self):
            return self.numerator != 0 and self.denominator != 0

    for rational in (Fraction(30000, 1001), Number(30000, 1001)):
        assert type(exact(rational)) is Fraction and exact(rational) == Fraction(30000, 1001)
    for unsaid in (None, Number(0, 1), Number(1, 0), Number(0, 0)):
        assert exact(unsaid) == 0 and type(exact(unsaid)) is Fraction


def test_no_rational_of_pyav_is_used_as_it_is():
    """Each is made a Fraction by `exact` where it is read, or handed on to PyAV under its own name."""
    folder, found = Path(videopainter.__file__).parent, []
    for path in sorted((folder / "video").rglob("*.py")):
        tree, allowed = ast.parse(path.read_text("utf-8")), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and "exact" in (
                getattr(n, "id", "") for n in (node.func, *node.args)
            ):
                allowed |= {id(below) for below in ast.walk(node)}
            elif isinstance(node, ast.keyword) and node.arg in RATIONALS:
                allowed.add(id(node.value))
        found += [
            f"{path.relative_to(folder)}:{node.lineno}: {node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in RATIONALS
            if isinstance(node.ctx, ast.Load) and id(node) not in allowed
        ]
    assert found == []
