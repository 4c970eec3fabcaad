"""One training step after the other: generator, discriminator, their optimisers, and all of it in a file."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from videopainter.e2fgvi.generator import shrink
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.training import losses
from videopainter.e2fgvi.training.discriminator import Discriminator
from videopainter.utils.atomic import whole_file
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError
from videopainter.weights.load import load_checkpoint


@dataclass(frozen=True)
class TrainingOptions:
    """The defaults are the published ones.

    lr: of Adam, for all networks; divided by 10 from step ``lr_drop`` on. hole_weight, valid_weight, flow_weight,
    adversarial_weight: of the losses; without the last there is no discriminator. width: of the discriminator.
    """

    local_frames: int = 5
    lr: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.99)
    lr_drop: int = 400_000
    hole_weight: float = 1.0
    valid_weight: float = 1.0
    flow_weight: float = 1.0
    adversarial_weight: float = 0.01
    width: int = 32

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.local_frames < 2:
            raise ValueError(
                f"local_frames must be 2 or more, not {self.local_frames}: flow leads between two."
            )
        if not self.lr > 0:
            raise ValueError(f"The learning rate must be over 0, not {self.lr}.")
        for name in ("hole_weight", "valid_weight", "flow_weight", "adversarial_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}.")


class Trainer:
    """Fine-tunes a model; everything that the next step depends on can be saved and loaded.

    Args:
        model: is trained in place, on the device it lies on.
        options: None: the published ones.
        flow_teacher: a flow network whose flows between frames without holes are what completed ones are held
            against; None: a copy of the model's own as it is now, which is frozen. The published training took
            a SPyNet that was trained for flow alone.
    """

    def __init__(
        self,
        model: E2FGVIModel,
        options: TrainingOptions | None = None,
        flow_teacher: torch.nn.Module | None = None,
    ):
        self.model, self.options, self.step_number = model.train(), options or TrainingOptions(), 0
        self.device = model.ss.embedding.weight.device
        teacher = copy.deepcopy(model.update_spynet) if flow_teacher is None else flow_teacher
        self.teacher = teacher.to(self.device).eval().requires_grad_(False)
        self.optimizer = self._adam(model)
        self.discriminator = self.discriminator_optimizer = None
        if self.options.adversarial_weight:
            self.discriminator = Discriminator(self.options.width).to(self.device)
            self.discriminator_optimizer = self._adam(self.discriminator)

    def step(self, frames: Tensor, masks: Tensor) -> dict[str, float]:
        """One step on a batch of clips.

        Args:
            frames: ``(b, t, 3, h, w)`` in -1..1, of a size that the model takes; the local ones come first.
            masks: ``(b, t, 1, h, w)`` with 0 and 1, 1 = hole.

        Returns the losses, each with its weight: "hole", "valid", "flow" and, with a discriminator, "adversarial" and
        "discriminator". Raises FloatingPointError if they are no longer numbers; nothing is changed by that step.
        """
        o, local = self.options, self.options.local_frames
        frames, masks = frames.to(self.device), masks.to(self.device)
        # Clips of a batch do not meet.
        made = [self.model(clip, local) for clip in frames * (1 - masks)]
        painted = torch.stack([out for out, _, _ in made])
        completed = tuple(torch.cat([flows[k] for flows in made]) for k in (1, 2))
        with torch.no_grad():
            true = self._true_flow(frames[:, :local])
        hole, valid = losses.reconstruction(painted, frames, masks)
        terms = {
            "hole": o.hole_weight * hole,
            "valid": o.valid_weight * valid,
            "flow": o.flow_weight * losses.flow_consistency(completed, true),
        }
        self._check(terms)
        told = {}
        if self.discriminator is not None:
            composed = frames * (1 - masks) + painted * masks
            told["discriminator"] = self._step_discriminator(frames, composed.detach())
            # Its weights rest while the generator learns from it.
            self.discriminator.requires_grad_(False)
            terms["adversarial"] = o.adversarial_weight * losses.hinge_of_generator(
                self.discriminator(composed)
            )
            self.discriminator.requires_grad_(True)
        self._update(self.optimizer, sum(terms.values()))
        self.step_number += 1
        return {name: value.item() for name, value in terms.items()} | told

    def _true_flow(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and backward flow of clips ``(b, t, 3, h, w)`` without holes, one clip after the other."""
        small = torch.stack([shrink(clip) for clip in frames])
        first, second = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
        return self.teacher(first, second), self.teacher(second, first)

    def _step_discriminator(self, frames: Tensor, composed: Tensor) -> float:
        loss = losses.hinge_of_discriminator(self.discriminator(frames), self.discriminator(composed))
        self._update(self.discriminator_optimizer, loss)
        return loss.item()

    def _check(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise FloatingPointError(f"The {name} loss is {value.item()} at step {self.step_number + 1}.")

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        dropped = self.step_number >= self.options.lr_drop
        for group in optimizer.param_groups:
            group["lr"] = self.options.lr / 10 if dropped else self.options.lr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _adam(self, network: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=self.options.lr, betas=self.options.betas)

    # -- files -------------------------------------------------------------------------------------------

    def _parts(self) -> dict:
        parts = {"model": self.model, "optimizer": self.optimizer, "teacher": self.teacher}
        if self.discriminator is not None:
            parts |= {
                "discriminator": self.discriminator,
                "discriminator_optimizer": self.discriminator_optimizer,
            }
        return parts

    def save(self, path: str | os.PathLike, **more) -> None:
        """Write everything into one file, which appears only when complete. ``more``: plain values kept with it."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"step": self.step_number, "config": asdict(self.model.config), "more": more}
        state["options"] = asdict(self.options)
        with whole_file(path) as file:
            torch.save(state, file)

    def load(self, path: str | os.PathLike) -> dict:
        """Go on from a file of `save`, exactly; returns what was kept with it.

        Raises WeightsError if it is damaged, or of another network or other options.
        """
        state = load_checkpoint(path, self.device)
        try:
            own = {"config": asdict(self.model.config), "options": asdict(self.options)}
            for kind, values in own.items():
                for name, value in values.items():
                    if state[kind][name] != value:
                        raise WeightsError(
                            f"'{path}' was made with {name} {state[kind][name]}, which cannot become {value}."
                        )
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.step_number = state["step"]
            return state["more"]
        except WeightsError:
            raise
        except Exception as error:  # torch raises whatever its reader stumbles over
            raise WeightsError(
                f"'{path}' is not a checkpoint of this training: {first_line(error)}."
            ) from None


def as_batch(clips: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Frames uint8 ``(t, h, w, 3)`` and holes bool ``(t, h, w)`` of each clip to what `Trainer.step` takes."""
    frames = torch.from_numpy(np.stack([frames for frames, _ in clips])).permute(0, 1, 4, 2, 3)
    masks = torch.from_numpy(np.stack([masks for _, masks in clips])).float()[:, :, None]
    return frames / 255 * 2 - 1, masks
