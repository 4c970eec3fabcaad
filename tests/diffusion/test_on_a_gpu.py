"""What moves weights and tensors between host and GPU changes no number: on a GPU as on the CPU, in every mode.

Everything is in float32 here. The two differ in the order of sums: a hundredth of a grey level is far above that, and
far below what a weight that has not arrived yet would do.
"""

import pytest
import torch

from videopainter.diffusion import memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
CLOSE = 0.01 / 255
LONG = {"frames": 17, "id_pool": True, "prev_clip_weight": 0.5, "output_type": "pt", "num_inference_steps": 4}


@pytest.fixture(autouse=True)
def exact_products():
    """Without TensorFloat-32 in convolutions."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def pipeline(tiny):
    """The tiny one, with a VAE whose tiles begin at whole latents."""
    vae = tiny.make("vae")
    tiled = type(vae).from_config({**vae.config, "sample_height": 96, "sample_width": 160}).eval()
    tiled.load_state_dict(vae.state_dict())
    return tiny.pipeline(vae=tiled)


def painted(tiny, device: str, mode: str, cache: str = "none", folder=None, compiled: bool = False):
    pipe = pipeline(tiny)
    memory.place(pipe, mode, torch.device(device), cache, folder)
    if compiled:
        memory.compile_blocks(pipe)
    first = pipe(**tiny.arguments(**LONG)).frames.cpu()
    again = pipe(**tiny.arguments(**LONG)).frames.cpu()  # what the first call left must not matter
    assert torch.equal(first, again)
    return first


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("mode", memory.MODES)
def test_every_mode(tiny, mode):
    assert largest(painted(tiny, "cuda:0", mode), painted(tiny, "cpu", mode)) < CLOSE


@pytest.mark.parametrize("mode", ["low", "minimum"])
def test_blocks_on_a_disk(tiny, mode, tmp_path):
    in_memory, on_disk = painted(tiny, "cuda:0", mode), painted(tiny, "cuda:0", mode, folder=tmp_path)
    assert any(tmp_path.rglob("*")) and torch.equal(in_memory, on_disk)


@pytest.mark.parametrize("mode", ["fast", "low"])
@pytest.mark.parametrize("cache", ["first_block", "broadcast", "taylor"])
def test_caches(tiny, mode, cache):
    assert largest(painted(tiny, "cuda:0", mode, cache), painted(tiny, "cpu", mode, cache)) < CLOSE


def test_compiled(tiny):
    """By PyTorch's own compiler for the GPU."""
    assert largest(painted(tiny, "cuda:0", "fast", compiled=True), painted(tiny, "cpu", "fast")) < CLOSE


def test_half_precision(tiny):
    """The same draws in bfloat16 on both: what its 8 bits do stays a few grey levels on average."""
    here, there = (
        pipeline(tiny).to(device, torch.bfloat16)(**tiny.arguments(**LONG)).frames.float().cpu()
        for device in ("cpu", "cuda:0")
    )
    assert float((here - there).abs().mean()) < 4 / 255
