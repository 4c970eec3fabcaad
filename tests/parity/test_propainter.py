"""ProPainter against the recorded numbers of the public reference (issue 5, proof 1 and 2).

Driven by the data: every case of the folder is run from what its JSON file says, and a case, an option or a
value that is not understood fails.
"""

import itertools
from functools import cache
from types import SimpleNamespace

import cv2
import golden
import numpy as np
import pytest
import torch
from PIL import Image

from videopainter.ops.pictures import dilate, resize, resize_mask
from videopainter.propainter import verify
from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.convert import RECORDED
from videopainter.propainter.frames import Canvas, process_size
from videopainter.propainter.modeling import ProPainterModel, TensorClip
from videopainter.propainter.names import RELEASED, model_name, released_key
from videopainter.propainter.schedule import windows
from videopainter.propainter.video_processing import ProPainterVideoProcessor

NETWORK_PARTS = "RAFT + RecurrentFlowCompleteNet + InpaintGenerator"


def own_folder():
    """The folder of ProPainter, or the set itself if it is ProPainter's; None if it holds other systems only."""
    own = golden.root() / "propainter"
    if own.is_dir():
        return own
    about = [golden.read_json(path.with_suffix(".json")) for path in golden.cases(golden.root())]
    if (golden.root() / "names_hf.json").is_file() or any(a.get("networks") == NETWORK_PARTS for a in about):
        return golden.root()
    return None


FOLDER = own_folder()
# Those of single networks come with the package, for `videopainter convert --verify-logits`.
CASES = golden.cases(FOLDER) + (golden.cases(RECORDED) if FOLDER == golden.OWN / "propainter" else [])
PIPELINES = [path for path in CASES if "networks" in golden.read_json(path.with_suffix(".json"))]
NETWORKS = [path for path in CASES if "network" in golden.read_json(path.with_suffix(".json"))]
OTHERS = [path for path in CASES if path not in PIPELINES and path not in NETWORKS]


def named(path) -> str:
    return path.stem


def fill(shapes, seed, gains):
    return golden.module("fill_flow").fill_network_state(shapes, seed, gains)


@pytest.mark.parametrize("path", NETWORKS, ids=named)
def test_network(path):
    options, tensors = golden.read_case(path)
    assert options["expected"], "nothing to compare"
    assert verify.misfits(options, tensors, fill) == []


# -- the whole inference ---------------------------------------------------------------------------------

CONFIGURED = ("neighbor_length", "ref_stride", "subvideo_length", "raft_iter")


def command_line(words: list) -> dict:
    """The options of the public script."""
    options = {"mask_dilation": 4, "resize_ratio": 1.0, "width": -1, "height": -1}
    for flag, value in zip(words[::2], words[1::2]):
        name = flag.removeprefix("--")
        assert name in (*options, *CONFIGURED), f"the option {flag} is not understood"
        options[name] = value
    assert len(words) % 2 == 0, f"options without a value: {words}"
    return options


@cache
def run(path):
    """A pipeline case: what it says, and everything that came of it."""
    options, tensors = golden.read_case(path)
    known = {"networks", "seeds", "gains", "args", "reference_run", "size_hw", "masks_updated_left_share"}
    assert not set(options) - verify.DESCRIPTIVE - known
    assert options["networks"] == NETWORK_PARTS
    given = command_line(options["args"])
    model = ProPainterModel(ProPainterConfig(**{k: v for k, v in given.items() if k in CONFIGURED}))
    filled = {
        part: verify.fill_network(model, part, options["seeds"][part], options["gains"][part], fill)
        for part in options["seeds"]
    }
    assert set(filled) == set(verify.FILES)
    for check in options.get("weights_check", ()):
        verify.check_weights(check, filled)

    frames = tensors["frames"].numpy()
    size = frames.shape[1:3]
    masks = verify.bits(tensors["masks_bits"], size[1]).numpy() > 0
    if given["width"] != -1 and given["height"] != -1:
        size = given["height"], given["width"]
    if given["resize_ratio"] != 1:
        size = tuple(int(given["resize_ratio"] * n) for n in size)
    small = process_size(*size)
    inputs = ProPainterVideoProcessor(mask_dilation=given["mask_dilation"])(
        [resize(frame, small) for frame in frames],
        masks=[resize_mask(mask, small) for mask in masks],
        return_tensors="pt",
    )
    seen = {}
    clip = TensorClip(*inputs.values())
    painted = list(model.paint(clip, watch=lambda name, i, value: seen.__setitem__((name, i), value.clone())))
    with torch.inference_mode():
        for k in range(len(painted) - 1):
            # What is not asked for is not made; no frame near has a hole then, and completion changes nothing.
            if ("flow", k) not in seen:
                pair = inputs["pixel_values_videos"][0, k : k + 2] * 2 - 1
                both = torch.cat(model.optical_flow_model(pair, model.config.raft_iter))
                seen["flow", k] = seen["completed", k] = both
            seen.setdefault(("completed", k), seen["flow", k])
    plan = windows(
        len(painted), model.config.neighbor_length, model.config.ref_stride, model.config.subvideo_length
    )
    holed = inputs["masks_dilated"][0].flatten(1).any(1)
    return SimpleNamespace(
        options=options,
        tensors=tensors,
        inputs=inputs,
        seen=seen,
        painted=np.stack(painted),
        size=size,
        holed=[[n for n, i in enumerate(window.neighbours) if holed[i]] for window in plan],
    )


