"""Fine-tune E2FGVI on your own videos: a whole training, which can be stopped and goes on where it was.

The folder of data holds videos, or folders of images such as those of DAVIS and YouTube-VOS. Ctrl-C saves the step
that it is at. `model` in the output folder is what the engine's `weights` and `E2FGVIModel.from_pretrained` take.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from videopainter.e2fgvi.configuration import FIXED_SIZE
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.spynet import SPyNet
from videopainter.e2fgvi.training.data import ClipFolder
from videopainter.e2fgvi.training.trainer import Trainer, TrainingOptions, as_batch
from videopainter.utils.sentences import first_line
from videopainter.utils.signals import Stop, Stopped
from videopainter.weights import WeightsError
from videopainter.weights.load import load_tensors

CHECKPOINT, MODEL = "checkpoint.pt", "model"


def train(
    data: str | os.PathLike,
    output_dir: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    variant: str | None = None,
    steps: int = 500_000,
    batch_size: int = 1,
    size: tuple[int, int] = FIXED_SIZE,
    ref_frames: int = 3,
    options: TrainingOptions | None = None,
    flow_teacher: str | os.PathLike | None = None,
    save_every: int = 1000,
    seed: int = 42,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Train up to step number ``steps``, from a checkpoint in ``output_dir`` if there is one.

    What a step sees depends on its number and the seed alone, so that a training that was stopped and goes on
    gives the same network as one that was not (on the same machine, on a CPU bit for bit).

    Args:
        data: a folder; see `ClipFolder`.
        output_dir: gets `checkpoint.pt`, with everything that going on needs, and `model`, the network alone.
        weights, variant: where to begin; see `E2FGVIModel.from_pretrained`.
        batch_size: clips of a step; published: 8.
        size: (height, width) that frames are resized to.
        ref_frames: frames of a clip that are only looked at.
        flow_teacher: a file of a SPyNet; see `Trainer`.
        device: a torch device; None: a GPU if there is one.
        progress: draw a progress bar on stderr.

    Returns the losses of every step made now; see `Trainer.step`. Raises ValueError, one sentence, for what
    cannot be done, FloatingPointError if the losses are no longer numbers, and Stopped, a KeyboardInterrupt, when the
    first Ctrl-C or SIGTERM has ended it after a step, which is saved. A second one goes back to the last checkpoint.
    """
    for name, value, least in (
        ("steps", steps, 1),
        ("batch_size", batch_size, 1),
        ("ref_frames", ref_frames, 0),
        ("save_every", save_every, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}.")
    options = options or TrainingOptions()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out = Path(output_dir)
    model = E2FGVIModel.from_pretrained(weights, variant).to(device)
    if not model.config.takes(*size):
        height, width = model.config.network_size(*size)
        raise ValueError(
            f"The size must be one that the network takes, such as {width}x{height}, not {size[1]}x{size[0]}."
        )
    teacher = None if flow_teacher is None else read_teacher(flow_teacher, SPyNet(model.config.flow_widths))
    clips = ClipFolder(data, options.local_frames, ref_frames, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the discriminator begins with random weights
        trainer = Trainer(model, options, teacher)
    settings = {"seed": seed, "batch_size": batch_size, "size": list(size), "ref_frames": ref_frames}
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT
    if checkpoint.is_file():
        found = trainer.load(checkpoint)
        for name, value in settings.items():
            if found.get(name) != value:
                raise WeightsError(f"'{checkpoint}' was made with {name} {found.get(name)}, not {value}.")
    told = []
    first = trainer.step_number
    with Stop(
        "Stops after this step; once more stops at once, and goes back to the last checkpoint."
    ) as stop:
        for number in _bar(range(first, steps), first, steps, progress, lambda: told[-1] if told else {}):
            batch = [clips.sample(np.random.default_rng((seed, number, k))) for k in range(batch_size)]
            told.append(trainer.step(*as_batch(batch)))
            done = trainer.step_number
            if done % save_every == 0 or done == steps or stop():
                trainer.save(checkpoint, **settings)
                model.save_pretrained(out / MODEL)
            if stop() and done < steps:
                message = f"Stopped after step {done}, which is saved; the same command goes on from there."
                raise Stopped(message, stop)
    return told


def read_teacher(path: str | os.PathLike, teacher: SPyNet) -> SPyNet:
    """``teacher`` with the weights of a file; its normalisation constants may be missing, as in published ones.

    Raises WeightsError if it is not a file of such a network.
    """
    constants = {name: value for name, value in teacher.state_dict().items() if name in ("mean", "std")}
    try:
        teacher.load_state_dict(constants | load_tensors(path))
    except (WeightsError, RuntimeError) as error:
        raise WeightsError(f"'{path}' is not a flow network (SPyNet): {first_line(error)}.") from None
    return teacher


def _bar(numbers: range, first: int, steps: int, progress: bool, told):
    from tqdm import tqdm

    with tqdm(numbers, initial=first, total=steps, unit="step", disable=not progress) as bar:
        for number in bar:
            yield number
            bar.set_postfix({name: f"{value:.3f}" for name, value in told().items()}, refresh=False)
