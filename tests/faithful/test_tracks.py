"""Sound, subtitles, chapters and words: kept as far as the container holds them, and named where it does not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import moving_texture
from sources import COUNT, SIZE, Pictures, write
from test_faithful import HOLE, Same

from videopainter import inpaint_video, open_video
from videopainter.video.subset import SubsetSource

WORDS = {
    "title": "A film",
    "artist": "Somebody",
    "creation_time": "2024-05-06T07:08:09.000000Z",
    "location": "+48.1000+011.5000/",
}
CHAPTERS = [
    {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 200, "end": 480, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]
TWO = [("aac", 48000, "stereo", "eng", False), ("aac", 48000, "mono", "deu", True)]


def result_of(path, output, **more):
    with open_video(path) as source:
        hole = np.zeros(source.size, bool)
        hole[HOLE] = True
        return inpaint_video(source, hole, engine=Same(), output=output, **more)


def tracks(path, kind="audio"):
    """(codec, rate, channels, language, default?) of each."""
    out = []
    with av.open(str(path)) as container:
        for stream in getattr(container.streams, kind):
            context = stream.codec_context
            sound = (context.sample_rate, context.channels) if kind == "audio" else ()
            default = bool(stream.disposition & av.stream.Disposition.default)
            out.append((context.codec.canonical_name, *sound, stream.metadata.get("language"), default))
    return out


def packets(path, number=0):
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def pitch(path, number=0):
    """The strongest tone, in Hz, and the seconds that it lasts."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        rate = stream.codec_context.sample_rate
        resampler = av.AudioResampler("fltp", "mono", rate)
        frames = [piece for frame in container.decode(stream) for piece in resampler.resample(frame)]
        heard = np.concatenate([f.to_ndarray()[0].astype(float) for f in frames])
    tone = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))).argmax() * rate / len(heard)
    return tone, len(heard) / rate


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("before", [".mp4", ".mkv"])
def test_all_that_accompanies_the_pictures(before, ending, tmp_path):
    text = {".mp4": "mov_text", ".mkv": "subrip"}
    path = tmp_path / f"a{before}"
    subtitles = [(text[before], "fra"), (text[before], "spa")]
    write(path, Pictures(), TWO, subtitles, WORDS, CHAPTERS)
    done = result_of(path, tmp_path / f"b{ending}")
    older = "ger" if ending == ".mov" else "deu"
    assert tracks(tmp_path / f"b{ending}") == [
        ("aac", 48000, 2, "eng", False),
        ("aac", 48000, 1, older, True),
    ]
    for number in range(2):
        ours, theirs = packets(tmp_path / f"b{ending}", number), packets(path, number)
        assert [data for _, data in ours] == [data for _, data in theirs]
    found = tracks(tmp_path / f"b{ending}", "subtitles")
    wanted = {".mkv": "subrip"}.get(ending, "mov_text")
    assert [(codec, language) for codec, language, _ in found] == [
        (wanted, language) for _, language in subtitles
    ]
    with av.open(str(tmp_path / f"b{ending}")) as container:
        words = {key.lower(): value for key, value in container.metadata.items()}
        chapters = container.chapters()
        said = [bytes(p) for p in container.demux(container.streams.subtitles[1]) if p.size]
        assert any(b"Word 1" in data for data in said)
    for key, value in WORDS.items():
        assert words[key] == value, (key, words)
    assert [chapter["metadata"]["title"] for chapter in chapters] == ["One", "Two"]
    assert float(chapters[1]["start"] * chapters[1]["time_base"]) == pytest.approx(0.2, abs=0.03)
    changed = [w for w in done.warnings if "is written as" in w]
    assert len(changed) == (len(subtitles) if wanted != text[before] else 0) and done.warnings == changed


