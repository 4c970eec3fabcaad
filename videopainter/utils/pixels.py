"""Pictures that a program holds, of whatever library, as NumPy arrays; PyTorch is not imported for that."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """A tensor of PyTorch as an array; NumPy arrays, and everything else, as they are."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    if str(value.dtype) == "torch.bfloat16":  # which NumPy does not have
        value = value.float()
    return value.numpy()


def is_image(value: Any) -> bool:
    """Whether it is an image of Pillow."""
    return hasattr(value, "getbands") and hasattr(value, "convert")
