"""E2FGVI on the spine: the command line, the Python call, and what the engine adds to the network."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_e2fgvi import ArrayClip, lively_model, random_clip

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402
from videopainter import inpaint_video  # noqa: E402
from videopainter.e2fgvi import engine as module  # noqa: E402
from videopainter.e2fgvi import weights  # noqa: E402
from videopainter.e2fgvi.engine import E2FGVIEngine  # noqa: E402
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine  # noqa: E402
from videopainter.masks import MaskTrack  # noqa: E402
from videopainter.video import ArraySource, VideoWriter, open_video  # noqa: E402


def paint(engine, frames, masks, **more) -> np.ndarray:
    return np.stack(list(engine(ArraySource(frames), MaskTrack.from_array(masks), **more)))


@pytest.fixture
def engine(model):
    return E2FGVIEngine(model=model, device="cpu")


def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine) and engine.name == "e2fgvi"
    assert (engine.window, engine.overlap) == (11, 6)


def test_known_pixels_are_the_sources(engine):
    frames, masks = random_clip(6, 37, 50)
    masks[2] = False
    steps = []
    out = paint(engine, frames, masks, progress=lambda done, total: steps.append((done, total)))
    assert np.array_equal(out[~masks], frames[~masks])
    assert (out[masks] != frames[masks]).mean() > 0.5
    assert steps == [(i, 6) for i in range(1, 7)]
    assert np.array_equal(out, paint(engine, frames, masks))
    assert np.array_equal(out, np.stack(list(engine.model.paint_video(ArrayClip(frames, masks)))))


def test_no_hole_needs_no_network(engine, monkeypatch):
    frames, masks = random_clip(3, 37, 50)
    monkeypatch.setattr(engine.model, "paint_video", lambda *a: pytest.fail("the network was asked"))
    assert np.array_equal(paint(engine, frames, np.zeros_like(masks)), frames)


@pytest.mark.parametrize("count", [1, 7])
def test_a_hole_everywhere(engine, count):
    frames, masks = random_clip(count, 37, 50)
    out = paint(engine, frames, np.ones_like(masks))
    assert out.shape == frames.shape and np.array_equal(out, paint(engine, 255 - frames, np.ones_like(masks)))


def test_masks_in_one_frame_only(engine):
    frames, masks = random_clip(14, 37, 50)
    masks[:11], masks[12:] = False, False
    out = paint(engine, frames, masks)
    assert np.array_equal(out[~masks], frames[~masks]) and (out[11] != frames[11]).any()


def test_only_the_region_of_the_holes_is_worked_on(engine, monkeypatch):
    frames, masks = random_clip(2, 400, 700)
    masks[:] = False
    masks[0, 60:70, 70:90] = True
    masks[1, 65:75, 80:100] = True
    seen = []
    original = engine.model.paint_video
    monkeypatch.setattr(
        engine.model, "paint_video", lambda clip, settings: seen.append(clip) or original(clip, settings)
    )
    out = paint(engine, frames, masks)
    # 128 pixels around the holes at least, and what the network was trained on, where the picture has it.
    assert seen[0].box == (slice(0, 75 + module.CONTEXT), slice(0, 301))
    assert np.array_equal(out[~masks], frames[~masks]) and (out[masks] != frames[masks]).any()
    # The region by itself gives the same.
    rows, columns = seen[0].box
    engine.crop = False
    alone = paint(engine, frames[:, rows, columns], masks[:, rows, columns])
    assert np.array_equal(out[:, rows, columns], alone)


def test_a_hole_nearly_everywhere_takes_the_whole_frame(engine):
    _, masks = random_clip(2, 300, 500)
    masks[:, 20:280, 20:480] = True
    assert engine._region(MaskTrack.from_array(masks), (300, 500)) == (
        (slice(0, 300), slice(0, 500)),
        (300, 500),
    )


def test_resize_ratio_gives_back_the_full_size(model, caplog):
    frames, masks = random_clip(3, 70, 90)
    engine = E2FGVIEngine(model=model, device="cpu", resize_ratio=0.5)
    with caplog.at_level(logging.INFO):
        out = paint(engine, frames, masks)
    assert out.shape == frames.shape and np.array_equal(out[~masks], frames[~masks])
    assert (out != frames).any() and "works on 90 x 70 pixels at 45 x 35" in caplog.text


def test_the_size_follows_the_memory():
    assert module._largest_ratio(240, 432, 16 * 2**30) == 1
    ratios = [module._largest_ratio(2160, 3840, n * 2**30) for n in (1, 4, 16, 64, 640)]
    assert ratios == sorted(ratios) and ratios[0] < 0.3 and ratios[-1] == 1


def test_mask_dilation_is_for_the_network_only(engine, model):
    frames, masks = random_clip(3, 37, 50)
    out = paint(E2FGVIEngine(model=model, device="cpu", mask_dilation=3), frames, masks)
    assert np.array_equal(out[~masks], frames[~masks])
    assert not np.array_equal(out, paint(engine, frames, masks))


def test_the_base_variant_works_at_its_own_size_and_says_so(caplog):
    engine = E2FGVIEngine(model=lively_model(variant="base"), device="cpu")
    frames, masks = random_clip(2, 50, 64)
    with caplog.at_level(logging.WARNING):
        out = paint(engine, frames, masks)
    assert "base variant works at 432 x 240 only: 64 x 50 pixels are resized" in caplog.text
    assert out.shape == frames.shape and np.array_equal(out[~masks], frames[~masks])
    assert (out != frames).any()
    # In large pictures the region has its proportions.
    masks = np.zeros((1, 800, 1600), bool)
    masks[:, 300:500, 700:760] = True
    (rows, columns), working = engine._region(MaskTrack.from_array(masks), (800, 1600))
    assert working == (240, 432)
    assert (columns.stop - columns.start) / (rows.stop - rows.start) == pytest.approx(1.8, abs=0.02)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"fp16": True}, "fp16.*needs a GPU"),
        ({"mask_dilation": -1}, "mask_dilation must be 0 or more, not -1"),
        ({"resize_ratio": 0}, "resize_ratio must be over 0 and at most 4, not 0"),
        ({"neighbor_stride": 0}, "neighbor_stride must be a whole number of 1 or more, not 0"),
        ({"num_ref": -4}, "num_ref must be a whole number of -1 or more, not -4"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be(model, options, words):
    with pytest.raises(EngineError, match=words):
        E2FGVIEngine(model=model, device="cpu", **options)


def test_videos_that_cannot_be(engine):
    frames, masks = random_clip(3, 37, 50)
    with pytest.raises(EngineError, match="2 masks of .* for 3 frames"):
        paint(engine, frames, masks[:2])
    with pytest.raises(EngineError, match="16 pixels in both directions"):
        paint(engine, frames[:, :12], masks[:, :12])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_in_half_precision():
    frames, masks = random_clip(8, 60, 108)
    exact = paint(E2FGVIEngine(model=lively_model(), device="cpu"), frames, masks)
    for fp16, limit in ((False, 1), (True, 16)):
        out = paint(E2FGVIEngine(model=lively_model(), device="cuda", fp16=fp16), frames, masks)
        assert np.abs(out.astype(int) - exact).mean() < limit
        assert np.array_equal(out[~masks], frames[~masks])


# -- the table, the command line, the Python call --------------------------------------------------------


@pytest.fixture
def installed(folder, monkeypatch):
    """Random weights where the real ones would lie."""
    lie_in(folder, monkeypatch)
    return folder


def lie_in(folder, monkeypatch):
    monkeypatch.setattr(weights, "folder_of", lambda given=None: Path(given or folder))


def test_the_table(installed, monkeypatch, tmp_path):
    info, why = choose_engine("e2fgvi")
    assert info.available(num_ref=3) == (True, "needs a small GPU and 160 MB of weights")
    assert why == "as asked for"
    assert isinstance(info.load(num_inference_steps=3), E2FGVIEngine)  # an option it has no use for
    lie_in(tmp_path, monkeypatch)
    with pytest.raises(EngineError, match="'e2fgvi' cannot be used: there is no E2FGVI-HQ.*Google Drive"):
        ENGINES["e2fgvi"].load()
    assert choose_engine("auto")[0].name == "propagation"


@pytest.mark.parametrize("gpu, name", [(False, "propagation"), (True, "e2fgvi")])
def test_auto_takes_it_where_there_is_a_gpu(installed, monkeypatch, gpu, name):
    monkeypatch.setattr("videopainter.engine.has_gpu", lambda: gpu)
    info, why = choose_engine("auto", with_prompt=False)
    assert info.name == name
    assert ("e2fgvi: slow without a GPU" in why) != gpu


def test_weights_that_are_damaged(tmp_path, folder):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="is not a safetensors file"):
        E2FGVIEngine(tmp_path)


def test_run_demo_on_a_real_clip(installed, tmp_path, capsys):
    """Plumbing: the first frames of the example clip, random weights; the rest of the picture stays what it was."""
    with open_video(ROOT / "examples" / "cup.mp4") as source:
        small = source[0:4][:, ::8, ::8]
        fps = source.fps
    video, npz, out = tmp_path / "clip.mp4", tmp_path / "masks.npz", tmp_path / "out"
    with VideoWriter(video, fps, small.shape[1:3]) as writer:
        for frame in small:
            writer.write(frame)
    masks = np.zeros(small.shape[:3], bool)
    masks[:, 20:40, 30:50] = True
    MaskTrack.from_array(masks).save_npz(npz)
    arguments = [
        "--video",
        video,
        "--mask",
        npz,
        "--engine",
        "e2fgvi",
        "--output_dir",
        out,
        "--dilate_size",
        0,
    ]
    arguments += ["--num_ref", 2, "--neighbor_stride", 2, "--ref_stride", 3, "--variant", "hq"]
    assert run_demo.main([str(a) for a in arguments]) == 0
    assert "Engine: e2fgvi (as asked for)" in capsys.readouterr().out
    report = json.loads((out / "run.json").read_text())
    assert report["settings"]["engine"] == "e2fgvi" and report["settings"]["num_ref"] == 2
    with open_video(video) as source, open_video(out / "result.mp4") as result:
        before, after = source[0:4].astype(int), result[0:4].astype(int)
    assert before.shape == after.shape
    far = np.zeros(masks.shape, bool)
    far[:, :12], far[:, 48:] = True, True  # away from the hole, which the codec smears
    assert np.abs(after - before)[far].mean() < 3 < np.abs(after - before)[masks].mean()


def test_the_python_call_leaves_the_rest_untouched(installed):
    frames, masks = random_clip(4, 37, 50)
    result = inpaint_video(frames, masks=masks, engine="e2fgvi", dilate_size=0, neighbor_stride=2)
    assert result.engine == "e2fgvi"
    assert np.array_equal(result.frames[~masks], frames[~masks])
    assert (result.frames[masks] != frames[masks]).any()


def test_importing_the_package_stays_light():
    code = (
        "import sys, videopainter, videopainter.engine, videopainter.e2fgvi; "
        "print([m for m in ('torch', 'transformers', 'cv2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
