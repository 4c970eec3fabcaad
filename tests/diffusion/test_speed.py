"""Step caching and torch.compile: they change how much is computed, not what."""

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.hooks import MagCacheConfig
from torch._dynamo.utils import counters

MODES = ["plain", "branch", "masked", "resample", "resample next", "plain next"]


def run(model, arguments) -> torch.Tensor:
    with torch.no_grad():
        return model(**arguments).sample


@pytest.fixture
def transformer(tiny):
    return tiny.make("transformer")


@pytest.fixture
def steps(tiny):
    """Arguments of three steps, no two of them alike."""
    found = []
    for seed in range(3):
        inputs = tiny.model_inputs(seed)
        masked = {"mask": inputs.mask, "mask_add": True, "branch_block_samples": inputs.samples}
        found.append({**inputs.base, **masked})
    return found


# --- first block cache ----------------------------------------------------------------------------------------


def test_cache_that_never_skips(transformer, steps):
    expected = [run(transformer, step) for step in steps]
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    assert transformer.is_cache_enabled
    with transformer.cache_context("cond_uncond"):
        assert all(torch.equal(run(transformer, step), right) for step, right in zip(steps, expected))
    transformer.disable_cache()
    assert all(torch.equal(run(transformer, step), right) for step, right in zip(steps, expected))


def test_skipped_step_has_the_samples_once(transformer, steps):
    """It is the first block's output with its sample, plus what later blocks and samples added the last time."""
    everything = torch.arange(16 + steps[0]["branch_block_samples"][0].shape[1])
    with torch.no_grad():
        first, second = (transformer(**step, collect_tokens=everything).hidden_states for step in steps[:2])
    expected = (second[0] + first[-1] - first[0])[:, 16:]

    last = []
    transformer.norm_final.register_forward_pre_hook(lambda module, inputs: last.append(inputs[0]))
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    with transformer.cache_context("cond_uncond"):
        for step in steps[:2]:
            run(transformer, step)
    torch.testing.assert_close(last[0], first[-1][:, 16:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last[1], expected, rtol=1e-5, atol=1e-5)
    assert (last[1] - second[-1][:, 16:]).abs().max() > 1e-2  # it did skip


def test_cache_forgets_on_reset(transformer, steps):
    expected = run(transformer, steps[1])
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    with transformer.cache_context("cond_uncond"):
        run(transformer, steps[0])
        assert not torch.equal(run(transformer, steps[1]), expected)
    transformer._reset_stateful_cache()
    with transformer.cache_context("cond_uncond"):
        assert torch.equal(run(transformer, steps[1]), expected)


LONG = {"frames": 17, "num_inference_steps": 2, "output_type": "latent"}


@pytest.mark.parametrize("id_pool", [False, True])
def test_cache_in_the_pipeline(tiny, id_pool):
    """Nothing leaks from window to window or from call to call, and without skipping nothing changes."""
    options = {**LONG, "id_pool": id_pool, "prev_clip_weight": 0.5 * id_pool}
    pipe = tiny.pipeline()
    plain = pipe(**tiny.arguments(**options)).frames
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    assert torch.equal(pipe(**tiny.arguments(**options)).frames, plain)
    pipe.transformer.disable_cache()

    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    pipe(**tiny.arguments(**LONG, prompt_embeds=tiny.embeds(77)))
    skipped = [pipe(**tiny.arguments(**options)).frames for _ in range(2)]
    assert torch.equal(*skipped) and not torch.equal(skipped[0], plain)
    pipe.transformer.disable_cache()
    assert torch.equal(pipe(**tiny.arguments(**options)).frames, plain)


def test_cache_computes_what_the_next_window_needs(tiny):
    """The states that a window leaves to the next one come from a step that was not skipped."""
    pipe = tiny.pipeline()
    calls = []
    pipe.transformer.transformer_blocks[2].ff.register_forward_hook(lambda *args: calls.append(1))
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    pipe(**tiny.arguments(**LONG))
    assert len(calls) == 2  # the first step of each window
    calls.clear()
    pipe(**tiny.arguments(**LONG, id_pool=True, prev_clip_weight=0.5))
    assert len(calls) == 3  # and the last step of the first window


def test_pyramid_attention_broadcast(tiny):
    """A cache of attention: the block's attention is left out on every other step."""
    pipe = tiny.pipeline()
    options = {**LONG, "num_inference_steps": 4, "id_pool": True, "prev_clip_weight": 0.5}
    plain = pipe(**tiny.arguments(**options)).frames
    calls = []
    pipe.transformer.transformer_blocks[1].attn1.to_out[0].register_forward_hook(
        lambda *args: calls.append(1)
    )
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(1, 999),
        current_timestep_callback=lambda: int(pipe.current_timestep),
    )
    pipe.transformer.enable_cache(config)
    results = [pipe(**tiny.arguments(**options)).frames for _ in range(2)]
    assert torch.equal(*results) and not torch.equal(results[0], plain)
    assert 0 < len(calls) < 2 * 2 * 4
    pipe.transformer.disable_cache()
    assert torch.equal(pipe(**tiny.arguments(**options)).frames, plain)


