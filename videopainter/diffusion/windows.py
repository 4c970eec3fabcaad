"""Videos longer than the network sees at once: where windows lie, and how their latents are blended into one."""

from dataclasses import dataclass
from typing import Any

import torch

from videopainter.diffusion.policy import OWN, Policy

FRAMES_PER_LATENT = 4  # in CogVideoX's VAE; only the first latent frame stands for a single frame


@dataclass(frozen=True)
class WindowPlan:
    """Windows over a video, all of the same length.

    frames: of the video. length: frames of a window. stride: frames from one window's start to the next one's.
    count: windows. shared: latent frames that two neighbours have in common. fixed_end: whether the result ends
    with the video; otherwise with the last window.
    """

    frames: int
    length: int
    stride: int
    count: int
    shared: int
    fixed_end: bool = True

    @property
    def latent_length(self) -> int:
        """Latent frames of a window."""
        return (self.length - 1) // FRAMES_PER_LATENT + 1

    @property
    def total_latents(self) -> int:
        """Latent frames of all windows together."""
        return self.latent_length + (self.count - 1) * (self.latent_length - self.shared)

    @property
    def starts_with_single_frame(self) -> bool:
        """Whether the first latent frame decodes to one frame.

        The VAE decodes pairs, and so makes of an even number four frames each. Ours is filled up to an odd one,
        so that it always stays in step with the video.
        """
        return self.fixed_end or self.total_latents % 2 == 1

    @property
    def decoded_latents(self) -> int:
        """`total_latents`, filled up to what stays in step with the video."""
        return self.total_latents + (self.starts_with_single_frame and self.total_latents % 2 == 0)

    def frames_of(self, number: int) -> range:
        """Frames of one window; the last ones may lie beyond the video's end."""
        return range(number * self.stride, number * self.stride + self.length)

    def decoded_frames(self, latents: int) -> int:
        """Frames that so many latent frames from the start decode to."""
        return FRAMES_PER_LATENT * latents - (FRAMES_PER_LATENT - 1) * self.starts_with_single_frame

    def output_length(self, latent: bool) -> int:
        """Frames of the result; latent frames if ``latent``."""
        if self.fixed_end:
            return (self.frames - 1) // FRAMES_PER_LATENT + 1 if latent else self.frames
        return self.total_latents if latent else self.decoded_frames(self.total_latents)


def plan_windows(frames: int, length: int, overlap: int, policy: Policy = OWN) -> WindowPlan:
    """Windows that cover a video of ``frames`` frames, the last one over its end if need be.

    Latent frames after the first stand for four frames each, so windows stay in step with the video only if
    (length - 1) and (overlap - 1) are multiples of 4; others are a ValueError, but for
    ``policy.whole_windows_only``.
    """
    if frames < 1:
        raise ValueError("The video has no frames.")
    stride, step = length - overlap, FRAMES_PER_LATENT
    if policy.whole_windows_only:
        if stride < 1 or overlap < 0:
            raise ValueError(f"`overlap` has to be from 0 to {length - 1} but is {overlap}.")
        if frames < length:
            raise ValueError(
                f"With `match_reference` a video needs {length} frames or more; it has {frames}."
            )
        count = (frames - length) // stride + 1
        return WindowPlan(frames, length, stride, count, overlap // step + 1, fixed_end=False)
    if length < step + 1 or (length - 1) % step:
        raise ValueError(f"`window` has to be one more than a multiple of {step} but is {length}.")
    if not 1 <= overlap < length or (overlap - 1) % step:
        raise ValueError(
            f"`overlap` has to be one more than a multiple of {step} (1, 5, 9, ...) and less than `window`"
            f" ({length}) but is {overlap}."
        )
    count = max(1, -(-(frames - overlap) // stride))
    return WindowPlan(frames, length, stride, count, (overlap - 1) // step + 1)


class LatentBlender:
    """Joins the latents of windows, and gives out what later windows cannot change any more.

    Where windows overlap, the new one is faded in; its first latent frame gets no weight, because it stands for
    one frame where the latents before it have four. ``average`` takes the mean of all windows instead.
    """

    def __init__(self, plan: WindowPlan, average: bool = False):
        self._advance = plan.latent_length - plan.shared
        self._shared = plan.shared
        self._average = average
        self._open: torch.Tensor | None = None  # latents that the next window reaches, summed or faded
        self._counts: list[int] = []  # how many windows each of them is made of

    def push(self, latents: torch.Tensor, last: bool) -> torch.Tensor:
        """Take ``[batch, latent frames, channels, height, width]`` of the next window; give what is final."""
        length = latents.shape[1]
        merged, counts = latents.clone(), [1] * length
        if self._open is not None:
            for index in range(self._shared):
                before, now = self._open[:, index], latents[:, index]
                if self._average:
                    merged[:, index] = before + now
                    counts[index] += self._counts[index]
                else:
                    merged[:, index] = torch.lerp(before, now, index / self._shared)
        final = length if last else self._advance
        self._open, self._counts = merged[:, final:], counts[final:]
        done = merged[:, :final]
        if self._average:
            weights = torch.tensor(counts[:final], device=done.device, dtype=done.dtype)
            done = done / weights[:, None, None, None]
        return done


@dataclass(frozen=True)
class StreamState:
    """What a call of the pipeline has come to between two windows; another call can go on from there.

    number: of the next window. blender, cutter, decoder: `LatentBlender`, `OutputCutter` and `StreamingDecoder` (None
    where latents are the result), not used any more but as copies. id_pool, first_latents: what the next window takes
    from the one before. generators: states of the call's generators.
    """

    number: int
    blender: LatentBlender
    cutter: Any
    decoder: Any
    id_pool: Any
    first_latents: torch.Tensor
    generators: tuple[torch.Tensor, ...]
