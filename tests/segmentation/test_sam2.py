"""SAM 2: the original implementation's masks from a tiny network, what is kept in memory, prompts, weights.

`data/sam2_tiny.npz` has the masks that the original video predictor (github.com/facebookresearch/sam2, commit 2b90b9f)
found with the tiny network of `tiny_sam2`, packed. No released weights were at hand: that they give good masks is not
shown here.
"""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_sam2 import DATA, GOLDEN, config, fill, original_state, write_checkpoint  # noqa: E402

from videopainter import weights  # noqa: E402
from videopainter.masks import MaskError  # noqa: E402
from videopainter.segmentation import BoxPrompt, ClickPrompt, collect  # noqa: E402
from videopainter.segmentation.pixels import DEVIATION, MEAN  # noqa: E402
from videopainter.segmentation.sam2 import checkpoint as sam2_checkpoint  # noqa: E402
from videopainter.segmentation.sam2 import tracker as sam2  # noqa: E402
from videopainter.video import ArraySource  # noqa: E402
from videopainter.weights import WeightsError  # noqa: E402

N, H, W = 20, 80, 112
DIFFERENT = 5e-4  # share of pixels whose sign may differ; measured 0


def track(source, prompts, progress=None, model=None):
    return collect(sam2.Sam2Segmenter(source, model).track(prompts, progress), source)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """release -> the tiny network, through a checkpoint file as released and our conversion."""
    made = {}
    for release in ("2.0", "2.1"):
        folder = tmp_path_factory.mktemp("sam2")
        checkpoint = write_checkpoint(folder / "x.pt", original_state(release))
        sam2_checkpoint.convert_file(checkpoint, folder / "converted", config(release))
        made[release] = sam2_checkpoint.read(folder / "converted")
    return made


