"""The transformer keeps what diffusers' own has: weights, gradients, casting, offloading, backends, adapters."""

import copy

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_dispatch import _AttentionBackendRegistry, attention_backend
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from peft import LoraConfig

from videopainter.diffusion import IDPool, VideoPainterTransformer3DModel


@pytest.fixture
def transformer(tiny):
    return tiny.make("transformer")


@pytest.fixture
def backend_of_before():
    """`set_attention_backend` also sets what all models use by default; this puts it back."""
    before = _AttentionBackendRegistry.get_active_backend()[0]
    yield
    _AttentionBackendRegistry.set_active_backend(before)


MODES = ["plain", "branch", "masked", "resample", "resample next", "plain next"]


def run(model, arguments) -> torch.Tensor:
    with torch.no_grad():
        return model(**arguments).sample


def close(result, expected, limit=2e-5):
    torch.testing.assert_close(result, expected, rtol=0, atol=limit * expected.abs().max().item())


# --- the base model -------------------------------------------------------------------------------------------


def test_without_branch_it_is_the_base_model(tiny, transformer, modes):
    assert torch.equal(run(transformer, modes["plain"]), run(tiny.make("base"), modes["plain"]))


def test_it_is_built_as_the_base_model_is(tiny, transformer):
    base = tiny.make("base")
    assert dict(transformer.config) == dict(base.config)
    assert list(transformer.state_dict()) == list(base.state_dict())
    names = [name for name, _ in base.named_modules()]
    assert [name for name, _ in transformer.named_modules()] == names
    assert (
        len(VideoPainterTransformer3DModel(num_attention_heads=1).transformer_blocks) == 30
    )  # as the base's


def test_every_mode_is_another_result(transformer, modes):
    """So that the comparisons below compare something."""
    results = [run(transformer, arguments) for arguments in modes.values()]
    for number, one in enumerate(results):
        for other in results[:number]:
            assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_it_loads_the_base_model_folder(tiny, base_folder, modes):
    loaded = VideoPainterTransformer3DModel.from_pretrained(base_folder, subfolder="transformer")
    assert torch.equal(run(loaded, modes["plain"]), run(tiny.make("base"), modes["plain"]))


def test_the_base_model_class_loads_what_it_saves(tiny, transformer, modes, tmp_path):
    transformer.save_pretrained(tmp_path)
    stock = CogVideoXTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(run(stock, modes["plain"]), run(transformer, modes["plain"]))
    again = VideoPainterTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(run(again, modes["masked"]), run(transformer, modes["masked"]))


def test_sharded_checkpoint(transformer, modes, tmp_path):
    transformer.save_pretrained(tmp_path, max_shard_size="300KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    again = VideoPainterTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(run(again, modes["masked"]), run(transformer, modes["masked"]))
    shards[0].unlink()
    with pytest.raises((ValueError, OSError), match=shards[0].name):
        VideoPainterTransformer3DModel.from_pretrained(tmp_path)


def test_from_transformer_shares_weights_and_leaves_its_source_alone(tiny, modes):
    base = tiny.make("base")
    base.proj_out.requires_grad_(False)
    state, expected = copy.deepcopy(base.state_dict()), run(base, modes["plain"])
    made = VideoPainterTransformer3DModel.from_transformer(base)
    assert type(base) is CogVideoXTransformer3DModel
    assert {type(processor) for processor in base.attn_processors.values()} == {CogVideoXAttnProcessor2_0}
    assert {type(block).__name__ for block in base.transformer_blocks} == {"CogVideoXBlock"}
    assert torch.equal(run(base, modes["plain"]), expected)
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert made.state_dict()[name].data_ptr() == tensor.data_ptr(), name
    assert dict(made.config) == dict(base.config)
    assert torch.equal(run(made, modes["plain"]), expected)
    assert torch.equal(run(made, modes["masked"]), run(tiny.make("transformer"), modes["masked"]))
    assert not made.training and not made.proj_out.weight.requires_grad
    assert made.norm_final.weight.requires_grad


def test_from_transformer_keeps_the_dtype(tiny):
    made = VideoPainterTransformer3DModel.from_transformer(tiny.make("base").to(torch.bfloat16))
    assert made.dtype == torch.bfloat16


@pytest.mark.parametrize("change", ["adapter", "fused"])
def test_from_transformer_needs_plain_weights(tiny, change):
    base = tiny.make("base")
    if change == "adapter":
        base.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    else:
        base.fuse_qkv_projections()
    with pytest.raises(ValueError, match="before adapters are loaded or projections fused"):
        VideoPainterTransformer3DModel.from_transformer(base)


def test_tuple_is_the_output(transformer, modes):
    arguments = modes["masked"]
    with torch.no_grad():
        output = transformer(**arguments)
        (sample,) = transformer(**arguments, return_dict=False)
        collected = transformer(**arguments, collect_tokens=torch.tensor([3, 20]))
        pair = transformer(**arguments, collect_tokens=torch.tensor([3, 20]), return_dict=False)
    assert output.hidden_states is None and torch.equal(output.sample, sample)
    assert torch.equal(collected.sample, sample) and torch.equal(pair[0], sample)
    assert [states.shape for states in collected.hidden_states] == 4 * [(2, 2, 64)]
    assert all(torch.equal(one, other) for one, other in zip(collected.hidden_states, pair[1]))


@pytest.mark.parametrize("mode", MODES)
def test_arguments_are_not_changed(transformer, modes, mode):
    arguments = {**modes[mode], "attention_kwargs": {}}
    kept = copy.deepcopy(arguments)
    first, second = run(transformer, arguments), run(transformer, arguments)
    assert torch.equal(first, second)
    assert arguments.keys() == kept.keys() and arguments["attention_kwargs"] == {}
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, kept[name]), name
        elif isinstance(value, IDPool):
            assert all(torch.equal(*pair) for pair in zip(value.hidden_states, kept[name].hidden_states))
        elif isinstance(value, list):
            assert all(torch.equal(*pair) for pair in zip(value, kept[name]))


