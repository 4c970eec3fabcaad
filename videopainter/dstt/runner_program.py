"""An exported network, run by PyTorch without the code that made it.

Only for files that you trust: reading an archive of torch.export unpickles objects and evaluates expressions in it, and
TorchScript is code.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from videopainter.dstt.runner import check_threads, torch_threads
from videopainter.dstt.weights import read_config
from videopainter.weights import WeightsError

CONFIG = "config.json"  # beside the program, in its file
SCRIPTS = (".ts", ".pt")  # of TorchScript; others are archives of torch.export


class ProgramRunner:
    """A file of `export.export_program` or `export.export_torchscript` as a `runner.Runner`.

    It takes frames of one size, ``config.size``.

    Args:
        path: the file.
        device: a torch device; None: the CPU.
        threads: that PyTorch uses for the network, see `runner.torch_threads`.
        allow_code: must be True: reading the file runs whatever code is in it.

    Raises WeightsError without `allow_code`, and for a file that is missing, damaged or another network, ValueError
    for a number of threads that makes no sense.
    """

    any_size = False

    def __init__(
        self,
        path: str | os.PathLike,
        device: str | None = None,
        threads: int | None = None,
        *,
        allow_code: bool = False,
    ):
        check_threads(threads)
        path, extra, self._threads = Path(path), {CONFIG: ""}, threads
        if not path.is_file():
            raise WeightsError(f"There is no exported network at '{path}'.")
        kind = "TorchScript" if path.suffix in SCRIPTS else "torch.export"
        if allow_code is not True:
            raise WeightsError(
                f"'{path}' is a program of {kind}, and reading one runs whatever code is in it: only with "
                "`allow_code`, for a file that you trust; .safetensors and .onnx run none."
            )
        try:
            if path.suffix in SCRIPTS:
                program = torch.jit.load(str(path), map_location=device or "cpu", _extra_files=extra)
            else:
                program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # a zip file's, a JSON file's or its own, by where the damage is
            raise WeightsError(f"'{path}' cannot be read as a program of {kind}.") from error
        config = extra[CONFIG]
        config = config.decode(errors="replace") if isinstance(config, bytes) else config
        self.config = read_config({"config": config} if config else {}, path)
        self._device = torch.device(device or "cpu")
        if path.suffix in SCRIPTS:
            self._module = program
            return
        if self._device.type != "cpu":
            program = torch.export.passes.move_to_device_pass(program, self._device)
        self._module = program.module()

    def empty(self, batch: int, size: tuple[int, int]) -> torch.Tensor:
        return torch.zeros(self.config.memory_shape(batch, size), device=self._device)

    def __call__(self, frame, mask, previous, maps, memory):
        tensors = [torch.from_numpy(x).to(self._device) for x in (frame, mask, previous, maps)]
        with torch.no_grad(), torch_threads(self._threads, self.config, self._device.type):
            output, share, memory = self._module(*tensors, memory)
        return output.cpu().numpy(), share.cpu().numpy(), memory
