"""CogVideoX's VAE decoder over a stream of latents, so that the decoded video need not fit anywhere as a whole."""

from collections.abc import Callable
from copy import copy

import torch
from diffusers import AutoencoderKLCogVideoX

from videopainter.diffusion.memory.host import Parked
from videopainter.diffusion.windows import FRAMES_PER_LATENT, WindowPlan


class StreamingDecoder:
    """Gives, piece by piece, exactly what ``vae.decode`` gives for the whole video.

    The VAE decodes two latent frames at a time (the first time three, if their number is odd) and hands the
    last inputs of its causal convolutions on to the next pair. Here those are kept between calls, for every tile
    where tiling is on: on a GPU in the host's memory, as they take gigabytes while other networks work. A tile
    goes through all latents that there are before the next one, so that one tile has its caches there at a time.
    ``total`` is the number of latent frames to come.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, total: int):
        self.vae = vae
        self._pair = vae.num_latent_frames_batch_size
        self._next = min(total, self._pair + total % self._pair)
        self._left = total
        self._waiting: torch.Tensor | None = None
        self._caches: dict[tuple[int, int, int], Parked] = {}  # by row of the batch and corner of the tile
        self._made: dict[tuple[int, int, int], Parked] = {}  # for the next call
        self._more = True  # whether there is a next call
        self._whole: tuple[int, int] | None = (
            None  # size of the latents, where caches are of the whole picture
        )

    def push(self, latents: torch.Tensor) -> torch.Tensor | None:
        """Frames ``[batch, 3, frames, height, width]`` that can be decoded now, or None.

        latents: ``[batch, channels, latent frames, height, width]``, divided by the VAE's scaling factor.
        """
        waiting = latents if self._waiting is None else torch.cat([self._waiting, latents], dim=2)
        pieces, left, size = [], self._left, self._next
        while waiting.shape[2] >= size:
            pieces.append(waiting[:, :, :size])
            waiting = waiting[:, :, size:]
            left, size = left - size, self._pair
        if not pieces:
            self._waiting = waiting
            return None
        self._made, self._more = {}, left > 0
        frames = self._decode(pieces)
        # Only now, so that a decoder that was left in the middle (for want of memory) can be copied and used again.
        self._waiting = waiting if waiting.shape[2] else None
        self._left, self._next = left, self._pair
        self._caches, self._made = self._made, {}
        tiled = any(place[1:] != (0, 0) for place in self._caches)
        self._whole = None if tiled else tuple(latents.shape[3:])
        return frames

    def _decode(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        hook = getattr(self.vae, "_hf_hook", None)
        if hook is not None and hasattr(hook, "pre_forward"):  # model offload: as `vae.decode` does it
            hook.pre_forward(self.vae)
        batch = pieces[0].shape[0]
        if self.vae.use_slicing and batch > 1:
            rows = [[piece[row : row + 1] for piece in pieces] for row in range(batch)]
            return torch.cat([self._one(row, number) for number, row in enumerate(rows)])
        return self._one(pieces, 0)

    def _one(self, pieces: list[torch.Tensor], number: int) -> torch.Tensor:
        vae = self.vae
        height, width = pieces[0].shape[3:]
        tile_height, tile_width = vae.tile_latent_min_height, vae.tile_latent_min_width
        if not vae.use_tiling or (height <= tile_height and width <= tile_width):
            return self._tile(pieces, (number, 0, 0))
        step_y = int(tile_height * (1 - vae.tile_overlap_factor_height))
        step_x = int(tile_width * (1 - vae.tile_overlap_factor_width))
        blend_y = int(vae.tile_sample_min_height * vae.tile_overlap_factor_height)
        blend_x = int(vae.tile_sample_min_width * vae.tile_overlap_factor_width)
        rows: list[list[torch.Tensor]] = []
        for y in range(0, height, step_y):
            row = []
            for x in range(0, width, step_x):
                tile = [piece[:, :, :, y : y + tile_height, x : x + tile_width] for piece in pieces]
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

    def _tile(self, pieces: list[torch.Tensor], place: tuple[int, int, int]) -> torch.Tensor:
        cache = self._fetch(place, pieces[0].shape[3:])
        frames = []
        for latents in pieces:
            if self.vae.post_quant_conv is not None:
                latents = self.vae.post_quant_conv(latents)
            part, cache = self.vae.decoder(latents, conv_cache=cache)
            frames.append(part)
        if self._more:
            self._made[place] = Parked(cache)
        del cache
        return torch.cat(frames, dim=2)

    def _fetch(self, place: tuple[int, int, int], size: torch.Size):
        """The caches of a tile; cut out of those of the whole picture if tiling was switched on since."""
        if place in self._caches:
            height, width = size
            whole = self._whole if place[1:] == (0, 0) else None
            if whole is None or whole == (height, width):
                return self._caches[place].fetch()
        parked = self._caches.get((place[0], 0, 0))
        if parked is None or self._whole is None:
            return None
        (_, y, x), (height, width), (rows, columns) = place, size, self._whole

        def cut(tensor: torch.Tensor) -> torch.Tensor:
            down, right = tensor.shape[-2] // rows, tensor.shape[-1] // columns
            return tensor[..., y * down : (y + height) * down, x * right : (x + width) * right]

        return parked.fetch(cut)


class OutputCutter:
    """Cuts final latents, or the frames decoded from them, to the length that the result has to have.

    decode: takes ``[batch, latent frames, 16, h, w]`` and gives the frames that can be decoded now,
    ``[batch, 3, frames, height, width]``, or None; without it the latents are the result.
    needed: of how many latent frames it gets to see; those after them are ``read``: takes a range of frames and gives
    them in the same form.
    """

    def __init__(
        self,
        plan: WindowPlan,
        decode: Callable[[torch.Tensor], torch.Tensor | None] | None = None,
        needed: int | None = None,
        read: Callable[[range], torch.Tensor] | None = None,
    ):
        self._plan = plan
        self.decode, self.read = decode, read
        self._needed = plan.decoded_latents if needed is None else needed
        self._end = plan.output_length(latent=decode is None)
        self._taken = 0  # latent frames
        self._given = 0  # frames of the result

    def parked(self) -> "OutputCutter":
        """A copy for later, which does not hold on to the video; give it a ``read`` before it is used."""
        kept = copy(self)
        kept.read = None
        return kept

    def push(self, latents: torch.Tensor, last: bool) -> torch.Tensor | None:
        """The next part of the result, from the next latents; None if there is none yet."""
        before = self._taken
        self._taken += latents.shape[1]
        if last:  # perhaps too early, after an interruption
            made = self._taken if self.decode is None else self._plan.decoded_frames(self._taken)
            self._end = min(self._end, made)
            if self._taken % 2 != self._plan.starts_with_single_frame:
                latents = torch.cat([latents, latents[:, -1:]], dim=1)
        part, dim = (latents, 1) if self.decode is None else (self._frames(latents, before), 2)
        if part is None:
            return None
        part = part.narrow(dim, 0, min(self._end - self._given, part.shape[dim]))
        self._given += part.shape[dim]
        return part if part.shape[dim] else None

    def _frames(self, latents: torch.Tensor, before: int) -> torch.Tensor | None:
        """Decoded, or read, where nothing is left to decode; before: how many latent frames went ahead."""
        decoded = latents[:, : max(0, self._needed - before)]
        count = decoded.shape[1]
        made = self.decode(decoded) if count else None
        if count == latents.shape[1]:
            return made
        first = self._plan.decoded_frames(before + count) if before + count else 0
        frames = self.read(range(first, self._plan.decoded_frames(before + latents.shape[1])))
        frames = frames.repeat_interleave(len(latents) // len(frames), 0)
        return frames if made is None else torch.cat([made, frames.to(made)], dim=2)


def latents_to_decode(last: int | None, plan: WindowPlan) -> int:
    """Of how many latent frames the frames up to number ``last`` are decoded; None: none.

    The decoder hands the inputs of its convolutions on from pair to pair, so that no pair can be left out before one
    that is needed; but after the last one all can.
    """
    if last is None:
        return 0
    needed = 1 + -(-last // FRAMES_PER_LATENT)
    odd = plan.decoded_latents % 2
    needed = max(needed, 2 + odd)
    return min(plan.decoded_latents, needed + (needed - odd) % 2)
