"""The processes that share a training: the whole weights in each of them, or FSDP's or DeepSpeed's shares.

FSDP (version 2) keeps a share of the trained network's weights in each process; DeepSpeed's stages 1 and 2 share
the gradients and what the optimiser remembers. What is saved is whole with either.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
)
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from videopainter.diffusion.training.config import TrainingConfig

DEEPSPEED_FOLDER = "deepspeed"  # in a checkpoint: what DeepSpeed goes on from


def make_accelerator(config: TrainingConfig, report_to: str | None, output: str | os.PathLike) -> Accelerator:
    """accelerate's, which knows of other processes from the environment. Accumulating is done by the trainer.

    Raises ValueError for a launch with Megatron, the first version of FSDP or DeepSpeed's third stage, and
    ModuleNotFoundError for one with DeepSpeed where that is not installed.
    """
    fsdp, deepspeed = _fsdp(), _deepspeed(config)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=report_to,
        project_dir=os.fspath(output),
        fsdp_plugin=fsdp,
        deepspeed_plugin=deepspeed,
        # Without text some of the branch has no gradient, for which other processes would wait.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=config.wo_text)],
    )
    if accelerator.distributed_type == DistributedType.MEGATRON_LM:
        raise ValueError("The training does not know Megatron; launch it with FSDP, DeepSpeed or neither.")
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        # accelerate knows both on GPUs only, PyTorch and DeepSpeed on CPUs as well.
        state = accelerator.state
        for plugin, kind in ((fsdp, DistributedType.FSDP), (deepspeed, DistributedType.DEEPSPEED)):
            if plugin is None:
                continue
            if config.mixed_precision != "no":
                plugin.set_mixed_precision(config.mixed_precision)
            state.distributed_type = PartialState().distributed_type = kind
        state.fsdp_plugin, state.deepspeed_plugins = fsdp, deepspeed
        if deepspeed is not None:
            deepspeed.select(_from_accelerator_state=True)
    return accelerator


def _launched_with(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def _fsdp() -> FullyShardedDataParallelPlugin | None:
    if not _launched_with("FSDP"):
        return None
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ValueError(
            "FSDP's first version mixes up what is trained and what is frozen; say fsdp_version: 2."
        )
    return plugin


def _deepspeed(config: TrainingConfig) -> DeepSpeedPlugin | None:
    if not _launched_with("DEEPSPEED"):
        return None
    if find_spec("deepspeed") is None:
        raise ModuleNotFoundError(
            "The launch asks for DeepSpeed, which is not installed (pip install deepspeed)."
        )
    plugin = DeepSpeedPlugin()
    if plugin.zero_stage > 2:
        raise ValueError(
            "DeepSpeed's stage 3 leaves no process a whole weight; say zero_stage: 2, or launch with FSDP."
        )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": config.batch_size,
        "gradient_accumulation_steps": config.accumulation,
        "gradient_clipping": config.max_grad_norm,
        "zero_allow_untested_optimizer": True,
    }
    return plugin


def uses_deepspeed(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed clips gradients, steps and keeps the optimiser's state."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


@contextmanager
def part_of_an_update(accelerator: Accelerator, model: torch.nn.Module, last: bool) -> Iterator[None]:
    """For one batch of an update: gradients wait for the last one before processes exchange them."""
    if uses_deepspeed(accelerator):
        accelerator.gradient_state._set_sync_gradients(last)
        yield
    elif last:
        yield
    else:
        with accelerator.no_sync(model):
            yield


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU, of a share's whole tensor, for which every process has to ask."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        return tensor.full_tensor().cpu().contiguous()
    return tensor.to("cpu", copy=True).contiguous()


def whole_state(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """By name; see `whole`."""
    return {name: whole(tensor) for name, tensor in tensors}


def whole_parameters(accelerator: Accelerator, parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """As `whole_state`, of what is trained, in float32 where DeepSpeed computes with a copy of 16 bits."""
    if not uses_deepspeed(accelerator):
        return whole_state(parameters)
    from deepspeed.utils import safe_get_full_fp32_param

    found = {name: (safe_get_full_fp32_param(one), one) for name, one in parameters}
    return {name: whole(one if kept is None else kept) for name, (kept, one) in found.items()}


def take(mine: Tensor, new: Tensor) -> None:
    """Copy a whole tensor, or this process's share of it, into `mine`."""
    with torch.no_grad():
        mine.copy_(shared_as(mine, new))


def shared_as(mine: Tensor, new: Tensor) -> Tensor:
    """`new`, or this process's share of it where `mine` is one."""
    new = new.to(mine.device)
    return distribute_tensor(new, mine.device_mesh, mine.placements) if isinstance(mine, DTensor) else new


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict:
    """What it remembers, whole, as one process that has all weights would save it."""
    state = optimizer.state_dict()
    remembered = {
        number: {name: whole(one) if torch.is_tensor(one) else one for name, one in slots.items()}
        for number, slots in state["state"].items()
    }
    return {**state, "state": remembered}


def load_optimizer(optimizer: torch.optim.Optimizer, parameters: list[Tensor], state: dict) -> None:
    """The reverse of `optimizer_state`, whatever number of processes it was saved by."""
    shares = {
        number: {
            name: shared_as(parameters[int(number)], one)
            if torch.is_tensor(one) and one.shape == parameters[int(number)].shape
            else one
            for name, one in slots.items()
        }
        for number, slots in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})


def save_deepspeed(engine, output: Path) -> Path:
    """What DeepSpeed goes on from; every process has to call it."""
    folder = output / f".{DEEPSPEED_FOLDER}"
    shutil.rmtree(folder, ignore_errors=True)
    engine.save_checkpoint(os.fspath(folder), tag="state", exclude_frozen_parameters=True)
    return folder
