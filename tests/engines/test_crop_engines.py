"""What every engine that crops does on the spine: the table, the command line, the Python call, and what it adds to
its network. What only one of them does is tested in its own folder."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import random_clip
from crop_networks import NETWORKS, REFUSED

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import run_demo  # noqa: E402
from videopainter import inpaint_video  # noqa: E402
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine  # noqa: E402
from videopainter.masks import MaskTrack  # noqa: E402
from videopainter.video import ArraySource, VideoWriter, open_video  # noqa: E402


def paint(engine, frames, masks, **more) -> np.ndarray:
    return np.stack(list(engine(ArraySource(frames), MaskTrack.from_array(masks), **more)))


@pytest.fixture
def seen(network, model, monkeypatch):
    """The clips that the network is given to paint."""
    clips, original = [], getattr(model, network.paint)
    monkeypatch.setattr(
        model, network.paint, lambda clip, *args, **more: clips.append(clip) or original(clip, *args, **more)
    )
    return clips


def test_it_is_an_engine(network, engine):
    assert isinstance(engine, Engine) and engine.spec is ENGINES[network.name]


def test_known_pixels_are_the_sources(engine):
    frames, masks = random_clip(6, 37, 50)
    masks[2] = False
    steps = []
    out = paint(engine, frames, masks, progress=lambda *told: steps.append(told))
    assert np.array_equal(out[~masks], frames[~masks])
    assert (out[masks] != frames[masks]).mean() > 0.5
    assert list(dict.fromkeys(steps)) == [("inpaint", i, 6) for i in range(7)]
    assert np.array_equal(out, paint(engine, frames, masks))


def test_no_hole_needs_no_network(network, engine, monkeypatch):
    frames, masks = random_clip(3, 37, 50)
    monkeypatch.setattr(engine.model, network.paint, lambda *a, **k: pytest.fail("the network was asked"))
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


def test_only_the_region_of_the_holes_is_worked_on(network, engine, seen):
    frames, masks = random_clip(2, 400, 700)
    masks[:] = False
    masks[0, 60:70, 70:90] = True
    masks[1, 65:75, 80:100] = True
    out = paint(engine, frames, masks)
    rows, columns = seen[0].box
    assert (rows, columns) == network.box
    assert seen[0].frame(0).shape == (rows.stop, columns.stop, 3)
    assert np.array_equal(out[~masks], frames[~masks]) and (out[masks] != frames[masks]).any()
    # The region by itself gives the same.
    engine.crop = False
    alone = paint(engine, frames[:, rows, columns], masks[:, rows, columns])
    assert np.array_equal(out[:, rows, columns], alone)


def test_resize_ratio_gives_back_the_full_size(network, model, seen):
    frames, masks = random_clip(3, 70, 90)
    out = paint(network.make(model, resize_ratio=0.5), frames, masks)
    assert out.shape == frames.shape and np.array_equal(out[~masks], frames[~masks])
    assert (out != frames).any()
    assert seen[0].frame(0).shape == (*network.half, 3)


def test_mask_dilation_is_for_the_network_only(network, engine, model):
    frames, masks = random_clip(3, 37, 50)
    out = paint(network.make(model, mask_dilation=3), frames, masks)
    assert np.array_equal(out[~masks], frames[~masks])
    assert not np.array_equal(out, paint(engine, frames, masks))


REFUSALS = {
    f"{network.name}-{'-'.join(options)}-{'-'.join(map(str, options.values()))}": (network, options, words)
    for network in NETWORKS
    for options, words in (*REFUSED, *network.refused)
}


@pytest.mark.parametrize("network, options, words", REFUSALS.values(), ids=REFUSALS, scope="session")
def test_options_that_cannot_be(network, model, options, words):
    with pytest.raises(EngineError, match=words):
        network.make(model, **options)


def test_videos_that_cannot_be(network, engine):
    frames, masks = random_clip(3, 37, 50)
    with pytest.raises(EngineError, match="2 masks of .* for 3 frames"):
        paint(engine, frames, masks[:2])
    with pytest.raises(EngineError, match=f"{network.title} needs 16 pixels in both directions"):
        paint(engine, frames[:, :12], masks[:, :12])


# -- the table, the command line, the Python call --------------------------------------------------------


@pytest.fixture
def lie_in(network, monkeypatch):
    """Lets the engine's weights lie in another folder."""
    weights = importlib.import_module(f"videopainter.{network.name}.weights")

    def change(folder):
        monkeypatch.setattr(weights, "folder_of", lambda given=None: Path(given or folder))

    return change


@pytest.fixture
def installed(lie_in, folder):
    """Random weights where the real ones would lie."""
    lie_in(folder)


def test_the_table(network, installed, lie_in, tmp_path):
    info, why = choose_engine(network.name)
    needs = f"needs a small GPU and {network.megabytes} MB of weights"
    assert info.available() == info.available(**network.available_with) == (True, needs)
    assert why == "as asked for"
    assert isinstance(info.load(num_inference_steps=3), network.engine)  # an option it has no use for
    lie_in(tmp_path)
    with pytest.raises(EngineError, match=f"'{network.name}' cannot be used: {network.absent}"):
        ENGINES[network.name].load()
    assert choose_engine("auto")[0].name == "propagation"


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_auto_takes_it_where_there_is_a_gpu(network, installed, monkeypatch, gpu):
    monkeypatch.setattr("videopainter.engine.has_gpu", lambda: gpu)
    info, why = choose_engine("auto", with_prompt=False)
    assert info.name == (network.name if gpu else "propagation")
    assert (f"{network.name}: slow without a GPU" in why) != gpu


def test_weights_that_are_damaged(network, tmp_path, folder):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=network.damaged):
        network.engine(tmp_path)


def test_run_demo_on_a_real_clip(network, installed, tmp_path, capsys):
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
    arguments = ["--video", video, "--mask", npz, "--engine", network.name, "--output_dir", out]
    arguments += ["--dilate_size", 0]
    for name, value in network.settings.items():
        arguments += [f"--{name}", value]
    assert run_demo.main([str(a) for a in arguments]) == 0
    assert f"Engine: {network.name} (as asked for)" in capsys.readouterr().out
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["engine"] == network.name
    assert {name: settings[name] for name in network.settings} == network.settings
    with open_video(video) as source, open_video(out / "result.mp4") as result:
        before, after = source[0:4].astype(int), result[0:4].astype(int)
    assert before.shape == after.shape
    far = np.zeros(masks.shape, bool)
    far[:, :12], far[:, 48:] = True, True  # away from the hole, which the codec smears
    assert np.abs(after - before)[far].mean() < 3 < np.abs(after - before)[masks].mean()


@pytest.mark.parametrize("by_default", [True, False], ids=["default", "options"])
def test_the_python_call_leaves_the_rest_untouched(network, installed, by_default):
    frames, masks = random_clip(4, 37, 50)
    options = {} if by_default else network.settings
    result = inpaint_video(frames, masks=masks, engine=network.name, dilate_size=0, **options)
    assert result.engine == network.name
    assert np.array_equal(result.frames[~masks], frames[~masks])
    assert (result.frames[masks] != frames[masks]).any()


def test_importing_the_package_stays_light(network):
    code = (
        f"import sys, videopainter, videopainter.engine, videopainter.{network.name}; "
        "print([m for m in ('torch', 'transformers', 'cv2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
