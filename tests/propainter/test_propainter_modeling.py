"""transformers' own habits for a model: saving, loading, casts, outputs, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from clips import random_clip
from safetensors.torch import load_file, save_file
from small_propainter import as_inputs, tiny_config

from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.modeling import (
    ProPainterForImageInPainting,
    ProPainterForImageOutPainting,
    ProPainterModel,
    ProPainterOutput,
)
from videopainter.propainter.names import RELEASED
from videopainter.propainter.video_processing import ProPainterImageProcessor


@pytest.fixture(scope="module")
def inputs():
    return as_inputs(*random_clip(4, 32, 40))


@pytest.fixture(scope="module")
def frames(model, inputs):
    return model(**inputs)["reconstruction"][0]


def same(one, other) -> bool:
    return len(one) == len(other) and all(np.array_equal(*pair) for pair in zip(one, other))


def weights_of(folder) -> dict:
    return load_file(folder / "model.safetensors")


def saved_with(folder, tmp_path, state):
    """The folder with other weights."""
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


# -- configuration ---------------------------------------------------------------------------------------


def test_configuration_round_trip(tmp_path):
    config = tiny_config(subvideo_length=33)
    config.save_pretrained(tmp_path)
    again = ProPainterConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict() and again.subvideo_length == 33
    assert json.loads(config.to_json_string())["model_type"] == "propainter"


def test_a_configuration_of_the_port_is_understood():
    """Its file also holds settings of training and constants of the architecture."""
    config = ProPainterConfig(gan_loss="hinge", use_discriminator=True, norm_fn=["batch"], window_size=[5, 9])
    assert config.gan_loss == "hinge" and config.window_size == [5, 9]


@pytest.mark.parametrize("name, value", [("neighbor_length", 1), ("raft_iter", 0), ("ref_stride", "10")])
def test_configurations_that_cannot_paint(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of . or more, not {value!r}"):
        ProPainterConfig(**{name: value})


# -- saving and loading ----------------------------------------------------------------------------------


def test_saving_and_loading_changes_nothing(model, folder, inputs, frames):
    again = ProPainterModel.from_pretrained(folder)
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert same(again(**inputs)["reconstruction"][0], frames)
    assert set(weights_of(folder)) == set(model.state_dict())  # every name is in the file, twins too
    assert {name.split(".")[0] + "." for name in model.state_dict()} == {
        part for _, part, _ in RELEASED.values()
    }


def test_fresh_weights_are_a_function_of_the_seed():
    torch.manual_seed(5)
    one = ProPainterModel(tiny_config())
    torch.manual_seed(5)
    other = ProPainterModel(tiny_config())
    assert all(torch.equal(*pair) for pair in zip(one.state_dict().values(), other.state_dict().values()))
    assert not one.training
    assert all(value.isfinite().all() for value in one.state_dict().values())


def test_a_file_with_one_name_of_the_layer_that_is_stored_twice(model, folder, tmp_path, inputs, frames):
    state = {name: value for name, value in weights_of(folder).items() if ".downsample.1." not in name}
    assert len(state) < len(model.state_dict())
    again = ProPainterModel.from_pretrained(saved_with(folder, tmp_path, state))
    assert same(again(**inputs)["reconstruction"][0], frames)


def test_the_discriminator_of_a_published_file_is_left_aside(folder, tmp_path):
    state = weights_of(folder) | {"discriminator.conv.0.weight_orig": torch.zeros(3)}
    ProPainterModel.from_pretrained(saved_with(folder, tmp_path, state))


NAME = "inpaint_generator.decoder.6.bias"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop(NAME), f"1 missing .such as {NAME}"),
        (lambda state: state.update(extra=torch.zeros(2)), "1 unknown .such as extra"),
        (lambda state: state.update({NAME: torch.zeros(4)}), f"1 of another shape .such as {NAME}"),
        (lambda state: state.clear() or state.update(a=torch.zeros(1)), "missing.*1 unknown .such as a"),
    ],
    ids=["missing", "extra", "misshapen", "other"],
)
def test_weights_that_do_not_fit(folder, tmp_path, change, words):
    state = weights_of(folder)
    change(state)
    with pytest.raises(ValueError, match=f"are not those of ProPainter: .*{words}"):
        ProPainterModel.from_pretrained(saved_with(folder, tmp_path, state))


def test_weights_that_are_no_numbers(folder, tmp_path):
    state = weights_of(folder)
    state[NAME][0] = float("nan")
    with pytest.raises(ValueError, match=f"'{NAME}' holds values that are no numbers"):
        ProPainterModel.from_pretrained(saved_with(folder, tmp_path, state))


@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_a_file_that_is_cut_off(folder, tmp_path, keep):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged, cut off or not a safetensors file"):
        ProPainterModel.from_pretrained(tmp_path)


# -- precision and device --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_flow_in_float32(folder, dtype, inputs, frames):
    half = ProPainterModel.from_pretrained(folder, dtype=dtype)
    assert half.networks.dtype == dtype
    assert {p.dtype for p in half.optical_flow_model.parameters()} == {torch.float32}
    assert {p.dtype for p in half.flow_completion_net.parameters()} == {dtype}
    painted = half(**inputs)["reconstruction"][0]
    limit = 2 if dtype == torch.float16 else 24
    holes = inputs["masks_dilated"][0, :, 0].numpy() > 0
    difference = np.abs(np.stack(painted)[holes].astype(int) - np.stack(frames)[holes])
    assert np.percentile(difference, 95) <= limit
    assert np.array_equal(np.stack(painted)[~holes], np.stack(frames)[~holes])


def test_casting_the_whole_model_still_works(folder, inputs, frames):
    half = ProPainterModel.from_pretrained(folder).half()
    painted = half(**{name: value.half() for name, value in inputs.items()})["reconstruction"][0]
    holes = inputs["masks_dilated"][0, :, 0].numpy() > 0
    assert np.percentile(np.abs(np.stack(painted)[holes].astype(int) - np.stack(frames)[holes]), 90) <= 8


def test_float64_agrees_with_float32(folder, inputs, frames):
    double = ProPainterModel.from_pretrained(folder).double()
    painted = double(**inputs)["reconstruction"][0]
    difference = np.abs(np.stack(painted).astype(int) - np.stack(frames))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_device_argument(folder):
    assert ProPainterModel.from_pretrained(folder).to("cpu").networks.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(folder, inputs, frames):
    there = ProPainterModel.from_pretrained(folder, dtype=torch.float16).to("cuda")
    painted = there(**{name: value.to("cuda") for name, value in inputs.items()})["reconstruction"][0]
    holes = inputs["masks_dilated"][0, :, 0].numpy() > 0
    assert np.percentile(np.abs(np.stack(painted)[holes].astype(int) - np.stack(frames)[holes]), 95) <= 3


# -- outputs ---------------------------------------------------------------------------------------------


def test_dictionary_and_tuple(model, inputs, frames):
    outputs = model(**inputs)
    assert isinstance(outputs, ProPainterOutput)
    assert list(outputs.keys()) == ["reconstruction"] and outputs[0] is outputs.reconstruction
    frame = outputs["reconstruction"][0][0]
    assert isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape == (32, 40, 3)
    as_tuple = model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple) and same(as_tuple[0][0], frames)


def test_twice_the_same(model, inputs, frames):
    assert same(model(**inputs)["reconstruction"][0], frames)


def test_frames_are_not_views_of_each_other(model, inputs):
    painted = model(**inputs)["reconstruction"][0]
    painted[0][:] = 7
    assert not (painted[1] == 7).all()


# -- what is refused -------------------------------------------------------------------------------------


def changed(inputs, **changes):
    return {**inputs, **changes}


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda i: {n: v.expand(2, *v.shape[1:]) for n, v in i.items()},
            "one video at a time, not a batch of 2",
        ),
        (
            lambda i: changed(i, pixel_values_videos=i["pixel_values_videos"][0]),
            r"\(1, frames, 3, height, width\)",
        ),
        (lambda i: changed(i, masks_dilated=i["masks_dilated"][:, :3]), "do not fit frames of"),
        (lambda i: changed(i, flow_masks=i["flow_masks"][..., :-1]), "do not fit frames of"),
        (lambda i: changed(i, pixel_values_videos=i["pixel_values_videos"] * 255), r"must lie in 0\.\.1"),
        (lambda i: changed(i, pixel_values_videos=i["pixel_values_videos"] * np.nan), r"must lie in 0\.\.1"),
        (
            lambda i: changed(i, pixel_values_videos=(i["pixel_values_videos"] * 255).byte()),
            "not torch.uint8",
        ),
        (lambda i: {n: v[:, :0] for n, v in i.items()}, "has no frames"),
        (lambda i: changed(i, masks_dilated=i["masks_dilated"].numpy()), "must be a tensor, not ndarray"),
    ],
)
def test_inputs_that_do_not_fit(model, inputs, change, words):
    with pytest.raises(ValueError, match=words):
        model(**change(inputs))


def test_it_does_not_train(inputs):
    with pytest.raises(ValueError, match="inference only"):
        ProPainterModel(tiny_config()).train()(**inputs)


# -- the earlier port's names ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProPainterForImageInPainting, ProPainterForImageOutPainting])
def test_the_earlier_port(kind, folder, model):
    frames, masks = random_clip(3, 32, 40)
    outpaint = kind is ProPainterForImageOutPainting
    options = {"video_painting_mode": "video_outpainting", "scale_hw": (1.0, 1.5)} if outpaint else {}
    given = ProPainterImageProcessor(mask_dilation=1).preprocess(list(frames), list(masks), **options)
    assert given["frames"].min() >= -1 and given["frames"].min() < -0.5
    other = kind.from_pretrained(folder)
    painted = other(**given).reconstructed_frames
    assert painted[0].shape == ((32, 56, 3) if outpaint else (32, 40, 3))  # 60 pixels, rounded down
    plain = {"pixel_values_videos": (given["frames"] + 1) / 2}
    plain |= {name: given[name] for name in ("flow_masks", "masks_dilated")}
    assert same(painted, model(**plain)["reconstruction"][0])
    given.pop("frames_inp")
    assert same(other(**given, return_dict=False)[0], painted)


# -- torch.compile ---------------------------------------------------------------------------------------


def test_networks_compile_without_breaks(model):
    """Traced whole, with the back end that only checks the graph."""
    torch.manual_seed(0)
    frames = torch.rand(3, 3, 128, 128) * 2 - 1
    flows, masks = torch.rand(2, 2, 32, 40), (torch.rand(2, 1, 32, 40) > 0.5).float()
    features, small = torch.rand(3, 16, 8, 10), torch.rand(2, 2, 8, 10)
    tokens = torch.rand(3, 3, 4, 16)
    block = model.inpaint_generator.transformers.transformer[0]
    windows = torch.tensor([], dtype=torch.long), torch.tensor([0])  # without a hole, and with one
    cases = [
        (model.optical_flow_model, (frames, 1)),
        (model.flow_completion_net, (flows, masks)),
        (
            model.inpaint_generator.feature_propagation_module,
            (features, small, small, torch.rand(3, 2, 8, 10)),
        ),
        (block.mlp, (tokens, (8, 10))),
    ]
    with torch.no_grad():
        for network, given in cases:
            compiled = torch.compile(network, backend="eager", fullgraph=True)
            torch.testing.assert_close(compiled(*given), network(*given))
        # Which windows have a hole is only known when it runs: here a break is allowed.
        compiled = torch.compile(block, backend="eager")
        given = tokens, (8, 10), windows, torch.arange(0, 3, 2)
        torch.testing.assert_close(compiled(*given), block(*given))