SOUNDS = {
    "PCM 5.1 to mp4": ("a.mkv", ("pcm_s16le", 48000, "5.1"), ".mp4", ("aac", 48000, 6), "is encoded as aac"),
    "PCM 5.1 to mov": ("a.mkv", ("pcm_s16le", 48000, "5.1"), ".mov", ("pcm_s16le", 48000, 6), None),
    "PCM 5.1 to mkv": ("a.mkv", ("pcm_s16le", 48000, "5.1"), ".mkv", ("pcm_s16le", 48000, 6), None),
    "PCM 7.1 to mp4": ("a.mkv", ("pcm_s16le", 48000, "7.1"), ".mp4", ("aac", 48000, 8), "is encoded as aac"),
    "192 kHz to mp4": (
        "a.mov",
        ("pcm_s24le", 192000, "stereo"),
        ".mp4",
        ("aac", 48000, 2),
        "48000 Hz for 192000",
    ),
    "192 kHz to mov": ("a.mov", ("pcm_s24le", 192000, "stereo"), ".mov", ("pcm_s24le", 192000, 2), None),
    "176.4 kHz FLAC to webm": (
        "a.mkv",
        ("flac", 176400, "stereo"),
        ".webm",
        ("opus", 48000, 2),
        "48000 Hz for 176400",
    ),
    "FLAC to mp4": ("a.mkv", ("flac", 96000, "stereo"), ".mp4", ("flac", 96000, 2), None),
    "AC-3 5.1 to mp4": ("a.mkv", ("ac3", 48000, "5.1"), ".mp4", ("ac3", 48000, 6), None),
    "Opus to webm": ("a.webm", ("libopus", 48000, "stereo"), ".webm", ("opus", 48000, 2), None),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound(name, tmp_path):
    file, (codec, rate, layout), ending, wanted, said = SOUNDS[name]
    kind = Pictures("libvpx-vp9", options={"cpu-used": "8"}) if file.endswith(".webm") else Pictures()
    path = write(tmp_path / file, kind, [(codec, rate, layout, "eng", True)])
    done = result_of(path, tmp_path / f"b{ending}")
    assert [track[:3] for track in tracks(tmp_path / f"b{ending}")] == [wanted]
    tone, seconds = pitch(tmp_path / f"b{ending}")
    assert tone == pytest.approx(300, abs=5) and seconds == pytest.approx(COUNT / 25, abs=0.06)
    assert len(done.warnings) == (said is not None) and (said is None or said in done.warnings[0])


def test_what_is_dropped_is_named_in_the_report(tmp_path):
    import json

    path = write(tmp_path / "a.mp4", Pictures(), TWO, [("mov_text", "fra")], chapters=CHAPTERS)
    done = result_of(path, tmp_path / "b.gif", output_dir=tmp_path / "out")
    assert [w for w in done.warnings if "Sound track 1 is dropped" in w]
    assert [w for w in done.warnings if "Subtitle track 1, mov_text, is dropped" in w]
    assert [w for w in done.warnings if "chapters are dropped" in w]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["warnings"] == done.warnings


def test_sound_after_a_clock_that_starts_anew(tmp_path):
    from sources import glued

    path = glued(tmp_path / "a.ts", Pictures())
    result_of(path, tmp_path / "b.mp4")
    found = packets(tmp_path / "b.mp4")
    times = [time for time, _ in found]
    assert len(found) == len(packets(path)) and np.all(np.diff(times) > 0)
    assert times[-1] == pytest.approx(2 * COUNT / 25, abs=0.08)


def test_a_part_has_its_own_sound(tmp_path):
    """Rows with a start_frame: the sound is that of the same moment, by the time stamps of the frames."""
    stamps = [0, 1, 2, 3, 12, 13, 14, 20, 21, 22, 23, 60]
    path = write(tmp_path / "a.mp4", Pictures(stamps=stamps), [("aac", 48000, "mono", "eng", True)])
    with open_video(path) as source:
        part = SubsetSource(source, range(4, 11))
        assert list(part.times) == [Fraction(s - 12, 100) for s in stamps[4:11]]
        hole = np.zeros(source.size, bool)
        hole[HOLE] = True
        inpaint_video(part, hole, engine=Same(), output=tmp_path / "b.mp4")
    before, after = packets(path), packets(tmp_path / "b.mp4")
    expected = [(t - 0.12, data) for t, data in before if 0.12 <= t < 0.6]
    assert [data for _, data in after] == [data for _, data in expected]
    assert np.allclose([t for t, _ in after], [t for t, _ in expected], atol=0.002)


def test_rows_of_a_table_that_begin_later_have_their_sound(tmp_path):
    from videopainter.batch.clips import excerpt
    from videopainter.batch.rows import Row

    path = write(tmp_path / "a.mp4", Pictures(), TWO)
    rows = {
        "part": Row(0, "part", Path(path), tmp_path / "m", start=3, end=9),
        "slow": Row(1, "slow", Path(path), tmp_path / "m", start=3, end=9, fps=Fraction(10)),
    }
    for name, row in rows.items():
        with open_video(path) as video:
            hole = np.zeros(video.size, bool)
            hole[HOLE] = True
            output = tmp_path / f"{name}.mp4"
            done = inpaint_video(excerpt(row, video), hole, engine=Same(), output=output)
        if name == "slow":
            assert tracks(output) == [] and "The sound is dropped" in done.warnings[0]
            continue
        for number in range(2):
            expected = [data for t, data in packets(path, number) if 0.12 <= t < 0.36]
            assert [data for _, data in packets(output, number)] == expected


@pytest.mark.parametrize("limit, count", [({"max_seconds": 0.125}, 5), ({"target_fps": 20}, 8)])
def test_limits_count_by_time_stamps(limit, count, tmp_path):
    stamps = [0, 1, 2, 3, 12, 13, 14, 20, 21, 22, 23, 30]
    path = write(tmp_path / "a.mp4", Pictures(stamps=stamps), [("aac", 48000, "mono", "eng", True)])
    result_of(path, tmp_path / "b.mp4", **limit)
    with open_video(path) as source, open_video(tmp_path / "b.mp4") as made:
        assert len(made) <= count and set(made.times) <= set(source.times)
        if "max_seconds" in limit:
            assert len(made) == count


def test_every_writer_keeps_uneven_times(tmp_path):
    stamps = [0, 1, 2, 3, 12, 13, 14, 20, 21, 22, 23, 30]
    path = write(tmp_path / "a.mp4", Pictures(stamps=stamps))
    result_of(path, None, output_dir=tmp_path / "out")
    result_of(path, None, output_dir=tmp_path / "masks", mask_only=True)
    for name in ("out/result.mp4", "out/result_vis.mp4", "masks/masks_vis.mp4"):
        with open_video(tmp_path / name) as made:
            assert [round(float(t), 3) for t in made.times] == [s / 100 for s in stamps], name


def test_the_rate_of_a_folder(tmp_path):
    from sources import images

    with open_video(images(tmp_path / "a"), fps=10) as source:
        assert source.fps == 10 and source[:].shape == (COUNT, *SIZE, 3)
        assert np.array_equal(source[3], moving_texture(COUNT, *SIZE)[3])


def test_the_folder_of_a_run_holds_what_the_codec_needs(tmp_path):
    path = write(tmp_path / "a.mp4", Pictures())
    for codec, name in (("prores", "result.mov"), ("ffv1", "result.mkv"), ("png", "result")):
        done = result_of(path, None, output_dir=tmp_path / codec, codec=codec)
        assert Path(tmp_path / codec / name) in done.files and (tmp_path / codec / name).exists()


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"output": "b.txt"}, "its ending is to be"),
        ({"output": "b.mp4", "codec": "prores"}, "cannot hold prores"),
        ({"output": "b.mp4", "codec": "cinepak"}, "no codec"),
        ({"output": "b.mp4", "quality": 101}, "between 0 and 100"),
        ({"output": "b.webm", "codec": "h264"}, "cannot hold h264"),
    ],
)
def test_outputs_that_cannot_be(wrong, words, tmp_path):
    from videopainter import VideoError

    path = write(tmp_path / "a.mp4", Pictures())
    with pytest.raises(VideoError, match=words):
        result_of(path, tmp_path / wrong.pop("output"), **wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]
