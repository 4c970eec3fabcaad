"""ProPainter on the spine: the command line, the Python call, and what the engine adds to the networks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_propainter import random_clip

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402
from videopainter import inpaint_video  # noqa: E402
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine  # noqa: E402
from videopainter.masks import MaskTrack  # noqa: E402
from videopainter.propainter import engine as module  # noqa: E402
from videopainter.propainter import memory, weights  # noqa: E402
from videopainter.propainter.engine import ProPainterEngine  # noqa: E402
from videopainter.video import ArraySource, VideoWriter, open_video  # noqa: E402


def paint(engine, frames, masks, **more) -> np.ndarray:
    return np.stack(list(engine(ArraySource(frames), MaskTrack.from_array(masks), **more)))


@pytest.fixture
def engine(model):
    return ProPainterEngine(model=model, device="cpu", raft_iter=1)


def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine) and engine.name == "propainter"
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


def test_no_hole_needs_no_network(engine, monkeypatch):
    frames, masks = random_clip(3, 37, 50)
    monkeypatch.setattr(engine.model, "paint", lambda *a, **k: pytest.fail("the networks were asked"))
    assert np.array_equal(paint(engine, frames, np.zeros_like(masks)), frames)


def test_only_the_region_of_the_holes_is_worked_on(engine, monkeypatch):
    frames, masks = random_clip(2, 600, 700)
    masks[:] = False
    masks[0, 20:40, 30:60] = True
    masks[1, 25:45, 40:70] = True
    seen = []
    original = engine.model.paint
    monkeypatch.setattr(
        engine.model, "paint", lambda clip, **options: seen.append(clip) or original(clip, **options)
    )
    out = paint(engine, frames, masks)
    assert seen[0].frame(0).shape == (45 + module.CONTEXT, 70 + module.CONTEXT, 3)
    assert np.array_equal(out[~masks], frames[~masks]) and (out[masks] != frames[masks]).any()
    # The region by itself gives the same.
    rows, columns = seen[0].box
    engine.crop = False
    alone = paint(engine, frames[:, rows, columns], masks[:, rows, columns])
    assert np.array_equal(out[:, rows, columns], alone)


def test_a_hole_nearly_everywhere_takes_the_whole_frame(engine):
    _, masks = random_clip(2, 300, 300)
    masks[:, 20:280, 20:280] = True
    box, size = engine._region(MaskTrack.from_array(masks), (300, 300), 2**40)
    assert box == (slice(0, 300), slice(0, 300)) and size == (300, 300)


def test_resize_ratio_gives_back_the_full_size(model):
    frames, masks = random_clip(3, 70, 90)
    engine = ProPainterEngine(model=model, device="cpu", raft_iter=1, resize_ratio=0.5)
    out = paint(engine, frames, masks)
    assert out.shape == frames.shape and np.array_equal(out[~masks], frames[~masks])
    _, size = engine._region(MaskTrack.from_array(masks), (70, 90), 2**40)
    assert size == (32, 40)  # half, rounded down to multiples of 8, as the public script does


def test_mask_dilation_is_for_the_networks_only(model):
    frames, masks = random_clip(3, 37, 50)
    wider = ProPainterEngine(model=model, device="cpu", raft_iter=1, mask_dilation=3)
    out = paint(wider, frames, masks)
    assert np.array_equal(out[~masks], frames[~masks])
    assert not np.array_equal(
        out, paint(ProPainterEngine(model=model, device="cpu", raft_iter=1), frames, masks)
    )


@pytest.mark.parametrize(
    "options, words",
    [
        ({"fp16": True}, "fp16.*needs a GPU"),
        ({"mask_dilation": -1}, "mask_dilation must be 0 or more, not -1"),
        ({"resize_ratio": 0}, "resize_ratio must be over 0 and at most 4, not 0"),
        ({"neighbor_length": 1}, "neighbor_length must be a whole number of 2 or more, not 1"),
        ({"subvideo_length": -4}, "subvideo_length must be a whole number of 1 or more, not -4"),
    ],
)
def test_options_that_cannot_be(model, options, words):
    with pytest.raises(EngineError, match=words):
        ProPainterEngine(model=model, device="cpu", **options)


def test_videos_that_cannot_be(engine):
    frames, masks = random_clip(3, 37, 50)
    with pytest.raises(EngineError, match="2 masks of .* for 3 frames"):
        paint(engine, frames, masks[:2])
    with pytest.raises(EngineError, match="16 pixels in both directions"):
        paint(engine, frames[:, :12], masks[:, :12])


# -- memory ----------------------------------------------------------------------------------------------


def test_pieces_and_sizes_follow_the_memory():
    assert memory.subvideo_length(240, 432, 32 * 2**30) == 80
    assert memory.subvideo_length(720, 1280, 2**30) == 10
    lengths = [memory.subvideo_length(720, 1280, n * 2**30) for n in range(1, 20)]
    assert lengths == sorted(lengths) and len(set(lengths)) > 3
    assert memory.resize_ratio(240, 432, 16 * 2**30) == 1
    ratios = [memory.resize_ratio(2160, 3840, n * 2**30) for n in (1, 4, 16, 64, 640)]
    assert ratios == sorted(ratios) and ratios[0] < 0.3 and ratios[-1] == 1
    assert memory.free_bytes(torch.device("cpu")) > 2**26


def test_a_given_length_counts(model, monkeypatch):
    engine = ProPainterEngine(model=model, device="cpu", raft_iter=1, subvideo_length=7)
    given = []
    monkeypatch.setattr(
        model, "paint", lambda clip, **options: given.append(options) or (clip.frame(i) for i in range(2))
    )
    paint(engine, *random_clip(2, 37, 50))
    assert given == [{"ref_stride": 10, "neighbor_length": 10, "raft_iter": 1, "subvideo_length": 7}]


# -- the table, the command line, the Python call --------------------------------------------------------


@pytest.fixture
def installed(folder, monkeypatch):
    """Random weights where the real ones would lie."""
    lie_in(folder, monkeypatch)
    return folder


def lie_in(folder, monkeypatch):
    monkeypatch.setattr(weights, "folder_of", lambda given=None: Path(given or folder))


def test_the_table(installed, monkeypatch, tmp_path):
    info, why = choose_engine("propainter")
    assert info.available() == (True, "needs a small GPU and 200 MB of weights") and why == "as asked for"
    assert isinstance(info.load(num_inference_steps=3), ProPainterEngine)  # an option it has no use for
    lie_in(tmp_path, monkeypatch)
    with pytest.raises(
        EngineError, match="'propainter' cannot be used: .* ckpt/download.py --only propainter"
    ):
        ENGINES["propainter"].load()
    assert choose_engine("auto")[0].name == "propagation"


@pytest.mark.parametrize("gpu, name", [(False, "propagation"), (True, "propainter")])
def test_auto_takes_it_where_there_is_a_gpu(installed, monkeypatch, gpu, name):
    monkeypatch.setattr("videopainter.engine.has_gpu", lambda: gpu)
    info, why = choose_engine("auto", with_prompt=False)
    assert info.name == name
    assert ("propainter: slow without a GPU" in why) != gpu


def test_weights_that_are_damaged(tmp_path, folder):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="damaged or cut off"):
        ProPainterEngine(tmp_path)


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
        "propainter",
        "--output_dir",
        out,
        "--dilate_size",
        0,
    ]
    assert run_demo.main([str(a) for a in arguments]) == 0
    assert "Engine: propainter (as asked for)" in capsys.readouterr().out
    report = json.loads((out / "run.json").read_text())
    assert report["settings"]["engine"] == "propainter"
    with open_video(video) as source, open_video(out / "result.mp4") as result:
        before, after = source[0:4].astype(int), result[0:4].astype(int)
    assert before.shape == after.shape
    far = np.zeros(masks.shape, bool)
    far[:, :12], far[:, 48:] = True, True  # away from the hole, which the codec smears
    assert np.abs(after - before)[far].mean() < 3 < np.abs(after - before)[masks].mean()


def test_the_python_call_leaves_the_rest_untouched(installed):
    frames, masks = random_clip(4, 37, 50)
    result = inpaint_video(frames, masks=masks, engine="propainter", dilate_size=0)
    assert result.engine == "propainter"
    assert (
        np.array_equal(result.frames[~masks], frames[~masks])
        and (result.frames[masks] != frames[masks]).any()
    )


def test_importing_the_package_stays_light():
    code = (
        "import sys, videopainter, videopainter.engine, videopainter.propainter; "
        "print([m for m in ('torch', 'transformers', 'cv2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
