"""A training: updates, checkpoints that go on to the bit, the curve; on as many processes as accelerate starts."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save
from torch.distributed.tensor import DTensor

from videopainter.diffusion.rotary import prepare_rotary_tables
from videopainter.diffusion.training.config import TrainingConfig
from videopainter.diffusion.training.curve import draw_curve
from videopainter.diffusion.training.data import Clips, Sample
from videopainter.diffusion.training.loss import Batch, Encoded, encode, make_batch, training_loss
from videopainter.diffusion.training.networks import Networks, save_result
from videopainter.diffusion.training.processes import (
    DEEPSPEED_FOLDER,
    load_optimizer,
    make_accelerator,
    optimizer_state,
    part_of_an_update,
    save_deepspeed,
    take,
    uses_deepspeed,
    whole,
    whole_parameters,
    whole_state,
)
from videopainter.utils.atomic import whole_file, whole_folder
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, read_json
from videopainter.weights.load import load_checkpoint

Embeds = Callable[[str], torch.Tensor]  # prompt -> [tokens, width]


class Trainer:
    """One run. `run` goes to its end, or to where `stop` says.

    Args:
        networks: see `Networks`; what is not trained is frozen here.
        clips: see `Clips`.
        embeds: text embeddings of a prompt.
        output: folder of the run.
        accelerator: None: one of this process's.
        report_to: a tracker of accelerate's, such as "tensorboard" or "wandb".
    """

    def __init__(
        self,
        config: TrainingConfig,
        networks: Networks,
        clips: Clips,
        embeds: Embeds,
        output: str | os.PathLike,
        accelerator: Accelerator | None = None,
        report_to: str | None = None,
        workers: int = 0,
    ):
        self.config, self.networks, self.clips, self.embeds = config, networks, clips, embeds
        self.output, self.workers = Path(output), workers
        self.accelerator = accelerator or make_accelerator(config, report_to, output)
        torch.manual_seed(config.seed)  # a new adapter is random
        self.plain = networks.prepare(config)
        device = self.accelerator.device
        for network in (networks.vae, networks.transformer, networks.branch):
            network.to(device)
        optimizer = make_optimizer([one for one in self.plain.parameters() if one.requires_grad], config)
        self.model, self.optimizer = self.accelerator.prepare(self.plain, optimizer)
        self.names = [name for name, one in self.plain.named_parameters() if one.requires_grad]
        self.parameters = [
            one for one in self.plain.parameters() if one.requires_grad
        ]  # FSDP: shares of them
        self.mean = [one.detach().float().clone() for one in self.parameters] if config.ema else None
        self.step, self.losses, self.scores = 0, [], []
        self._cache: dict[int, Encoded] = {}
        if report_to is not None:
            self.accelerator.init_trackers("VideoPainter", {k: str(v) for k, v in asdict(config).items()})

    # --- an update ------------------------------------------------------------------------------------------------

    @property
    def examples_an_update(self) -> int:
        """Of all processes."""
        return self.config.batch_size * self.config.accumulation * self.accelerator.num_processes

    def numbers(self, step: int) -> list[list[int]]:
        """Numbers of the examples of this process in an update, batch by batch.

        The same examples make an update, however many processes share them.
        """
        size, ours = self.config.batch_size, self.accelerator.process_index
        first = step * self.examples_an_update + ours * self.config.accumulation * size
        return [
            list(range(first + i * size, first + (i + 1) * size)) for i in range(self.config.accumulation)
        ]

    def update(self, samples: list[list[Sample]]) -> float:
        """One step of the optimiser over all processes; the mean loss."""
        config, total = self.config, 0.0
        numbers = self.numbers(self.step)
        for group in self.optimizer.param_groups:
            times = self.examples_an_update if config.scale_lr else 1
            group["lr"] = times * config.learning_rate * learning_rate_share(self.step, config)
        for i, (batch, its_numbers) in enumerate(zip(samples, numbers)):
            with part_of_an_update(self.accelerator, self.model, i == len(samples) - 1):
                loss = self.loss(self.batch(batch, its_numbers))
                # DeepSpeed divides by itself.
                share = 1 if uses_deepspeed(self.accelerator) else config.accumulation
                self.accelerator.backward(loss / share)
            total += loss.detach().float() / config.accumulation
        if config.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.mean is not None:
            keep = min(config.ema, self.step / (self.step + 10))  # the start soon counts for nothing
            with torch.no_grad():
                for mean, new in zip(self.mean, self.parameters):
                    mean.lerp_(new.detach().float(), 1 - keep)
        mean_loss = float(self.accelerator.reduce(total, "mean"))
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"The loss of update {self.step} is no number; lower the learning rate.")
        self.losses.append(mean_loss)
        return mean_loss

    def batch(self, samples: list[Sample], numbers: list[int]) -> Batch:
        """Examples as the networks take them."""
        encoded = [self._encoded(sample) for sample in samples]
        embeds = torch.stack([self.embeds(sample.prompt) for sample in samples])
        vae, scheduler = self.networks.vae, self.networks.scheduler
        return make_batch(
            encoded,
            numbers,
            embeds,
            vae.config.scaling_factor,
            scheduler.config.num_train_timesteps,
            self.config,
            self.dtype,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of latents: that of the frozen networks."""
        frozen = self.networks.transformer if self.config.kind == "branch" else self.networks.branch
        return frozen.dtype

    def _encoded(self, sample: Sample) -> Encoded:
        if not self.config.cache_latents:
            return encode(self.networks.vae, sample, self.config)
        if sample.number not in self._cache:
            found = encode(self.networks.vae, sample, self.config)
            self._cache[sample.number] = Encoded(*(getattr(found, n).cpu() for n in ENCODED))
        kept = self._cache[sample.number]
        return Encoded(*(getattr(kept, name).to(self.accelerator.device) for name in ENCODED))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Of one batch, with gradients."""
        networks, config = self.networks, self.config
        transformer = self.model if config.kind != "branch" else networks.transformer
        branch = self.model if config.kind == "branch" else networks.branch
        shape = networks.transformer.config
        rotary = None
        if shape.use_rotary_positional_embeddings:
            spatial = 2 ** (len(networks.vae.config.block_out_channels) - 1)
            size = (config.height, config.width)
            cell = spatial * shape.patch_size
            rotary = prepare_rotary_tables(
                shape.attention_head_dim, cell, size, batch.latents.shape[1], batch.latents.device
            )
        with self.accelerator.autocast():
            return training_loss(transformer, branch, networks.scheduler, batch, rotary, config)[0]

    # --- a run ----------------------------------------------------------------------------------------------------

    def run(
        self,
        stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = print,
        validate: Callable[[Trainer], dict[str, float]] | None = None,
    ) -> Path | None:
        """Train to the end; what is trained, in the released format, or None where `stop` ended it after an update."""
        config, started = self.config, time.monotonic()
        first = self.step
        loader = torch.utils.data.DataLoader(
            self.clips,
            batch_sampler=[one for step in range(first, config.steps) for one in self.numbers(step)],
            num_workers=self.workers,
            collate_fn=list,
        )
        batches: list[list[Sample]] = []
        for batch in loader:
            batches.append(batch)
            if len(batches) < config.accumulation:
                continue
            loss = self.update(batches)
            batches = []
            self.accelerator.log({"loss": loss, "lr": self.optimizer.param_groups[0]["lr"]}, step=self.step)
            if self.step % 10 == 0 or self.step == config.steps:
                pace = (time.monotonic() - started) / (self.step - first)
                self._say(
                    say, f"update {self.step} of {config.steps}: loss {loss:.4f}, {pace:.2f} s an update"
                )
            due = config.validating_steps and self.step % config.validating_steps == 0
            # Where each process has a share of the weights only, all of them have to look.
            if due and validate is not None and (self.accelerator.is_main_process or self.sharded):
                with self.averaged():
                    found = validate(self)
                self.scores.append((self.step, found))
                self._say(say, f"update {self.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
                self.accelerator.log(found, step=self.step)
            ended = stop() and self.step < config.steps
            if self.step % config.checkpointing_steps == 0 or self.step == config.steps or ended:
                self.save()
            if ended:
                return None
        result = self.output
        self.accelerator.wait_for_everyone()
        state = self.result_state(averaged=True)
        if self.accelerator.is_main_process:
            result = save_result(self.output, self.plain, config, state)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return result

    def _say(self, say: Callable[[str], None], text: str) -> None:
        if self.accelerator.is_main_process:
            say(text)

    @property
    def sharded(self) -> bool:
        """Whether no process has the trained network's weights whole."""
        return any(isinstance(one, DTensor) for one in self.parameters)

    def result_state(self, averaged: bool = False) -> dict[str, torch.Tensor]:
        """Weights of the result, whole, on the CPU; every process has to ask for them.

        averaged: those of the running mean, if there is one.
        """
        if averaged and self.mean is not None:
            trained = whole_state(zip(self.names, self.mean))
        else:
            trained = whole_parameters(self.accelerator, zip(self.names, self.parameters))
        if self.config.kind != "branch":
            return trained
        rest = ((name, one) for name, one in self.plain.state_dict().items() if name not in trained)
        return {name: one.float() for name, one in whole_state(rest).items()} | trained

    def averaged(self):
        """For a `with` in which the trained weights are their running mean, if there is one."""
        return _Swapped(self.parameters, self.mean)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write `checkpoint-STEP`, whole or not at all, the curve, and let old checkpoints go."""
        self.accelerator.wait_for_everyone()
        self.output.mkdir(parents=True, exist_ok=True)
        trained = whole_parameters(self.accelerator, zip(self.names, self.parameters))
        result = self.result_state()
        state = {
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "mean": [whole(one) for one in self.mean or ()],
            "step": self.step,
            "losses": self.losses,
            "scores": [[step, found] for step, found in self.scores],
        }
        theirs = save_deepspeed(self.model, self.output) if uses_deepspeed(self.accelerator) else None
        if theirs is None:
            state["optimizer"] = optimizer_state(self.optimizer)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            target = self.output / f"checkpoint-{self.step}"
            if target.exists():
                shutil.rmtree(target)
            with whole_folder(target) as folder:
                (folder / TRAINED).write_bytes(save(trained))
                torch.save(state, folder / STATE)
                (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1))
                save_result(folder, self.plain, self.config, result)
                if theirs is not None:
                    os.replace(theirs, folder / DEEPSPEED_FOLDER)
            with whole_file(self.output / "curve.png") as file:
                file.write(draw_curve(self.losses, self.scores))
            limit = self.config.checkpoints_total_limit
            for old in checkpoints(self.output)[:-limit] if limit else ():
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint. Raises WeightsError if it is not one of such a training."""
        told = read_json(folder / CONFIG)
        mine = json.loads(json.dumps(asdict(self.config)))
        free = ("steps", "checkpointing_steps", "checkpoints_total_limit", "validating_steps",
                "num_validation_videos", "validation_inference_steps", "batch_size", "accumulation")  # fmt: skip
        other = sorted(name for name in mine if name not in free and told.get(name) != mine[name])
        if other:
            raise WeightsError(
                f"'{folder}' is of a training with another {other[0]}; go on with its settings."
            )
        try:
            trained = load_file(folder / TRAINED)
            state = load_checkpoint(folder / STATE)
            for name, parameter in zip(self.names, self.parameters):
                take(parameter, trained[name])
            for mean, kept in zip(self.mean or (), state["mean"]):
                take(mean, kept)
            if uses_deepspeed(self.accelerator):
                self._resume_deepspeed(folder)
            elif "optimizer" not in state:
                raise WeightsError(f"'{folder}' was saved by a launch with DeepSpeed; go on with one.")
            else:
                load_optimizer(self.optimizer, self.parameters, state["optimizer"])
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.step, self.losses = int(state["step"]), list(state["losses"])
            self.scores = [(step, found) for step, found in state["scores"]]
        except WeightsError:
            raise
        except Exception as error:  # torch raises whatever does not fit
            raise WeightsError(
                f"'{folder}' is not a checkpoint of this training: {first_line(error)}."
            ) from None

    def _resume_deepspeed(self, folder: Path) -> None:
        if not (folder / DEEPSPEED_FOLDER).is_dir():
            raise WeightsError(f"'{folder}' was saved by a launch without DeepSpeed; go on with one.")
        where = os.fspath(folder / DEEPSPEED_FOLDER)
        self.model.load_checkpoint(where, tag="state", load_module_strict=False)


