"""The lean layers give what diffusers' give, bit by bit, and the VAE keeps its weights and its configuration."""

import copy

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from videopainter.diffusion.vae import lean, make_lean


@pytest.fixture(scope="module")
def pair(tiny):
    plain = tiny.make("vae")
    return plain, make_lean(copy.deepcopy(plain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("latent_frames", [1, 2, 5])
@torch.no_grad()
def test_decode_is_bit_identical(pair, latent_frames, dtype):
    plain, ours = (copy.deepcopy(vae).to(dtype) for vae in pair)
    generator = torch.Generator().manual_seed(latent_frames)
    latents = torch.randn(1, 16, latent_frames, 8, 12, generator=generator).to(dtype)
    assert torch.equal(ours.decode(latents).sample, plain.decode(latents).sample)


@torch.no_grad()
def test_tiles(pair):
    """Of a few latent pixels, for which CPU kernels round otherwise: up to the last digits of float64."""
    plain, ours = (copy.deepcopy(vae).double() for vae in pair)
    for vae in (plain, ours):
        vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=48)
    latents = torch.randn(1, 16, 3, 8, 12, dtype=torch.float64)
    wanted = plain.decode(latents).sample
    assert (ours.decode(latents).sample - wanted).abs().max() < 1e-13 * wanted.abs().max()


@pytest.mark.parametrize("latent_frames", [1, 2, 3])
@torch.no_grad()
def test_upsampling_a_frame_at_a_time(pair, latent_frames, monkeypatch):
    """As on a GPU: other numbers of pictures at once are other kernels, so up to the last digits of float64."""
    plain, ours = (copy.deepcopy(vae).double() for vae in pair)
    monkeypatch.setattr(lean._Upsample3D, "by_frame", True)
    latents = torch.randn(1, 16, latent_frames, 8, 12, dtype=torch.float64)
    wanted = plain.decode(latents).sample
    assert (ours.decode(latents).sample - wanted).abs().max() < 1e-13 * wanted.abs().max()


@pytest.mark.parametrize("frames", [1, 9, 17])
@torch.no_grad()
def test_encode_is_bit_identical(pair, frames):
    plain, ours = pair
    video = torch.rand(1, 3, frames, 32, 48, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    found, wanted = (vae.encode(video).latent_dist.parameters for vae in (ours, plain))
    assert torch.equal(found, wanted)


@torch.no_grad()
def test_with_the_layers_of_the_released_vae():
    """Its widths and its two kinds of upsampling, a few pixels large, in bfloat16 as on a GPU."""
    torch.manual_seed(0)
    plain = AutoencoderKLCogVideoX(block_out_channels=(32, 64, 64, 64), layers_per_block=1).eval()
    ours = make_lean(copy.deepcopy(plain))
    for dtype in (torch.float32, torch.bfloat16):
        latents = torch.randn(1, 16, 5, 4, 6).to(dtype)
        assert torch.equal(ours.to(dtype).decode(latents).sample, plain.to(dtype).decode(latents).sample)


def test_gradients_are_those_of_the_plain_layers(pair):
    plain, ours = pair
    latents = torch.randn(1, 16, 3, 8, 12)
    grads = []
    for vae in (plain, ours):
        given = latents.clone().requires_grad_()
        vae.decode(given).sample.square().sum().backward()
        grads.append(given.grad)
    assert torch.equal(*grads)


@torch.no_grad()
def test_no_cache_for_kernels_of_one_frame(pair):
    _, ours = pair
    latents = torch.randn(1, 16, 2, 8, 12)
    _, caches = ours.decoder(latents)
    _, plain_caches = pair[0].decoder(latents)
    first = caches["up_block_0"]["resnet_0"]
    assert first["norm1"] == {} and set(first) == {"norm1", "conv1", "norm2", "conv2"}
    before = first["conv1"].data_ptr()
    again = ours.decoder(latents, conv_cache=caches)[1]
    assert again["up_block_0"]["resnet_0"]["conv1"].data_ptr() == before  # renewed in place
    assert _bytes(caches) < 0.75 * _bytes(plain_caches)


def _bytes(caches) -> int:
    if isinstance(caches, dict):
        return sum(map(_bytes, caches.values()))
    return 0 if caches is None else caches.nbytes


def test_weights_and_configuration_stay(pair):
    plain, ours = pair
    assert list(plain.state_dict()) == list(ours.state_dict()) and plain.config == ours.config
    assert type(ours) is type(plain) and make_lean(ours) is ours
    kinds = {type(module) for module in ours.modules()}
    assert set(lean._LEAN.values()) <= kinds and not set(lean._LEAN) & kinds
