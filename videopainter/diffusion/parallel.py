"""More than one GPU for one clip: the tokens of a window divided among them, and the two halves of guidance.

    torchrun --nproc_per_node 2 -m videopainter.cli.parallel --ulysses 2 -- --video v.mp4 --mask m.npz ...

Every process runs the whole pipeline with the same seed, and only the networks share their work: in branch and
transformer each has a part of the tokens (`ContextParallelConfig` of diffusers: Ulysses attention), or one of the
two rows of classifier-free guidance, or both. The result is that of one process within rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput, ParallelConfig
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from videopainter.engines.base import EngineError

_TOKENS = ContextParallelInput(split_dim=1, expected_dims=3)
_ROTARY = ContextParallelInput(split_dim=0, expected_dims=2)

# Where tokens are divided, and put together again. The branch's samples stay divided: they go to the transformer's
# tokens of the same process.
_INTO_BLOCKS = {
    "transformer_blocks.0": {"hidden_states": _TOKENS},
    "transformer_blocks.*": {"image_rotary_emb": _ROTARY},  # one complex table
}
BRANCH_PLAN = _INTO_BLOCKS
TRANSFORMER_PLAN = {**_INTO_BLOCKS, "norm_final": ContextParallelOutput(gather_dim=1, expected_dims=3)}

# What has a row for each half of guidance.
_ROWS = (
    "hidden_states",
    "encoder_hidden_states",
    "branch_cond",
    "timestep",
    "timestep_cond",
    "mask",
    "pool_mask",
)


@dataclass(frozen=True)
class Parallelism:
    """How many processes divide the tokens, by Ulysses attention, and whether guidance is divided in two.

    Not by ring attention: PyTorch's own attention does not give what that adds up with.
    """

    ulysses: int = 1
    guidance: bool = False

    @property
    def processes(self) -> int:
        return self.ulysses * (2 if self.guidance else 1)

    def check(self, heads: int, count: int) -> None:
        """Raises EngineError for what cannot be: `heads` of the transformer's attention, `count` processes."""
        if self.ulysses < 1:
            raise EngineError("`ulysses` is 1 or more.")
        if self.processes != count:
            raise EngineError(
                f"{self.ulysses} (ulysses){' x 2 (guidance)' if self.guidance else ''} are {self.processes} "
                f"processes, but {count} were started."
            )
        if heads % self.ulysses:
            raise EngineError(
                f"`ulysses` must divide the {heads} heads of the attention; {self.ulysses} does not."
            )


_chosen: list[Parallelism] = []  # of this process, for pipelines that an engine loads


