"""What is off by default: it changes the result a little, and leaves out what it says it leaves out."""

from contextlib import nullcontext

import pytest
import torch

from videopainter.diffusion import memory
from videopainter.diffusion.memory.eight_bits import EightBitLinear, store_in_eight_bits
from videopainter.diffusion.memory.offload import BlockStream

LONG = {
    "frames": 17,
    "num_inference_steps": 4,
    "output_type": "latent",
    "id_pool": True,
    "prev_clip_weight": 0.5,
}


def rows_of(pipe) -> list[int]:
    rows = []
    pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    return rows


def test_guidance_is_taken_over(tiny):
    """Late steps have one row, but the last of a window whose states the next one wants; nothing is left of it."""
    pipe = tiny.pipeline()
    rows = rows_of(pipe)
    plain = pipe(**tiny.arguments(**LONG)).frames
    assert rows == [2] * 8
    rows.clear()
    late = pipe(**tiny.arguments(**LONG, guidance_stop=0.5)).frames
    assert rows == [2, 2, 1, 2, 2, 2, 1, 1]
    assert late.isfinite().all() and not torch.equal(late, plain)
    assert (late - plain).abs().mean() < 0.2 * plain.abs().mean()
    assert torch.equal(pipe(**tiny.arguments(**LONG)).frames, plain)


def test_without_a_difference_guidance_is_the_same(tiny):
    """Where both prompts are the same, there is nothing to take over."""
    arguments = {**LONG, "prompt_embeds": tiny.embeds(1), "negative_prompt_embeds": tiny.embeds(1)}
    plain, late = (
        tiny.pipeline()(**tiny.arguments(**arguments, guidance_stop=stop)).frames for stop in (1.0, 0.25)
    )
    torch.testing.assert_close(late, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stop", [0, -1, 1.5, float("nan")])
def test_shares_out_of_range(tiny, stop):
    with pytest.raises(ValueError, match="guidance_stop"):
        tiny.pipeline()(**tiny.arguments(guidance_stop=stop))


def test_a_cache_expects_both_rows(tiny):
    pipe = tiny.pipeline()
    memory.enable_cache(pipe, "first_block")
    with pytest.raises(ValueError, match="`guidance_stop` below 1"):
        pipe(**tiny.arguments(guidance_stop=0.5))


@pytest.mark.parametrize("cache", ["broadcast", "taylor"])
def test_attention_is_taken_over(tiny, cache):
    pipe = tiny.pipeline()
    steps = {**LONG, "num_inference_steps": 8}
    plain = pipe(**tiny.arguments(**steps)).frames
    calls = []
    pipe.transformer.transformer_blocks[1].attn1.to_out[0].register_forward_hook(lambda *_: calls.append(1))
    memory.enable_cache(pipe, cache)
    cached = pipe(**tiny.arguments(**steps)).frames
    assert cached.isfinite().all() and not torch.equal(cached, plain) and 4 < len(calls) < 16
    with pytest.raises(ValueError, match=f"{cache} cannot work in the memory mode minimum"):
        memory.enable_cache(pipe, cache, "minimum")


def test_weights_in_eight_bits(tiny):
    """With a scale a row the error is that of three bits of mantissa, whatever the size of the weights."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 32)
    with torch.no_grad():
        linear.weight.mul_(torch.logspace(-4, 0, 32)[:, None])
        linear.weight[3] = 0
    stored = EightBitLinear(linear)
    back = stored.weight.float() * stored.scale
    apart = (back - linear.weight).norm(dim=1) / linear.weight.norm(dim=1).clamp(min=1e-30)
    cast = (linear.weight.to(torch.float8_e4m3fn).float() - linear.weight).norm(dim=1)
    assert apart.max() < 2**-4 and torch.equal(back[3], torch.zeros(64))
    assert (cast / linear.weight.norm(dim=1).clamp(min=1e-30))[
        :3
    ].min() > 0.9  # merely cast, small rows are lost
    x = torch.randn(5, 64)
    torch.testing.assert_close(stored(x), torch.nn.functional.linear(x, back, linear.bias))

    network = tiny.make("transformer")
    store_in_eight_bits(network, ("norm", "patch_embed"))
    assert isinstance(network.transformer_blocks[0].attn1.to_out[0], EightBitLinear)
    assert (
        network.dtype == torch.float32 and type(network.transformer_blocks[0].norm1.linear) is torch.nn.Linear
    )


@pytest.mark.parametrize("in_folder", [False, True])
def test_blocks_come_from_the_host_or_a_folder(tiny, tmp_path, monkeypatch, in_folder):
    """Streaming for real needs a GPU; between host and host its order, files and results are the same."""

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, _):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda *_: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    network = tiny.make("transformer").requires_grad_(False)
    store_in_eight_bits(network, ("norm", "patch_embed"))
    inputs = tiny.model_inputs().base
    with torch.no_grad():
        expected = [network(**inputs).sample for _ in range(2)]
        network.stream = BlockStream(
            network.transformer_blocks, torch.device("cpu"), tmp_path if in_folder else None
        )
        weights = [block.ff.net[0].proj.weight for block in network.transformer_blocks]
        found = [network(**inputs).sample for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ([f"block_{i}.safetensors" for i in range(len(weights))] if in_folder else [])
    assert all(weight.numel() == 0 for weight in weights) == in_folder  # the host holds nothing of them
