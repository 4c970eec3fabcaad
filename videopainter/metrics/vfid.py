"""VFID: the Frechet distance between I3D features of results and of true clips (Wang et al., "Video-to-Video
Synthesis", NeurIPS 2018; as FuseFormer, E2FGVI and ProPainter evaluate it).

A clip, colours in [0, 1] at the size that is measured, gives one vector of 1024: the mean of I3D's last stage over
time and space. Each set of clips is taken for a Gaussian (Heusel et al. 2017).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videopainter.metrics.frechet import frechet_distance
from videopainter.metrics.i3d import FEATURES, I3D, REDUCTION
from videopainter.weights import compare, manifest
from videopainter.weights.load import load_tensors

__all__ = ["STATISTICS", "VideoFeatures", "frechet_distance", "load_i3d"]

# Which means and variances batch normalisation goes by. The published evaluations never switch their network to
# `eval()`, so that it normalises every clip by the clip's own.
STATISTICS = ("stored", "clip")


def load_i3d(path: str | os.PathLike) -> I3D:
    """I3D with the weights of a file laid out as the released `i3d_rgb_imagenet.pt`: a state dict of 287 tensors.

    Nothing but tensors is ever unpickled. Raises WeightsError, one sentence, for a file that is missing, damaged,
    or lacks, adds or misshapes a tensor.
    """
    path = Path(path)
    # The counts are written or not, by the version of PyTorch; nothing is computed with them.
    state = {
        name: value for name, value in load_tensors(path).items() if not name.endswith(".num_batches_tracked")
    }
    compare({name: tuple(value.shape) for name, value in state.items()}, manifest("i3d_rgb"), path)
    network = I3D()
    network.load_state_dict(state)
    return network


class VideoFeatures:
    """One vector for a clip, and one for its hole.

    Args:
        network: `load_i3d(...)`.
        statistics: "stored": batch normalisation by the means and variances of the weights file, as the network was
            made to be used; a clip streams through, so memory does not grow with its length. "clip": by the clip's
            own, as in the published evaluations; the clip is held in memory whole.
        device: where to compute, as torch names it.
    """

    def __init__(self, network: I3D, statistics: str = "stored", device: str = "cpu"):
        if statistics not in STATISTICS:
            raise ValueError(f"The statistics are one of {', '.join(STATISTICS)}, not '{statistics}'.")
        self.statistics, self.device = statistics, torch.device(device)
        self.network = network.to(self.device).train(statistics == "clip")

    @torch.inference_mode()
    def __call__(
        self, pieces: Iterable[tuple[np.ndarray, np.ndarray]], length: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(features of the frames, of the hole), float64 (1024,); None for the latter if there is no hole.

        Args:
            pieces: in order, frames uint8 (n, height, width, 3) and masks bool (n, height, width), True = hole.
            length: how many frames they are in all, 1 or more.

        The hole's features are the mean over the last stage's positions (8 frames, 32 x 32 pixels each, or what is
        left of that at the ends), weighted by the share of each that is hole. A hole everywhere gives the frame's.
        """
        frame, hole = np.zeros(FEATURES), np.zeros(FEATURES)
        count = weight = 0.0
        weights = _Weights(length)
        for features in self._maps(weights.collect(pieces), length):
            features = features[0].double().cpu().numpy()
            share = weights.take(features.shape[1])
            frame += features.sum(axis=(1, 2, 3))
            hole += (features * share).sum(axis=(1, 2, 3))
            count += features[0].size
            weight += share.sum()
        return frame / count, hole / weight if weight else None

    def _maps(self, frames: Iterator[np.ndarray], length: int) -> Iterator[Tensor]:
        tensors = (self._tensor(piece) for piece in frames)
        if self.statistics == "stored":
            return self.network.stream(tensors, length)
        clip = torch.cat(list(tensors), dim=2)
        last = [-(-size // by) for size, by in zip(clip.shape[2:], REDUCTION)]
        if np.prod(last) < 2:
            raise ValueError(
                f"A clip of {clip.shape[2]} frames of {clip.shape[4]} x {clip.shape[3]} is too small to be normalised "
                f"by its own statistics; use the stored ones."
            )
        return iter([self.network(clip)])

    def _tensor(self, frames: np.ndarray) -> Tensor:
        """uint8 (n, h, w, 3) -> float (1, 3, n, h, w) in [0, 1]."""
        return torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)[None].float().div_(255)


class _Weights:
    """The share that is hole of each block of frames, rows and columns that one feature stands for."""

    def __init__(self, length: int):
        self._length, self._seen = length, 0
        self._blocks: list[np.ndarray] = []  # complete ones, and the one that is being filled

    def collect(self, pieces: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """The frames of `pieces`; their masks are taken note of on the way."""
        for frames, masks in pieces:
            if self._seen + len(masks) > self._length:
                raise ValueError(f"There are more frames than the {self._length} announced.")
            for mask in masks:
                first = self._seen - self._seen % REDUCTION[0]
                share = _block_sums(mask) / _block_sums(np.ones_like(mask))
                share /= min(REDUCTION[0], self._length - first)
                if self._seen == first:
                    self._blocks.append(share)
                else:
                    self._blocks[-1] += share
                self._seen += 1
            yield frames
        if self._seen != self._length:
            raise ValueError(f"There are {self._seen} frames, not the {self._length} announced.")

    def take(self, count: int) -> np.ndarray:
        """The next `count` blocks, float (count, rows, columns)."""
        taken, self._blocks = self._blocks[:count], self._blocks[count:]
        return np.stack(taken)


def _block_sums(mask: np.ndarray) -> np.ndarray:
    _, rows, columns = REDUCTION
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % rows), (0, -width % columns)))
    return padded.reshape(padded.shape[0] // rows, rows, -1, columns).sum(axis=(1, 3), dtype=np.float64)
