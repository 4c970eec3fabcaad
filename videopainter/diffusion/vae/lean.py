"""Layers of CogVideoX's VAE that give diffusers' numbers, bit by bit, and keep less in memory.

diffusers (`models/autoencoders/autoencoder_kl_cogvideox.py`) spends most of the decoder's memory on what nobody needs:

1. Causal convolutions keep their last inputs for the next frames: two for a kernel of three frames, none for one. The
   slice for none, ``[-0:]``, is everything, so every 1x1x1 convolution of the spatial norms keeps all of its input.
2. A new cache is made while the old one is still there. Here the old one's memory is written anew.
3. A spatial norm enlarges the latents to the features' size and then convolves them with 1x1x1 kernels, twice. A 1x1x1
   convolution of repeated pixels is the repeated convolution, so here latents are convolved at their own size and
   meet the features by broadcasting, in place.
4. Upsampling holds the enlarged features, a copy of them frame by frame, and the result. Here, on a GPU, a frame at a
   time is enlarged and convolved, and goes into its place in the result. (CPU kernels round otherwise for another
   number of pictures, so on the CPU all frames go at once.)
5. Activations, residual sums and norms are computed in place.

In place only where no gradients are wanted; otherwise diffusers' own code runs.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXDecoder3D,
    CogVideoXEncoder3D,
    CogVideoXResnetBlock3D,
    CogVideoXSpatialNorm3D,
)
from diffusers.models.upsampling import CogVideoXUpsample3D
from torch import nn


def make_lean(vae: AutoencoderKLCogVideoX) -> AutoencoderKLCogVideoX:
    """The same VAE, whose layers are now those of this module; weights, configuration and results stay.

    Layers of other classes than diffusers' own stay as they are. To be called again has no effect.
    """
    for module in vae.modules():
        if type(module) in _LEAN:
            module.__class__ = _LEAN[type(module)]
    return vae


class _CausalConv3d(CogVideoXCausalConv3d):
    def forward(
        self, inputs: torch.Tensor, conv_cache: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if torch.is_grad_enabled() or self.pad_mode == "replicate":
            return super().forward(inputs, conv_cache)
        if self.time_kernel_size == 1:
            return self.conv(inputs), None
        kept = self.time_kernel_size - 1
        inputs = self.fake_context_parallel_forward(inputs, conv_cache)
        last = inputs[:, :, -kept:]
        if conv_cache is None:
            conv_cache = last.clone()
        else:
            conv_cache.copy_(last)
        return self.conv(inputs), conv_cache


class _SpatialNorm3D(CogVideoXSpatialNorm3D):
    def forward(
        self, f: torch.Tensor, zq: torch.Tensor, conv_cache: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict]:
        parts = None if torch.is_grad_enabled() else _matching_parts(f.shape[2:], zq.shape[2:])
        if parts is None or self.conv_y.time_kernel_size > 1:
            return super().forward(f, zq, conv_cache)
        scale, shift = self.conv_y.conv(zq), self.conv_b.conv(zq)
        normed = self.norm_layer(f).contiguous()
        for frames, latents in parts:
            part = _cells(normed[:, :, frames], zq.shape[2:], latents)
            part.mul_(_spread(scale[:, :, latents])).add_(_spread(shift[:, :, latents]))
        return normed, {}


class _ResnetBlock3D(CogVideoXResnetBlock3D):
    def forward(
        self,
        inputs: torch.Tensor,
        temb: torch.Tensor | None = None,
        zq: torch.Tensor | None = None,
        conv_cache: dict[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, dict]:
        plain = isinstance(self.nonlinearity, nn.SiLU) and temb is None and not self.use_conv_shortcut
        if torch.is_grad_enabled() or not plain:
            return super().forward(inputs, temb, zq, conv_cache)
        caches = conv_cache or {}
        hidden, new = self._half(inputs, zq, self.norm1, self.conv1, caches, ("norm1", "conv1"))
        hidden, more = self._half(hidden, zq, self.norm2, self.conv2, caches, ("norm2", "conv2"))
        if self.in_channels != self.out_channels:
            inputs = self.conv_shortcut(inputs)
        return hidden.add_(inputs), {**new, **more}

    def _half(self, hidden, zq, norm, conv, caches, names) -> tuple[torch.Tensor, dict]:
        """Norm, activation and convolution, and their caches."""
        new = {}
        if zq is None:
            hidden = norm(hidden)
        else:
            hidden, new[names[0]] = norm(hidden, zq, conv_cache=caches.get(names[0]))
        hidden = F.silu(hidden, inplace=True)
        hidden, new[names[1]] = conv(hidden, conv_cache=caches.get(names[1]))
        return hidden, new


class _Upsample3D(CogVideoXUpsample3D):
    by_frame: bool | None = None  # None: on a GPU

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        by_frame = inputs.device.type != "cpu" if self.by_frame is None else self.by_frame
        if torch.is_grad_enabled() or not by_frame or self.conv.stride != (1, 1):
            return super().forward(inputs)
        batch, _, frames, height, width = inputs.shape
        repeats = [1] * frames  # how often a frame is shown
        if self.compress_time and frames > 1:
            repeats = [1 if number == 0 and frames % 2 else 2 for number in range(frames)]
        out = inputs.new_empty(batch, self.conv.out_channels, sum(repeats), 2 * height, 2 * width)
        place = 0
        for number, times in enumerate(repeats):
            frame = self.conv(F.interpolate(inputs[:, :, number], scale_factor=2.0))
            out[:, :, place : place + times] = frame[:, :, None]
            place += times
        return out


def _through(network, sample, blocks, temb, latents, conv_cache) -> tuple[torch.Tensor, dict]:
    """The first layer, `blocks` by their names, and the last layers; also what each keeps for the frames to come.

    latents: what the decoder's norms look at; the encoder's look at nothing.
    """
    caches, new = conv_cache or {}, {}
    hidden, new["conv_in"] = network.conv_in(sample, conv_cache=caches.get("conv_in"))
    for name, block in blocks:
        hidden, new[name] = block(hidden, temb, latents, conv_cache=caches.get(name))
    if latents is None:
        hidden = network.norm_out(hidden)
    else:
        hidden, new["norm_out"] = network.norm_out(hidden, latents, conv_cache=caches.get("norm_out"))
    hidden = F.silu(hidden, inplace=True)
    hidden, new["conv_out"] = network.conv_out(hidden, conv_cache=caches.get("conv_out"))
    return hidden, new


class _Decoder3D(CogVideoXDecoder3D):
    def forward(
        self,
        sample: torch.Tensor,
        temb: torch.Tensor | None = None,
        conv_cache: dict[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, dict]:
        if torch.is_grad_enabled():
            return super().forward(sample, temb, conv_cache)
        blocks = [("mid_block", self.mid_block)]
        blocks += [(f"up_block_{number}", block) for number, block in enumerate(self.up_blocks)]
        return _through(self, sample, blocks, temb, sample, conv_cache)


class _Encoder3D(CogVideoXEncoder3D):
    def forward(
        self,
        sample: torch.Tensor,
        temb: torch.Tensor | None = None,
        conv_cache: dict[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, dict]:
        if torch.is_grad_enabled():
            return super().forward(sample, temb, conv_cache)
        blocks = [(f"down_block_{number}", block) for number, block in enumerate(self.down_blocks)]
        return _through(self, sample, [*blocks, ("mid_block", self.mid_block)], temb, None, conv_cache)


_LEAN = {
    CogVideoXCausalConv3d: _CausalConv3d,
    CogVideoXSpatialNorm3D: _SpatialNorm3D,
    CogVideoXResnetBlock3D: _ResnetBlock3D,
    CogVideoXUpsample3D: _Upsample3D,
    CogVideoXDecoder3D: _Decoder3D,
    CogVideoXEncoder3D: _Encoder3D,
}


def _matching_parts(features: torch.Size, latents: torch.Size) -> list[tuple[slice, slice]] | None:
    """Which frames of the features belong to which latent frames; None where one is no multiple of the other.

    An odd number of frames stands for a first one of its own and the rest, as in diffusers.
    """
    if any(size % cell for size, cell in zip(features[1:], latents[1:])):
        return None
    frames, count = features[0], latents[0]
    if frames > 1 and frames % 2 == 1:
        rest = (frames - 1, count - 1)
        parts = [(slice(0, 1), slice(0, 1)), (slice(1, None), slice(1, None))]
    else:
        rest, parts = (frames, count), [(slice(None), slice(None))]
    return parts if rest[1] and rest[0] % rest[1] == 0 else None


def _cells(features: torch.Tensor, grid: torch.Size, latents: slice) -> torch.Tensor:
    """A view of the features by latent pixel, ``[batch, channels, t, in t, h, in h, w, in w]``."""
    batch, channels, frames, height, width = features.shape
    count = len(range(grid[0])[latents])
    view = features.unflatten(4, (grid[2], width // grid[2]))
    view = view.unflatten(3, (grid[1], height // grid[1]))
    return view.unflatten(2, (count, frames // count))


def _spread(latents: torch.Tensor) -> torch.Tensor:
    return latents[:, :, :, None, :, None, :, None]
