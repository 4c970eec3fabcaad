"""The three released files of ProPainter to one folder that `ProPainterModel.from_pretrained` reads.

python -m videopainter.propainter.convert --pytorch-dump-folder-path OUT [--verify-logits]
"""

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from videopainter.propainter import verify, weights
from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.fill import fill_network_state
from videopainter.propainter.modeling import ProPainterModel, raise_misfits
from videopainter.propainter.names import RELEASED, model_name
from videopainter.utils.atomic import whole_file
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, command, read_json
from videopainter.weights.load import load_tensors

RECORDED = Path(__file__).parent / "recorded"  # what the public reference gave
TIMEOUT = 60  # seconds without a byte after which a server counts as gone


def read_released(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a released file by key. Nothing but tensors is ever unpickled.

    Raises WeightsError if the file is not there, is damaged, cut off, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no file '{path}'; {command(['propainter'])} gets it.")
    return load_tensors(path)


def load_released(
    files: Mapping[str, str | os.PathLike], config: ProPainterConfig | None = None
) -> ProPainterModel:
    """A model with the weights of the released files.

    Args:
        files: {name of the release ("raft-things.pth", ...): where it lies}, all three.
        config: None: that of the release.

    Raises ValueError if a file cannot be read, or lacks, adds or misshapes a tensor.
    """
    model = ProPainterModel(config or ProPainterConfig())
    own = model.state_dict()
    for file, (_, part, _) in RELEASED.items():
        state: dict[str, Tensor] = {}
        unknown = []
        for key, value in read_released(files[file]).items():
            try:
                name = model_name(file, key)
            except KeyError:
                name = ""
            if name in own:
                state[name] = value
            else:
                unknown.append(key)
        expected = [name for name in own if name.startswith(part)]
        misfits = [
            ("missing", [name for name in expected if name not in state]),
            ("unknown", unknown),
            ("of another shape", [name for name in state if state[name].shape != own[name].shape]),
        ]
        raise_misfits(os.fspath(files[file]), misfits)
        model.load_state_dict(state, strict=False)
    return model


def load(folder: str | os.PathLike | None = None) -> ProPainterModel:
    """The model from a folder, converted or with the three released files; None: the usual one.

    Raises ValueError, one sentence, if the weights are not there or not right.
    """
    folder = weights.folder_of(folder)
    reason = weights.missing(folder)
    if reason is not None:
        raise ValueError(f"ProPainter cannot be loaded: {reason}.")
    if weights.is_converted(folder):
        return ProPainterModel.from_pretrained(folder)
    return load_released({file: folder / file for file in RELEASED})


def save(model: ProPainterModel, folder: str | os.PathLike) -> None:
    """Write `config.json` and `model.safetensors`; they appear only when both are complete."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".converting.") as temporary:
        model.save_pretrained(temporary)
        # The configuration goes last: a folder is complete when it is there.
        for name in reversed(weights.CONVERTED):
            os.replace(Path(temporary) / name, folder / name)


def check(
    folder: str | os.PathLike, files: Mapping[str, str | os.PathLike], recorded: str | os.PathLike = RECORDED
) -> list[str]:
    """Compare a converted folder with the released files, and the networks with the reference's recorded values.

    Returns what was found to be equal, one line each. Raises ValueError for the first thing that is not.
    """
    model = ProPainterModel.from_pretrained(folder)
    state = model.state_dict()
    done = []
    for file, path in files.items():
        released = read_released(path)
        for key, value in released.items():
            if not torch.equal(state[model_name(file, key)], value):
                raise ValueError(f"'{key}' of '{path}' has changed on its way to '{folder}'.")
        done.append(f"{file}: {len(released)} tensors, bit for bit")
    recorded = Path(recorded)
    cases = [path for path in sorted(recorded.glob("*.json")) if path.with_suffix(".safetensors").is_file()]
    for path in cases:
        options = read_json(path)
        if not isinstance(options, dict) or options.get("network") not in verify.NETWORKS:
            continue
        try:
            wrong = verify.misfits(
                options, load_tensors(path.with_suffix(".safetensors")), fill_network_state
            )
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"The recorded values in '{path}' are damaged: {first_line(error)}.") from None
        if wrong:
            raise ValueError(f"The networks differ from the reference in '{path.stem}': {'; '.join(wrong)}.")
        done.append(f"{path.stem}: {len(options['expected'])} recorded values, within tolerance")
    if len(done) == len(files):
        raise ValueError(f"There are no recorded values in '{recorded}'.")
    return done


def fetch(address: str, folder: Path) -> Path:
    """A file by its address or where it lies; what is downloaded is there whole or not at all."""
    if "://" not in address:
        return Path(address)
    path = folder / address.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, whole_file(path) as file:
                shutil.copyfileobj(answer, file)
        except (OSError, ValueError, HTTPException) as error:
            raise ValueError(f"'{address}' cannot be fetched: {first_line(error)}.") from None
    return path


if __name__ == "__main__":
    from videopainter.cli.convert import main
    from videopainter.cli.errors import door

    door(main)