def test_mag_cache(tiny):
    """A cache of steps whose size is foretold."""
    pipe = tiny.pipeline()
    options = {**LONG, "num_inference_steps": 4, "id_pool": True, "prev_clip_weight": 0.5}
    plain = pipe(**tiny.arguments(**options)).frames
    pipe.transformer.enable_cache(
        MagCacheConfig(threshold=0.5, num_inference_steps=4, retention_ratio=0.25, mag_ratios=torch.ones(4))
    )
    results = [pipe(**tiny.arguments(**options)).frames for _ in range(2)]
    assert torch.equal(*results) and not torch.equal(results[0], plain)
    pipe.transformer.disable_cache()
    assert torch.equal(pipe(**tiny.arguments(**options)).frames, plain)


# --- compiling ------------------------------------------------------------------------------------------------


@pytest.fixture
def dynamo():
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def changed(arguments):
    """The same shapes, other numbers, and a hole elsewhere."""
    new = {**arguments, "hidden_states": arguments["hidden_states"].flip(-1) * 0.9}
    new["timestep"] = arguments["timestep"] - 13
    if "mask" in arguments:
        new["mask"] = arguments["mask"].roll(2, dims=-1)
    return new


def test_compiled_as_one_graph(transformer, modes, dynamo):
    first, second = modes["resample next"], changed(modes["resample next"])
    expected = [run(transformer, first), run(transformer, second)]
    compiled = torch.compile(transformer, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        results = [run(compiled, first), run(compiled, second)]
    assert not dynamo["graph_break"] and dynamo["stats"]["unique_graphs"] == 1
    for result, right in zip(results, expected):
        torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_blocks_share_one_graph(transformer, modes, dynamo, mode):
    first, second = modes[mode], changed(modes[mode])
    expected = [run(transformer, first), run(transformer, second)]
    transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        results = [run(transformer, first), run(transformer, second)]
    assert dynamo["stats"]["unique_graphs"] == 1
    for result, right in zip(results, expected):
        torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)


def test_compiled_blocks_with_some_samples(transformer, modes, dynamo):
    """With ``add_first`` there are blocks with a sample and blocks without: two graphs."""
    arguments = {**modes["masked"], "add_first": True}
    expected = run(transformer, arguments)
    transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
    torch.testing.assert_close(run(transformer, arguments), expected, rtol=1e-5, atol=1e-5)
    assert dynamo["stats"]["unique_graphs"] == 2 and not dynamo["graph_break"]


def test_compiled_branch(tiny, dynamo):
    branch, inputs = tiny.make("branch"), tiny.model_inputs()
    other = tiny.model_inputs(1)
    with torch.no_grad():
        expected = [branch(**one.branch).branch_block_samples for one in (inputs, other)]
        branch.compile_repeated_blocks(fullgraph=True, backend="eager")
        with torch._dynamo.config.patch(error_on_recompile=True):
            results = [branch(**one.branch).branch_block_samples for one in (inputs, other)]
    assert dynamo["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-5)


def test_compiled_pipeline(tiny, dynamo):
    """Blocks have three graphs: without a pool, with one, and with one of any size."""
    options = {"frames": 33, "id_pool": True, "prev_clip_weight": 0.5, "output_type": "latent"}
    pipe = tiny.pipeline()
    arguments = tiny.arguments(**options)
    arguments["masks"][9:17, :, :40] = True
    arguments["masks"][17:25, :, :60] = True
    expected = pipe(**arguments).frames
    pipe.transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
    again = {**arguments, "generator": torch.Generator().manual_seed(0)}
    torch.testing.assert_close(pipe(**again).frames, expected, rtol=1e-4, atol=1e-4)
    assert not dynamo["graph_break"] and dynamo["stats"]["unique_graphs"] == 3
