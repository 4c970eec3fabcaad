"""E2FGVI against the recorded numbers of the public reference (issue 6, proof).

Driven by the data: every case of the folder is run from what its JSON file says, and a case, an option or a
value that is not understood fails.
"""

import re
from functools import cache
from types import SimpleNamespace

import golden
import numpy as np
import pytest
import torch
from clips import ArrayClip

from videopainter.e2fgvi.configuration import E2FGVIConfig
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.schedule import windows
from videopainter.e2fgvi.streaming import Settings, mirror, paint
from videopainter.e2fgvi.weights import RELEASED
from videopainter.ops.pictures import dilate, resize, resize_mask
from videopainter.propainter.verify import bits, check_weights, misfit

VARIANTS = {"e2fgvi": "base", "e2fgvi_hq": "hq"}  # the names of the data
SPYNET = "SPyNet (update_spynet of the generator)"
DESCRIPTIVE = {"expected", "tensors", "trimmed", "source_clip", "note", "weights_check", "reference_run"}


def own_folder():
    """The folder of E2FGVI, or the set itself if it is E2FGVI's; None if it holds other systems only."""
    own = golden.root() / "e2fgvi"
    if own.is_dir():
        return own
    about = [golden.read_json(path.with_suffix(".json")) for path in golden.cases(golden.root())]
    ours = any(a.get("network") in (*VARIANTS, SPYNET) for a in about)
    return golden.root() if ours or (golden.root() / "spynet.json").is_file() else None


FOLDER = own_folder()
CASES = golden.cases(FOLDER)


def kind_of(path) -> str:
    options = golden.read_json(path.with_suffix(".json"))
    if "args" in options:
        return "pipeline"
    return "network" if "network" in options else "preparation"


def cases(kind: str):
    return pytest.mark.parametrize(
        "path", [path for path in CASES if kind_of(path) == kind], ids=lambda p: p.stem
    )


def model_of(options) -> E2FGVIModel:
    """The released network with the weights that the case says."""
    network = "e2fgvi_hq" if options["network"] == SPYNET else options["network"]
    assert network in VARIANTS, f"the network {network!r} is not understood"
    model = E2FGVIModel(E2FGVIConfig(variant=VARIANTS[network]))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    filled = golden.module("fill_flow").fill_network_state(shapes, options["seed"], options["gains"])
    model.load_state_dict(filled, strict=False)
    for check in options.get("weights_check", ()):
        check_weights(check, {network: filled})
    return model


def numbers_of(name: str) -> tuple[str, dict[str, int]]:
    """``"output_s4x6"`` -> (``"output"``, ``{"rows": 4, "columns": 6}``)."""
    words, numbers = [], {}
    for word in name.split("_"):
        if found := re.fullmatch(r"s(\d+)(?:x(\d+))?", word):
            numbers |= {"rows": int(found[1]), "columns": int(found[2] or found[1])}
        elif found := re.fullmatch(r"(ch|frame|block)(\d+)", word):
            numbers[found[1]] = int(found[2])
        else:
            words.append(word)
    return "_".join(words), numbers


def sampled(value, numbers):
    """Rows, columns and channels as `_sN`, `_sNxM` and `_chN` ask for; channels are third from the end."""
    return value[..., :: numbers.get("ch", 1), :: numbers.get("rows", 1), :: numbers.get("columns", 1)]


def wrong_values(options, tensors, compute) -> list[str]:
    assert options["expected"], "nothing to compare"
    found = []
    for name, about in options["expected"].items():
        wrong = misfit(*compute(name, tensors[name]), about["tolerance"])
        if wrong:
            found.append(f"{name}: {wrong}")
    return found


def as_values(frames) -> torch.Tensor:
    """uint8 ``(t, h, w, 3)`` to float32 ``(t, 3, h, w)`` in 0..1."""
    return frames.permute(0, 3, 1, 2) / 255


# -- networks --------------------------------------------------------------------------------------------


def flow_values(model, options, tensors):
    assert not set(options) - DESCRIPTIVE - {"network", "seed", "gains"}
    assert set(tensors) == {
        f"{kind}_{name[5:]}" for name in options["expected"] for kind in ("frames", "flow")
    }

    def compute(name, expected):
        frames = as_values(tensors[name.replace("flow", "frames")])
        return model.update_spynet(frames[:-1], frames[1:]), expected

    return compute