@contextmanager
def processes_of_launcher() -> Iterator[torch.device]:
    """The process group of `torchrun`, by NCCL on GPUs, by Gloo on CPUs; gives this process's device.

    Raises EngineError where no launcher has started this process.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise EngineError("Several GPUs for one clip need a process for each, which `torchrun` starts.")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        with suppress(Exception):
            dist.destroy_process_group()


def parallelize(
    transformer: nn.Module, branch: nn.Module, how: Parallelism, mesh: DeviceMesh | None = None
) -> None:
    """Have transformer and branch share their work with those of the other processes of the group.

    Args:
        mesh: of dimensions "guidance", "ring" (of 1) and "ulysses"; one over all processes if None.

    Raises EngineError for what cannot be divided so.
    """
    how.check(transformer.config.num_attention_heads, dist.get_world_size())
    if mesh is None:
        kind = next(transformer.parameters()).device.type
        shape = (2 if how.guidance else 1, 1, how.ulysses)
        mesh = init_device_mesh(kind, shape, mesh_dim_names=("guidance", "ring", "ulysses"))
    if how.ulysses > 1:
        tokens = mesh["ring", "ulysses"]
        # Lengths that no number of processes divides are the rule: 226 words, 17550 tokens of video.
        for network, plan in ((transformer, TRANSFORMER_PLAN), (branch, BRANCH_PLAN)):
            config = ContextParallelConfig(ulysses_degree=how.ulysses, ulysses_anything=True, mesh=tokens)
            _divide_tokens(network, config, plan)
            network.transformer_blocks[0].register_forward_pre_hook(_divide_text(tokens), with_kwargs=True)
        for block in transformer.transformer_blocks:
            block.register_forward_pre_hook(_divide_marks(tokens), with_kwargs=True)
        transformer.register_forward_pre_hook(_refuse_pool, with_kwargs=True)
    if how.guidance:
        rows = mesh["guidance"]
        transformer.forward = _one_row(transformer.forward, rows, gathered=True)
        branch.forward = _one_row(branch.forward, rows, gathered=False)


@contextmanager
def chosen(how: Parallelism) -> Iterator[None]:
    """Pipelines that an engine loads in here are divided so."""
    _chosen.append(how)
    try:
        yield
    finally:
        _chosen.remove(how)


def parallelize_loaded(pipe: Any, cache: str = "none") -> None:
    """`parallelize` a pipeline as `chosen` says; nothing happens in processes that have chosen nothing.

    Raises EngineError with a `cache`, of which each process would decide by itself which blocks it leaves out.
    """
    if _chosen:
        if cache != "none":
            raise EngineError("On several GPUs no blocks can be left out: `cache` must be none.")
        parallelize(pipe.transformer, pipe.branch, _chosen[-1])


def _divide_tokens(network: nn.Module, config: ContextParallelConfig, plan: dict) -> None:
    """`ModelMixin.enable_parallelism`, which does not know processes without an accelerator."""
    device = next(network.parameters()).device
    both = ParallelConfig(context_parallel_config=config)
    both.setup(dist.get_rank(), dist.get_world_size(), device, mesh=config.mesh)
    network._parallel_config = both
    for block in network.transformer_blocks:
        block.attn1.processor._parallel_config = both
    apply_context_parallel(network, config, plan)


def _divide_text(mesh: DeviceMesh) -> Callable:
    """A hook of the first block: of the text, which may have no tokens at all, this process's."""
    size, rank = mesh["ulysses"].size(), mesh["ulysses"].get_local_rank()

    def hook(block, args, kwargs):
        text = torch.tensor_split(kwargs["encoder_hidden_states"], size, dim=1)[rank]
        return args, {**kwargs, "encoder_hidden_states": text}

    return hook


def _divide_marks(mesh: DeviceMesh) -> Callable:
    """A hook of blocks: of the tokens where the branch's sample is added, this process's."""
    size, rank = mesh["ulysses"].size(), mesh["ulysses"].get_local_rank()

    def hook(block, args, kwargs):
        given = kwargs.get("attention_kwargs")
        if given and given.get("branch_tokens") is not None:
            marks = torch.tensor_split(given["branch_tokens"], size, dim=1)[rank]
            kwargs = {**kwargs, "attention_kwargs": {**given, "branch_tokens": marks}}
        return args, kwargs

    return hook


def _refuse_pool(network, args, kwargs) -> None:
    if (
        kwargs.get("resample")
        or kwargs.get("id_pool") is not None
        or kwargs.get("collect_tokens") is not None
    ):
        raise EngineError(
            "The ID adapter and `prev_clip_weight` need all tokens of a window in one process; with them only guidance "
            "can be divided."
        )


def _one_row(forward: Callable, mesh: DeviceMesh, gathered: bool) -> Callable:
    """A forward that gets one half of the rows, and gives both if `gathered`."""
    rank, group = mesh.get_local_rank(), mesh.get_group()

    def half(value):
        return value.chunk(2)[rank] if isinstance(value, torch.Tensor) and value.ndim else value

    def whole(value: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(value) for _ in range(2)]
        dist.all_gather(parts, value.contiguous(), group=group)
        return torch.cat(parts)

    @wraps(forward)
    def divided(*args, **kwargs):
        if kwargs["hidden_states"].shape[0] % 2:  # without guidance there is one row only
            raise EngineError(
                "Guidance can be divided only where there is any: a `guidance_scale` above 1, to the end."
            )
        kwargs = {name: half(value) if name in _ROWS else value for name, value in kwargs.items()}
        pool = kwargs.get("id_pool")
        if pool is not None:
            states = [half(states) for states in pool.hidden_states]
            kwargs["id_pool"] = replace(pool, hidden_states=states, mask=half(pool.mask))
        found = forward(*args, **{**kwargs, "return_dict": False})
        if not gathered:
            return found
        return tuple([whole(v) for v in part] if isinstance(part, list) else whole(part) for part in found)

    return divided
