"""A run of DSTT's training: the loss, the trainer with its checkpoints, and the loop over a curriculum.

Every sequence follows from the seed and the number of its step alone, so that a run that was stopped goes on exactly
as if it had not been. Ctrl-C saves the step that it is at.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videopainter.dstt.align import History
from videopainter.dstt.model import DSTT
from videopainter.dstt.stream import network_inputs
from videopainter.dstt.training import validate
from videopainter.dstt.training.curriculum import TrainConfig
from videopainter.dstt.training.data import LAYOUTS, Sample, Sources, draw_sequence, find, prepare
from videopainter.dstt.training.generator import packaged_photos
from videopainter.dstt.training.masks_random import random_masks
from videopainter.dstt.weights import save_model
from videopainter.utils.atomic import whole_file
from videopainter.utils.sentences import first_line
from videopainter.utils.signals import Stop, Stopped
from videopainter.weights import WeightsError
from videopainter.weights.load import load_checkpoint

_EXACT = 1e-4  # squared error, of values in [-1, 1], below which a hole is as good as right: 46 dB


def loss_of(
    painted: Tensor, truth: Tensor, mask: Tensor, previous: Tensor, maps: Tensor, config: TrainConfig
) -> Tensor:
    """The weighted L1 loss of one frame, with what the configuration adds to it.

    Args:
        painted, truth, previous: ``(n, 3, h, w)`` in [-1, 1]. mask: ``(n, 1, h, w)``. maps: ``(n, 7, h, w)``.
    """
    hole, known = mask, 1 - mask
    error = painted - truth
    total = config.hole * _mean(error.abs(), hole) + config.valid * _mean(error.abs(), known)
    if config.squared:
        total = total + config.squared * _mean(error.square(), hole)
    if config.decibels:
        mean = (error.square() * hole).sum((1, 2, 3)) / (3 * hole.sum((1, 2, 3))).clamp(min=1)
        total = total + config.decibels * 10 * torch.log10(mean + _EXACT).mean()
    if config.gradient:
        across, down = error.diff(dim=-1), error.diff(dim=-2)
        total = total + config.gradient * (
            _mean(across.abs(), hole[..., 1:]) + _mean(down.abs(), hole[..., 1:, :])
        )
    if config.steady:
        invented = hole * maps[:, :1] * (1 - maps[:, 1:2])
        total = total + config.steady * _mean((painted - previous).abs(), invented)
    return total


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``values`` over the pixels that ``weight`` ``(n, 1, h, w)`` counts; 0 if there is none."""
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp(min=1)


def play(model: DSTT, samples: list[Sample], config: TrainConfig, device: str, amp: bool) -> Iterator[Tensor]:
    """Run a batch of sequences frame by frame, each seeing the network's own past; yields the frames' losses.

    Nothing of a frame's graph is kept for the next one: outputs and memory are detached.
    """
    height, width = samples[0].prepared[0].hole.shape
    memory = torch.zeros(model.config.memory_shape(len(samples), (height, width)), device=device)
    histories = [History() for _ in samples]
    for t in range(len(samples[0].prepared)):
        prepared = [sample.prepared[t] for sample in samples]
        pasts = [
            history.aligned(sample.fields[t], (height, width)) if sample.fields[t] is not None else None
            for history, sample in zip(histories, samples)
        ]
        shown = pasts if config.use_previous else [None] * len(samples)
        arrays = network_inputs(prepared, shown)
        frame, mask, previous, maps = (torch.from_numpy(x).to(device) for x in arrays)
        for i, past in enumerate(pasts):
            if past is None:
                memory[i] = 0  # the start, or a cut
        with torch.autocast(device.split(":")[0], torch.float16, enabled=amp):
            painted, share, after = model.paint(frame, mask, previous, maps, memory)
        painted, share = painted.float(), share.float()
        memory = after.detach().float() if config.token_memory else torch.zeros_like(memory)
        truth = np.stack([sample.truth[t] for sample in samples]).astype(np.float32) / 127.5 - 1
        truth = torch.from_numpy(truth.transpose(0, 3, 1, 2)).to(device)
        yield loss_of(painted, truth, mask, previous, maps, config)
        outputs = torch.where(mask > 0.5, painted, truth).detach().cpu().numpy()
        shares = share.detach().cpu().numpy()
        for i, (history, past) in enumerate(zip(histories, shown)):
            picture = np.ascontiguousarray((outputs[i].transpose(1, 2, 0) + 1) * np.float32(127.5))
            history.update(picture, shares[i, 0], past, prepared[i].hole)


