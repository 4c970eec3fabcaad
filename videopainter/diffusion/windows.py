"""Videos longer than the network sees at once: where windows lie, and how their latents become one timeline."""

from dataclasses import dataclass

import torch

RATIO = 4  # frames to a latent frame in CogVideoX's VAE; the first latent frame stands for one frame


@dataclass(frozen=True)
class WindowPlan:
    """Windows over a video, all of the same length.

    frames: of the video. length: frames of a window. stride: frames from one window's start to the next one's.
    count: windows. shared: latent frames that two neighbours have in common.
    """

    frames: int
    length: int
    stride: int
    count: int
    shared: int

    @property
    def latent_length(self) -> int:
        """Latent frames of a window."""
        return (self.length - 1) // RATIO + 1

    @property
    def total_latents(self) -> int:
        """Latent frames of all windows together."""
        return self.latent_length + (self.count - 1) * (self.latent_length - self.shared)

    def frames_of(self, number: int) -> range:
        """Frames of one window; the last ones may lie beyond the video's end."""
        return range(number * self.stride, number * self.stride + self.length)


def plan_windows(frames: int, length: int, overlap: int, match_reference: bool = False) -> WindowPlan:
    """Windows that cover a video of ``frames`` frames, the last one over its end if need be.

    Latent frames after the first stand for four frames each, so windows stay in step with the timeline only if
    (length - 1) and (overlap - 1) are multiples of 4; others are a ValueError. ``match_reference`` takes any
    lengths and leaves out the frames that do not fill a window, as the reference does.
    """
    if frames < 1:
        raise ValueError("The video has no frames.")
    stride = length - overlap
    if match_reference:
        if stride < 1 or overlap < 0:
            raise ValueError(f"`overlap` has to be from 0 to {length - 1} but is {overlap}.")
        if frames < length:
            raise ValueError(
                f"With `match_reference` a video needs {length} frames or more; it has {frames}."
            )
        return WindowPlan(frames, length, stride, (frames - length) // stride + 1, overlap // RATIO + 1)
    if length < RATIO + 1 or (length - 1) % RATIO:
        raise ValueError(f"`window` has to be one more than a multiple of {RATIO} but is {length}.")
    if not 1 <= overlap < length or (overlap - 1) % RATIO:
        raise ValueError(
            f"`overlap` has to be one more than a multiple of {RATIO} (1, 5, 9, ...) and less than `window`"
            f" ({length}) but is {overlap}."
        )
    count = max(1, -(-(frames - overlap) // stride))
    return WindowPlan(frames, length, stride, count, (overlap - 1) // RATIO + 1)


class Timeline:
    """Joins the latents of windows, and gives out what later windows cannot change any more.

    Where windows meet, the new one is faded in; its first latent frame gets no weight, because it stands for
    one frame where the timeline has four. ``match_reference`` takes the mean of all windows instead.
    """

    def __init__(self, plan: WindowPlan, match_reference: bool = False):
        self._advance = plan.latent_length - plan.shared
        self._shared = plan.shared
        self._mean = match_reference
        self._open: torch.Tensor | None = None  # latents that the next window reaches, summed or faded
        self._seen: list[int] = []  # how many windows each of them is made of

    def push(self, latents: torch.Tensor, last: bool) -> torch.Tensor:
        """Take ``[batch, latent frames, channels, height, width]`` of the next window; give what is final."""
        length = latents.shape[1]
        merged, seen = latents.clone(), [1] * length
        if self._open is not None:
            for index in range(self._shared):
                before, now = self._open[:, index], latents[:, index]
                if self._mean:
                    merged[:, index] = before + now
                    seen[index] += self._seen[index]
                else:
                    merged[:, index] = torch.lerp(before, now, index / self._shared)
        final = length if last else self._advance
        self._open, self._seen = merged[:, final:], seen[final:]
        done = merged[:, :final]
        if self._mean:
            done = (
                done / torch.tensor(seen[:final], device=done.device, dtype=done.dtype)[:, None, None, None]
            )
        return done
