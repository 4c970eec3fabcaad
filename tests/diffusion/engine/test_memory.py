"""Memory modes: which one is taken, and that each of them still paints the same picture, or nearly."""

import numpy as np
import pytest
import torch

from videopainter.diffusion import VideoPainterEngine, VideoPainterPipeline, memory
from videopainter.diffusion.memory.offload import forget
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource

GIB = 2**30


@pytest.mark.parametrize(
    "asked, free, mode",
    [
        ("auto", 79 * GIB, "fast"),
        ("auto", 31 * GIB, "fast"),  # a card of 32 GB
        ("auto", 23 * GIB, "fast"),  # of 24 GB
        ("auto", 15.5 * GIB, "balanced"),  # of 16 GB
        ("auto", 11.5 * GIB, "low"),  # of 12 GB
        ("auto", 7.5 * GIB, "low"),  # of 8 GB
        ("auto", 5.5 * GIB, "low"),  # of 6 GB
        ("auto", 4.6 * GIB, "minimum"),
        ("auto", 2 * GIB, "minimum"),  # nothing is left to try
        ("auto", None, "fast"),
        ("fast", 8 * GIB, "fast"),
        ("low", 79 * GIB, "low"),
    ],
)
def test_the_mode_for_the_free_memory(asked, free, mode):
    chosen, why = memory.choose_mode(asked, free)
    assert chosen == mode and why
    if asked == "auto" and free:
        assert f"{free / GIB:.1f} GiB" in why and "1 window and a hole of 25%" in why


def test_the_mode_depends_on_hole_and_length():
    """A pool of many tokens stays on the GPU in the mode fast, with that of the window before from the third one on."""
    free = 23 * GIB
    modes = {}
    for hole in (0.2, 1.0):
        for windows in (1, 3):
            work = memory.Work(hole, windows, id_pool=True, carries=True)
            modes[hole, windows] = memory.choose_mode("auto", free, work)[0]
    assert modes == {(0.2, 1): "fast", (0.2, 3): "fast", (1.0, 1): "fast", (1.0, 3): "balanced"}
    everything = memory.Work(0.2, 3, id_pool=False, carries=True)  # without resampling all tokens are kept
    assert memory.choose_mode("auto", free, everything)[0] == "balanced"


def test_needs_fall_from_mode_to_mode():
    for work in (memory.Work(), memory.Work(1.0, 9, True, True)):
        needs = [memory.bytes_needed(mode, work) for mode in memory.MODES]
        assert needs == sorted(needs, reverse=True)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="auto, fast, balanced, low or minimum, not 'big'"):
        memory.choose_mode("big", None)


def test_the_modes_below():
    assert [memory.lower_mode(mode) for mode in memory.MODES] == ["balanced", "low", "minimum", None]


def test_the_text_encoder_is_forgotten():
    """Not copied back: its weights are empty, whoever else holds on to it."""
    network = torch.nn.Linear(3, 4)
    forget(network)
    assert all(tensor.numel() == 0 for tensor in network.parameters())
    with memory.temporarily_on_device(torch.nn.Linear(3, 4), "fast", torch.device("cpu")):
        pass


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


@pytest.mark.parametrize("mode", ["low", "minimum"])
def test_8_bits_are_stored(clip, balanced, mode):
    frames, pipe = paint(clip, memory=mode, id_adapter=True)
    weight = pipe.transformer.transformer_blocks[0].ff.net[0].proj.weight
    assert weight.dtype == torch.float8_e4m3fn
    assert pipe.transformer.patch_embed.proj.weight.dtype == torch.float32  # patches and norms keep theirs
    assert pipe.branch.branch_blocks[0].weight.dtype == torch.float8_e4m3fn
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
    monkeypatch.setattr(memory.modes, "CACHE_THRESHOLD", 1e9)  # every step is like the one before

    def count(pipe):
        pipe.transformer.transformer_blocks[2].attn1.register_forward_pre_hook(lambda *_: calls.append(1))

    frames, pipe = paint(clip, count, cache="first_block")
    assert pipe.transformer.is_cache_enabled and len(calls) == 1
    assert frames.shape == (9, 64, 96, 3)


def test_an_unknown_cache():
    with pytest.raises(ValueError, match="none, first_block, broadcast or taylor, not 'all'"):
        memory.enable_cache(None, "all")


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