class Steps(torch.utils.data.Dataset):
    """The batch of every step, from the seed and its number alone."""

    def __init__(self, config: TrainConfig, sources: dict[str, Sources]):
        self.config, self.sources = config, sources

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> list[Sample]:
        stage = self.config.stage_at(step)
        size = self.config.frame_size
        out = []
        for i in range(stage.batch or self.config.batch):
            rng = np.random.default_rng((self.config.seed, step, i))
            video = draw_sequence(
                rng, self.sources[stage.name], stage.frames, size, stage.speed, stage.footage_share
            )
            out.append(prepare(video, random_masks(rng, stage.frames, size, self.config.travelling)))
        return out


class Trainer:
    """One run: network, optimiser, and everything that a checkpoint needs to go on exactly."""

    def __init__(self, config: TrainConfig, device: str = "cpu"):
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.model = DSTT(config.network).to(device)
        self.mean = DSTT(config.network).to(device).requires_grad_(False).eval()
        self.mean.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), config.learning_rate, config.betas)
        self.amp = config.mixed_precision and device.startswith("cuda")
        self.scaler = torch.amp.GradScaler(device.split(":")[0], enabled=self.amp)
        self.step = self.update = 0
        self.losses: list[float] = []
        self.scores: list[tuple[int, dict[str, float]]] = []

    def train_step(self, samples: list[Sample]) -> float:
        """Go through one batch of sequences; the mean loss of its frames."""
        count = len(samples[0].prepared)
        each = self.config.frames_per_update or count
        total = 0.0
        for t, loss in enumerate(play(self.model, samples, self.config, self.device, self.amp)):
            # The last few frames may be fewer than an update's.
            share = min(each, count - t // each * each)
            self.scaler.scale(loss / share).backward()
            total += float(loss.detach())
            if (t + 1) % each == 0 or t + 1 == count:
                self._update()
        self.step += 1
        self.losses.append(total / count)
        return total / count

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.update += 1
        # A mean over few updates at first: the random start soon counts for nothing.
        keep = min(self.config.average, self.update / (self.update + 10))
        with torch.no_grad():
            for mean, new in zip(self.mean.parameters(), self.model.parameters()):
                mean.lerp_(new, 1 - keep)

    def _rate(self) -> float:
        warm = min(1.0, (self.update + 1) / max(1, self.config.warm_up))
        fall = 0.5 * (1 + np.cos(np.pi * self.update / self.config.updates)) if self.config.decay else 1.0
        return float(warm * fall)

    def state(self) -> dict:
        """Everything, for `torch.save`."""
        return {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "update": self.update,
            "losses": self.losses,
            "scores": self.scores,
        }

    def load(self, state: dict) -> None:
        """Go on from a `state`. Raises ValueError if it is another network's."""
        try:
            if state["config"]["network"] != self.config.network.to_dict():
                raise WeightsError("The checkpoint is of a network of other sizes than this run's.")
            self.model.load_state_dict(state["model"])
            self.mean.load_state_dict(state["mean"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.step, self.update = int(state["step"]), int(state["update"])
            self.losses, self.scores = list(state["losses"]), list(state["scores"])
        except WeightsError:
            raise
        except Exception as error:  # torch raises whatever does not fit
            raise WeightsError(f"This is not a checkpoint of this training: {first_line(error)}.") from None

    def begin_with(self, state: dict) -> None:
        """Take the weights of another run's `state`, and nothing else. Raises WeightsError if it does not fit."""
        try:
            self.model.load_state_dict(state["mean"])
            self.mean.load_state_dict(state["mean"])
        except Exception as error:  # torch raises whatever does not fit
            raise WeightsError(f"This is not a checkpoint of such a network: {first_line(error)}.") from None

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        with whole_file(path) as file:
            torch.save(self.state(), file)


def read_checkpoint(path: Path) -> dict:
    """What `Trainer.save` wrote. Raises ValueError, in one sentence, if it is not there or cannot be read."""
    if not path.is_file():
        raise ValueError(f"There is no checkpoint '{path}' to go on from.")
    return load_checkpoint(path)


def run(
    trainer: Trainer,
    steps: Steps,
    cases: list[validate.Case],
    output: Path,
    workers: int,
    stop: Stop,
    baselines: Mapping[str, Callable[[validate.Case], np.ndarray]] | None = None,
) -> None:
    """Train to the end; checkpoints, the curve and the scores go to ``output``.

    ``baselines``: other methods by name, whose score on the validation's cases is told once: what each makes of a
    case, uint8 ``(n, h, w, 3)``.

    Raises Stopped when ``stop`` has ended it after a step, which is saved.
    """
    config = trainer.config
    loader = torch.utils.data.DataLoader(
        steps,
        batch_size=None,
        sampler=range(trainer.step, len(steps)),
        num_workers=workers,
        collate_fn=None,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_ctrl_c,
    )
    for name, method in (baselines or {}).items() if cases else ():
        _say(
            trainer.step, f"{name}: {_decibels(validate.mean_psnr([method(case) for case in cases], cases))}"
        )
    if trainer.step == 0:
        _score(trainer, cases)  # of the untrained network: the two guesses that it starts from
    start, first = time.monotonic(), trainer.step
    for samples in loader:
        stage = config.stage_at(trainer.step)
        trainer.train_step(samples)
        done = trainer.step == len(steps)
        stage_done = done or config.stage_at(trainer.step) != stage
        if trainer.step % config.validate_every == 0 or stage_done:
            pace = (time.monotonic() - start) / (trainer.step - first)
            recent = float(np.mean(trainer.losses[-config.validate_every :]))
            _say(trainer.step, f"loss {recent:.4f}, {pace:.2f} s a step")
            _score(trainer, cases)
            trainer.save(output / "last.pt")
            _picture(trainer, output)
        if stage_done:
            trainer.save(output / f"{stage.name}_final.pt")
        if stop() and not done:
            trainer.save(output / "last.pt")
            raise Stopped(
                f"Stopped after step {trainer.step}, which is saved; --resume goes on from there.", stop
            )
    facts = {"steps": str(trainer.step), "updates": str(trainer.update)}
    save_model(trainer.mean, output / "model.safetensors", facts=facts)


def _leave_ctrl_c(worker: int) -> None:
    """What prepares data goes on until the process that trains has had its last step's worth."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _score(trainer: Trainer, cases: list[validate.Case]) -> None:
    if cases:
        results = [validate.streamed(trainer.mean, case, trainer.config.use_previous) for case in cases]
        trainer.scores.append((trainer.step, validate.mean_psnr(results, cases)))
        _say(trainer.step, f"PSNR in the hole {_decibels(trainer.scores[-1][1])}")


def _decibels(score: dict[str, float]) -> str:
    return ", ".join(f"{kind} {value:.2f} dB" for kind, value in score.items())


def _say(step: int, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} step {step}: {text}", flush=True)


def _picture(trainer: Trainer, output: Path) -> None:
    from videopainter.dstt.training.curve import draw_curve  # matplotlib, which nothing else here needs

    with whole_file(output / "curve.png") as file:
        file.write(draw_curve(trainer.losses, trainer.scores))


def read_sources(config: TrainConfig, folders: list[tuple[str, str]]) -> dict[str, Sources]:
    """Stage -> what it draws from; ``folders``: (layout, folder) pairs. Raises ValueError where a stage has nothing."""
    found = [(layout, *find(layout, folder)) for layout, folder in folders]
    photos = packaged_photos() if any(stage.photos for stage in config.stages) else []
    out = {}
    for stage in config.stages:
        use = [
            (footage, stills)
            for layout, footage, stills in found
            if not stage.layouts or layout in stage.layouts
        ]
        footage = [one for some, _ in use for one in some]
        stills = [one for _, some in use for one in some] + (photos if stage.photos else [])
        if not footage and not stills:
            raise ValueError(
                f"Stage '{stage.name}' has nothing to train on; give it --data LAYOUT=FOLDER of the layout "
                f"{' or '.join(stage.layouts or LAYOUTS)}."
            )
        out[stage.name] = Sources(footage, stills)
    return out


def validation_sources(config: TrainConfig, folders: list[tuple[str, str]]) -> Sources:
    """What the validation's clips are made of: (layout, folder) pairs, and photographs that training never sees."""
    found = [find(layout, folder) for layout, folder in folders]
    footage = [one for some, _ in found for one in some]
    stills = [one for _, some in found for one in some]
    return Sources(footage, stills + packaged_photos(validation=True))
