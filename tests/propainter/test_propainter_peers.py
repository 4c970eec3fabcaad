"""What transformers' own suites ask of a model and of a processor, asked of ProPainter."""

import copy

import numpy as np
import pytest
import torch
from small_propainter import as_inputs, tiny_config
from transformers import AutoConfig, AutoModel, AutoProcessor

from videopainter.propainter import (
    ProPainterConfig,
    ProPainterForImageInPainting,
    ProPainterImageProcessor,
    ProPainterModel,
    ProPainterVideoProcessor,
)


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 40, 64, 3), np.uint8)
    masks = np.zeros((4, 40, 64), bool)
    masks[:, 10:24, 20:40] = True
    return frames, masks


@pytest.fixture(scope="module")
def inputs(clip):
    return as_inputs(*clip)


# --- the model ------------------------------------------------------------------------------------------------


def test_state_dict_without_a_folder(model, inputs):
    state = copy.deepcopy(model.state_dict())
    again = ProPainterModel.from_pretrained(None, config=tiny_config(), state_dict=state)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())
    state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="weights in 'state_dict' are not those of ProPainter: 1 missing"):
        ProPainterModel.from_pretrained(None, config=tiny_config(), state_dict=state)


def test_nothing_is_loaded_on_the_meta_device(folder):
    with pytest.raises(RuntimeError, match="from_pretrained"), torch.device("meta"):
        ProPainterModel.from_pretrained(folder)


def test_names_under_model(model, tmp_path):
    """Checkpoints of the earlier port hold their tensors under "model."."""
    from safetensors.torch import save_file

    model.config.save_pretrained(tmp_path)
    state = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = ProPainterModel.from_pretrained(tmp_path)
    earlier = ProPainterForImageInPainting.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]) and torch.equal(
            tensor, earlier.state_dict()[name]
        )