def pipeline_value(name, numbers, done):
    """The value that a pipeline case calls `name`, computed."""
    inputs, seen, painted, size = done.inputs, done.seen, done.painted, done.size
    holes = inputs["masks_dilated"][0, :, 0] > 0
    count = len(holes)
    if name in ("gt_flows_f", "gt_flows_b", "pred_flows_f", "pred_flows_b"):
        stage = "flow" if name.startswith("gt") else "completed"
        both = torch.stack([seen[stage, k] for k in range(count - 1)], 1)
        return verify.every(both["fb".index(name[-1])][None], numbers)
    filled = [
        seen.get(
            ("filled", i),
            torch.cat((inputs["pixel_values_videos"][0, i] * 2 - 1, torch.zeros_like(hole[None]))),
        )
        for i, hole in enumerate(inputs["masks_dilated"][0, :, 0])
    ]
    if name == "updated_masks_bits":
        return torch.stack(filled)[None, :, 3:]
    if name == "updated_frames_in_mask":
        return torch.stack(filled)[:, :3].permute(0, 2, 3, 1)[holes]
    if name == "result_frames_in_mask":
        return torch.from_numpy(painted)[holes]
    if name == "result_frames":
        bigger = [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC) for frame in painted]
        return torch.from_numpy(np.stack(bigger))
    raise AssertionError(f"the value {name!r} is not understood")


@pytest.mark.parametrize("path", PIPELINES, ids=named)
def test_pipeline_values(path):
    done = run(path)
    width = done.inputs["masks_dilated"].shape[-1]
    wrong = []
    for name, about in done.options["expected"].items():
        base, numbers = verify.parts(name)
        expected = verify.expected_value(name, done.tensors, width)
        if base.startswith("window_"):
            number = int(base.removeprefix("window_"))
            wanted = done.holed[number]  # frames without a hole are not decoded
            if not wanted:
                continue
            result, expected = verify.every(done.seen["window", number], numbers), expected[wanted]
        else:
            result = pipeline_value(base, numbers, done)
        misfit = verify.misfit(result, expected, about["tolerance"])
        if misfit:
            wrong.append(f"{name}: {misfit}")
    assert wrong == []


