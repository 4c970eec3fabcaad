"""Offloading, from the CPU to the CPU: the hooks of accelerate and diffusers run, and what they do is watched.

Sequential offloading keeps weights on the meta device between uses, so that a use without its hook fails here too.
"""

import accelerate
import pytest
import torch

CPU = torch.device("cpu")
LONG = {"frames": 17, "num_inference_steps": 1, "id_pool": True, "prev_clip_weight": 0.5, "output_type": "pt"}
TEXT = {"prompt": "a dog", "prompt_embeds": None, "negative_prompt_embeds": None, "max_sequence_length": 16}


SHORT = {**LONG, "frames": 9}


@pytest.fixture
def pipe(tiny):
    return tiny.pipeline(text=True)


@pytest.fixture
def plain_cpu(monkeypatch):
    """accelerate's hooks get the device "cpu": "cpu:0", as diffusers writes it, makes tensors of their parameters."""
    offload = accelerate.cpu_offload
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **kwargs: offload(model, CPU, **kwargs)
    )


@pytest.fixture(scope="module")
def expected(tiny):
    return tiny.pipeline(text=True)(**tiny.arguments(**LONG, **TEXT)).frames


@pytest.fixture(scope="module")
def expected_short(tiny):
    return tiny.pipeline(text=True)(**tiny.arguments(**SHORT, **TEXT)).frames


def test_model_offload(tiny, pipe, expected, monkeypatch):
    """Text encoder, then the transformer with the branch beside it, then the VAE, in every window."""
    moves = []
    names = {id(network): name for name, network in pipe.components.items()}
    before = accelerate.hooks.CpuOffload.pre_forward

    def on(self, module, *args, **kwargs):
        moves.append(names[id(module)])
        return before(self, module, *args, **kwargs)

    monkeypatch.setattr(accelerate.hooks.CpuOffload, "pre_forward", on)
    pipe.enable_model_cpu_offload(device="cpu")
    assert {names[id(hook.model)] for hook in pipe._all_hooks} == {"text_encoder", "transformer", "vae"}
    assert not hasattr(pipe.branch, "_hf_hook")
    for _ in range(2):
        moves.clear()
        assert torch.equal(pipe(**tiny.arguments(**LONG, **TEXT)).frames, expected)
        order = [name for number, name in enumerate(moves) if number == 0 or moves[number - 1] != name]
        assert order == ["text_encoder"] + 2 * ["vae", "transformer"] + ["vae"]


def test_model_offload_without_text_encoder(tiny):
    pipe = tiny.pipeline()
    plain = pipe(**tiny.arguments(output_type="pt")).frames
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert torch.equal(pipe(**tiny.arguments(output_type="pt")).frames, plain)


def test_model_offload_of_a_stream_that_is_left(tiny, pipe):
    """Hooks are freed when the generator is closed, and the next call works."""
    pipe.enable_model_cpu_offload(device="cpu")
    stream = pipe.stream(**tiny.arguments(**LONG, **TEXT))
    next(stream)
    before = list(pipe._all_hooks)
    stream.close()
    assert not set(map(id, before)) & set(map(id, pipe._all_hooks))  # taken off, and put on anew
    assert pipe(**tiny.arguments(**LONG, **TEXT)).frames.shape[1] == 17


def test_sequential_offload(tiny, pipe, expected, plain_cpu):
    pipe.enable_sequential_cpu_offload(device="cpu")
    held = {name for name, tensor in pipe.transformer.named_parameters() if not tensor.is_meta}
    assert not held
    for _ in range(2):
        assert torch.equal(pipe(**tiny.arguments(**LONG, **TEXT)).frames, expected)
    assert all(tensor.is_meta for tensor in pipe.transformer.parameters())
    assert all(tensor.is_meta for tensor in pipe.vae.parameters())


@pytest.mark.parametrize("tiling", [False, True])
def test_sequential_offload_of_a_tiled_vae(tiny, pipe, plain_cpu, tiling):
    if tiling:
        pipe.vae.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=40)
        pipe.vae.enable_slicing()
    plain = pipe(**tiny.arguments(output_type="pt")).frames
    pipe.enable_sequential_cpu_offload(device="cpu")
    assert torch.equal(pipe(**tiny.arguments(output_type="pt")).frames, plain)


def test_pipelines_of_offloaded_components(tiny, pipe, expected_short, plain_cpu):
    """Weights on the meta device are not taken for missing where a hook brings them."""
    pipe.enable_sequential_cpu_offload(device="cpu")
    again = type(pipe)(**pipe.components)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(again(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)


@pytest.mark.parametrize("kind", [{"offload_type": "block_level", "num_blocks_per_group": 2},
                                  {"offload_type": "leaf_level"}], ids=["blocks", "leaves"])  # fmt: skip
def test_group_offload(tiny, pipe, expected_short, kind):
    pipe.enable_group_offload(onload_device=CPU, offload_device=CPU, **kind)
    for name in ("text_encoder", "transformer", "branch", "vae"):
        assert any(hasattr(module, "_diffusers_hook") for module in getattr(pipe, name).modules()), name
    for _ in range(2):
        assert torch.equal(pipe(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)


@pytest.mark.parametrize("kind", [{"offload_type": "block_level", "num_blocks_per_group": 1},
                                  {"offload_type": "leaf_level"}], ids=["blocks", "leaves"])  # fmt: skip
def test_group_offload_to_disk(tiny, pipe, expected_short, tmp_path, kind):
    """Between uses parameters are empty, so every use needs its hook, and a file of its own."""
    pipe.enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_to_disk_path=str(tmp_path), **kind
    )
    weight = pipe.transformer.transformer_blocks[1].attn1.to_q.weight
    for _ in range(2):
        weight.data.fill_(float("nan"))
        assert torch.equal(pipe(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)
    assert {path.name for path in tmp_path.iterdir()} == {"text_encoder", "transformer", "branch", "vae"}


def test_group_offload_of_some(tiny, pipe, expected_short):
    pipe.enable_group_offload(
        onload_device=CPU, num_blocks_per_group=1, exclude_modules=["branch", "text_encoder"]
    )
    hooked = {name for name in ("text_encoder", "transformer", "branch", "vae")
              if any(hasattr(module, "_diffusers_hook") for module in getattr(pipe, name).modules())}  # fmt: skip
    assert hooked == {"transformer", "vae"}
    assert torch.equal(pipe(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)


def test_layerwise_casting(tiny, pipe):
    """Weights in 8 bits, computing in bfloat16: frames near those of bfloat16, weights still in 8 bits."""
    pipe.to(torch.bfloat16)
    plain = pipe(**tiny.arguments(output_type="pt")).frames.float()
    for network in (pipe.transformer, pipe.branch):
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    for _ in range(2):
        frames = pipe(**tiny.arguments(output_type="pt")).frames.float()
        assert frames.isfinite().all() and (frames - plain).abs().mean() < 0.15
    for network in (pipe.transformer, pipe.branch):
        assert network.transformer_blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn


@pytest.mark.parametrize("last", ["model", "sequential"])
def test_one_way_after_the_other(tiny, pipe, expected_short, plain_cpu, last):
    order = ["enable_model_cpu_offload", "enable_sequential_cpu_offload"]
    for name in order if last == "sequential" else order[::-1]:
        getattr(pipe, name)(device="cpu")
    assert torch.equal(pipe(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)
    pipe.remove_all_hooks()
    assert torch.equal(pipe(**tiny.arguments(**SHORT, **TEXT)).frames, expected_short)
