"""The streaming decoder gives what the VAE gives for the whole timeline at once, bit by bit."""

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from videopainter.diffusion.vae.decode import StreamingDecoder


def streamed(vae, latents, sizes):
    decoder = StreamingDecoder(vae, latents.shape[2])
    parts = [decoder.push(part) for part in latents.split(sizes, dim=2)]
    return [part for part in parts if part is not None]


@pytest.fixture(scope="module")
def vae(tiny):
    return tiny.make("vae")


@pytest.mark.parametrize("sizes", [[1], [2], [3], [7], [1] * 7, [2, 2, 2], [3, 1, 4], [4, 4]])
@torch.no_grad()
def test_pieces_of_any_size(vae, sizes):
    latents = torch.randn(2, 16, sum(sizes), 8, 12, generator=torch.Generator().manual_seed(sum(sizes)))
    parts = streamed(vae, latents, sizes)
    assert torch.equal(torch.cat(parts, dim=2), vae.decode(latents).sample)


@pytest.mark.parametrize("slicing", [False, True])
@torch.no_grad()
def test_tiles_and_slices(tiny, slicing):
    vae = tiny.make("vae")
    vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=48)
    if slicing:
        vae.enable_slicing()
    latents = torch.randn(2, 16, 5, 8, 12, generator=torch.Generator().manual_seed(1))
    parts = streamed(vae, latents, [1, 2, 2])
    assert torch.equal(torch.cat(parts, dim=2), vae.decode(latents).sample)


@torch.no_grad()
def test_frames_come_as_soon_as_they_can(vae):
    decoder = StreamingDecoder(vae, 5)
    latents = torch.randn(1, 16, 5, 8, 12)
    assert decoder.push(latents[:, :, :2]) is None  # three are needed at the start, for their number is odd
    assert decoder.push(latents[:, :, 2:4]).shape[2] == 9
    assert decoder.push(latents[:, :, 4:]).shape[2] == 8


@torch.no_grad()
def test_the_offloading_hook_is_called(tiny):
    """`vae.decode` calls it too: it brings the VAE to the device under model offload."""

    class Hook(ModelHook):
        called = 0

        def pre_forward(self, module, *args, **kwargs):
            Hook.called += 1
            return args, kwargs

    vae = add_hook_to_module(tiny.make("vae"), Hook())
    StreamingDecoder(vae, 3).push(torch.randn(1, 16, 3, 8, 12))
    assert Hook.called == 1
