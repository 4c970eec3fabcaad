"""The spine, with a small engine of the test's own, so that what is tested is the spine."""

import json
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import videopainter
from videopainter.engines.base import EngineSpec, NoOptions
from videopainter.inpaint import FEATHER, inpaint_video, select_object
from videopainter.masks import MaskError, MaskTrack, dilate
from videopainter.video import ArraySource, VideoError, VideoSource, VideoWriter, open_video

N, H, W = 24, 96, 128
FPS = Fraction(24)


class Paint:
    """Paints everything in one colour, and keeps what it was called with."""

    options = NoOptions()

    def __init__(self, fail_at=None, error=KeyboardInterrupt, working_size=None):
        self.fail_at, self.error = fail_at, error
        self.spec = EngineSpec("paint", working_size=working_size)

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, confidence=None):
        self.prompt, self.chance, self.holes = prompt, generator.integers(1 << 30), masks
        for i in range(len(source)):
            if i == self.fail_at:
                raise self.error
            yield np.full_like(source[i], (10, 200, 30))
            if progress is not None:
                progress("inpaint", i + 1, len(source))

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def frames():
    """uint8 (N, H, W, 3): a textured background that a red square crosses."""
    rng = np.random.default_rng(1)
    ground = np.kron(rng.integers(60, 190, (H // 8, W // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.repeat(ground[None], N, axis=0)
    for i, frame in enumerate(frames):
        frame[30:60, 10 + 3 * i : 34 + 3 * i] = (220, 20, 20)
    return frames


@pytest.fixture(scope="module")
def masks(frames):
    return (frames == (220, 20, 20)).all(axis=3)


@pytest.fixture
def video(tmp_path, frames):
    path = tmp_path / "source.mp4"
    with VideoWriter(path, FPS, (H, W)) as writer:
        writer.write(frames)
    return path


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_outside_the_dilated_mask_the_result_is_the_decoded_source(video, masks):
    with open_video(video) as source:
        decoded = source[:]
    result = inpaint_video(video, masks, engine=Paint(), dilate_size=40)
    radius = 40 / 2 * H / 480
    for i in range(N):
        hole = dilate(masks[i], radius)
        np.testing.assert_array_equal(result.frames[i][~hole], decoded[i][~hole])
        assert (result.frames[i][masks[i]] == (10, 200, 30)).all()
    assert FEATHER * radius < radius


def test_every_kind_of_input_gives_the_same(video, frames, masks, tmp_path):
    MaskTrack.from_array(masks).save_npz(tmp_path / "m.npz")
    with open_video(video) as source:
        decoded = source[:]
        expected = inpaint_video(decoded, masks, engine=Paint()).frames
        for given_video, given_masks in [
            (video, tmp_path / "m.npz"),
            (str(video), MaskTrack.from_array(masks)),
            (source, masks.astype(np.uint8) * 3),
            (ArraySource(decoded, FPS), masks),
        ]:
            result = inpaint_video(given_video, given_masks, engine=Paint())
            np.testing.assert_array_equal(result.frames, expected)
        assert source[0].shape == (H, W, 3)  # a source of the caller's stays open


def test_label_of_an_array_one_still_mask_and_inverted(frames, masks):
    labels = masks.astype(np.uint8) * 5
    labels[:, :4] = 2
    chosen = inpaint_video(frames, labels, mask_id=5, engine=Paint(), mask_only=True)
    np.testing.assert_array_equal(chosen.masks[:], masks)
    still = inpaint_video(frames, masks[0], engine=Paint(), mask_only=True)
    np.testing.assert_array_equal(still.masks[:], np.repeat(masks[:1], N, axis=0))
    inverted = inpaint_video(frames, masks, invert_mask=True, engine=Paint(), mask_only=True)
    np.testing.assert_array_equal(inverted.masks[:], ~masks)


def test_files_of_the_guide(video, masks, tmp_path):
    out = tmp_path / "new" / "out"
    result = inpaint_video(video, masks, output_dir=out, engine=Paint(), seed=7, prompt="a wall")
    assert names(out) == [
        "frame0_original.png",
        "frame0_with_mask.png",
        "mask0.png",
        "result.mp4",
        "result_vis.mp4",
        "run.json",
    ]
    assert sorted(p.name for p in result.files) == names(out) and result.frames is None
    with open_video(out / "result.mp4") as written, open_video(video) as source:
        assert (len(written), written.size, written.fps) == (N, (H, W), FPS)
        hole = MaskTrack.from_array(masks).dilate(20)[12]
        assert np.abs(written[12].astype(int) - source[12])[~hole].mean() < 6
        np.testing.assert_array_equal(np.asarray(Image.open(out / "frame0_original.png")), source[0])
    with open_video(out / "result_vis.mp4") as panels:
        assert (len(panels), panels.size, panels.fps) == (N, (H, 4 * W), FPS)
        row = panels[12].astype(int)
        y, x = 45, 10 + 3 * 12 + 12  # the middle of the object
        red, black, white, green = (row[y, x + k * W] for k in range(4))
        assert red[0] > 150 and red[1] < 90
        assert black.max() < 60 and white.min() > 200
        assert green[1] > 150 and green[0] < 90
    np.testing.assert_array_equal(np.asarray(Image.open(out / "mask0.png")), masks[0] * 255)
    report = json.loads((out / "run.json").read_text())
    assert report["settings"]["seed"] == 7 and report["settings"]["prompt"] == "a wall"
    assert report["settings"]["engine"] == "paint" and report["frames"] == N
    assert {"read", "select", "inpaint", "composite", "write"} <= set(report["seconds"])
    assert report["peak_memory_mb"] > 10 and report["versions"]["numpy"] == np.__version__


def test_mask_only_can_be_edited_and_passed_back(video, masks, tmp_path):
    first = inpaint_video(video, masks, output_dir=tmp_path / "a", mask_only=True)
    assert {"masks.npz", "masks_vis.mp4", "mask0.png", "run.json"} <= set(names(tmp_path / "a"))
    assert "result.mp4" not in names(tmp_path / "a")
    again = inpaint_video(video, tmp_path / "a" / "masks.npz", engine=Paint())
    np.testing.assert_array_equal(again.masks[:], first.masks[:])
    with open_video(tmp_path / "a" / "masks_vis.mp4") as shown:
        assert (len(shown), shown.size) == (N, (H, W))


def test_one_output_file(video, masks, tmp_path):
    result = inpaint_video(video, masks, output=tmp_path / "x" / "one.mp4", engine=Paint())
    assert names(tmp_path / "x") == ["one.mp4"] and result.files == [tmp_path / "x" / "one.mp4"]


@pytest.mark.parametrize("fps, seconds, kept", [(8, None, range(0, 24, 3)), (None, 0.5, range(12)),
                                                (6, 0.5, [0, 4, 8]), (100, 9, range(24))])  # fmt: skip
def test_fewer_frames(frames, masks, fps, seconds, kept):
    source = ArraySource(frames, FPS)
    engine = Paint()
    given = {"engine": engine, "target_fps": fps, "max_seconds": seconds, "dilate_size": 0}
    result = inpaint_video(source, masks, **given)
    np.testing.assert_array_equal(result.masks[:], masks[kept])
    np.testing.assert_array_equal(result.frames[~masks[kept]], frames[kept][~masks[kept]])
    assert result.fps == min(fps or 24, 24)
    # masks made by --mask_only with the same limits are masks of those frames only
    again = inpaint_video(source, masks[kept], **given)
    np.testing.assert_array_equal(again.frames, result.frames)


def test_the_sound_is_kept_and_cut_with_the_pictures(tmp_path):
    from pathlib import Path

    cup = Path(__file__).parents[1] / "examples" / "cup.mp4"
    with open_video(cup) as source:
        mask = np.zeros(source.size, bool)
        length = len(source) / source.fps
    mask[100:200, 100:200] = True
    inpaint_video(cup, mask, output=tmp_path / "short.mp4", engine=Paint(), max_seconds=0.5)
    with av.open(str(tmp_path / "short.mp4")) as short:
        sound = short.streams.audio[0]
        assert 0.3 < float(sound.duration * sound.time_base) < 0.7 < length


def test_seed_and_prompt_reach_the_engine(frames, masks):
    engines = [Paint(), Paint(), Paint()]
    for engine, seed in zip(engines, (1, 1, 2)):
        inpaint_video(frames, masks, engine=engine, seed=seed, prompt="a dog")
    assert engines[0].chance == engines[1].chance != engines[2].chance
    assert engines[0].prompt == "a dog"


@pytest.mark.parametrize("size, expected", [(None, 24 / 2 * H / 480), ((48, 64), 24 / 2 * H / 48)])
def test_dilation_counts_in_the_engines_pixels(frames, masks, size, expected):
    engine = Paint(working_size=size)
    inpaint_video(frames, masks, engine=engine, dilate_size=24)
    np.testing.assert_array_equal(engine.holes[3], dilate(masks[3], expected))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("broken"), SystemExit(143)])
def test_an_interrupted_run_leaves_nothing_half_written(video, masks, tmp_path, error):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.mp4").write_bytes(b"an older result")
    with pytest.raises(type(error) if isinstance(error, BaseException) else error):
        inpaint_video(video, masks, output_dir=out, engine=Paint(fail_at=9, error=error))
    assert names(out) == ["frame0_original.png", "frame0_with_mask.png", "mask0.png", "result.mp4"]
    assert (out / "result.mp4").read_bytes() == b"an older result"


def test_a_run_that_fails_early_makes_no_folder(video, tmp_path):
    with pytest.raises(MaskError):
        inpaint_video(video, tmp_path / "no.npz", output_dir=tmp_path / "out", engine=Paint())
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_are_one_sentence(video, frames, masks, tmp_path):
    (tmp_path / "file").write_text("")
    for error, words, arguments in [
        (MaskError, "click, a box or masks", {}),
        (MaskError, "clicks cannot be used", {"masks": masks, "clicks": [(1, 1)]}),
        (MaskError, f"{N - 2} masks.*{N} frames", {"masks": masks[2:]}),
        (MaskError, "128 x 92.*128 x 96", {"masks": masks[:, 4:]}),
        (MaskError, "no pixel", {"masks": masks & False}),
        (MaskError, "every pixel", {"masks": masks | True}),
        (MaskError, "'masks' is read as a MaskTrack", {"masks": MaskTrack.from_array(masks), "mask_id": 1}),
        (MaskError, "-4", {"masks": masks, "dilate_size": -4}),
        (MaskError, "'here'", {"clicks": ["here"]}),
        (VideoError, "-2", {"masks": masks, "max_seconds": -2}),
        (VideoError, "above 0, not 0", {"masks": masks, "target_fps": 0}),
        (VideoError, "is a file", {"masks": masks, "output_dir": tmp_path / "file"}),
        (ValueError, "'e2fgvi'", {"masks": masks, "engine": "e2fgvi"}),
        (ValueError, "seed.*-1", {"masks": masks, "seed": -1}),
    ]:
        with pytest.raises(error, match=words) as caught:
            inpaint_video(video, **{"engine": Paint(), **arguments})
        assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match="0 frames"):
        inpaint_video(frames[:0], masks[:0], engine=Paint())
    with pytest.raises(TypeError, match="colour"):
        inpaint_video(video, masks, engine=Paint(), colour=3)