@pytest.mark.parametrize("path", PIPELINES, ids=named)
def test_pipeline_masks_and_frames_exactly(path):
    """What holds no arithmetic: dilated masks, resized frames, and every pixel outside the holes."""
    done = run(path)
    options, tensors, inputs, painted, size = done.options, done.tensors, done.inputs, done.painted, done.size
    frames = (inputs["pixel_values_videos"][0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    width = frames.shape[2]
    for recorded, name in (("flow_masks_bits", "flow_masks"), ("masks_dilated_bits", "masks_dilated")):
        if recorded in tensors:
            assert torch.equal(verify.bits(tensors[recorded], width), inputs[name])
    if "frames_resized_first2" in tensors:
        assert torch.equal(frames[:2], tensors["frames_resized_first2"])
    known = inputs["masks_dilated"][0, :, 0] == 0
    assert torch.equal(torch.from_numpy(painted)[known], frames[known])
    if "masks_updated_left_share" in options:
        left = torch.stack([value[3:] for (name, _), value in done.seen.items() if name == "filled"])
        share = left.sum() / inputs["masks_dilated"].sum()
        assert share.item() == pytest.approx(options["masks_updated_left_share"], abs=1e-3)
    every4th = tensors.get("result_frames_for_video_every4th")
    if every4th is not None:
        bigger = np.stack([cv2.resize(frame, size[::-1]) for frame in painted[::4]])
        tolerance = {"max_levels": 2, "share_over_0": 0.005}
        assert verify.misfit(torch.from_numpy(bigger), every4th, tolerance) is None


@pytest.mark.parametrize("path", PIPELINES[:1], ids=named)
def test_the_public_call_gives_the_same(path):
    """`outputs["reconstruction"][0]`, on as many frames as make one window."""
    options, inputs = run(path).options, run(path).inputs
    model = ProPainterModel(ProPainterConfig(raft_iter=1))
    for part in options["seeds"]:
        verify.fill_network(model, part, options["seeds"][part], options["gains"][part], fill)
    few = {name: value[:, :3] for name, value in inputs.items()}
    outputs = model(**few)
    assert len(outputs["reconstruction"]) == 1
    painted = list(model.paint(TensorClip(*few.values())))
    assert all(np.array_equal(*pair) for pair in zip(outputs["reconstruction"][0], painted, strict=True))


# -- preparation -----------------------------------------------------------------------------------------


def check_preprocess(options, tensors):
    known = {"sizes", "window_tables", "trimmed", "tensors"}
    assert not set(options) - known
    sizes = options["sizes"]
    masks = tensors["masks"].numpy() > 0
    frames = tensors["frames"].numpy()
    seen = {"masks", "frames"}

    def same(name, result):
        seen.add(name)
        assert np.array_equal(np.stack(result), tensors[name].numpy()), name

    for rounds in sizes["dilations"]:
        same(f"dilated_{rounds}", [dilate(mask, rounds) * np.uint8(255) for mask in masks])
    smaller = [resize_mask(mask, sizes["mask_resize_wh"][::-1]) for mask in masks]
    for name in tensors:
        if name.startswith("resized_"):
            same(name, [dilate(mask, int(name.rsplit("_", 1)[1])) * np.uint8(255) for mask in smaller])
    for name, wanted in (("frames_to_multiple_of_8", ""), ("frames_to_requested", "requested_")):
        width, height = sizes[f"{wanted or 'input_'}wh"]
        process = process_size(height, width)
        assert list(process[::-1]) == sizes[f"{wanted}process_wh"]
        same(name, [resize(frame, process) for frame in frames])
    assert seen == set(tensors)
    for table in options["window_tables"]:
        assert set(table) == {
            "video_length",
            "neighbor_length",
            "ref_stride",
            "subvideo_length",
            "ref_num",
            "windows",
        }
        found = list(
            windows(
                table["video_length"], table["neighbor_length"], table["ref_stride"], table["subvideo_length"]
            )
        )
        step = table["neighbor_length"] // 2
        expected = [(w["neighbours"], w["references"]) for w in table["windows"]]
        assert [w["f"] for w in table["windows"]] == [step * i for i in range(len(found))]
        assert [(w.neighbours, w.references) for w in found] == expected


def check_outpaint(options, tensors):
    assert not set(options) - {"scales", "note", "trimmed", "tensors"}
    frame = tensors["frames"][0].numpy()
    for number, about in options["scales"].items():
        assert set(about) == {"scale_h_w", "size_wh", "masks_returned"}
        scale = tuple(about["scale_h_w"])
        canvas = Canvas(frame.shape[:2], scale)
        assert list(canvas.size[::-1]) == about["size_wh"]
        inputs = ProPainterVideoProcessor()(
            [Image.fromarray(frame)] * 2,
            video_painting_mode="video_outpainting",
            scale_hw=scale,
            return_tensors="np",
        )
        frames = np.rint(inputs["pixel_values_videos"][0] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        assert np.array_equal(frames[:1], tensors[f"frames_{number}"].numpy())
        for name, recorded in (("flow_masks", "flow_mask"), ("masks_dilated", "mask")):
            expected = tensors[f"{recorded}_{number}"].numpy()
            for i in range(2):
                assert np.array_equal(inputs[name][0, i, 0] * 255, expected)


@pytest.mark.parametrize("path", OTHERS, ids=named)
def test_preparation(path):
    checks = {"preprocess": check_preprocess, "outpaint": check_outpaint}
    kind = next((kind for kind in checks if path.stem.startswith(kind)), None)
    assert kind, f"the case {path.name} is not understood"
    checks[kind](*golden.read_case(path))


# -- manifests -------------------------------------------------------------------------------------------


def released(name: str) -> dict:
    """What is known of the released files: from the set that is run or, where it says nothing, from our own."""
    folders = [folder for folder in (FOLDER, golden.OWN / "propainter") if folder is not None]
    return next(golden.read_json(folder / name) for folder in folders if (folder / name).is_file())


def test_every_released_key_and_shape():
    manifest = released("manifest.json")
    assert set(manifest) == set(RELEASED)
    state = ProPainterModel(ProPainterConfig()).state_dict()
    for file, about in manifest.items():
        assert len(about["keys"]) == about["num_keys"]
        for key, entry in about["keys"].items():
            value = state.pop(model_name(file, key))
            assert list(value.shape) == entry["shape"] and str(value.dtype) == f"torch.{entry['dtype']}", key
    assert not state, f"the model has {sorted(state)[0]}, no released file has"


def test_hugging_face_names_and_back():
    names = released("names_hf.json")["names"]
    for file, keys in names.items():
        for key, name in keys.items():
            assert model_name(file, key) == name
            assert released_key(name) == (file, key)
    assert len(set(itertools.chain(*(keys.values() for keys in names.values())))) == sum(
        map(len, names.values())
    )
