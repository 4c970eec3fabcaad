"""CogVideoX's VAE decoder over a stream of latents, so that the decoded video need not fit anywhere as a whole."""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKLCogVideoX

from videopainter.diffusion.windows import WindowPlan


class StreamingDecoder:
    """Gives, piece by piece, exactly what ``vae.decode`` gives for the whole video.

    The VAE decodes two latent frames at a time (the first time three, if their number is odd) and hands the
    last inputs of its causal convolutions on to the next pair. Here those are kept between calls, for every tile
    where tiling is on. ``total`` is the number of latent frames to come.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, total: int):
        self.vae = vae
        self._pair = vae.num_latent_frames_batch_size
        self._next = min(total, self._pair + total % self._pair)
        self._waiting: torch.Tensor | None = None
        self._caches: dict[tuple[int, int, int], dict] = {}

    def push(self, latents: torch.Tensor) -> torch.Tensor | None:
        """Frames ``[batch, 3, frames, height, width]`` that can be decoded now, or None.

        latents: ``[batch, channels, latent frames, height, width]``, divided by the VAE's scaling factor.
        """
        waiting = latents if self._waiting is None else torch.cat([self._waiting, latents], dim=2)
        frames = []
        while waiting.shape[2] >= self._next:
            frames.append(self._decode(waiting[:, :, : self._next]))
            waiting = waiting[:, :, self._next :]
            self._next = self._pair
        self._waiting = waiting if waiting.shape[2] else None
        return torch.cat(frames, dim=2) if frames else None

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        hook = getattr(self.vae, "_hf_hook", None)
        if hook is not None and hasattr(hook, "pre_forward"):  # model offload: as `vae.decode` does it
            hook.pre_forward(self.vae)
        if self.vae.use_slicing and latents.shape[0] > 1:
            return torch.cat([self._one(part, number) for number, part in enumerate(latents.split(1))])
        return self._one(latents, 0)

    def _one(self, latents: torch.Tensor, number: int) -> torch.Tensor:
        vae = self.vae
        height, width = latents.shape[3:]
        if not vae.use_tiling or (
            height <= vae.tile_latent_min_height and width <= vae.tile_latent_min_width
        ):
            return self._tile(latents, (number, 0, 0))
        step_y = int(vae.tile_latent_min_height * (1 - vae.tile_overlap_factor_height))
        step_x = int(vae.tile_latent_min_width * (1 - vae.tile_overlap_factor_width))
        blend_y = int(vae.tile_sample_min_height * vae.tile_overlap_factor_height)
        blend_x = int(vae.tile_sample_min_width * vae.tile_overlap_factor_width)
        rows: list[list[torch.Tensor]] = []
        for y in range(0, height, step_y):
            row = []
            for x in range(0, width, step_x):
                tile = latents[:, :, :, y : y + vae.tile_latent_min_height, x : x + vae.tile_latent_min_width]
                row.append(self._tile(tile, (number, y, x)))
            rows.append(row)
        joined = []
        for i, row in enumerate(rows):
            for j, tile in enumerate(row):
                if i > 0:
                    tile = vae.blend_v(rows[i - 1][j], tile, blend_y)
                if j > 0:
                    tile = vae.blend_h(row[j - 1], tile, blend_x)
                row[j] = tile
            cut_y, cut_x = vae.tile_sample_min_height - blend_y, vae.tile_sample_min_width - blend_x
            joined.append(torch.cat([tile[:, :, :, :cut_y, :cut_x] for tile in row], dim=4))
        return torch.cat(joined, dim=3)

    def _tile(self, latents: torch.Tensor, place: tuple[int, int, int]) -> torch.Tensor:
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        frames, self._caches[place] = self.vae.decoder(latents, conv_cache=self._caches.get(place))
        return frames


class OutputCutter:
    """Cuts final latents, or the frames decoded from them, to the length that the result has to have.

    decode: takes ``[batch, latent frames, 16, h, w]`` and gives the frames that can be decoded now,
    ``[batch, 3, frames, height, width]``, or None; without it the latents are the result.
    """

    def __init__(self, plan: WindowPlan, decode: Callable[[torch.Tensor], torch.Tensor | None] | None = None):
        self._plan = plan
        self._decode = decode
        self._end = plan.output_length(latent=decode is None)
        self._taken = 0  # latent frames
        self._given = 0  # frames of the result

    def push(self, latents: torch.Tensor, last: bool) -> torch.Tensor | None:
        """The next part of the result, from the next latents; None if there is none yet."""
        self._taken += latents.shape[1]
        if last:  # perhaps too early, after an interruption
            made = self._taken if self._decode is None else self._plan.decoded_frames(self._taken)
            self._end = min(self._end, made)
            if self._taken % 2 != self._plan.starts_with_single_frame:
                latents = torch.cat([latents, latents[:, -1:]], dim=1)
        part, dim = (latents, 1) if self._decode is None else (self._decode(latents), 2)
        if part is None:
            return None
        part = part.narrow(dim, 0, min(self._end - self._given, part.shape[dim]))
        self._given += part.shape[dim]
        return part if part.shape[dim] else None