def test_clear_errors(transformer, modes):
    without = {name: value for name, value in modes["masked"].items() if name != "mask"}
    with pytest.raises(ValueError, match="need `mask`"):
        run(transformer, without)
    with pytest.raises(ValueError, match="all 88 tokens, but it holds 20"):
        run(transformer, {**modes["resample next"], "resample": False})
    transformer.set_attn_processor(CogVideoXAttnProcessor2_0())
    run(transformer, modes["masked"])
    with pytest.raises(ValueError, match="IDPoolAttnProcessor"):
        run(transformer, modes["resample"])


# --- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_gradient_checkpointing_gives_the_same_gradients(tiny, modes, mode):
    def gradients(checkpointing):
        model = tiny.make("transformer").train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        output = model(**modes[mode]).sample
        output.square().mean().backward()
        return output.detach(), {name: tensor.grad for name, tensor in model.named_parameters()}

    (expected, plain), (result, checkpointed) = gradients(False), gradients(True)
    assert torch.equal(result, expected)
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-5, atol=1e-7)


def test_branch_gradient_checkpointing(tiny):
    inputs, gradients = tiny.model_inputs(), []
    for checkpointing in (False, True):
        branch = tiny.make("branch").train()
        if checkpointing:
            branch.enable_gradient_checkpointing()
        sum(sample.square().mean() for sample in branch(**inputs.branch).branch_block_samples).backward()
        gradients.append({name: tensor.grad for name, tensor in branch.named_parameters()})
    used = {name for name, gradient in gradients[0].items() if gradient is not None}
    assert used == {name for name, gradient in gradients[1].items() if gradient is not None}
    for name in used:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], rtol=1e-5, atol=1e-7)


def test_gradients_reach_branch_samples_and_pool(tiny, modes):
    """Every sample gets one through the tokens outside the hole, and none inside."""
    arguments = dict(modes["masked"])
    samples = [sample.clone().requires_grad_() for sample in arguments["branch_block_samples"]]
    tiny.make("transformer")(**{**arguments, "branch_block_samples": samples}).sample.sum().backward()
    hole = torch.nn.functional.max_pool2d(arguments["mask"].flatten(0, 1), 2).reshape(2, -1) > 0
    assert hole.any() and not hole.all()
    for sample in samples:
        assert not sample.grad[hole].any() and sample.grad[~hole].abs().sum(-1).min() > 0