def painter_values(model, options, tensors):
    known = {"network", "seed", "gains", "num_local_frames", "input", "output_stride_hw"}
    assert not set(options) - DESCRIPTIVE - known
    assert options["input"] == "frames * (1 - masks)", options["input"]
    local = options["num_local_frames"]
    values = as_values(tensors["frames"])
    frames = (values * 2 - 1) * (1 - bits(tensors["masks_bits"], values.shape[-1])[:, None])
    outputs = {}
    modules = {"encoder": model.encoder, "propagated": model.feat_prop_module, "tokens": model.ss}
    modules |= {f"block{i}": block for i, block in enumerate(model.transformer)}
    for part, module in modules.items():
        module.register_forward_hook(lambda m, args, out, part=part: outputs.setdefault(part, []).append(out))
    painted, forward, backward = model(frames, local)
    outputs = {part: torch.cat(values) for part, values in outputs.items()}

    def compute(name, expected):
        base, numbers = numbers_of(name)
        frame = numbers.get("frame", 0)
        if base in ("flow_forward", "flow_backward"):
            value = (forward if base == "flow_forward" else backward)[None]
        elif base == "encoder":
            value = outputs["encoder"][frame : frame + 1]
        elif base == "propagated_midframe":
            value = outputs["propagated"][local // 2][None]
        elif base == "tokens" or (base == "" and "block" in numbers):
            part = f"block{numbers['block']}" if "block" in numbers else "tokens"
            return outputs[part][frame : frame + 1, ..., :: numbers.get("ch", 1)], expected
        elif base == "output":
            value = painted
            height, width = options["output_stride_hw"]
            if numbers == {}:
                numbers = {"rows": height, "columns": width}
        else:
            raise AssertionError(f"the value {name!r} is not understood")
        return sampled(value, numbers), expected

    return compute


@cases("network")
def test_network(path):
    options, tensors = golden.read_case(path)
    model = model_of(options)
    make = flow_values if options["network"] == SPYNET else painter_values
    with torch.inference_mode():
        assert wrong_values(options, tensors, make(model, options, tensors)) == []


# -- the whole test procedure ----------------------------------------------------------------------------

# The published script's options, and what they are called here.
ARGUMENTS = {"--step": "ref_stride", "--num_ref": "num_ref", "--neighbor_stride": "neighbor_stride"}


def command_line(words: list) -> tuple[dict, tuple[int, int] | None]:
    """The options of the published script: what `windows` takes, and the size (height, width) if one is set."""
    options, size, words = {"num_ref": -1, "ref_stride": 10, "neighbor_stride": 5}, {}, list(words)
    set_size = "--set_size" in words
    if set_size:
        words.remove("--set_size")
    assert len(words) % 2 == 0, f"options without a value: {words}"
    for flag, value in zip(words[::2], words[1::2]):
        if flag in ("--width", "--height"):
            size[flag] = int(value)
        else:
            assert flag in ARGUMENTS, f"the option {flag} is not understood"
            options[ARGUMENTS[flag]] = int(value)
    return options, (size["--height"], size["--width"]) if set_size else None


def test_every_option_of_the_published_script():
    assert command_line([]) == ({"num_ref": -1, "ref_stride": 10, "neighbor_stride": 5}, None)
    words = ["--set_size", "--width", 216, "--height", "120", "--num_ref", 4]
    assert command_line(words) == ({"num_ref": 4, "ref_stride": 10, "neighbor_stride": 5}, (120, 216))
    with pytest.raises(AssertionError, match="--magic is not understood"):
        command_line(["--magic", 1])


@cache
def run(path):
    """A pipeline case: what it says, and everything that came of it."""
    options, tensors = golden.read_case(path)
    assert not set(options) - DESCRIPTIVE - {"network", "seed", "gains", "args"}
    given, size = command_line(options["args"])
    model = model_of(options)
    frames = tensors["frames"].numpy()
    size = (240, 432) if model.config.variant == "base" else size or frames.shape[1:3]
    masks = bits(tensors["masks_bits"], frames.shape[2]).numpy() > 0
    holes = np.stack([dilate(resize_mask(mask, size), 4) for mask in masks])
    frames = np.stack([resize(frame, size) for frame in frames])
    seen = {}
    painted = list(
        paint(
            model,
            ArrayClip(frames, holes),
            Settings(**given),
            lambda name, i, value: seen.__setitem__((name, i), value.clone()),
        )
    )
    plan = list(windows(len(frames), **given))
    return SimpleNamespace(
        options=options, tensors=tensors, frames=frames, holes=holes, seen=seen, painted=np.stack(painted),
        plan=plan,
    )  # fmt: skip


@cases("pipeline")
def test_pipeline(path):
    done = run(path)
    compared = set()

    def compute(name, expected):
        base, numbers = numbers_of(name)
        if base.startswith("window_"):
            number = int(base.removeprefix("window_"))
            near = done.plan[number].neighbours
            assert len(expected) == len(near) + len(done.plan[number].references)
            # Only frames with a hole are decoded.
            wanted = [n for n, i in enumerate(near) if done.holes[i].any()]
            compared.add(number)
            if not wanted:
                assert ("window", number) not in done.seen
                return expected, expected
            return sampled(done.seen["window", number], numbers), expected[wanted]
        if base == "result_frames_in_mask":
            return torch.from_numpy(done.painted[done.holes]), expected
        raise AssertionError(f"the value {name!r} is not understood")

    assert wrong_values(done.options, done.tensors, compute) == []
    assert compared == set(range(len(done.plan)))


@cases("pipeline")
def test_pipeline_masks_and_frames_exactly(path):
    """What holds no arithmetic: dilated masks, and every pixel outside the holes."""
    done = run(path)
    width = done.frames.shape[2]
    if "masks_dilated_bits" in done.tensors:
        expected = bits(done.tensors["masks_dilated_bits"], width).numpy() > 0
        assert np.array_equal(done.holes, expected)
    assert np.array_equal(done.painted[~done.holes], done.frames[~done.holes])
    inputs = {"frames", "masks_bits", "masks_dilated_bits"}
    assert set(done.tensors) - inputs == set(done.options["expected"])
    shapes = done.options.get("reference_run", {}).get("network_input_shapes", [])
    for shape, window in zip(shapes, done.plan):
        assert shape[1] == len(window.neighbours) + len(window.references)
        assert tuple(shape[3:]) == E2FGVIConfig().network_size(*done.frames.shape[1:3])


@cases("pipeline")
def test_nothing_is_computed_twice(path):
    done = run(path)
    frames = {i for window in done.plan for i in (*window.neighbours, *window.references)}
    assert sum(name == "encoded" for name, _ in done.seen) == len(frames)


# -- preparation -----------------------------------------------------------------------------------------


def check_preprocess(options, tensors):
    assert not set(options) - {"window_tables", "padding", "trimmed", "tensors"}
    seen = {"mirror_pad_input", "frames", "masks", "mirror_pad_output"}
    pad, padded = (tensors[f"mirror_pad_{end}"] for end in ("input", "output"))
    rows, columns = (mirror(n, m) for n, m in zip(pad.shape[-2:], padded.shape[-2:]))
    assert torch.equal(pad[..., rows, :][..., columns], padded)
    for name, recorded in tensors.items():
        height, width = recorded.shape[1:3]
        if name.startswith("frames_"):
            result = [resize(frame, (height, width)) for frame in tensors["frames"].numpy()]
        elif name.startswith("masks_dilated_"):
            masks = tensors["masks"].numpy() > 0
            result = [dilate(resize_mask(mask, (height, width)), 4) * np.uint8(255) for mask in masks]
        else:
            assert name in seen, f"the tensor {name!r} is not understood"
            continue
        expected = recorded.numpy()
        if name.startswith("masks") and expected.max() == 1:
            expected = expected * np.uint8(255)
        assert np.array_equal(np.stack(result), expected), name
    for size, expected in options["padding"].items():
        width, height = map(int, size.split("x"))
        assert E2FGVIConfig().network_size(height, width) == tuple(reversed(expected)), size
    for table in options["window_tables"]:
        known = {"video_length", "step", "num_ref", "neighbor_stride", "out_of_range_references", "windows"}
        assert set(table) == known
        length, stride = table["video_length"], table["neighbor_stride"]
        found = [
            (w.neighbours, w.references) for w in windows(length, stride, table["step"], table["num_ref"])
        ]
        # The public script would stop at references past the end; here there are none.
        expected = [
            (w["neighbours"], [i for i in w["references"] if i not in table["out_of_range_references"]])
            for w in table["windows"]
        ]
        assert all(i >= length for i in table["out_of_range_references"])
        assert [w["f"] for w in table["windows"]] == [stride * k for k in range(len(found))]
        assert found == expected


@cases("preparation")
def test_preparation(path):
    assert path.stem.startswith("preprocess"), f"the case {path.name} is not understood"
    check_preprocess(*golden.read_case(path))


# -- manifests -------------------------------------------------------------------------------------------


def test_every_released_key_and_shape():
    folders = [folder for folder in (FOLDER, golden.OWN / "e2fgvi") if folder is not None]
    manifest = next(golden.read_json(f / "manifest.json") for f in folders if (f / "manifest.json").is_file())
    assert set(manifest) == set(RELEASED.values())
    for variant, file in RELEASED.items():
        about = manifest[file]
        model = E2FGVIModel(E2FGVIConfig(variant=variant))
        state = model.state_dict()
        assert set(about["keys"]) == set(state) and len(state) == about["num_keys"]
        parameters = dict(model.named_parameters())
        for key, entry in about["keys"].items():
            value = state[key]
            assert list(value.shape) == entry["shape"] and str(value.dtype) == f"torch.{entry['dtype']}", key
            assert (key in parameters) == (entry["kind"] == "parameter"), key
        assert sum(p.numel() for p in parameters.values()) == about["num_parameters"]
