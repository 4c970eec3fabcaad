"""The memory modes: which one is taken, and what each of them does.

`fast` keeps all networks on the GPU. `balanced` moves whole networks there when it is their turn, from pinned memory;
the VAE works in tiles, and the ID pool stays in the host's memory. `low` streams the transformer in, block by block,
and stores it in 8 bits with a scale a row (`eight_bits`; computing is in the pipeline's dtype). `minimum` streams the
branch as well, and takes a row of the batch and a piece of the feed-forward layers at a time. The text encoder, 9.5 GB,
is gone from the GPU before denoising in each of them.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from diffusers.hooks import apply_group_offloading

from videopainter.diffusion.memory.eight_bits import store_in_eight_bits
from videopainter.diffusion.memory.needs import GIB, MODES, Work, bytes_needed
from videopainter.diffusion.memory.offload import BlockStream, TakeTurns, forget

CACHES = ("none", "first_block", "broadcast", "taylor")
OF_ATTENTION = ("broadcast", "taylor")  # they keep what the attention of every block gives
CPU = torch.device("cpu")

# A block's output may differ by so much (relative) from the step before for the rest to be taken over.
CACHE_THRESHOLD = 0.1
# Attention is computed in every second step between these timesteps (pyramid attention broadcast, arXiv 2408.12588).
BROADCAST_EVERY, BROADCAST_BETWEEN = 2, (100, 850)
# Blocks' attention is computed in every so many steps, and foretold in between (TaylorSeer, arXiv 2503.06923).
TAYLOR_EVERY, TAYLOR_AFTER = 3, 3

TYPICAL = Work()
STREAMED = ("low", "minimum")  # the transformer comes block by block
# Tokens that go through the feed-forward layers at once: matrices stay large enough to keep a GPU busy.
TOKENS_AT_ONCE = {"fast": 1 << 15, "balanced": 1 << 13, "low": 1 << 12, "minimum": 1 << 11}


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a GPU, with what PyTorch has reserved there and does not use; None for the CPU."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def choose_mode(asked: str, free: int | None, work: Work = TYPICAL) -> tuple[str, str]:
    """(one of `MODES`, why in a few words). Raises ValueError for a name that is neither one nor "auto".

    asked: "auto" takes the first that fits into `free` bytes (see `free_memory`).
    """
    if asked not in ("auto", *MODES):
        raise ValueError(f"The memory mode is auto, {', '.join(MODES[:-1])} or {MODES[-1]}, not '{asked}'.")
    if asked != "auto":
        return asked, "as asked for"
    if free is None:
        return "fast", "without a GPU there is nothing to save"
    fitting = [mode for mode in MODES if free >= bytes_needed(mode, work)]
    mode = fitting[0] if fitting else MODES[-1]
    needs = ", ".join(f"{name} {bytes_needed(name, work) / GIB:.1f}" for name in MODES)
    windows = "1 window" if work.windows == 1 else f"{work.windows} windows"
    return mode, (
        f"{free / GIB:.1f} GiB free on the GPU; for {windows} and a hole of {work.hole:.0%} the modes need {needs}"
    )


def lower_mode(mode: str) -> str | None:
    """The mode that needs less memory; None after the last."""
    rest = MODES[MODES.index(mode) + 1 :]
    return rest[0] if rest else None


def place(
    pipe, mode: str, device: torch.device, cache: str = "none", offload_folder: Path | None = None
) -> None:
    """Bring a `VideoPainterPipeline`, loaded on the CPU and without text encoder, onto the device.

    On the CPU itself nothing is moved; what else a mode does is done.

    Args:
        cache: see `enable_cache`.
        offload_folder: where the modes that stream the transformer keep it, instead of in the host's memory.

    Raises ValueError for a cache that `enable_cache` refuses.
    """
    enable_cache(pipe, cache, mode)
    gpu = device.type == "cuda"
    if gpu:
        for block in (*pipe.transformer.transformer_blocks, *pipe.branch.transformer_blocks):
            block.tokens_at_once = TOKENS_AT_ONCE[mode]
            block.row_by_row = mode == "minimum"
    pipe.pool_on_host = mode != "fast"
    if mode != "fast":
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
    if mode in STREAMED:
        for network in (pipe.transformer, pipe.branch):
            _store_in_eight_bits(network)
        _stream(pipe.transformer, device, offload_folder)
        if mode == "minimum":
            _stream(pipe.branch, device, offload_folder)
        else:
            pipe.branch.to(device)
        pipe.vae.to(device)
    elif mode == "balanced" and gpu:
        pipe.turns = TakeTurns([pipe.transformer, pipe.vae], device)
        pipe.branch.to(device)
    else:
        pipe.to(device)


def _store_in_eight_bits(network) -> None:
    """8 bits with a scale a row; where adapters hold on to the linear layers, without, by diffusers' casting."""
    if getattr(network, "peft_config", None):
        network.enable_layerwise_casting(torch.float8_e4m3fn, network.dtype)
    else:
        # What diffusers leaves alone as well: few weights, and much depends on them.
        store_in_eight_bits(
            network, (*(network._skip_layerwise_casting_patterns or ()), "^proj_in$", "^proj_out$")
        )