def test_frames_in_memory_of_every_kind(frames, masks):
    """What diffusers' `load_video` gives, arrays, tensors; the result is the same as of the array."""
    torch = pytest.importorskip("torch")
    few, marked = frames[:6], masks[:6]
    expected = inpaint_video(few, marked, engine=Paint()).frames
    tensor = torch.from_numpy(few)
    first = tensor.movedim(-1, 1)
    images = [Image.fromarray(frame) for frame in few]
    for video in (
        images,
        [images],
        [image.convert("RGBA") for image in images],
        list(few),
        tuple(few),
        few[None],
        few.transpose(0, 3, 1, 2),
        few / 255,
        (few / 255).astype(np.float32).transpose(0, 3, 1, 2)[None],
        few.astype(np.float32),
        few.astype(np.int64),
        few.astype(np.uint16) * 257,
        np.concatenate([few, few[..., :1]], axis=3),
        tensor,
        first,
        first[None],
        first / 255,
        (tensor / 255).double(),
        list(tensor),
        list(first / 255),
    ):
        result = inpaint_video(video, marked, engine=Paint())
        np.testing.assert_array_equal(result.frames, expected)
    for given in (
        [Image.fromarray(mask) for mask in marked],
        [Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB") for mask in marked],
        list(marked),
        list(marked.astype(np.uint8)),
        marked[:, None],
        marked[None],
        marked[..., None].astype(np.float32),
        torch.from_numpy(marked),
        torch.from_numpy(marked)[None, :, None],
        torch.from_numpy(marked).half()[:, None],
        list(torch.from_numpy(marked)),
        np.repeat(marked[..., None], 3, axis=3).astype(np.uint8) * 255,
    ):
        result = inpaint_video(images, given, engine=Paint())
        np.testing.assert_array_equal(result.frames, expected)
        np.testing.assert_array_equal(select_object(images, given).masks[:], marked)


@pytest.mark.parametrize(
    "video, words",
    [
        ([], "0 frames"),
        (3, "not int"),
        (np.zeros((4, 8, 8), np.uint8), r"not \(4, 8, 8\)"),
        (np.full((4, 8, 8, 3), -1.0), "between 0 and 1, but theirs are -1"),
        (np.zeros((4, 8, 8, 3), bool), "Frame 0 must have integers"),
        ([np.zeros((8, 8), np.uint8)], r"Frame 0 .*not \(8, 8\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "Frame 1 is 9 x 8"),
    ],
)
def test_frames_that_are_none(video, words):
    with pytest.raises(VideoError, match=words):
        inpaint_video(video, np.eye(8, dtype=bool), engine=Paint())


def test_what_inverted_masks_keep_stays_to_the_last_pixel(frames, masks):
    result = inpaint_video(frames, masks, engine=Paint(), invert_mask=True, dilate_size=40)
    np.testing.assert_array_equal(result.frames[masks], frames[masks])
    assert (result.frames[~dilate_all(masks, 3)] == (10, 200, 30)).all()


def dilate_all(masks, radius):
    return np.stack([dilate(mask, radius) for mask in masks])


def test_the_share_that_is_marked_is_said(frames, masks, tmp_path, caplog):
    caplog.set_level("INFO")
    inpaint_video(frames, masks, engine=Paint(), output_dir=tmp_path / "out")
    share = json.loads((tmp_path / "out/run.json").read_text())["marked_share"]
    assert abs(share - masks.mean()) < 1e-6
    assert f"The masks mark {100 * share:.1f} % of the picture." in caplog.text
    assert "inverted" not in caplog.text
    inpaint_video(frames, ~masks, engine=Paint())
    assert "If the masks mark what is to be kept, they are to be inverted." in caplog.text
    hints = [record.hint.action for record in caplog.records if hasattr(record, "hint")]
    assert hints == ["invert"]


def test_what_was_done_to_make_masks_fit_is_said(frames, masks, tmp_path):
    result = inpaint_video(frames, masks[:-1, ::2, ::2], engine=Paint(), output_dir=tmp_path / "out")
    said = json.loads((tmp_path / "out/run.json").read_text())["warnings"]
    assert said == result.warnings and len(said) == 2
    assert "the last mask is taken twice" in said[0] and "scaled from 64 x 48 to 128 x 96" in said[1]


def test_the_package_exports_it():
    assert videopainter.inpaint_video is inpaint_video
    assert all(getattr(videopainter, name) is not None for name in videopainter.__all__)
    with pytest.raises(AttributeError):
        videopainter.nothing_of_the_kind  # noqa: B018


class Endless(VideoSource):
    """Frames made when they are asked for, none of them kept."""

    size = (120, 160)

    def __init__(self, length):
        super().__init__()
        self._length = length

    def _frame(self, i):
        return np.full((*self.size, 3), i % 251, np.uint8)


def test_memory_does_not_grow_with_the_video(tmp_path):
    def peak(length):
        mask = np.zeros(Endless.size, bool)
        mask[30:80, 50:100] = True
        tracemalloc.start()
        inpaint_video(Endless(length), mask, output=tmp_path / "out.mp4", engine=Paint())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(40)  # imports
    # Shadows are looked for in up to 149 frames at once, made small; of 251 more at most 40 may be held.
    assert peak(400) < peak(149) + 40 * 120 * 160 * 3
