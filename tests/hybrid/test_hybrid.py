"""Two engines put together: what is seen is fetched, bit for bit, and only the rest is generated."""

import dataclasses
import json
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest

from videopainter import engine as table
from videopainter import inpaint_video
from videopainter.engine import ENGINES, EngineError, choose_engine
from videopainter.engines.base import EngineSpec, NoOptions
from videopainter.hybrid import HybridEngine
from videopainter.hybrid.seams import Seams, compared, in_colours_of
from videopainter.masks import MaskTrack
from videopainter.metrics import psnr
from videopainter.propagation import PropagationEngine
from videopainter.video import ArraySource

N, H, W = 12, 120, 160


def ground(seed=3):
    """uint8 (H, W, 3), smooth and colourful."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (H // 12, W // 12, 3), np.uint8)
    return cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def clip():
    """A fixed camera; a thing that covers columns 40 to 80 all the time, and 80 to 110 in turns.

    (truth, frames, masks, what no frame shows)
    """
    truth = np.repeat(ground()[None], N, axis=0)
    masks = np.zeros((N, H, W), bool)
    masks[:, 30:90, 40:80] = True
    masks[: N // 2, 30:90, 80:110] = True
    frames = truth.copy()
    frames[masks] = (255, 0, 255)
    return truth, frames, masks, masks.all(axis=0)


class Painter:
    """A generator that knows the truth, in other colours if `gain` and `offset` say so; remembers its calls."""

    options = NoOptions()

    def __init__(self, truth, gain=1.0, offset=0.0, **spec):
        self.spec = EngineSpec("painter", **spec)
        self.truth = np.clip(np.rint(truth * gain + offset), 0, 255).astype(np.uint8)
        self.calls, self.closed = [], 0

    def __call__(self, source, masks, prompt=None, generator=None, progress=None, first_frame=None):
        self.calls.append((source[:], masks[:], prompt, first_frame))
        for i in range(len(source)):
            frame = source[i]
            frame[masks[i]] = self.truth[i][masks[i]]
            yield frame
            progress("inpaint", i + 1, len(source))

    def close(self):
        self.closed += 1


def run(frames, masks, painter, **options):
    engine = HybridEngine(first=PropagationEngine(), second=painter, **options)
    told = []
    out = np.stack(
        list(
            engine(
                ArraySource(frames),
                MaskTrack.from_array(masks),
                confidence=lambda i, sure: told.append(sure),
            )
        )
    )
    return out, np.stack(told)


def fetched(frames, masks):
    return np.stack(list(PropagationEngine()(ArraySource(frames), MaskTrack.from_array(masks))))


# -- routing ---------------------------------------------------------------------------------------------


def test_only_what_no_frame_shows_is_generated_and_the_rest_is_the_bases_bit_for_bit(clip):
    truth, frames, masks, unseen = clip
    painter = Painter(truth)
    out, sure = run(frames, masks, painter)
    ((source, holes, prompt, _),) = painter.calls
    np.testing.assert_array_equal(source, fetched(frames, masks))  # the first result is its context
    assert prompt is None
    assert holes[:, unseen].all() and not holes[:, :, 100:].any()
    near = cv2.dilate(unseen.view(np.uint8), np.ones((7, 7), np.uint8)).view(bool)
    np.testing.assert_array_equal(out[:, ~near], source[:, ~near])
    np.testing.assert_array_equal(sure == 0, np.repeat(unseen[None], N, axis=0))


def test_a_generator_that_paints_the_truth_gives_the_truth(clip):
    truth, frames, masks, unseen = clip
    out, _ = run(frames, masks, Painter(truth))
    part = np.repeat(unseen[None], N, axis=0)
    assert psnr(out, truth, part)[0] > 45
    perfect = fetched(frames, masks)
    perfect[part] = truth[part]
    assert psnr(out, truth, masks)[0] > psnr(perfect, truth, masks)[0] - 0.2


def test_other_colours_are_matched_at_the_seam(clip):
    truth, frames, masks, unseen = clip
    part = np.repeat(unseen[None], N, axis=0)
    shifted = Painter(truth, 0.85, 12)
    out, _ = run(frames, masks, shifted)
    assert psnr(shifted.truth, truth, part)[0] < 30
    assert psnr(out, truth, part)[0] > 38


def test_a_clip_that_was_wholly_seen_needs_no_generator(clip, monkeypatch):
    truth, frames, masks, unseen = clip
    masks = masks & ~unseen
    frames = np.where(masks[..., None], frames, truth)

    class Never:
        def __init__(self, **options):
            raise AssertionError("it was loaded")

    monkeypatch.setattr(table, "NeverForTests", Never, raising=False)
    for name in ("videopainter", "propainter", "e2fgvi"):
        spec = dataclasses.replace(
            ENGINES[name], location="videopainter.engine:NeverForTests", missing=lambda **options: None
        )
        monkeypatch.setitem(ENGINES, name, spec)
    result = inpaint_video(frames, masks, engine="hybrid", dilate_size=0)
    assert result.engine == "hybrid" and result.seen_share == 1 and not result.never_seen.any()
    np.testing.assert_array_equal(result.frames, fetched(frames, masks))


def test_a_clip_that_was_wholly_seen_imports_no_networks():
    code = (
        "import sys, numpy as np; from videopainter.hybrid import HybridEngine\n"
        "from videopainter.masks import MaskTrack; from videopainter.video import ArraySource\n"
        "frames = np.random.default_rng(0).integers(0, 255, (1, 48, 64, 3), np.uint8).repeat(4, 0)\n"
        "masks = np.zeros((4, 48, 64), bool); masks[1, 20:30, 20:30] = True\n"
        "list(HybridEngine()(ArraySource(frames), MaskTrack.from_array(masks)))\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_little_is_left_to_the_base(clip):
    truth, frames, masks, _ = clip
    painter = Painter(truth)
    out, _ = run(frames, masks, painter, least_share=1.0)
    assert not painter.calls
    np.testing.assert_array_equal(out, fetched(frames, masks))


def test_a_generator_with_a_prompt_and_a_first_frame(clip):
    truth, frames, masks, unseen = clip
    painter = Painter(truth, takes_prompt=True, wants_first_frame=True, target_fps=8)
    engine = HybridEngine(first=PropagationEngine(), second=painter)
    out = inpaint_video(frames, masks, engine=engine, dilate_size=0, prompt="a brick wall", target_fps=None)
    ((source, _, prompt, first),) = painter.calls
    assert prompt == "a brick wall" and len(source) < N  # at its own rate, and the rest by optical flow
    np.testing.assert_array_equal(first, fetched(frames, masks)[0])
    assert psnr(out.frames, truth, np.repeat(unseen[None], N, axis=0))[0] > 35
    run(frames, masks, painter)
    assert "background" in painter.calls[-1][2]


def test_closing_it_closes_what_it_was_given(clip):
    painter = Painter(clip[0])
    HybridEngine(first=PropagationEngine(), second=painter).close()
    assert painter.closed == 1


# -- seams -----------------------------------------------------------------------------------------------


def test_outside_of_the_part_a_frame_stays_as_it_is(clip):
    truth = clip[0]
    part = np.zeros((H, W), bool)
    part[40:80, 50:90] = True
    other = np.clip(truth[0].astype(int) + 25, 0, 255).astype(np.uint8)
    out = Seams(1).join(0, truth[0], other, part, part)
    np.testing.assert_array_equal(out[~part], truth[0][~part])
    # No step at the seam, and none of the other colour left in the middle.
    assert np.abs(out[part].astype(int) - truth[0][part]).mean() < 2


def test_colours_are_compared_on_a_ring_where_both_are_there():
    rng = np.random.default_rng(0)
    here = cv2.GaussianBlur(rng.integers(0, 255, (80, 80, 3), np.uint8), (0, 0), 4)
    here = np.clip((here.astype(np.float32) - 127) * 5 + 127, 0, 255).astype(np.uint8)
    part = np.zeros((80, 80), bool)
    part[30:50, 30:50] = True
    there = np.clip(here * np.float32(0.8) + 20, 0, 255).astype(np.uint8)
    there[~compared(part)] = 0  # nothing is there of the rest
    matched = in_colours_of(here, there, compared(part) & ~part)
    assert np.abs(matched[part] - here[part]).mean() < 4


def test_grain_is_added_to_what_was_generated_without_it():
    rng = np.random.default_rng(1)
    plate = cv2.resize(rng.integers(90, 160, (6, 8, 3), np.uint8), (256, 192), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(plate + rng.normal(0, 8, (8, 192, 256, 3)), 0, 255).astype(np.uint8)
    part = np.zeros((192, 256), bool)
    part[60:130, 90:170] = True

    def fine(frames):
        return np.std([(f - cv2.GaussianBlur(f, (0, 0), 1.5))[65:125, 95:165] for f in np.float32(frames)])

    strong, without = (
        [seams.join(i, frame, plate, part, part) for i, frame in enumerate(noisy)][-1:]
        for seams in (Seams(5), Seams(None))
    )
    assert 0.75 < fine(strong) / fine(noisy[-1:]) < 1.25
    assert fine(without) / fine(noisy[-1:]) < 0.3


# -- what is said of it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["propagation", "hybrid"])
def test_a_run_says_what_was_seen_and_shows_where(clip, tmp_path, caplog, engine):
    truth, frames, masks, unseen = clip
    caplog.set_level(logging.INFO, "videopainter")
    if engine == "hybrid":
        engine = HybridEngine(first=PropagationEngine(), second=Painter(truth))
    result = inpaint_video(frames, masks, engine=engine, dilate_size=0, output_dir=tmp_path, export="seen")
    report = json.loads((tmp_path / "run.json").read_text())["seen"]
    share = 1 - unseen.sum() * N / masks.sum()
    assert report["share"] == pytest.approx(share, abs=1e-5) == pytest.approx(result.seen_share, abs=1e-5)
    assert report["never_seen_pixels"] == unseen.sum() * N and len(report["frames"]) == N
    assert report["frames"][0] == pytest.approx(1 - unseen.sum() / masks[0].sum(), abs=1e-3)
    np.testing.assert_array_equal(result.never_seen[2], unseen)
    assert f"Other frames show {100 * share:.1f} % of the hole" in caplog.text
    from videopainter import open_video

    with open_video(tmp_path / "seen.mp4") as shown:
        red, green = shown[0][60, 60].astype(int), shown[0][60, 95].astype(int)
    assert red[0] > red[1] and green[1] > green[0] - 40


def test_an_engine_that_does_not_know_says_nothing(clip, tmp_path):
    truth, frames, masks, _ = clip
    inpaint_video(frames, masks, engine=Painter(truth), dilate_size=0, output_dir=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["seen"] is None


# -- options and the table -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        ({"base": "magic"}, "base is propagation or propainter"),
        ({"generator": "magic"}, "generator is videopainter"),
        ({"threshold": 2}, "threshold must be from 0 to 1"),
        ({"least_share": -1}, "least_share must be"),
        ({"least_pixels": 0}, "least_pixels must be 1 or more"),
        ({"grain": "much"}, "grain is auto or off"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(EngineError, match=words):
        HybridEngine(**options)


def test_a_first_engine_that_does_not_tell(clip):
    with pytest.raises(EngineError, match="'painter' does not tell what it has seen"):
        HybridEngine(first=Painter(clip[0]))


def test_auto_takes_it_where_something_can_generate(monkeypatch):
    monkeypatch.setattr(table, "has_gpu", lambda: True)
    can_run, why = ENGINES["hybrid"].available()
    assert not can_run and "'videopainter' cannot run: weights are missing" in why
    for name in ("videopainter", "propainter"):
        there = dataclasses.replace(ENGINES[name], missing=lambda **options: None)
        monkeypatch.setitem(ENGINES, name, there)
    assert choose_engine("auto", with_prompt=False)[0].name == "hybrid"
    assert choose_engine("auto", with_prompt=True)[0].name == "videopainter"
    monkeypatch.setattr(table, "has_gpu", lambda: False)
    assert choose_engine("auto", with_prompt=False)[0].name == "propagation"
    assert ENGINES["hybrid"].available(generator="propainter")[0]
    for options, words in (
        ({"generator": "e2fgvi"}, "'e2fgvi' cannot run: "),
        ({"base": "propainter", "generator": "propainter"}, "both 'propainter'"),
        ({"base": "magic"}, "not 'magic'"),
        ({"generator": "magic"}, "not 'magic'"),
    ):
        can_run, why = ENGINES["hybrid"].available(**options)
        assert not can_run and words in why


def test_it_hands_options_on(monkeypatch, clip):
    truth, frames, masks, _ = clip
    made = []

    class Made(Painter):
        def __init__(self, **options):
            made.append(options)
            super().__init__(truth)

    monkeypatch.setattr(table, "MadeForTests", Made, raising=False)
    spec = dataclasses.replace(
        ENGINES["propainter"], location="videopainter.engine:MadeForTests", missing=lambda **options: None
    )
    monkeypatch.setitem(ENGINES, "propainter", spec)
    asked = {"generator": "propainter", "radius": 7, "raft_iter": 3, "guidance_scale": 2.0}
    inpaint_video(frames, masks, engine="hybrid", dilate_size=0, **asked)
    assert made == [{"raft_iter": 3}]
