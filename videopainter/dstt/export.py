"""The network as a file for other programs: ONNX, a program of torch.export, or TorchScript.

    python -m videopainter.dstt.export --output dstt.onnx
    python -m videopainter.dstt.export --output dstt.pt2 --size 640x360 --weights my.safetensors

The graph is `model.DSTT.forward` at one size of picture and any number of streams; the memory goes in and comes out.
What `align.py` does stays outside: it needs NumPy and OpenCV only. The file is compared with PyTorch over frames of a
real clip before the command ends, and the command that makes a TensorRT engine of it is printed.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videopainter.dstt.config import MAPS, DSTTConfig
from videopainter.dstt.model import DSTT, TokensToFeatures
from videopainter.dstt.runner import Runner
from videopainter.dstt.runner_onnx import INPUTS, OUTPUTS
from videopainter.dstt.runner_program import CONFIG
from videopainter.dstt.stream import DSTTStream
from videopainter.utils.atomic import whole_file

OPSET = 18  # the newest whose GELU every TensorRT since 8.6 knows, as a sum of older operators
# The same float32 sums in another order: some 1e-6 of values up to 1 in each of a few dozen layers, and what a frame
# leaves in the memory passes through them again (measured: 5e-7). Grey levels are 2 / 255 = 8e-3 apart.
TOLERANCE = 2e-5
CLIP = Path(__file__).parent / "trained" / "clip.mp4"  # 40 frames of a real shot


def exportable(model: DSTT, size: tuple[int, int] | None = None) -> DSTT:
    """A copy of ``model`` for frames of ``size`` (height, width; None: its own) only, in float32 on the CPU.

    Tokens become features by a transposed convolution there, which is the same sum as `fold` of a linear layer
    (tests compare them): ONNX writes `fold` as Col2Im, which TensorRT does not know.
    """
    out = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    out.config = dataclasses.replace(model.config, size=tuple(size or model.config.size))
    out.recompose = TransposedConvolution(out.recompose, out.config.grid(), out.config.features())
    return out


class TransposedConvolution(nn.Module):
    """`model.TokensToFeatures` for one ``grid`` of tokens and one ``size`` of features (rows, columns)."""

    def __init__(self, recompose: TokensToFeatures, grid: tuple[int, int], size: tuple[int, int]):
        super().__init__()
        patch, self.stride, self.padding = recompose.patch, recompose.stride, recompose.patch // 2
        weight, bias = recompose.to_patch.weight, recompose.to_patch.bias
        # What is left of the features to the right of and below the last patch.
        self.rest = [n + 2 * self.padding - (g - 1) * self.stride - patch for n, g in zip(size, grid)]
        everywhere = bias.new_ones(1, patch**2, grid[0] * grid[1])
        share = 1 / recompose.fold(everywhere, grid, size).clamp(min=1)
        biases = bias[None, :, None].expand(-1, -1, grid[0] * grid[1])
        self.register_buffer("weight", weight.T.reshape(weight.shape[1], -1, patch, patch).contiguous())
        self.register_buffer("bias", recompose.fold(biases, grid, size) * share)
        self.register_buffer("share", share)
        self.reduce = recompose.reduce

    def forward(self, tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """``(n, tokens, hidden)`` to ``(n, channels, *size)``."""
        x = tokens.transpose(1, 2).unflatten(2, grid)
        x = F.conv_transpose2d(
            x, self.weight, stride=self.stride, padding=self.padding, output_padding=self.rest
        )
        return self.reduce(x * self.share + self.bias)


def export_onnx(model: DSTT, path: str | os.PathLike, size: tuple[int, int] | None = None) -> None:
    """Write ``model`` for frames of ``size`` (None: its own) as ONNX, whole or not at all.

    The graph takes ``frame, mask, previous, maps, memory`` and gives ``output, share, next_memory``, float32 in the
    shapes of `model.DSTT.forward`, the first dimension of each, "batch", free. The configuration is in the file's
    metadata as "config", JSON. For `OnnxRunner`.
    """
    import onnx

    network = exportable(model, size)
    with _quiet():
        program = torch.onnx.export(
            network,
            _example(network.config),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=_batched(),
        )
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"config": json.dumps(network.config.to_dict())})
    onnx.checker.check_model(proto)
    with whole_file(path) as file:
        file.write(proto.SerializeToString())


def export_program(model: DSTT, path: str | os.PathLike, size: tuple[int, int] | None = None) -> None:
    """Write ``model`` for frames of ``size`` (None: its own) as a program of torch.export. For `ProgramRunner`."""
    network = exportable(model, size)
    with _quiet():
        program = torch.export.export(network, _example(network.config), dynamic_shapes=_batched())
        with whole_file(path) as file:
            torch.export.save(program, file, extra_files={CONFIG: json.dumps(network.config.to_dict())})


def export_torchscript(model: DSTT, path: str | os.PathLike, size: tuple[int, int] | None = None) -> None:
    """Write ``model`` for frames of ``size`` (None: its own) as TorchScript, for LibTorch. For `ProgramRunner`."""
    network = exportable(model, size)
    with _quiet(), torch.no_grad():
        program = torch.jit.trace(network, _example(network.config), check_trace=False)
        with whole_file(path) as file:
            extra = {CONFIG: json.dumps(network.config.to_dict())}
            file.write(program.save_to_buffer(_extra_files=extra))


def _example(config: DSTTConfig) -> tuple[Tensor, ...]:
    """Inputs of two streams: with one, the exporter would take the 1 for a constant."""
    shapes = (*((2, channels, *config.size) for channels in (3, 1, 3, MAPS)), config.memory_shape(2))
    return tuple(torch.zeros(shape) for shape in shapes)


def _batched() -> tuple[dict, ...]:
    return ({0: torch.export.Dim("batch")},) * len(INPUTS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about itself and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest differences between two runners over a clip.

    ``output`` in [-1, 1], ``share`` in [0, 1], ``memory`` relative to its largest value; ``levels``: grey levels
    between the frames of two streams, each of which goes on from its own results.
    """

    frames: int
    output: float
    share: float
    memory: float
    levels: int

    def __str__(self) -> str:
        return (
            f"{self.frames} frames: output {self.output:.1e}, share {self.share:.1e}, memory {self.memory:.1e} of its "
            f"largest value, finished frames {self.levels} grey levels"
        )


