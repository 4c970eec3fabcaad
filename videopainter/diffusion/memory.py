"""Fitting VideoPainter into the memory of a GPU, and making it faster.

`fast` keeps all networks on the GPU. `balanced` moves whole networks there when it is their turn, and the VAE
works in slices and tiles. `low` streams the transformer in, block by block, and stores it in 8 bits (float8_e4m3fn;
computing is in the pipeline's dtype). The text encoder, 9.5 GB, is gone from the GPU before denoising in each of them.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import apply_group_offloading

MODES = ("fast", "balanced", "low")  # from the most memory to the least
CACHES = ("none", "first_block")
GIB = 2**30

# Free memory that a mode asks for. The published code was measured with 31 GB for everything at once and 27 GB with
# model offload (section 7 of the guide this follows); what is left over is for other programs' ups and downs.
FREE_MEMORY_NEEDED = {"fast": 34 * GIB, "balanced": 28 * GIB, "low": 0}

# A block's output may differ by so much (relative) from the step before for the rest to be taken over.
CACHE_THRESHOLD = 0.1


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a GPU; None for the CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def choose_mode(asked: str, free: int | None) -> tuple[str, str]:
    """(one of `MODES`, why in a few words). Raises ValueError for a name that is neither one nor "auto".

    asked: "auto" takes the first that fits into `free` bytes (see `free_memory`).
    """
    if asked not in ("auto", *MODES):
        raise ValueError(f"The memory mode is auto, {', '.join(MODES[:-1])} or low, not '{asked}'.")
    if asked != "auto":
        return asked, "as asked for"
    if free is None:
        return "fast", "without a GPU there is nothing to save"
    return next(
        mode for mode in MODES if free >= FREE_MEMORY_NEEDED[mode]
    ), f"{free / GIB:.1f} GiB free on the GPU"


def lower_mode(mode: str) -> str | None:
    """The mode that needs less memory; None after the last."""
    rest = MODES[MODES.index(mode) + 1 :]
    return rest[0] if rest else None


def place(pipe, mode: str, device: torch.device) -> None:
    """Bring a `VideoPainterPipeline`, loaded on the CPU and without text encoder, onto the device.

    On the CPU itself nothing is moved; what else a mode does is done.
    """
    if mode != "fast":
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
    if mode == "low":
        dtype = pipe.transformer.dtype
        for network in (pipe.transformer, pipe.branch):
            network.enable_layerwise_casting(torch.float8_e4m3fn, dtype)
        pipe.transformer.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
            record_stream=device.type == "cuda",
        )
        pipe.vae.to(device)
        pipe.branch.to(device)
    elif mode == "balanced" and device.type == "cuda":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)


def speed_up(pipe, compiled: bool, cache: str) -> None:
    """Compile the networks' blocks; reuse them over steps. Raises ValueError for an unknown cache."""
    if cache not in CACHES:
        raise ValueError(f"The cache is {' or '.join(CACHES)}, not '{cache}'.")
    if cache == "first_block":
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=CACHE_THRESHOLD))
    if compiled:
        pipe.transformer.compile_repeated_blocks()
        pipe.branch.compile_repeated_blocks()


@contextmanager
def temporarily_on_device(network: torch.nn.Module, mode: str, device: torch.device) -> Iterator[None]:
    """Have a network on the device for a while: in the mode `low` only the layer at work, else all of it."""
    if mode == "low" and device.type == "cuda":
        apply_group_offloading(network, device, torch.device("cpu"), "leaf_level")
    else:
        network.to(device)
    try:
        yield
    finally:
        if mode != "low":
            network.to("cpu")
        release(device)


def release(device: torch.device) -> None:
    """Give memory that is no longer used back to the GPU, for other processes and larger blocks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
