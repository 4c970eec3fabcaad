"""An exported network, run by onnxruntime: no PyTorch anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from videopainter.dstt.weights import read_config
from videopainter.utils.checks import MOST_THREADS, whole_number
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError

# Names in the exported graph, in the order of `model.DSTT.forward`.
INPUTS = ("frame", "mask", "previous", "maps", "memory")
OUTPUTS = ("output", "share", "next_memory")


class OnnxRunner:
    """A file of `export.export_onnx` as a `runner.Runner`; it takes frames of one size, ``config.size``.

    Args:
        path: the file.
        threads: of the network on a CPU; None: one for every core.
        device: "cpu", "cuda" or None: a GPU if this onnxruntime can use one.

    Raises WeightsError for a file that is missing, damaged or another network, ValueError for a device that is not
    there.
    """

    any_size = False

    def __init__(self, path: str | os.PathLike, threads: int | None = None, device: str | None = None):
        import onnxruntime

        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"There is no exported network at '{path}'.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads is not None:
            options.intra_op_num_threads = whole_number("threads", threads, most=MOST_THREADS)
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no class in common but this
            raise WeightsError(f"'{path}' cannot be read as ONNX: {first_line(error)}.") from error
        names = tuple(
            tuple(x.name for x in xs()) for xs in (self._session.get_inputs, self._session.get_outputs)
        )
        if names != (INPUTS, OUTPUTS):
            raise WeightsError(f"'{path}' is not a DSTT network: it takes {', '.join(names[0])}.")
        self.config = read_config(self._session.get_modelmeta().custom_metadata_map, path)

    def empty(self, batch: int, size: tuple[int, int]) -> np.ndarray:
        return np.zeros(self.config.memory_shape(batch, size), np.float32)

    def __call__(self, frame, mask, previous, maps, memory):
        arrays = (frame, mask, previous, maps, memory)
        return tuple(self._session.run(list(OUTPUTS), dict(zip(INPUTS, arrays))))


def _providers(device: str | None, there: list[str]) -> list[str]:
    known = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if device is None:
        device = "cuda" if known["cuda"] in there else "cpu"
    name = known.get(device.split(":")[0])
    if name not in there:
        devices = " and ".join(device for device, name in known.items() if name in there)
        raise ValueError(f"This onnxruntime has no device '{device}'; it has {devices}.")
    if ":" not in device:
        return [name]
    return [(name, {"device_id": device.split(":")[1]})]