@pytest.fixture(scope="module")
def source():
    z = fill.normal_array("video", (H // 8 + 1) * (W // 8 + 6) * 3).reshape(H // 8 + 1, W // 8 + 6, 3)
    big = np.kron((127 + 50 * z).clip(0, 255).astype(np.uint8), np.ones((8, 8, 1), np.uint8))
    return ArraySource(np.stack([big[t // 4 : t // 4 + H, 2 * t : 2 * t + W] for t in range(N)]))


@pytest.mark.parametrize("case", GOLDEN["cases"])
@pytest.mark.parametrize("release", ["2.0", "2.1"])
def test_masks_of_the_original_implementation(models, source, release, case):
    asked = GOLDEN["cases"][case]
    prompts = [ClickPrompt(x, y, asked["frame"], bool(on)) for x, y, on in asked["clicks"]]
    if "box" in asked:
        prompts.append(BoxPrompt(*asked["box"], asked["frame"]))
    steps = []
    found = track(source, prompts, lambda *step: steps.append(step), models[release])
    with np.load(DATA / "sam2_tiny.npz") as archive:
        expected = np.unpackbits(archive[f"{release}.{case}"], count=N * H * W).reshape(N, H, W).astype(bool)
    assert 0.1 < expected[0].mean() < 0.95  # not all or nothing
    assert (found.masks[:] != expected).mean() <= DIFFERENT
    assert found.lost == [] and steps[-1] == ("select", N, N)


def test_a_released_file_is_converted_once(tmp_path, source, monkeypatch):
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    monkeypatch.setattr(sam2_checkpoint, "config_of", lambda size, keys: config())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # with a GPU it asks for a larger one
    with pytest.raises(
        WeightsError, match="SAM 2 cannot be used: weights are missing in .*--only sam2-tiny get"
    ):
        track(source, [ClickPrompt(60, 40)])
    write_checkpoint(tmp_path / "sam2_hiera_large.pt", original_state())
    first = track(source, [ClickPrompt(60, 40)])
    assert {p.name for p in (tmp_path / "sam2-hiera-large").iterdir()} == {"config.json", "model.safetensors"}
    written = (tmp_path / "sam2-hiera-large/model.safetensors").stat().st_mtime_ns
    second = track(source, [ClickPrompt(60, 40)])
    assert (tmp_path / "sam2-hiera-large/model.safetensors").stat().st_mtime_ns == written
    assert (first.masks[:] == second.masks[:]).all()
    assert weights.missing("sam2") == [] and weights.problems("sam2") == []


def _without(name):
    return lambda p: write_checkpoint(p, {k: v for k, v in original_state().items() if k != name})


FAULTS = {
    "no checkpoint": (lambda p: p.write_text("words"), "is not a file of weights"),
    "cut off": (
        lambda p: p.write_bytes(write_checkpoint(p, original_state()).read_bytes()[:-999]),
        "is damaged or cut off",
    ),
    "an object": (lambda p: torch.save({"model": torch.nn.Linear(1, 1)}, p), "weights are tensors only"),
    "a list": (lambda p: torch.save([*original_state().values()], p), "something else than a network's"),
    "a tensor too few": (_without("no_mem_embed"), 'Missing key.*"no_memory_embedding"'),
    "another network": (
        lambda p: write_checkpoint(p, {**original_state(), "maskmem_tpos_enc": torch.zeros(6, 1, 1, 64)}),
        "size mismatch for memory_temporal_positional_encoding",
    ),
    "a tensor too many": (lambda p: write_checkpoint(p, {**original_state(), "x.y": torch.zeros(1)}), "x.y"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_checkpoint_is_one_sentence_and_leaves_nothing(tmp_path, kind):
    damage, words = FAULTS[kind]
    damage(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=words) as raised:
        sam2_checkpoint.convert_file(tmp_path / "x.pt", tmp_path / "out", config())
    assert str(tmp_path / "x.pt") in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_bad_folder_is_one_sentence(tmp_path):
    sam2_checkpoint.convert_file(
        write_checkpoint(tmp_path / "x.pt", original_state()), tmp_path / "a", config()
    )
    file = tmp_path / "a/model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if k != "no_memory_embedding"}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="has no tensor no_memory_embedding"):
        sam2_checkpoint.read(tmp_path / "a")
    for one, other in (sam2_checkpoint.POSITIONS, sam2_checkpoint.POSITIONS[::-1]):
        save_file({k: v for k, v in state.items() if k != one}, file, {"format": "pt"})
        assert torch.equal(sam2_checkpoint.read(tmp_path / "a").get_buffer(one), state[other])
    save_file({k: v for k, v in state.items() if k not in sam2_checkpoint.POSITIONS}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="has no tensor prompt_encoder.shared_embedding"):
        sam2_checkpoint.read(tmp_path / "a")
    save_file({**state, "no_memory_embedding": state["no_memory_embedding"] / 0}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="'no_memory_embedding' holds values that are no numbers"):
        sam2_checkpoint.read(tmp_path / "a")
    save_file({**state, "no_memory_embedding": torch.zeros(1, 1, 5)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="has another shape of .*no_memory_embedding"):
        sam2_checkpoint.read(tmp_path / "a")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="is damaged, cut off or not a safetensors"):
        sam2_checkpoint.read(tmp_path / "a")


def test_half_precision_runs_and_agrees(models, source):
    prompts = [ClickPrompt(60, 40)]
    full = track(source, prompts, None, models["2.0"]).masks[:]
    half = track(source, prompts, None, _copy(models["2.0"]).to(torch.bfloat16)).masks[:]
    assert (full == half).mean() > 0.9


def _copy(model):
    import copy

    return copy.deepcopy(model)


def test_what_is_kept_does_not_grow(models, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (60, 40, 56, 3), np.uint8)
    kept, real = [], sam2._Object._step

    def watch(one, *arguments, **more):
        mask = real(one, *arguments, **more)
        session = one.session
        tensors = [t for kind in one.outputs.values() for entry in kind.values() for t in entry.values()]
        assert not session.processed_frames and not session.point_inputs_per_obj[0]
        assert len(session.cache._vision_features) == 1
        kept.append((sum(t.numel() for t in tensors), len(session.frames_tracked_per_obj[0])))
        return mask

    monkeypatch.setattr(sam2._Object, "_step", watch)
    found = track(ArraySource(frames), [ClickPrompt(20, 20, 2)], None, models["2.0"])
    assert len(found.masks) == 60
    assert max(kept[-20:]) == max(kept[25:45])  # full after REACH frames, and no more than that
    assert kept[-1][1] <= sam2.REACH + 1


class Script:
    """Stands in for the network: says yes to `there(t)`, and writes down how each frame was asked for."""

    device, dtype, config = torch.device("cpu"), torch.float32, SimpleNamespace(image_size=32)

    def __init__(self, there=lambda t, object_points: True):
        self.there, self.calls = there, []

    def __call__(self, session, frame_idx, frame, reverse):
        assert frame.shape == (3, 32, 32)
        points = session.point_inputs_per_obj[0].get(frame_idx)
        tracked = session.frames_tracked_per_obj[0]
        fresh = points is not None and frame_idx not in tracked
        labels = None if points is None else points["point_labels"].flatten().tolist()
        self.calls.append((frame_idx, labels, "fresh" if fresh else "back" if reverse else "on"))
        if not fresh:
            tracked[frame_idx] = {"reverse": reverse}
        sign = 1.0 if self.there(frame_idx, labels) else -1.0
        return SimpleNamespace(pred_masks=torch.full((1, 1, 8, 8), sign))


@pytest.fixture
def eight():
    return ArraySource(np.zeros((8, 24, 40, 3), np.uint8))


def test_there_and_back_from_the_first_prompt(eight):
    script = Script()
    found = track(eight, [ClickPrompt(5, 5, 3), ClickPrompt(9, 9, 1, positive=False)], None, script)
    assert script.calls == [
        (3, [1], "fresh"),
        *((t, None, "back") for t in (2, 1, 0)),
        *((t, None, "on") for t in (4, 5, 6, 7)),
    ]
    assert found.masks[:].all() and found.lost == []


def test_a_later_click_corrects_what_was_followed(eight):
    script = Script()
    track(eight, [ClickPrompt(5, 5), ClickPrompt(9, 9, 4), ClickPrompt(1, 9, 4, False)], None, script)
    at_four = [call for call in script.calls if call[0] == 4]
    assert at_four == [(4, None, "on"), (4, [1, 0], "on")]


def test_a_later_box_starts_again(eight):
    script = Script()
    track(eight, [ClickPrompt(5, 5), BoxPrompt(9, 9, 2, 3, 4)], None, script)
    assert [call for call in script.calls if call[0] == 4] == [(4, None, "on"), (4, [2, 3], "fresh")]


def test_lost_and_clicked_again(eight):
    """Gone from frame 2, shown again in 6; from there it can be followed back to 5 and 4, but not to 3."""
    clicked = []

    def there(t, labels):
        clicked.extend([t] if labels else [])
        return t < 2 or bool(labels) or (6 in clicked and t > 3)

    script = Script(there)
    found = track(eight, [ClickPrompt(5, 5), ClickPrompt(5, 5, 6)], None, script)
    assert [bool(mask.any()) for mask in found.masks] == [True, True, False, False, True, True, True, True]
    assert found.lost == [2]
    again = script.calls.index((6, [1], "fresh"))
    assert script.calls[again + 1 : again + 5] == [
        (5, None, "back"),
        (4, None, "back"),
        (3, None, "back"),
        (7, None, "on"),
    ]


def test_lost_and_not_clicked_again(eight):
    found = track(eight, [ClickPrompt(5, 5)], None, Script(lambda t, labels: t not in (3, 4, 7)))
    assert found.lost == [3, 7] and not found.masks[3].any() and found.masks[5].all()


def test_several_objects_are_joined(models, source):
    one, two = ClickPrompt(60, 40, object_id=1), BoxPrompt(70, 10, 100, 40, 7, object_id=2)
    both = track(source, [one, two], None, models["2.0"]).masks[:]
    apart = [track(source, [prompt], None, models["2.0"]).masks[:] for prompt in (one, two)]
    assert (both == apart[0] | apart[1]).all()
    assert (apart[0] != apart[1]).any()


def test_prompts_in_pixels_of_the_network(eight):
    class Look(Script):
        def __call__(self, session, frame_idx, frame, reverse):
            if 0 in session.point_inputs_per_obj[0]:
                self.points = session.point_inputs_per_obj[0][0]
            return super().__call__(session, frame_idx, frame, reverse)

    script = Look()
    prompts = [
        ClickPrompt(0, 0, object_id=1),
        ClickPrompt(19.5, 11.5, positive=False, object_id=1),
        BoxPrompt(39, 23, -9, 4, object_id=1),
    ]
    track(eight, prompts, None, script)
    places = script.points["point_coords"]
    assert places.shape == (1, 1, 4, 2) and script.points["point_labels"].tolist() == [[[2, 3, 1, 0]]]
    x, y = 32 / 40, 32 / 24  # from 40 x 24 to 32 x 32, pixel centres on pixel centres
    expected = [[0.5 * x, 4.5 * y], [39.5 * x, 23.5 * y], [0.5 * x, 0.5 * y], [20 * x, 12 * y]]
    np.testing.assert_allclose(places[0, 0].numpy() + 0.5, expected, rtol=1e-5)


def test_frames_as_the_network_sees_them():
    from PIL import Image

    frame = np.random.default_rng(0).integers(0, 255, (90, 150, 3), np.uint8)
    pixels = sam2.pixel_values(frame, 64)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.float32
    shown = (pixels.permute(1, 2, 0).numpy() * DEVIATION + MEAN) * 255
    other = np.asarray(
        Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR)
    )  # it filters as well
    assert np.abs(shown - other).max() < 1.01


def test_objects_need_something_positive_and_one_box(eight):
    with pytest.raises(MaskError, match="Object 2 has neither"):
        track(eight, [ClickPrompt(5, 5), ClickPrompt(9, 9, positive=False, object_id=2)], None, Script())
    with pytest.raises(MaskError, match="Object 1 has two boxes on frame 0"):
        boxes = [BoxPrompt(1, 1, 5, 5, object_id=1), BoxPrompt(9, 9, 12, 12, object_id=1)]
        track(eight, boxes, None, Script())


def test_from_the_command_line(tmp_path, source, monkeypatch, capsys):
    import sys

    from videopainter.video import VideoWriter

    sys.path.insert(0, str(DATA.parents[2]))
    import run_demo

    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    checkpoint = write_checkpoint(tmp_path / "x.pt", original_state())
    sam2_checkpoint.convert_file(checkpoint, tmp_path / "sam2-hiera-large", config())
    with VideoWriter(tmp_path / "a.mp4", 10, (H, W)) as writer:
        writer.write(source[:4])
    arguments = ["--video", str(tmp_path / "a.mp4"), "--click", "60,40", "--box", "70,10,100,40,2,2"]
    out = tmp_path / "out"
    assert run_demo.main([*arguments, "--output_dir", str(out), "--segmenter", "sam2"]) == 0
    assert "Segmenter: sam2 (as asked for)." in capsys.readouterr().out
    assert (out / "result.mp4").is_file()
    assert json.loads((out / "run.json").read_text())["settings"]["segmenter"] == "sam2"


def test_missing_weights_on_the_command_line(tmp_path, capsys, write_clip, moving_texture, monkeypatch):
    import sys

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sys.path.insert(0, str(DATA.parents[2]))
    import run_demo

    clip = write_clip(tmp_path / "a.mp4", moving_texture(3))
    arguments = [
        "--video",
        clip,
        "--click",
        "9,9",
        "--output_dir",
        str(tmp_path / "out"),
        "--segmenter",
        "sam2",
    ]
    assert run_demo.main(arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "SAM 2 cannot be used: weights are missing" in last and "--only sam2-tiny gets them" in last
    assert os.environ[weights.ENVIRONMENT] in last and not (tmp_path / "out").exists()
