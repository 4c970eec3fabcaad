"""Whether weights are whole: the headers of their files, their tensors' names and shapes, their published sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.utils.sentences import first_line, one_line
from videopainter.weights import catalogue
from videopainter.weights.catalogue import (
    RECORDS,
    Network,
    complete_set,
    manifest,
    network_files,
    weights_folder,
)
from videopainter.weights.errors import WeightsError, plain_file, read_json
from videopainter.weights.pickles import Stored, scan

# Under these names a checkpoint may hold the network's tensors instead of directly: SAM 2, and common trainers.
WRAPPERS = ("model", "state_dict")


def problems(part: str, folder: str | os.PathLike | None = None) -> list[str]:
    """Everything that is wrong with the files of a part that are there, a sentence each.

    Looks at every header: names, shapes, and where the data has to end. Files that are not there are not among it;
    see `absent`.
    """
    root = weights_folder(folder)
    files = complete_set(part, folder) or catalogue.PARTS[part].sets[0]
    found = [sentence for name in files.files if (sentence := _json_problem(root / name))]
    for network in files.networks:
        try:
            check_network(network, root)
        except WeightsError as error:
            found.append(str(error))
    return found + _record_problems(part, root)


def check_network(network: Network, root: Path) -> None:
    """Raise WeightsError unless the network's files are whole and hold what its manifest says; skip if absent."""
    files = network_files(network, root)
    present = [path for path in files if path.is_file()]
    shapes: dict[str, tuple[int, ...]] = {}
    for path in present:
        shapes.update(tensor_shapes(path))
    if network.manifest is not None and present and len(present) == len(files):
        compare(shapes, manifest(network.manifest), root / network.path)


def compare(shapes: Mapping[str, tuple], expected: Mapping[str, tuple], path: Path) -> None:
    """Raise WeightsError, naming a tensor and its shapes, unless both map the same names to the same shapes."""
    for name, shape in expected.items():
        if name not in shapes:
            raise WeightsError(f"'{path}' is not the published network: it has no tensor '{name}'.")
        if tuple(shapes[name]) != tuple(shape):
            raise WeightsError(
                f"'{path}' is not the published network: '{name}' has the shape {list(shapes[name])}, "
                f"not {list(shape)}."
            )
    if extra := sorted(set(shapes) - set(expected)):
        raise WeightsError(
            f"'{path}' is not the published network: it also has '{one_line(extra[0], 200)}' "
            f"({len(extra)} such tensors)."
        )


def tensor_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a `.safetensors` file or of a file of `torch.save`, without reading its values.

    Raises WeightsError if the file is missing, damaged or cut off, or holds anything but a network's tensors.
    """
    path = plain_file(path)
    if path.suffix == ".safetensors":
        return safetensors_header(path)[0]
    return {name: stored.shape for name, stored in unwrapped(scan(path), path).items()}


def safetensors_header(path: str | os.PathLike) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """(tensor name -> shape, the metadata) of a `.safetensors` file. Raises WeightsError as `tensor_shapes`."""
    path = plain_file(path)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise WeightsError(f"'{path}' cannot be read: safetensors is not installed.") from None
    try:
        with safe_open(path, "np") as file:
            return {
                name: tuple(file.get_slice(name).get_shape()) for name in file.keys()
            }, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"'{path}' is damaged, cut off or not a safetensors file ({path.stat().st_size} bytes): "
            f"{first_line(error)}."
        ) from None


def unwrapped(content: Any, path: Path) -> dict[str, Any]:
    """The tensors of a file of `torch.save` by name, from what `scan` or `torch.load` found in it.

    They may lie one level down, under a name of `WRAPPERS`. Raises WeightsError if it is anything else.
    """
    if isinstance(content, dict):
        content = next((content[w] for w in WRAPPERS if isinstance(content.get(w), dict)), content)
    if not isinstance(content, dict) or not all(_is_tensor(value) for value in content.values()):
        raise WeightsError(f"'{path}' holds something else than a network's tensors.")
    if not all(isinstance(name, str) for name in content):
        raise WeightsError(f"'{path}' is not a network: its tensors have numbers instead of names.")
    return dict(content)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Stored) or type(value).__name__ in ("Tensor", "Parameter")


def _json_problem(path: Path) -> str | None:
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        read_json(path)
    except WeightsError:
        return f"'{path}' is not JSON; delete it and download it again."
    return None


def _record_problems(part: str, root: Path) -> list[str]:
    """Files whose size is not the published one, as the downloader wrote it down."""
    record = root / RECORDS / f"{part}.json"
    if not record.is_file():
        return []
    try:
        published = {name: entry["size"] for name, entry in read_json(record)["files"].items()}
    except (WeightsError, LookupError, TypeError, AttributeError):
        return [f"'{record}' is damaged; delete it, and download '{part}' again."]
    return [
        f"'{root / name}' has {(root / name).stat().st_size} bytes, but {size} were published."
        for name, size in published.items()
        if (root / name).is_file() and (root / name).stat().st_size != size
    ]