def test_pickled_weights(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for choice in ({}, {"use_safetensors": None}, {"use_safetensors": False}):
        again = ProPainterModel.from_pretrained(tmp_path, **choice)
        assert torch.equal(next(again.parameters()), next(model.parameters()))
    with pytest.raises(OSError):
        ProPainterModel.from_pretrained(tmp_path, use_safetensors=True)


def test_hidden_states(model, inputs):
    plain = model(**inputs)
    output = model(**inputs, output_hidden_states=True)
    assert plain.hidden_states is None and np.array_equal(output.reconstruction, plain.reconstruction)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    assert {state.shape[-1] for state in output.hidden_states} == {model.config.hidden_size}
    assert len({state.shape for state in output.hidden_states}) == 1
    assert not torch.equal(output.hidden_states[0], output.hidden_states[1])
    as_tuple = model(**inputs, output_hidden_states=True, return_dict=False)
    assert all(map(torch.equal, as_tuple[1], output.hidden_states))
    assert not model.inpaint_generator.transformers.transformer[0]._forward_hooks
    told = ProPainterModel(tiny_config(output_hidden_states=True))
    told.load_state_dict(model.state_dict())
    assert all(map(torch.equal, told(**inputs).hidden_states, output.hidden_states))


def test_attentions_are_refused(model, inputs):
    with pytest.raises(ValueError, match="ProPainter gives no output_attentions"):
        model(**inputs, output_attentions=True)
    earlier = ProPainterForImageInPainting(tiny_config())
    values = inputs["pixel_values_videos"] * 2 - 1
    arguments = (values, inputs["flow_masks"], inputs["masks_dilated"])
    with pytest.raises(ValueError, match="output_attentions"):
        earlier(*arguments, output_attentions=True)
    output = earlier(*arguments, output_hidden_states=True)
    assert len(output.reconstructed_frames) == 4 and len(output.hidden_states) == 3


def test_auto_classes(model, folder, tmp_path):
    assert type(AutoConfig.from_pretrained(folder)) is ProPainterConfig
    assert type(AutoConfig.for_model("propainter")) is ProPainterConfig
    again = AutoModel.from_pretrained(folder)
    assert type(again) is ProPainterModel and type(AutoModel.from_config(tiny_config())) is ProPainterModel
    assert torch.equal(next(again.parameters()), next(model.parameters()))
    processor = ProPainterVideoProcessor(mask_dilation=7)
    model.config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    found = AutoProcessor.from_pretrained(tmp_path)
    assert type(found) is ProPainterVideoProcessor and found.mask_dilation == 7


# --- the processor --------------------------------------------------------------------------------------------


def test_every_argument_of_the_class_can_be_given_in_a_call(clip):
    import inspect

    frames, masks = clip
    given = inspect.signature(ProPainterVideoProcessor).parameters
    in_call = inspect.signature(ProPainterVideoProcessor.preprocess).parameters
    assert set(given) - {"kwargs"} <= set(in_call)
    plain = ProPainterVideoProcessor()(frames, masks, return_tensors="pt")
    same = ProPainterVideoProcessor()(
        images=frames,
        masks=masks,
        return_tensors="pt",
        do_normalize=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_center_crop=False,
        crop_size={"height": 8, "width": 8},
        data_format="channels_first",
        input_data_format="channels_last",
    )
    assert all(torch.equal(plain[name], same[name]) for name in plain)


def test_layouts(clip):
    frames, masks = clip
    processor = ProPainterVideoProcessor()
    plain = processor(frames, masks, return_tensors="np")["pixel_values_videos"]
    last = processor(frames, masks, return_tensors="np", data_format="channels_last")["pixel_values_videos"]
    assert last.shape == (1, 4, 40, 64, 3) and np.array_equal(last, np.moveaxis(plain, 2, -1))
    small = np.arange(2 * 3 * 16 * 3, dtype=np.uint8).reshape(
        2, 3, 16, 3
    )  # three rows: the shape says nothing
    for layout, shape in (("channels_first", (16, 3)), ("channels_last", (3, 16))):
        found = processor(
            small, np.ones((2, *shape)), return_tensors="np", input_data_format=layout, mask_dilation=0
        )
        assert found["pixel_values_videos"].shape == (1, 2, 3, *shape)
    for name in ("data_format", "input_data_format"):
        with pytest.raises(ValueError, match=f"{name} must be channels_first or channels_last"):
            processor(frames, masks, **{name: "middle"})


@pytest.mark.parametrize("size", [(20, 30), (60, 30), (41, 71)])
def test_center_crop_is_transformers(clip, size):
    from transformers.image_transforms import center_crop

    frames, masks = clip
    crop = {"do_center_crop": True, "crop_size": {"height": size[0], "width": size[1]}}
    found = ProPainterVideoProcessor(**crop)(frames, masks, return_tensors="np", mask_dilation=0)
    for i, (frame, mask) in enumerate(zip(frames, masks)):
        pixels = center_crop(frame, size, input_data_format="channels_last", data_format="channels_first")
        assert np.array_equal(np.rint(found["pixel_values_videos"][0, i] * 255), pixels)
        hole = center_crop(mask[..., None].astype(np.uint8), size, input_data_format="channels_last")
        assert np.array_equal(found["masks_dilated"][0, i, 0], hole[..., 0])
    with pytest.raises(ValueError, match="crop_size must have height and width"):
        ProPainterVideoProcessor()(frames, masks, do_center_crop=True, crop_size={"shortest_edge": 3})


def test_what_cannot_be_is_one_sentence(clip):
    frames, masks = clip
    for make in (lambda: ProPainterVideoProcessor(do_normalize=True), lambda: call(do_normalize=True)):
        with pytest.raises(ValueError, match="do_normalize=True is not possible"):
            make()
    with pytest.raises(ValueError, match="as videos, or as images"):
        call(images=frames)

    def nothing():
        return ProPainterVideoProcessor()(masks=masks)

    with pytest.raises(ValueError, match="as videos, or as images"):
        nothing()


def call(**arguments):
    frames, masks = np.zeros((1, 20, 20, 3), np.uint8), np.ones((1, 20, 20))
    return ProPainterVideoProcessor()(frames, masks, **arguments)


@pytest.mark.parametrize("kind", [ProPainterVideoProcessor, ProPainterImageProcessor])
def test_processors_are_saved_whole(kind, tmp_path):
    options = {
        "do_resize": True,
        "size": {"height": 24, "width": 32},
        "do_center_crop": True,
        "crop_size": 16,
    }
    processor = kind(**options, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict() and again.to_json_string() == processor.to_json_string()
    assert {name: getattr(again, name) for name in options} == options