ENCODED = ("video", "masked", "image", "mask")
TRAINED, STATE, CONFIG = "trained.safetensors", "state.pt", "training.json"


class _Swapped:
    def __init__(self, parameters, values):
        self.parameters, self.values = parameters, values

    @torch.no_grad()
    def __enter__(self):
        self.kept = [one.detach().clone() for one in self.parameters] if self.values else []
        for parameter, value in zip(self.parameters, self.values or ()):
            parameter.copy_(value)

    @torch.no_grad()
    def __exit__(self, *_):
        for parameter, value in zip(self.parameters, self.kept):
            parameter.copy_(value)


def checkpoints(output: Path) -> list[Path]:
    """Those of a run, the oldest first."""
    found = [path for path in output.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def learning_rate_share(step: int, config: TrainingConfig) -> float:
    """Of the learning rate, in update `step` (from 0)."""
    warm = 0 if config.lr_scheduler == "constant" else config.lr_warmup_steps
    if step < warm:
        return step / max(1, warm)
    part = (step - warm) / max(1, config.steps - warm)
    if config.lr_scheduler == "linear":
        return max(0.0, 1 - part)
    if config.lr_scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * part))
    if config.lr_scheduler == "cosine_with_restarts":
        return 0.0 if part >= 1 else 0.5 * (1 + math.cos(math.pi * (part * config.lr_num_cycles % 1.0)))
    if config.lr_scheduler == "polynomial":  # down to 1e-7, as in diffusers
        least = 1e-7 / config.learning_rate
        return (1 - least) * max(0.0, 1 - part) ** config.lr_power + least
    return 1.0


def make_optimizer(parameters: list[torch.nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """Raises ModuleNotFoundError, one sentence, for an optimiser whose package is not installed."""
    options = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "weight_decay": config.adam_weight_decay,
        "eps": config.adam_epsilon,
    }
    if config.optimizer in ("adamw", "adamw_fused"):
        return torch.optim.AdamW(parameters, **options, fused=config.optimizer == "adamw_fused")
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    try:
        if config.optimizer == "adamw_8bit":
            from bitsandbytes.optim import AdamW8bit as kind
        elif config.optimizer == "adam_8bit":
            from bitsandbytes.optim import Adam8bit as kind
        else:
            from prodigyopt import Prodigy as kind

            options |= {
                "beta3": config.prodigy_beta3 or None,
                "decouple": config.prodigy_decouple,
                "use_bias_correction": config.prodigy_use_bias_correction,
                "safeguard_warmup": config.prodigy_safeguard_warmup,
            }
    except ImportError:
        package = "prodigyopt" if config.optimizer == "prodigy" else "bitsandbytes"
        raise ModuleNotFoundError(
            f"The optimiser {config.optimizer} needs {package}, which is not installed."
        ) from None
    return kind(parameters, **options)
