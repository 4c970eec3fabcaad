"""Tags, tone curves and stored frames: what is not repainted stays bit for bit, what is goes into the same space."""

import av
import numpy as np
import pytest

from videopainter.video import Colour, VideoWriter, open_video
from videopainter.video.colour import HDR, NAMED, linear, tone_down, tone_up
from videopainter.video.stored import SCALING, Layout, any_of, make_frame, paste_rgb, read_planes, shared

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuva420p", "yuva444p10le", "gbrp"]


@pytest.mark.parametrize("transfer", HDR)
def test_tone_curves_rise_and_can_be_undone(transfer):
    down, up = tone_down(transfer), tone_up(transfer)
    assert down[0] == 0 and down[-1] == 255 and (np.diff(down.astype(int)) >= 0).all()
    assert (np.diff(up) > 0).all()
    assert np.array_equal(down[np.rint(up * 65535).astype(int)], np.arange(256))


@pytest.mark.parametrize("transfer", HDR)
def test_the_white_of_paper_is_bright_and_lights_are_brighter(transfer):
    down = tone_down(transfer)
    nits = linear(np.linspace(0, 1, 65536), transfer)
    paper, grey = (down[np.searchsorted(nits, light)] for light in (203, 36.5))
    assert 175 < paper < 235 and 105 < grey < 140


def test_light_of_known_signals():
    assert linear(np.array([1.0]), "smpte2084")[0] == pytest.approx(10000)
    assert linear(np.array([0.5081]), "smpte2084")[0] == pytest.approx(100, rel=0.01)
    assert linear(np.array([0.75]), "arib-std-b67")[0] == pytest.approx(203, rel=0.02)
    assert linear(np.array([0.5]), "iec61966-2-1")[0] == pytest.approx(0.214, abs=0.001)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_only_the_hole_changes(name, size):
    layout, rng = Layout.of(name), np.random.default_rng(0)
    planes = [
        rng.integers(0, 2**layout.depth, layout.plane_size(k, size)).astype(layout.dtype)
        for k in range(3 + layout.alpha)
    ]
    hole = np.zeros(size, bool)
    hole[5:12, 7:20] = hole[-3:, -2:] = True
    before = [plane.copy() for plane in planes]
    paste_rgb(planes, layout, np.full((*size, 3), 128, np.uint8), hole, NAMED["bt709"])
    assert np.array_equal(planes[0][~hole], before[0][~hole])
    for plane, old in list(zip(planes, before))[1:3]:
        touched = any_of(hole, layout.shift)
        assert np.array_equal(plane[~touched], old[~touched])
        if not layout.rgb:
            assert (plane[touched] == 2 ** (layout.depth - 1)).all()  # no colour
    if layout.alpha:
        assert np.array_equal(planes[3], before[3])
    assert np.array_equal(read_planes(make_frame(planes, layout), layout)[1], planes[1])


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc", "smpte240m", "fcc", "bt470bg"])
@pytest.mark.parametrize("reach", ["limited", "full"])
def test_colours_are_those_of_swscale(matrix, reach):
    """What is made of RGB for the hole reads back as it was, by way of libav's own conversion."""
    colour = Colour(matrix, range=reach)
    rgb = np.random.default_rng(0).integers(0, 256, (1, 40, 3)).astype(np.uint8).repeat(16, 0)
    layout = Layout.of("yuv444p")
    planes = [np.zeros(rgb.shape[:2], np.uint8) for _ in range(3)]
    paste_rgb(planes, layout, rgb, np.ones(rgb.shape[:2], bool), colour)
    frame = make_frame(planes, layout)
    frame.colorspace, _, _, frame.color_range = colour.codes
    exact = frame.reformat(format="rgb48le", interpolation=SCALING).to_ndarray() / 257
    assert np.abs(exact - rgb).max() < 2.5 and abs((exact - rgb).mean()) < 0.6


def test_samples_of_colour_lie_where_h264_has_them():
    values = np.arange(8, dtype=np.float32)[None].repeat(4, 0) + np.arange(4, dtype=np.float32)[:, None] * 10
    found = shared(values, (1, 1))
    assert found.shape == (2, 4) and np.allclose(found[:, 1:3], [[7, 9], [27, 29]])


def test_hdr_says_on_which_screen_it_was_made(tmp_path, moving_texture):
    words = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    colour = Colour("bt2020nc", "bt2020", "smpte2084", "limited", 10, mastering=words, brightest="1000,400")
    grey = moving_texture(3)[..., :1].repeat(3, -1)
    with VideoWriter(tmp_path / "a.mp4", 25, (96, 128), colour=colour, quality=100) as writer:
        writer.write(grey)
    with open_video(tmp_path / "a.mp4") as source:
        assert source.colour == colour
        assert (source.colour.mastering, source.colour.brightest) == (words, "1000,400")
        assert np.abs(source[:].astype(int) - grey).max() <= 1  # down to 10 bits and up again


def test_dolby_vision_is_named_as_dropped(tmp_path, moving_texture):
    with VideoWriter(tmp_path / "a.mp4", 25, (96, 128), codec="hevc") as writer:
        writer.write(moving_texture(3))
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data.replace(b"hvc1", b"dvh1"))
    with pytest.warns(UserWarning, match="Dolby Vision"), open_video(tmp_path / "a.mp4") as source:
        assert len(source) == 3


@pytest.mark.parametrize("quality", [40, 65, 76, 100])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_quality(codec, quality, tmp_path, moving_texture, capfd):
    """More quality is nearer to the source and larger; all of it is lossless where the codec can."""
    frames, found = moving_texture(4), {}
    path = tmp_path / ("a.webm" if codec == "vp9" else "a.mp4")
    for q in {quality, 20}:
        with VideoWriter(path, 25, (96, 128), codec=codec, quality=q, colour="bt709") as writer:
            writer.write(frames)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.codec.canonical_name == codec
            planes = [f.to_ndarray()[:96].astype(int) for f in container.decode(video=0)]
        wanted = av.VideoFrame.from_ndarray(frames[0]).reformat(format="gbrp16le")
        wanted = wanted.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation=SCALING
        )
        found[q] = np.abs(planes[0] - wanted.to_ndarray()[:96]).mean(), path.stat().st_size
    if quality != 20:
        assert found[quality][0] < found[20][0] and found[quality][1] > found[20][1]
    if quality == 100 and codec in ("h264", "hevc", "vp9"):
        assert found[100][0] < 0.05
    assert capfd.readouterr() == ("", "")
