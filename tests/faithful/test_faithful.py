"""What goes in comes out: times, tags, tracks and pixels of every kind of source, through the spine with a small hole.

Each row of a table below is a source as people have it. `python tests/faithful/test_faithful.py` runs all of them and
writes the matrix of `docs/faithful.md`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

sys.path[:0] = [str(folder) for folder in (*Path(__file__).parents[:3],)]

import sources  # noqa: E402
from sources import COUNT, SIZE, UNEVEN, Pictures, write  # noqa: E402

from videopainter import inpaint_video, open_video  # noqa: E402
from videopainter.engines.base import EngineSpec, NoOptions  # noqa: E402

# Accurate rounding and full chroma by number: PyAV names them since version 18.
EXACT = int(Interpolation.BICUBIC) | 0x40000 | 0x4000
HOLE = (slice(30, 46), slice(40, 60))
BT2020 = 9  # the matrix; PyAV names it since version 18
BT709, BT601, PAL = (1, 1, 1, 1), (6, 6, 6, 1), (5, 5, 5, 1)
HLG, PQ = (9, 9, 18, 1), (9, 9, 16, 1)
QUIET = {"x265-params": "log-level=none"}


class Same:
    """An engine that puts back what was there, so that all of a result can be compared with its source."""

    spec = EngineSpec("same", dilate_size=0)
    options = NoOptions()

    def __call__(self, source, masks, **rest):
        yield from (source[i] for i in range(len(source)))

    def close(self):
        pass


@dataclass
class Case:
    """A kind of source. `make(folder)` gives its path; the rest is what the result has to be.

    `ending`: of the result. `tags`: matrix, primaries, transfer, range; None: the source's. `said`: what has to be
    named in a warning. `opened`: arguments of `open_video`.
    """

    make: Callable[[Path], str]
    ending: str = ".mp4"
    codec: str | None = None  # as it must come out
    asked: str | None = None  # of the codec, if any
    pix_fmt: str | None = None
    tags: tuple[int, int, int, int] | None = None
    times: list[float] | None = None
    size: tuple[int, int] | None = None
    aspect: Fraction | None = None
    said: tuple[str, ...] = ()
    opened: dict = field(default_factory=dict)
    level: float = 1.0  # by which the mean of a channel may differ


def file(name, kind=None, **more):
    return lambda folder: write(folder / name, kind or Pictures(), **more)


def even(rate=25, count=COUNT):
    return [i / rate for i in range(count)]


AAC = ("aac", 48000, "stereo", "eng", True)
TIME = {
    "variable rate": Case(
        file("a.mp4", Pictures(stamps=UNEVEN), sound=[AAC]), times=[t / 100 for t in UNEVEN]
    ),
    "variable rate, mkv": Case(
        file("a.mkv", Pictures(stamps=UNEVEN)), ending=".mkv", times=[t / 100 for t in UNEVEN]
    ),
    "variable rate, mov to webm": Case(
        file("a.mov", Pictures(stamps=UNEVEN)), ending=".webm", times=[t / 100 for t in UNEVEN]
    ),
    "30000/1001": Case(file("a.mp4", Pictures(rate=Fraction(30000, 1001))), times=even(30000 / 1001)),
    "B-frames in AVI": Case(
        file("a.avi", Pictures(options={"bf": "2", "g": "12"}, blind=True)), times=even()
    ),
    "B-frames, mkv of AVI": Case(
        file("a.mkv", Pictures(options={"bf": "2", "g": "12"}, blind=True)), times=even()
    ),
    "glued streams": Case(
        lambda folder: sources.glued(folder / "a.ts", Pictures()), times=even(count=2 * COUNT)
    ),
    "growing pictures": Case(
        lambda folder: sources.growing(folder / "a.ts"),
        times=even(count=2 * COUNT),
        size=SIZE,
        said=("size of the pictures changes",),
        level=3,
    ),
    "folder at 12 a second": Case(
        lambda folder: sources.images(folder / "a"), opened={"fps": 12}, times=even(12), tags=(6, 1, 13, 1)
    ),
    "animated GIF": Case(
        lambda folder: sources.animation(folder / "a.gif"),
        times=[k * 0.04 if k < 7 else k * 0.04 + 0.16 for k in range(COUNT)],
        tags=(6, 1, 13, 1),
    ),
    "animated WebP": Case(
        lambda folder: sources.animation(folder / "a.webp"),
        times=[k * 0.04 if k < 7 else k * 0.04 + 0.16 for k in range(COUNT)],
        tags=(6, 1, 13, 1),
    ),
    "animated PNG": Case(
        lambda folder: sources.animation(folder / "a.png"),
        times=[k * 0.04 if k < 7 else k * 0.04 + 0.16 for k in range(COUNT)],
        tags=(6, 1, 13, 1),
    ),
}
PICTURE = {
    "bt601": Case(file("a.mp4"), pix_fmt="yuv420p"),
    "bt709": Case(file("a.mp4", Pictures(tags=BT709, matrix="ITU709"))),
    "bt470bg": Case(file("a.mp4", Pictures(tags=PAL))),
    "untagged": Case(file("a.mp4", Pictures(tags=(2, 2, 2, 0)))),
    "sRGB transfer": Case(file("a.mp4", Pictures(tags=(1, 1, 13, 1), matrix="ITU709"))),
    "Display P3": Case(file("a.mp4", Pictures(tags=(1, 12, 13, 1), matrix="ITU709"))),
    "full range": Case(file("a.mp4", Pictures(tags=(6, 6, 6, 2)))),
    "JPEG in AVI": Case(file("a.avi", Pictures("mjpeg", "yuvj420p", tags=(5, 2, 2, 2)))),
    "4:2:2": Case(file("a.mp4", Pictures(pix_fmt="yuv422p")), pix_fmt="yuv420p"),
    "4:4:4": Case(file("a.mp4", Pictures(pix_fmt="yuv444p")), pix_fmt="yuv420p"),
    "RGB": Case(file("a.mkv", Pictures("libx264rgb", "rgb24")), tags=(6, 6, 6, 1)),
    "RGB of 720 lines": Case(file("a.mkv", Pictures("libx264rgb", "rgb24", size=(720, 128))), tags=BT709),
    "grey": Case(file("a.mkv", Pictures("ffv1", "gray", tags=(2, 2, 2, 2)))),
    "grey, untagged": Case(file("a.avi", Pictures("rawvideo", "gray", tags=(2, 2, 2, 0)))),
    "odd size": Case(file("a.mkv", Pictures("ffv1", size=(95, 127))), size=(96, 128)),
    "odd size kept": Case(file("a.mkv", Pictures("ffv1", size=(95, 127))), ending=".webm", size=(95, 127)),
    "10 bit": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=BT709, matrix="ITU709", options=QUIET)),
        codec="hevc",
        pix_fmt="yuv420p10le",
    ),
    "10 bit 4:2:2 ProRes": Case(
        file("a.mov", Pictures("prores_ks", "yuv422p10le", tags=BT709, matrix="ITU709")),
        codec="hevc",
        pix_fmt="yuv420p10le",
    ),
    "ProRes stays": Case(
        file("a.mov", Pictures("prores_ks", "yuv422p10le", tags=BT709, matrix="ITU709")),
        ending=".mov",
        asked="prores",
        pix_fmt="yuv422p10le",
    ),
    "HLG": Case(
        file("a.mov", Pictures("libx265", "yuv420p10le", tags=HLG, matrix=BT2020, options=QUIET)),
        codec="hevc",
        pix_fmt="yuv420p10le",
    ),
    "PQ": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=PQ, matrix=BT2020, options=QUIET)),
        codec="hevc",
        pix_fmt="yuv420p10le",
    ),
    "PQ as H.264": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=PQ, matrix=BT2020, options=QUIET)),
        asked="h264",
        pix_fmt="yuv420p10le",
    ),
    "PQ to webm": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=PQ, matrix=BT2020, options=QUIET)),
        ending=".webm",
        codec="av1",
        pix_fmt="yuv420p10le",
    ),
    "HLG as VP9": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=HLG, matrix=BT2020, options=QUIET)),
        ending=".webm",
        asked="vp9",
        pix_fmt="yuv420p",
        said=("10 bits a channel are rounded",),
    ),
    "HLG to GIF": Case(
        file("a.mp4", Pictures("libx265", "yuv420p10le", tags=HLG, matrix=BT2020, options=QUIET)),
        ending=".gif",
        said=("toned down",),
        level=255,
    ),
    "full range to AVI": Case(file("a.mp4", Pictures(tags=(6, 6, 6, 2))), ending=".avi"),
    "full range to ProRes": Case(
        file("a.mp4", Pictures(tags=(6, 6, 6, 2))), ending=".mov", asked="prores", tags=(6, 6, 6, 1)
    ),
    "pixel aspect": Case(file("a.mp4", Pictures(aspect=Fraction(4, 3))), aspect=Fraction(4, 3)),
    "interlaced": Case(
        file("a.mp4", Pictures(interlaced=True, options={"x264-params": "tff=1"})), said=("interlaced",)
    ),
    "alpha dropped": Case(
        file("a.mov", Pictures("prores_ks", "yuva444p10le", tags=BT709, matrix="ITU709")),
        said=("Alpha is dropped",),
    ),
    "alpha, ProRes": Case(
        file("a.mov", Pictures("prores_ks", "yuva444p10le", tags=BT709, matrix="ITU709")),
        ending=".mov",
        asked="prores",
        pix_fmt="yuva444p12le",
    ),
    "alpha, VP9": Case(
        file("a.webm", Pictures("libvpx-vp9", "yuva420p", options={"auto-alt-ref": "0"})), ending=".webm"
    ),
    "alpha, PNGs": Case(lambda folder: sources.images(folder / "a", "RGBA"), ending="", pix_fmt="rgba"),
    "PNGs": Case(lambda folder: sources.images(folder / "a"), tags=(6, 1, 13, 1)),
    "PNGs to PNGs": Case(lambda folder: sources.images(folder / "a"), ending="", pix_fmt="rgb24", level=0),
    "PNGs of 16 bit": Case(
        lambda folder: sources.deep_images(folder / "a"), ending="", pix_fmt="rgb48be", level=0.01
    ),
    "JPEGs": Case(lambda folder: sources.images(folder / "a", suffix="jpg"), tags=(6, 1, 13, 1)),
    "grey PNGs": Case(lambda folder: sources.images(folder / "a", "L"), tags=(6, 1, 13, 1)),
}
ENDINGS = {
    ".mp4": Case(file("a.mp4"), codec="h264"),
    ".mp4 hevc": Case(file("a.mp4"), codec="hevc", asked="hevc"),
    ".mp4 av1": Case(file("a.mp4"), codec="av1", asked="av1"),
    ".mov": Case(file("a.mp4"), ".mov", codec="h264"),
    ".mkv": Case(file("a.mp4"), ".mkv", codec="h264"),
    ".mkv ffv1": Case(file("a.mp4"), ".mkv", codec="ffv1", asked="ffv1"),
    ".webm": Case(file("a.mp4"), ".webm", codec="vp9"),
    ".avi": Case(file("a.mp4"), ".avi", codec="ffv1"),
    ".gif": Case(file("a.mp4"), ".gif", codec="gif", level=4),
    "PNGs": Case(file("a.mp4"), "", codec="png"),
}


def frames_of(path) -> list[av.VideoFrame]:
    """All frames, decoded from start to end by PyAV alone."""
    if Path(path).is_dir():
        return [f for name in sorted(Path(path).iterdir(), key=number) for f in frames_of(name)]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.metadata.get("alpha_mode") == "1":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            return [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return list(container.decode(stream))


def number(path: Path) -> int:
    return int(path.stem)


def means(frames, size, kept=None) -> np.ndarray:
    """Mean of red, green and blue over `kept`, in levels of 255, without the shortcuts of players."""
    total = np.zeros(3)
    for frame in frames:
        rgb = frame.reformat(format="rgb48le", interpolation=EXACT).to_ndarray()[: size[0], : size[1]] / 257
        total += rgb[kept].mean(axis=0) if kept is not None else rgb.reshape(-1, 3).mean(axis=0)
    return total / len(frames)


def alpha_of(frame) -> np.ndarray:
    return frame.reformat(format="rgba").to_ndarray()[..., 3].astype(int)


@dataclass
class Outcome:
    """What a result is, for the matrix."""

    codec: str
    pix_fmt: str
    apart: float
    tags: tuple
    said: list[str]


def check(case: Case, folder: Path) -> Outcome:
    """Run the spine over a case's source and compare the result with what was promised."""
    path, output = case.make(folder), folder / f"result{case.ending}"
    with open_video(path, **case.opened) as source:
        hole = np.zeros(source.size, bool)
        hole[HOLE] = True
        done = inpaint_video(source, hole, engine=Same(), output=output, codec=case.asked)
        original_size, count = source.size, len(source)
        kind = (source.colour, source.pixel_format)
        written = [source[i] for i in range(0, count, 5)]
    before, after = source_frames(path, case), frames_of(output)
    assert len(after) == count == len(before), (len(after), count, len(before))
    said = " ".join(done.warnings)
    for word in case.said:
        assert word in said, said
    assert case.said or not done.warnings, done.warnings
    assert (after[0].height, after[0].width) == tuple(case.size or original_size)
    # 1. Time.
    if case.ending:
        with av.open(str(output)) as container:
            stream = container.streams.video[0]
            codec, aspect = stream.codec_context.codec.canonical_name, stream.sample_aspect_ratio
            base = stream.time_base
        first = after[0].pts
        times = [float((f.pts - first) * base) for f in after]
        expected = case.times
        if expected is None:
            expected = even()
        assert np.allclose(times, expected, atol=0.0101 if case.ending == ".gif" else 0.0011), times
        assert (aspect or 1) == (case.aspect or 1)
    else:
        codec = "png"
    if case.asked or case.codec:
        assert codec == (case.codec or case.asked)
    if case.pix_fmt:
        assert after[0].format.name == case.pix_fmt
    # 2. Tags.
    tags = tuple(
        int(v)
        for v in (after[0].colorspace, after[0].color_primaries, after[0].color_trc, after[0].color_range)
    )
    if case.ending not in ("", ".gif", ".avi"):
        given = case.tags
        if given is None:
            given = (
                before[0].colorspace,
                before[0].color_primaries,
                before[0].color_trc,
                before[0].color_range,
            )
        if given[3] == 0:
            tags = (*tags[:3], 0) if tags[3] == 1 else tags
        assert tags == tuple(map(int, given)), (tags, given)
    # 3. Pixels.
    assert kind[0] is not None and written
    size = tuple(np.minimum(original_size, (after[0].height, after[0].width)))
    outside = np.ones(size, bool)
    outside[26:50, 36:64] = False  # the hole, and where its samples of colour reach
    inside = ~outside
    apart = max(
        np.abs(means(before, size, kept) - means(after, size, kept)).max() for kept in (outside, inside)
    )
    if codec == "ffv1" and before[0].color_range != 2:  # bit for bit, in the source's own format
        for ours, theirs in zip(after, before):
            same = ours.to_ndarray() == theirs.to_ndarray()
            assert same[: size[0]][outside].all() and same.mean() > 0.9
    assert np.abs(means(before, size, outside) - means(after, size, outside)).max() <= case.level
    assert apart <= max(2.0, 2 * case.level), apart
    if after[0].format.name.startswith(("rgba", "yuva")):
        ours, theirs = (alpha_of(f) for f in (after[COUNT // 2], before[COUNT // 2]))
        assert np.abs(ours - theirs).mean() < 1.5 and theirs.std() > 50
    outer = np.abs(means(before, size, outside) - means(after, size, outside)).max()
    return Outcome(codec, after[0].format.name, float(outer), tags, done.warnings)


def source_frames(path, case: Case):
    """The source's frames by a way of its own: PyAV for videos, Pillow for images."""
    if Path(path).is_dir() or Path(path).suffix in (".gif", ".webp", ".png"):
        with open_video(path, **case.opened) as source:
            return [source.stored(i).frame for i in range(len(source))]
    frames = frames_of(path)
    if case.size == SIZE and frames[-1].height != SIZE[0]:
        frames = [f.reformat(width=SIZE[1], height=SIZE[0], interpolation=EXACT) for f in frames]
    return frames


@pytest.mark.parametrize("name", TIME)
def test_time(name, tmp_path):
    check(TIME[name], tmp_path)


@pytest.mark.parametrize("name", PICTURE)
def test_picture(name, tmp_path):
    check(PICTURE[name], tmp_path)


@pytest.mark.parametrize("name", ENDINGS)
def test_ending(name, tmp_path):
    check(ENDINGS[name], tmp_path)


def matrix() -> str:
    """The outcome of every case as a table in Markdown."""
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    lines = []
    for title, table in (("Time", TIME), ("Picture", PICTURE), ("Endings", ENDINGS)):
        lines += [
            f"### {title}",
            "",
            "| source | result | matrix / primaries / transfer / range | levels apart | said |",
            "| --- | --- | --- | ---: | --- |",
        ]
        for name, case in table.items():
            with tempfile.TemporaryDirectory() as folder:
                found = check(case, Path(folder))
            said = " ".join(re.sub(r"'/[^']*'", "it", sentence) for sentence in found.said)
            said = said[:1].upper() + said[1:]
            ending = case.ending or "folder"
            tags = " / ".join(map(str, found.tags))
            cells = (
                name,
                f"{ending}: {found.codec}, {found.pix_fmt}",
                tags,
                f"{found.apart:.2f}" if case.level < 10 else "not compared",
                said,
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "faithful.md"
    begin, _, _ = page.read_text().partition("<!-- matrix -->")
    page.write_text(begin + "<!-- matrix -->\n\n" + matrix())
