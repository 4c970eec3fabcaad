"""Memory modes: which one is taken, and that each of them still paints the same picture, or nearly."""

import numpy as np
import pytest
import torch
from diffusers.hooks import HookRegistry

from videopainter.diffusion import VideoPainterEngine, VideoPainterPipeline, memory
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource

GIB = 2**30


@pytest.mark.parametrize(
    "asked, free, mode",
    [
        ("auto", 79 * GIB, "fast"),
        ("auto", 34 * GIB, "fast"),
        ("auto", 31 * GIB, "balanced"),  # a card of 32 GB
        ("auto", 23 * GIB, "low"),
        ("auto", 11 * GIB, "low"),
        ("auto", None, "fast"),
        ("fast", 8 * GIB, "fast"),
        ("low", 79 * GIB, "low"),
    ],
)
def test_the_mode_for_the_free_memory(asked, free, mode):
    chosen, why = memory.choose_mode(asked, free)
    assert chosen == mode and why
    if asked == "auto" and free:
        assert f"{free / GIB:.1f} GiB" in why


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="auto, fast, balanced or low, not 'big'"):
        memory.choose_mode("big", None)


def test_the_modes_below():
    assert [memory.lower_mode(mode) for mode in memory.MODES] == ["balanced", "low", None]


class Recorder:
    """Takes any call, and keeps (name, keyword arguments) of it in order; `parts` are recorders below it."""

    def __init__(self, *parts, calls=None, name=""):
        self.calls, self._name = [] if calls is None else calls, name
        for part in parts:
            setattr(self, part, Recorder(calls=self.calls, name=f"{name}{part}."))

    def __getattr__(self, method):
        def call(*args, **kwargs):
            self.calls.append((self._name + method, args, kwargs))

        return call


@pytest.mark.parametrize("mode", memory.MODES)
def test_what_a_mode_does_on_a_gpu(mode):
    """Which of diffusers' switches are used; that they work on a GPU takes a GPU."""
    pipe, device = Recorder("vae", "transformer", "branch"), torch.device("cuda:0")
    pipe.transformer.dtype = torch.bfloat16
    memory.place(pipe, mode, device)
    names = [name for name, _, _ in pipe.calls]
    tiles = ["vae.enable_slicing", "vae.enable_tiling"]
    if mode == "fast":
        assert pipe.calls == [("to", (device,), {})]
    elif mode == "balanced":
        assert names == [*tiles, "enable_model_cpu_offload"] and pipe.calls[-1][2] == {"device": device}
    else:
        casts = ["transformer.enable_layerwise_casting", "branch.enable_layerwise_casting"]
        assert names == [*tiles, *casts, "transformer.enable_group_offload", "vae.to", "branch.to"]
        assert pipe.calls[2][1] == (torch.float8_e4m3fn, torch.bfloat16)
        offload = pipe.calls[4][2]
        assert offload["onload_device"] == device and offload["use_stream"] and offload["record_stream"]


def test_the_text_encoder_leaves_the_gpu():
    network, device = Recorder(), torch.device("cuda:0")
    with memory.temporarily_on_device(network, "balanced", device):
        assert network.calls == [("to", (device,), {})]
    assert network.calls[1:] == [("to", ("cpu",), {})]


def paint(clip, watch=lambda pipe: None, **options):
    """Frames of the engine, and the pipeline that it called; `watch` gets that before it begins."""
    engine = VideoPainterEngine(num_inference_steps=3, first_frame="none", **options)
    pipes, stream = [], VideoPainterPipeline.stream

    def called(pipe, *args, **kwargs):
        pipes.append(pipe)
        watch(pipe)
        return stream(pipe, *args, **kwargs)

    frames, masks = clip.frames[:9, 40:104, 40:136], clip.masks[:9, 40:104, 40:136]
    arguments = {"prompt": "a red wall", "generator": np.random.default_rng(0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoPainterPipeline, "stream", called)
        out = list(engine(ArraySource(frames, 8), MaskTrack.from_array(masks), **arguments))
    return np.stack(out).astype(int), pipes[0]


@pytest.fixture(scope="module")
def module_cpu(weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEOPAINTER_CKPT", str(weights))
        patch.setenv("VIDEOPAINTER_DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def fast(module_cpu, clip):
    return paint(clip, memory="fast", id_adapter=True)[0]


@pytest.fixture(scope="module")
def balanced(module_cpu, clip):
    return paint(clip, memory="balanced", id_adapter=True)


def test_balanced_works_in_slices_and_tiles(fast, balanced):
    frames, pipe = balanced
    assert pipe.vae.use_slicing and pipe.vae.use_tiling
    assert not np.array_equal(frames, fast)  # tiles are smaller than the picture


def test_low_stores_8_bits_and_streams_the_blocks(clip, balanced):
    frames, pipe = paint(clip, memory="low", id_adapter=True)
    weight = pipe.transformer.transformer_blocks[0].ff.net[0].proj.weight
    assert weight.dtype == torch.float8_e4m3fn
    assert pipe.transformer.patch_embed.proj.weight.dtype == torch.float32  # patches and norms keep theirs
    assert pipe.branch.branch_blocks[0].weight.dtype == torch.float8_e4m3fn
    block = pipe.transformer.transformer_blocks[1]
    assert HookRegistry.check_if_exists_or_initialize(block).get_hook("group_offloading") is not None
    difference = np.abs(frames - balanced[0]).mean()
    assert 0 < difference < 8  # what 3 bits of mantissa do


def test_the_text_encoder_can_visit_layer_by_layer(weights):
    """The mode low for real needs a GPU; the hooks that it puts on T5 are the same between CPU and CPU."""
    from diffusers.hooks import apply_group_offloading
    from transformers import T5EncoderModel

    folder = weights / "CogVideoX-5b-I2V/text_encoder"
    plain, visiting = (T5EncoderModel.from_pretrained(folder) for _ in range(2))
    apply_group_offloading(visiting, torch.device("cpu"), torch.device("cpu"), "leaf_level")
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        assert torch.equal(plain(ids)[0], visiting(ids)[0])


def test_first_block_cache_leaves_steps_out(module_cpu, clip, monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "CACHE_THRESHOLD", 1e9)  # every step is like the one before

    def count(pipe):
        pipe.transformer.transformer_blocks[2].attn1.register_forward_pre_hook(lambda *_: calls.append(1))

    frames, pipe = paint(clip, count, cache="first_block")
    assert pipe.transformer.is_cache_enabled and len(calls) == 1
    assert frames.shape == (9, 64, 96, 3)


def test_an_unknown_cache():
    with pytest.raises(ValueError, match="none or first_block, not 'all'"):
        memory.speed_up(None, False, "all")


def test_compiled_blocks_paint_the_same(module_cpu, clip, fast, monkeypatch):
    """With TorchDynamo's own backend: what a compiler makes of a block is the compiler's business."""
    from diffusers import ModelMixin

    real, compiled = ModelMixin.compile_repeated_blocks, []

    def compile_blocks(network):
        compiled.append(type(network).__name__)
        real(network, backend="eager")

    monkeypatch.setattr(ModelMixin, "compile_repeated_blocks", compile_blocks)
    frames, _ = paint(clip, memory="fast", id_adapter=True, compile=True)
    assert compiled == ["VideoPainterTransformer3DModel", "VideoPainterBranchModel"]
    assert np.abs(frames - fast).max() <= 1
    paint(clip, memory="low", compile=True)
    assert len(compiled) == 2  # weights that come and go are not compiled