# --- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_layerwise_casting(transformer, modes, mode, compute):
    arguments = cast(modes[mode], compute)
    expected = run(transformer, modes[mode])
    model = transformer.to(compute)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)
    stored = [tensor.dtype for name, tensor in model.named_parameters() if name.endswith("to_q.weight")]
    assert stored == 4 * [torch.float8_e4m3fn]
    result = run(model, arguments)
    assert result.dtype == compute
    # e4m3 keeps 3 bits of mantissa: a relative error of up to 1/16 in each weight.
    assert (result.float() - expected).abs().mean() < 0.1 * expected.abs().mean()
    assert all(
        model.get_parameter(name).dtype == torch.float8_e4m3fn for name in names_of(model, "to_q.weight")
    )


def names_of(model, ending):
    return [name for name, _ in model.named_parameters() if name.endswith(ending)]


def cast(arguments, dtype):
    """Floating-point tensors of ``arguments`` in another dtype."""

    def one(value):
        if isinstance(value, torch.Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        if isinstance(value, (list, tuple)):
            return type(value)(one(item) for item in value)
        if isinstance(value, IDPool):
            return IDPool(one(value.hidden_states), value.positions, value.mask, value.kept_text)
        return value

    return {name: value if name == "image_rotary_emb" else one(value) for name, value in arguments.items()}


@pytest.mark.parametrize("kind", [{"offload_type": "block_level", "num_blocks_per_group": 1},
                                  {"offload_type": "block_level", "num_blocks_per_group": 3},
                                  {"offload_type": "leaf_level"}], ids=["1 block", "3 blocks", "leaves"])  # fmt: skip
def test_group_offloading(transformer, modes, kind):
    """From the CPU to the CPU: the hooks run, and change nothing."""
    expected = {mode: run(transformer, arguments) for mode, arguments in modes.items()}
    cpu = torch.device("cpu")
    apply_group_offloading(transformer, onload_device=cpu, offload_device=cpu, **kind)
    hooked = [name for name, module in transformer.named_modules() if hasattr(module, "_diffusers_hook")]
    assert "transformer_blocks.1" in hooked or "transformer_blocks.1.attn1.to_q" in hooked
    for mode, arguments in modes.items():
        for _ in range(2):
            assert torch.equal(run(transformer, arguments), expected[mode])


def test_group_offloading_to_disk(transformer, modes, tmp_path):
    expected = run(transformer, modes["resample next"])
    transformer.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    assert list(tmp_path.glob("*.safetensors"))
    for _ in range(2):
        assert torch.equal(run(transformer, modes["resample next"]), expected)


# --- attention backends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "_native_math"])
@pytest.mark.parametrize("mode", MODES)
def test_attention_backends_agree(transformer, modes, backend_of_before, mode, backend):
    expected = run(transformer, modes[mode])
    with attention_backend(backend):
        close(run(transformer, modes[mode]), expected)
    transformer.set_attention_backend(backend)
    assert {processor._attention_backend.value for processor in transformer.attn_processors.values()} == {
        backend
    }
    close(run(transformer, modes[mode]), expected)
    transformer.reset_attention_backend()
    assert {processor._attention_backend for processor in transformer.attn_processors.values()} == {None}
    close(run(transformer, modes[mode]), expected)


def test_attention_mask_without_pool(transformer, modes):
    """A mask of all ones changes nothing; one of another length, as with the pool, is an error."""
    ones = {"attention_mask": torch.zeros(2, 1, 88)}
    expected = run(transformer, modes["masked"])
    close(run(transformer, {**modes["masked"], "attention_kwargs": ones}), expected)
    with pytest.raises(ValueError, match="covers 88 keys, but with the ID pool there are 176"):
        run(transformer, {**modes["resample"], "attention_kwargs": ones})


# --- fused projections ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_fused_projections(transformer, modes, mode):
    expected = run(transformer, modes[mode])
    state = copy.deepcopy(transformer.state_dict())
    for _ in range(2):
        transformer.fuse_qkv_projections()
    assert "transformer_blocks.0.attn1.to_qkv.weight" in transformer.state_dict()
    close(run(transformer, modes[mode]), expected)
    for _ in range(2):
        transformer.unfuse_qkv_projections()
    assert transformer.state_dict().keys() == state.keys()
    assert torch.equal(run(transformer, modes[mode]), expected)


def test_fused_projections_and_adapters(transformer, modes):
    transformer.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )
    with pytest.raises(ValueError, match="fuse_lora"):
        transformer.fuse_qkv_projections()
    expected = run(transformer, modes["resample"])
    transformer.fuse_lora()
    transformer.fuse_qkv_projections()
    close(run(transformer, modes["resample"]), expected)