def _stream(network, device: torch.device, folder: Path | None) -> None:
    """Let a network's blocks come one by one, the next one while one is at work; the rest of it is on the device."""
    if device.type != "cuda":
        return
    if folder is not None:
        folder = Path(folder) / type(network).__name__
        folder.mkdir(parents=True, exist_ok=True)
    network.stream = BlockStream(network.transformer_blocks, device, folder)
    for name, child in network.named_children():
        if name != "transformer_blocks":
            child.to(device)


def enable_cache(pipe, cache: str, mode: str = "fast") -> None:
    """Reuse over steps what changes little. Raises ValueError for an unknown cache, or one that the mode cannot have.

    cache: "first_block" leaves the other blocks out where the first one gives what it gave; "broadcast" takes attention
        over from the step before, and "taylor" foretells it; "none" computes all.
    """
    if cache not in CACHES:
        raise ValueError(f"The cache is {', '.join(CACHES[:-1])} or {CACHES[-1]}, not '{cache}'.")
    if cache in OF_ATTENTION and mode == "minimum":
        raise ValueError(
            f"The cache {cache} cannot work in the memory mode minimum, where rows go through attention one by one."
        )
    if cache == "first_block":
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=CACHE_THRESHOLD))
    elif cache == "broadcast":
        pipe.transformer.enable_cache(
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=BROADCAST_EVERY,
                spatial_attention_timestep_skip_range=BROADCAST_BETWEEN,
                spatial_attention_block_identifiers=("transformer_blocks",),
                current_timestep_callback=lambda: pipe.step_on_host,
            )
        )
    elif cache == "taylor":
        pipe.transformer.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=TAYLOR_EVERY,
                disable_cache_before_step=TAYLOR_AFTER,
                cache_identifiers=[r"transformer_blocks\.\d+\.attn1"],
                taylor_factors_dtype=pipe.transformer.dtype,
            )
        )


def compile_blocks(pipe) -> None:
    """Compile the networks' blocks."""
    pipe.transformer.compile_repeated_blocks()
    pipe.branch.compile_repeated_blocks()


def fuse_adapter(pipe) -> None:
    """Add the one adapter that is loaded to the weights, which saves its own products in every step."""
    pipe.fuse_lora(components=["transformer"])
    pipe.unload_lora_weights()


@contextmanager
def temporarily_on_device(network: torch.nn.Module, mode: str, device: torch.device) -> Iterator[None]:
    """Have a network on the device for one last time: in the modes that stream only the layer at work, else all of it.

    On a GPU its weights are gone afterwards: to copy them back would be for nothing.
    """
    gpu = device.type == "cuda"
    if mode in STREAMED and gpu:
        apply_group_offloading(network, device, CPU, "leaf_level")
    else:
        network.to(device)
    try:
        yield
    finally:
        if gpu:
            forget(network)
        release(device)


def release(device: torch.device) -> None:
    """Give memory that is no longer used back to the GPU, for other processes and larger blocks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
