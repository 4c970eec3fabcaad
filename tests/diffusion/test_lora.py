"""Adapters on stock diffusers: each state of the pipeline equals a transformer with hand-merged weights."""

import copy
import json

import pytest
import torch

SCALES = {"id": 1.0, "style": 1.0}


@pytest.fixture(scope="module")
def adapters(tiny):
    """Two adapters of rank 4 on every attention layer, with the names of the released one."""
    told = json.loads((tiny.data / "h_lora.json").read_text(encoding="utf-8"))
    return {
        name: tiny.fill.fill_state_dict(told["shapes"], told["seed"] + number)
        for number, name in enumerate(SCALES)
    }


@pytest.fixture
def pipe(tiny, adapters):
    pipe = tiny.pipeline()
    for name, tensors in adapters.items():
        pipe.load_lora_weights(tensors, adapter_name=name)
    return pipe


@pytest.fixture(scope="module")
def merged(tiny, adapters):
    """A transformer with lora_B @ lora_A times a scale added to the weights."""

    def build(**scales):
        transformer = tiny.make("transformer")
        with torch.no_grad():
            for adapter, scale in scales.items():
                tensors = adapters[adapter]
                for name in tensors:
                    layer, part, _ = name.removeprefix("transformer.").rpartition(".lora_A.weight")
                    if part:
                        product = tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
                        transformer.get_submodule(layer).weight += scale * product
        return transformer

    return build


@pytest.fixture
def same(modes, merged):
    """Whether a transformer gives what hand-merged weights give, and nothing else does."""

    def check(transformer, **scales):
        arguments = modes["resample next"]
        with torch.no_grad():
            result = transformer(**arguments).sample
            expected = merged(**scales)(**arguments).sample
            other = merged(id=scales.get("id", 0) + 0.3)(**arguments).sample
        limit = 2e-5 * expected.abs().max().item()
        torch.testing.assert_close(result, expected, rtol=0, atol=limit)
        assert (result - other).abs().max() > 100 * limit

    return check


def test_several_adapters(pipe, same):
    assert pipe.get_list_adapters() == {"transformer": ["id", "style"]}
    pipe.set_adapters(["id", "style"])
    same(pipe.transformer, id=1, style=1)
    pipe.set_adapters(["id", "style"], adapter_weights=[0.7, 0.2])
    same(pipe.transformer, id=0.7, style=0.2)
    pipe.set_adapters("style")
    assert pipe.get_active_adapters() == ["style"]
    same(pipe.transformer, style=1)


def test_disable_and_enable(pipe, same):
    pipe.set_adapters("id", 0.5)
    pipe.disable_lora()
    same(pipe.transformer)
    pipe.enable_lora()
    same(pipe.transformer, id=0.5)


@pytest.mark.parametrize("fuse_qkv", [False, True])
def test_fuse_and_unfuse(pipe, same, fuse_qkv):
    pipe.set_adapters(["id", "style"], [1.0, 0.4])
    pipe.fuse_lora(components=["transformer"], lora_scale=0.5)
    assert pipe.num_fused_loras == 2
    if fuse_qkv:
        pipe.transformer.fuse_qkv_projections()
    same(pipe.transformer, id=0.5, style=0.2)
    if fuse_qkv:
        pipe.transformer.unfuse_qkv_projections()
    pipe.unfuse_lora(components=["transformer"])
    assert pipe.num_fused_loras == 0
    pipe.set_adapters(["id", "style"], [1.0, 0.4])
    same(pipe.transformer, id=1, style=0.4)


def test_unload_and_delete(tiny, pipe, same, adapters):
    pipe.set_adapters(["id", "style"])
    pipe.delete_adapters("style")
    assert pipe.get_list_adapters() == {"transformer": ["id"]}
    same(pipe.transformer, id=1)
    pipe.unload_lora_weights()
    same(pipe.transformer)
    plain = tiny.make("transformer").state_dict()
    assert pipe.transformer.state_dict().keys() == plain.keys()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in pipe.transformer.state_dict().items())
    pipe.load_lora_weights(adapters["style"], adapter_name="style")
    same(pipe.transformer, style=1)


def test_fused_weights_outlive_the_adapter(pipe, same):
    pipe.set_adapters("id")
    pipe.fuse_lora(components=["transformer"])
    pipe.unload_lora_weights()
    same(pipe.transformer, id=1)


def test_save_and_load(tiny, pipe, same, tmp_path):
    from peft.utils import get_peft_model_state_dict

    pipe.set_adapters("id")
    state = get_peft_model_state_dict(pipe.transformer, adapter_name="id")
    pipe.save_lora_weights(tmp_path, transformer_lora_layers=state)
    again = tiny.pipeline()
    again.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    same(again.transformer, id=1)


def test_scale_of_a_call(tiny, pipe, merged):
    """``attention_kwargs={"scale": ...}`` holds for one call, in every window, and is not used up."""
    pipe.set_adapters("id")
    kwargs = {"scale": 0.5}
    options = {"frames": 17, "id_pool": True, "prev_clip_weight": 0.5, "output_type": "latent"}
    result = pipe(**tiny.arguments(**options, attention_kwargs=kwargs)).frames
    expected = tiny.pipeline(transformer=merged(id=0.5))(**tiny.arguments(**options)).frames
    other = tiny.pipeline(transformer=merged(id=1))(**tiny.arguments(**options)).frames
    assert kwargs == {"scale": 0.5}
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert (other - expected).abs().max() > 1e-2
    full = pipe(**tiny.arguments(**options)).frames
    torch.testing.assert_close(full, other, rtol=0, atol=1e-4 * other.abs().max().item())


def test_the_caller_keeps_the_dictionary(tiny, adapters):
    tensors = copy.deepcopy(adapters["id"])
    tiny.pipeline().load_lora_weights(tensors)
    assert tensors.keys() == adapters["id"].keys()
    assert all(torch.equal(tensor, adapters["id"][name]) for name, tensor in tensors.items())


def test_other_names_are_an_error(tiny, adapters):
    tensors = {f"other.{name}": tensor for name, tensor in adapters["id"].items()}
    with pytest.raises(ValueError, match="dictionary holds no adapter"):
        tiny.pipeline().load_lora_weights(tensors)


def test_adapters_of_the_branch(tiny):
    """The branch takes adapters as well, through the methods of diffusers' models."""
    from peft import LoraConfig

    branch, inputs = tiny.make("branch"), tiny.model_inputs()
    with torch.no_grad():
        plain = branch(**inputs.branch).branch_block_samples
        branch.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
        changed = branch(**inputs.branch).branch_block_samples
        off = branch(**inputs.branch, attention_kwargs={"scale": 0.0}).branch_block_samples
    assert (changed[0] - plain[0]).abs().max() > 1e-3
    torch.testing.assert_close(off, plain)
