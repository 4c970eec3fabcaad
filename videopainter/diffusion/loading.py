"""Loading that never leaves a weight random without a word."""

from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME

from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, read_config


class StrictLoadingMixin:
    """`from_pretrained` for a `ModelMixin` that takes a checkpoint whole, or raises one clear error.

    diffusers fills what a file lacks with random values and a warning. Here missing, unexpected and misshapen
    tensors, a damaged file and a file of another kind are a ValueError that names the folder.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As `ModelMixin.from_pretrained`, strict.

        ``use_safetensors``: None takes safetensors, or where there are none the pickles of
        ``save_pretrained(safe_serialization=False)``, of which only tensors are read; True and False take one of them.

        Raises OSError where there is no such folder or file, ValueError where its content does not fit.
        """
        with_info = kwargs.pop("output_loading_info", False)
        where = Path(str(pretrained_model_name_or_path)) / (kwargs.get("subfolder") or "")
        either = kwargs.get("use_safetensors") is None and where.is_dir()
        if either:
            # diffusers does not look for pickles in pieces, and where there is nothing names a pickle as missing.
            names = [path.name for path in where.iterdir()]
            only_pickles = not any(".safetensors" in name for name in names) and any(
                ".bin" in name for name in names
            )
            kwargs["use_safetensors"] = not only_pickles
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, output_loading_info=True, **kwargs
            )
        except OSError as error:
            named = [f"no file named {name}" for name in (WEIGHTS_NAME, SAFETENSORS_WEIGHTS_NAME)]
            if either and any(
                words in str(error) for words in named
            ):  # the words that diffusers' callers look for
                raise OSError(
                    f"Error no file named {WEIGHTS_NAME} found in directory {where}, nor {SAFETENSORS_WEIGHTS_NAME}."
                ) from error
            raise
        except ImportError:
            raise
        except Exception as error:
            reason = first_line(error)
            raise ValueError(f"{cls.__name__}: the weights in '{where}' cannot be read: {reason}") from error
        faults = [
            f"{len(info[kind])} {word} (first: {_first(info[kind])})"
            for kind, word in (
                ("missing_keys", "missing"),
                ("unexpected_keys", "unexpected"),
                ("mismatched_keys", "of another shape"),
            )
            if info[kind]
        ]
        faults += info["error_msgs"]
        if faults:
            raise ValueError(f"{cls.__name__}: '{where}' is not its checkpoint; tensors {', '.join(faults)}.")
        return (model, info) if with_info else model


def check_whole(name: str, model) -> None:
    """Raises ValueError for a network that stock diffusers loaded from a checkpoint with missing tensors.

    They are still on the meta device then, and no hook is there to bring them when they are needed.
    """
    missing = [
        f"{path}.{leaf}" if path else leaf
        for path, module in model.named_modules()
        if not hasattr(module, "_hf_hook")
        for leaf, tensor in module.named_parameters(recurse=False)
        if tensor.is_meta
    ]
    if missing:
        where = model.config.get("_name_or_path", "")
        raise ValueError(
            f"`{name}` from '{where}' is not whole: {len(missing)} tensors have no values (first: {missing[0]})."
        )


def check_configs(*folders: Path) -> None:
    """Raises WeightsError for configurations that are damaged, or have numbers that no network has.

    Without this a million layers would be built before anybody looks for their tensors.
    """
    for folder in folders:
        for path in sorted(folder.glob("*config.json")):
            read_config(path)


def check_numbers(name: str, model) -> None:
    """Raises WeightsError for a network some of whose values are no numbers."""
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        # A sum is no number if one value is none, and takes no memory.
        if tensor.is_floating_point() and not torch.isfinite(tensor.detach().sum(dtype=torch.float32)):
            raise WeightsError(f"`{name}` holds values that are no numbers in '{path}'.")


def _first(keys) -> str:
    first = sorted(keys, key=str)[0]
    return str(first if isinstance(first, str) else first[0])


__all__ = ["ModelMixin", "StrictLoadingMixin"]
