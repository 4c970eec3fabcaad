"""Networks in transformers' format: read strictly, every tensor of its shape, or one sentence says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, read_config
from videopainter.weights.check import safetensors_header
from videopainter.weights.load import check_values


def read_pretrained(kind, path: Path, what: str, copies: tuple[str, ...] = ()):
    """A network of transformers' class `kind` in evaluation mode, from a folder with its `config.json` and
    `model.safetensors`.

    `what`: its name in sentences. `copies`: buffers that hold one and the same tensor, of which a file may lack all but
    one. Raises WeightsError if a file is missing or damaged, or a tensor is missing or has another shape.
    """
    read_config(path / "config.json")
    safetensors_header(path / "model.safetensors")
    try:
        with quiet():  # what it would warn of is an error below
            model, info = kind.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # whatever the readers stumble over
        raise WeightsError(f"{what} cannot be read from '{path}': {first_line(error)}.") from error
    absent = set(info["missing_keys"])
    there = [name for name in copies if name not in absent]
    if there:
        for name in absent & set(copies):
            model.get_buffer(name).copy_(model.get_buffer(there[0]))
        absent -= set(copies)
    for words, names in (("has no tensor", absent), ("has another shape of", info["mismatched_keys"])):
        if names:
            first = min(map(str, names))
            raise WeightsError(f"{what} in '{path}' {words} {first} ({len(names)} such tensors).")
    check_values(model.state_dict(), path)
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its warnings and bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
