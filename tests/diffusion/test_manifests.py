"""Checkpoints: names and shapes of the released files, and what happens to those that are not whole."""

import json
import pickle
import shutil

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import CogVideoXTransformer3DModel, DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load, save_file

from videopainter.diffusion import (
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASSES = {"branch": VideoPainterBranchModel, "transformer": VideoPainterTransformer3DModel}


def shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def manifest(tiny):
    def read(name: str) -> dict:
        return json.loads((tiny.data / f"manifest_{name}.json").read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="module")
def real_transformer(manifest):
    with init_empty_weights(include_buffers=True), torch.device("meta"):
        return VideoPainterTransformer3DModel.from_config(manifest("transformer")["config"])


# --- real size ------------------------------------------------------------------------------------------------


def test_branch_has_the_names_and_shapes_of_the_release(manifest):
    with init_empty_weights(include_buffers=True), torch.device("meta"):
        branch = VideoPainterBranchModel.from_config(manifest("branch")["config"])
    assert shapes(branch) == manifest("branch")["shapes"]


def test_transformer_has_the_names_and_shapes_of_the_release(manifest, real_transformer):
    assert shapes(real_transformer) == manifest("transformer")["shapes"]


def test_id_adapter_of_the_release_fits_every_attention_layer(manifest, real_transformer):
    told = manifest("id_lora")
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    config = LoraConfig(r=told["rank"], lora_alpha=told["rank"], target_modules=layers)
    with init_empty_weights():
        real_transformer.add_adapter(config)
    try:
        state = get_peft_model_state_dict(real_transformer, adapter_name="default")
    finally:
        real_transformer.unload_lora()
    found = {f"transformer.{name}": list(tensor.shape) for name, tensor in state.items()}
    assert found == told["shapes"]


# --- the released layout, tiny --------------------------------------------------------------------------------


@pytest.fixture
def release(tiny, manifest, tmp_path):
    """A folder as the release has it: the configuration's own class name and keys, one safetensors file."""
    folder = tmp_path / "checkpoints" / "branch"
    folder.mkdir(parents=True)
    config = {
        "_class_name": "CogvideoXBranchModel",
        "_diffusers_version": "0.31.0.dev0",
        "_name_or_path": "somewhere/else",
        **tiny.config["branch"],
        "id_pool_resample_learnable": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = tiny.fill.fill_state_dict(manifest("tiny")["branch"], seed=7)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def test_released_layout_loads_with_equal_values(release):
    branch = VideoPainterBranchModel.from_pretrained(release)
    expected = read(release)
    assert branch.state_dict().keys() == expected.keys()
    for name, tensor in branch.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert not branch.training


def test_released_layout_loads_in_another_dtype(release):
    branch = VideoPainterBranchModel.from_pretrained(release, torch_dtype=torch.bfloat16)
    for name, expected in read(release).items():
        assert torch.equal(branch.state_dict()[name], expected.to(torch.bfloat16)), name


def test_branch_round_trip(release, tmp_path):
    branch = VideoPainterBranchModel.from_pretrained(release)
    branch.save_pretrained(tmp_path / "again")
    again = VideoPainterBranchModel.from_pretrained(str(tmp_path), subfolder="again")
    assert {**again.config} == {**branch.config, "_name_or_path": again.config._name_or_path}
    for name, tensor in branch.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


# --- damage ---------------------------------------------------------------------------------------------------


def read(folder) -> dict[str, torch.Tensor]:
    """Tensors of their own, so that the file may be written over."""
    return load((folder / WEIGHTS).read_bytes())


def edit(change):
    """A way to damage a folder: its tensors, changed."""

    def apply(folder):
        tensors = read(folder)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def truncate(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def pickle_in_disguise(folder):
    torch.save(read(folder), folder / WEIGHTS)


def foreign(folder):
    (folder / WEIGHTS).write_bytes(b"<!DOCTYPE html><html>Not found</html>" * 9)


class Trap:
    """What it unpickles to is a call that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def only_a_trap(folder):
    tensors = {**read(folder), "trap": Trap(folder / "executed")}
    torch.save(tensors, folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()


NAME = "transformer_blocks.1.attn1.to_k.weight"
DAMAGE = {
    "missing": (edit(lambda tensors: tensors.pop(NAME)), ("missing", NAME)),
    "extra": (edit(lambda tensors: tensors.update(surplus=torch.zeros(2))), ("unexpected", "surplus")),
    "misshapen": (edit(lambda tensors: tensors.update({NAME: torch.zeros(64, 63)})), (NAME,)),
    "truncated": (truncate, ()),
    "pickle in disguise": (pickle_in_disguise, ()),
    "foreign file": (foreign, ()),
    "empty file": (lambda folder: (folder / WEIGHTS).write_bytes(b""), ()),
    "only a pickle that runs code": (only_a_trap, ()),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), (WEIGHTS,)),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), ("config.json",)),
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], ()),
    "no folder": (shutil.rmtree, ()),
}


def raises_clearly(load, folder, told=()):
    """``load`` raises one error that names the folder and all of ``told``."""
    with pytest.raises((ValueError, OSError)) as caught:
        load()
    message = str(caught.value)
    assert str(folder) in message, message
    for text in told:
        assert text in message, message


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("component", CLASSES)
def test_damaged_checkpoint_is_an_error(tiny, tmp_path, component, damage):
    folder = tmp_path / "folder"
    tiny.make(component).save_pretrained(folder)
    apply, told = DAMAGE[damage]
    apply(folder)
    raises_clearly(lambda: CLASSES[component].from_pretrained(folder), folder, told)
    assert not (folder / "executed").exists()


def test_pickle_is_never_run(release, tmp_path):
    trace = tmp_path / "trace"
    (release / WEIGHTS).write_bytes(pickle.dumps(Trap(trace)))
    raises_clearly(lambda: VideoPainterBranchModel.from_pretrained(release), release)
    (release / WEIGHTS).rename(release / "diffusion_pytorch_model.bin")
    raises_clearly(lambda: VideoPainterBranchModel.from_pretrained(release), release)
    assert not trace.exists()


@pytest.fixture
def damaged_base(base_folder, tmp_path):
    def damage(component, apply):
        folder = tmp_path / "base"
        shutil.copytree(base_folder, folder)
        apply(folder / component)
        return folder

    return damage


@pytest.mark.parametrize("way", ["class", "custom_pipeline"])
@pytest.mark.parametrize(
    "damage", ["missing", "misshapen", "truncated", "pickle in disguise", "empty folder"]
)
@pytest.mark.parametrize("component", ["transformer", "vae"])
def test_damaged_base_model_is_an_error(tiny, branch_folder, damaged_base, component, damage, way):
    """diffusers itself loads these, with no more than a warning for what is missing."""
    changes = {
        "missing": edit(lambda tensors: tensors.pop(min(tensors))),
        "misshapen": edit(lambda tensors: tensors.update({min(tensors): torch.zeros(1, 2, 3)})),
    }
    folder = damaged_base(component, changes.get(damage) or DAMAGE[damage][0])
    branch = VideoPainterBranchModel.from_pretrained(branch_folder)

    def load():
        if way == "class":
            return VideoPainterPipeline.from_pretrained(folder, branch=branch)
        return DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=tiny.plugin, trust_remote_code=True, branch=branch
        )

    with pytest.raises((ValueError, OSError)) as caught:
        load()
    assert damage == "misshapen" or str(folder / component) in str(caught.value)


def test_missing_branch_is_an_error(base_folder):
    with pytest.raises(ValueError, match="branch"):
        VideoPainterPipeline.from_pretrained(base_folder)


# --- the ID adapter -------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tiny, tmp_path):
    """The adapter of the golden data as a file of the release: folder and tensors."""
    told = json.loads((tiny.data / "h_lora.json").read_text(encoding="utf-8"))
    tensors = tiny.fill.fill_state_dict(told["shapes"], told["seed"])
    folder = tmp_path / "VideoPainterID" / "checkpoints"
    folder.mkdir(parents=True)
    save_file(tensors, folder / told["file"])
    return folder, tensors


def test_id_adapter_is_added_with_scale_1(tiny, adapter):
    """to_q(x) and the others become exactly that of the weight plus lora_B @ lora_A."""
    folder, tensors = adapter
    pipe = tiny.pipeline()
    merged = tiny.make("transformer")
    pipe.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
    layers = {name.split(".lora_")[0].removeprefix("transformer.") for name in tensors}
    assert len(layers) == 4 * len(merged.transformer_blocks)
    for layer in layers:
        loaded, by_hand = pipe.transformer.get_submodule(layer), merged.get_submodule(layer)
        assert loaded.scaling == {loaded.active_adapters[0]: 1.0}
        down, up = (tensors[f"transformer.{layer}.lora_{part}.weight"] for part in "AB")
        with torch.no_grad():
            by_hand.weight += up @ down
    inputs = tiny.model_inputs()
    arguments = {**inputs.base, "mask": inputs.mask, "resample": True, "branch_block_samples": inputs.samples}
    with torch.no_grad():
        plain = tiny.make("transformer")(**arguments).sample
        expected, result = merged(**arguments).sample, pipe.transformer(**arguments).sample
    limit = 2e-5 * expected.abs().max()
    torch.testing.assert_close(result, expected, rtol=0, atol=limit.item())
    assert (plain - expected).abs().max() > 100 * limit


@pytest.mark.parametrize(
    "damage", ["truncated", "pickle in disguise", "missing file", "misshapen", "other names"]
)
def test_damaged_adapter_is_an_error(tiny, adapter, damage):
    folder, tensors = adapter
    path = folder / "pytorch_lora_weights.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:999])
    elif damage == "pickle in disguise":
        torch.save(tensors, path)
    elif damage == "missing file":
        path.unlink()
    elif damage == "misshapen":
        save_file({name: tensor[:, 1:].contiguous() for name, tensor in tensors.items()}, path)
    else:
        save_file({f"other.{name}": tensor for name, tensor in tensors.items()}, path)
    pipe = tiny.pipeline()
    raises_clearly(lambda: pipe.load_lora_weights(folder, weight_name=path.name), folder)
    assert not any("lora" in name for name in pipe.transformer.state_dict())


# --- a new branch from a transformer --------------------------------------------------------------------------


def test_new_branch_starts_as_the_reference_does(tiny):
    told = json.loads((tiny.data / "branch_start_values.json").read_text(encoding="utf-8"))
    layers = told["transformer_config_changed_by_the_call"]["num_layers"][1]
    transformer = tiny.make("base")
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    config = dict(transformer.config)
    torch.manual_seed(0)
    branch = VideoPainterBranchModel.from_transformer(transformer, num_layers=layers)
    torch.manual_seed(1)
    other = VideoPainterBranchModel.from_transformer(transformer, num_layers=layers)

    assert branch.state_dict().keys() == told["rules"].keys()
    for name, rule in told["rules"].items():
        tensor = branch.state_dict()[name]
        if rule.startswith("copy of"):
            assert torch.equal(tensor, state[name]), name
        elif rule == "zeros":
            assert not tensor.any(), name
        elif rule.startswith("33 input channels"):
            theirs = state[name]
            assert torch.equal(tensor[:, :16], theirs[:, :16]) and torch.equal(
                tensor[:, 16:32], theirs[:, :16]
            )
            assert tensor.shape[1] == 33 and not tensor[:, 32].any()
        elif rule.startswith("random"):
            assert not torch.equal(tensor, other.state_dict()[name]), name
            assert name not in state or not torch.equal(tensor, state[name]), name
        else:
            assert rule.startswith("constructor value"), rule
            constructed = VideoPainterBranchModel.from_config(branch.config).state_dict()[name]
            assert torch.equal(tensor, constructed.to(tensor.dtype)), name

    assert dict(transformer.config) == config  # the reference changes it
    assert all(torch.equal(tensor, state[name]) for name, tensor in transformer.state_dict().items())
    mine = {tensor.untyped_storage().data_ptr() for tensor in branch.state_dict().values()}
    theirs = {tensor.untyped_storage().data_ptr() for tensor in transformer.state_dict().values()}
    assert not mine & theirs  # in the reference they share patch_embed.proj.bias


def test_new_branch_can_be_trained(tiny):
    """Outputs that start at zero learn first; after one step of those every part of `forward` has a gradient."""
    branch = VideoPainterBranchModel.from_transformer(tiny.make("transformer")).train()
    inputs = tiny.model_inputs()
    unused = ("norm_final.", "norm_out.", "proj_out.", "branch_x_embedder.")

    def backward():
        branch.zero_grad()
        samples = branch(**inputs.branch).branch_block_samples
        sum((sample - target).square().mean() for sample, target in zip(samples, inputs.samples)).backward()
        return {
            name
            for name, tensor in branch.named_parameters()
            if tensor.grad is not None and tensor.grad.any()
        }

    outputs = {name for name, _ in branch.named_parameters() if name.startswith("branch_blocks.")}
    assert backward() == outputs
    with torch.no_grad():
        for name, tensor in branch.named_parameters():
            if name in outputs:
                tensor -= 0.1 * tensor.grad
    silent = {name for name, _ in branch.named_parameters()} - backward()
    assert silent == {name for name, _ in branch.named_parameters() if name.startswith(unused)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_branch_has_the_dtype_of_the_transformer(tiny, dtype):
    branch = VideoPainterBranchModel.from_transformer(tiny.make("base").to(dtype), num_layers=1, wo_text=True)
    assert branch.dtype == dtype and len(branch.transformer_blocks) == len(branch.branch_blocks) == 1
    assert branch.config.wo_text and branch.config.num_layers == 1


@pytest.mark.parametrize("layers", [0, 5])
def test_new_branch_of_too_many_layers_is_an_error(tiny, layers):
    with pytest.raises(ValueError, match=f"from 1 to 4 but is {layers}"):
        VideoPainterBranchModel.from_transformer(tiny.make("base"), num_layers=layers)


def test_other_base_models_are_errors(tiny):
    later = {**tiny.config["transformer"], "patch_size_t": 2}
    with pytest.raises(ValueError, match="1.0"):
        VideoPainterTransformer3DModel.from_config(later)
    later["use_learned_positional_embeddings"] = False
    with pytest.raises(ValueError, match="1.0"):
        VideoPainterBranchModel.from_transformer(CogVideoXTransformer3DModel.from_config(later))
