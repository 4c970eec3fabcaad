"""What a benchmark ran on."""

import os
import platform
from pathlib import Path

from videopainter.utils.report import peak_memory_mb


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpu_name() -> str:
    """The GPU's name."""
    import torch

    return torch.cuda.get_device_name()


def machine() -> str:
    """Processor, cores, PyTorch and, if there is one, the GPU, in one line."""
    import torch

    found = f"{processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__}"
    return f"{found}, {gpu_name()}" if torch.cuda.is_available() else found


def peak_mb() -> float:
    """Peak memory of this process in MiB."""
    return peak_memory_mb() or float("nan")