def compare(
    one: Runner, other: Runner, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray]
) -> Difference:
    """Run both over a clip: uint8 ``(h, w, 3)`` and bool ``(h, w)``, each network with its own memory.

    ``other`` is also given the inputs that the stream of ``one`` prepares, so that networks are compared with the
    same inputs at every frame, and once more in a stream of its own.
    """
    shadow = _Shadow(one, other)
    streams = DSTTStream(shadow, size=one.config.size), DSTTStream(other, size=one.config.size)
    count = levels = 0
    for frame, mask in zip(frames, masks):
        results = [stream(frame, mask).astype(int) for stream in streams]
        levels = max(levels, int(np.abs(results[0] - results[1]).max()))
        count += 1
    return Difference(count, *shadow.worst, levels)


class _Shadow:
    """A runner that has another one do the same work, and keeps the largest differences."""

    any_size = True

    def __init__(self, one: Runner, other: Runner):
        self.config = one.config
        self._runners = one, other
        self.worst = np.zeros(3)

    def empty(self, batch: int, size: tuple[int, int]):
        return _Pair(runner.empty(batch, size) for runner in self._runners)

    def __call__(self, frame, mask, previous, maps, memory):
        results = [run(frame, mask, previous, maps, m) for run, m in zip(self._runners, memory)]
        (output, share, first), (output2, share2, second) = results
        a, b = np.asarray(first), np.asarray(second)
        memory_difference = np.abs(a - b).max() / max(np.abs(a).max(), 1e-6) if a.size else 0
        found = np.abs(output - output2).max(), np.abs(share - share2).max(), memory_difference
        self.worst = np.maximum(self.worst, found)
        return output, share, _Pair((first, second))


class _Pair(tuple):
    """Two memories that are emptied together."""

    def __setitem__(self, i, value) -> None:
        for memory in self:
            memory[i] = value


def trtexec(path: str | os.PathLike, config: DSTTConfig, streams: int = 4) -> str:
    """The command that makes a TensorRT engine of an exported ONNX file, for 1 to ``streams`` streams.

    After the example in the published project, with the memory's shapes; ``--memPoolSize`` is what ``--workspace``
    is called since TensorRT 8.6.
    """
    shapes = {name: tuple(x.shape[1:]) for name, x in zip(INPUTS, _example(config))}

    def batch(n: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (n, *shape)))}" for name, shape in shapes.items())

    engine = Path(path).with_suffix(".engine")
    return " ".join(
        [
            "trtexec",
            shlex.quote(f"--onnx={os.fspath(path)}"),
            shlex.quote(f"--saveEngine={engine}"),
            "--fp16",
            "--memPoolSize=workspace:4096",
            f"--minShapes={batch(1)}",
            f"--optShapes={batch(1)}",
            f"--maxShapes={batch(streams)}",
        ]
    )


def real_clip(path: str | os.PathLike, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first frames of a video, uint8 ``(n, h, w, 3)``, and a hole that wanders over them, bool ``(n, h, w)``."""
    from videopainter.video import open_video

    with open_video(path) as source:
        frames = source[:count]
    masks = np.zeros(frames.shape[:3], bool)
    h, w = masks.shape[1:]
    for i, mask in enumerate(masks):
        left = w // 5 + i * w // (4 * count)
        mask[h // 3 : 2 * h // 3, left : left + w // 4] = True
    return frames, masks


if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.export import main

    door(main)
