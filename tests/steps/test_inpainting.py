"""Between the spine and an engine: which frames it gets, of which part of the picture, and how they come back."""

import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest

from videopainter import engine as table
from videopainter.engine import EngineError
from videopainter.engines.base import EngineSpec, NoOptions
from videopainter.inpaint import inpaint_video
from videopainter.masks import MaskTrack, dilate
from videopainter.utils.default import DEFAULT
from videopainter.video import ArraySource, VideoError, open_video

N, H, W = 26, 120, 200
NETWORK = (48, 72)
FPS = Fraction(24)


class Network:
    """Works at one size and a few frames a second, as diffusion does; paints the hole green."""

    spec = EngineSpec(
        "network",
        location="videopainter.engine:NetworkForTests",
        needs="nothing",
        working_size=NETWORK,
        takes_region=True,
        target_fps=8,
        dilate_size=4,
    )
    options = NoOptions()

    def __init__(self, wants_first_frame=False):
        self.calls = []
        self.spec = dataclasses.replace(self.spec, wants_first_frame=wants_first_frame)

    def close(self):
        pass

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, first_frame=None):
        self.calls.append((source[:], masks[:], source.fps, first_frame))
        for i in range(len(source)):
            frame = source[i]
            frame[masks[i]] = (10, 200, 30)
            yield frame


@pytest.fixture
def engine(monkeypatch):
    """Network, made and remembered; a line of the table under the name "network"."""
    made = []

    class Remembered(Network):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(table, "NetworkForTests", Remembered, raising=False)
    monkeypatch.setitem(table.ENGINES, "network", Network.spec)
    return made


@pytest.fixture(scope="module")
def frames():
    y, x = np.mgrid[:H, :W]
    ground = np.stack([90 + 50 * np.sin(x / 9), 110 + 60 * np.sin(y / 7 + x / 15), 100 + y / 2], -1)
    return np.stack([np.roll(ground, i, axis=1) for i in range(N)]).astype(np.uint8)


def block(size=16, step=1, top=50, left=40):
    masks = np.zeros((N, H, W), bool)
    for i in range(N):
        masks[i, top : top + size, left + step * i : left + step * i + size] = True
    return masks


def test_the_network_sees_the_region_and_the_video_stays_sharp(engine, frames):
    masks = block()
    result = inpaint_video(ArraySource(frames, FPS), masks, engine="network", target_fps=24)
    seen, holes, fps, _ = engine[0].calls[0]
    assert seen.shape == (N, *NETWORK, 3) and fps == 24
    for i in range(N):
        outside = ~dilate(masks[i], 4 / 2 * H / 48)
        np.testing.assert_array_equal(result.frames[i][outside], frames[i][outside])
        assert (np.abs(result.frames[i][masks[i]].astype(int) - (10, 200, 30)) <= 2).all()


def test_the_whole_picture_on_request(engine, frames):
    inpaint_video(ArraySource(frames, FPS), block(), engine="network", region="frame")
    seen, holes, _, _ = engine[0].calls[0]
    assert seen.shape[1:3] == (H, W)  # an engine brings any size to its own


@pytest.mark.parametrize("size", [(300, 100), (1080, 1920)])
def test_portrait_and_large_come_back_as_they_were(engine, size):
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    mask = np.zeros(size, bool)
    mask[40:240, 20:60] = True
    result = inpaint_video(ArraySource(frames, 8), mask, engine="network", dilate_size=0)
    np.testing.assert_array_equal(result.frames[:, ~mask], frames[:, ~mask])
    # Where the region is made smaller and larger again, the outermost pixels are a mixture.
    inner = ~dilate(~mask, 15)
    assert (np.abs(result.frames[:, inner].astype(int) - (10, 200, 30)) <= 2).all()


def test_eight_frames_a_second_as_in_the_guide(engine, frames):
    result = inpaint_video(ArraySource(frames, FPS), block(), engine="network")
    assert result.fps == 8 and len(result.frames) == 9
    assert len(engine[0].calls[0][0]) == 9


def test_every_frame_of_the_source_comes_back(engine, frames):
    masks = block()
    result = inpaint_video(ArraySource(frames, FPS), masks, engine="network", target_fps="source")
    seen, _, fps, _ = engine[0].calls[0]
    assert len(seen) == 10 and fps == 8  # 0, 3, ..., 24 and the last
    assert result.fps == 24 and len(result.frames) == N
    for i in range(N):
        outside = ~dilate(masks[i], 5)
        np.testing.assert_array_equal(result.frames[i][outside], frames[i][outside])
        assert np.abs(result.frames[i][masks[i]].astype(int) - (10, 200, 30)).mean() < 25


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("fps", ["source", DEFAULT])
def test_the_shortest_videos(engine, frames, count, fps):
    masks = block()[:count]
    result = inpaint_video(ArraySource(frames[:count], FPS), masks, engine="network", target_fps=fps)
    assert len(result.frames) == (count if fps == "source" else 1)


def test_source_is_nothing_special_for_engines_that_paint_every_frame(frames):
    engine = Network()
    engine.spec = dataclasses.replace(engine.spec, target_fps=None)
    result = inpaint_video(ArraySource(frames, FPS), block(), engine=engine, target_fps="source")
    assert len(engine.calls[0][0]) == N == len(result.frames)


def test_the_sound_stays_in_step(engine, tmp_path, clip):
    with open_video(clip) as source:
        mask = np.zeros(source.size, bool)
        length, fps = len(source), source.fps
    mask[30:60, 40:80] = True
    inpaint_video(clip, mask, engine="network", target_fps="source", output=tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        picture, sound = out.streams.video[0], out.streams.audio[0]
        assert picture.frames == length and picture.average_rate == fps
        seconds = float(sound.duration * sound.time_base)
        assert abs(seconds - length / float(fps)) < 0.1


def test_the_first_frame_is_found_by_propagation(frames):
    """A still background that later frames show: the first frame the network gets is the true one."""
    engine = Network(wants_first_frame=True)
    still = np.repeat(frames[:1], N, axis=0)
    masks = block(step=4)
    spoiled = still.copy()
    spoiled[masks] = (255, 0, 0)
    inpaint_video(ArraySource(spoiled, FPS), masks, engine=engine, region="frame")
    whole = engine.calls[0][3]
    assert whole.shape == (H, W, 3) and np.abs(whole.astype(int) - still[0]).mean() < 1
    inpaint_video(ArraySource(spoiled, FPS), masks, engine=engine, dilate_size=4)
    seen, holes, _, first = engine.calls[1]
    assert first.shape == (*NETWORK, 3)
    assert np.abs(first.astype(int) - seen[0])[~holes[0]].max() == 0  # of the same region
    assert (np.abs(first[holes[0]].astype(int) - (255, 0, 0)).sum(axis=-1) > 60).all()


def test_a_first_frame_without_a_hole_is_the_source(frames):
    engine = Network(wants_first_frame=True)
    masks = block()
    masks[:4] = False
    inpaint_video(ArraySource(frames, FPS), masks, engine=engine, region="frame")
    np.testing.assert_array_equal(engine.calls[0][3], frames[0])


def test_wrong_values(engine, frames):
    masks = MaskTrack.from_array(block())
    with pytest.raises(EngineError, match="auto or frame, not 'face'"):
        inpaint_video(ArraySource(frames, FPS), masks, engine="network", region="face")
    with pytest.raises(VideoError, match="a number or 'source', not 'fast'"):
        inpaint_video(ArraySource(frames, FPS), masks, engine="network", target_fps="fast")
