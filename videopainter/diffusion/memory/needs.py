"""What a call needs of a GPU in each mode, as measured on fake tensors at the released size.

`benchmarks/full_size.py` prints these figures; the tests hold them against what the pipeline does, and
`benchmarks/modes.py` a real GPU (`benchmarks/results/modes.md`).
"""

from dataclasses import dataclass

GIB = 2**30
MODES = ("fast", "balanced", "low", "minimum")  # from the most memory to the least

# GiB at the released size (480 x 720, windows of 49 frames), CUDA's context of 0.5 included.
# In fast cuDNN takes 2.2 more for its convolutions where it gets them; without, decoding takes several times as long.
_DECODE = {"fast": 22.1, "balanced": 3.7, "low": 3.7, "minimum": 3.5}
_DENOISE = {"fast": 14.6, "balanced": 14.2, "low": 4.3, "minimum": 3.5}
# Of a pool of all tokens: states of every block, for both rows of the guidance. On the GPU only in fast.
_POOL = 8.6
# Of what attention with ID resampling adds for a hole of all tokens.
_RESAMPLE = {"fast": 0.9, "balanced": 0.9, "low": 0.9, "minimum": 0.45}
# What a cache keeps from step to step: of 42 blocks their attention's results, or those and how they change.
_CACHED = {"none": 0.0, "first_block": 0.6, "broadcast": 8.5, "taylor": 17.1}
_SPARE = 0.7  # other workspaces of cuDNN and cuBLAS, fragments of the allocator: not measured on fake tensors


@dataclass(frozen=True)
class Work:
    """What a call is about to do.

    hole: share of the tokens that are repainted, 0 to 1. windows: how many. id_pool: whether with ID resampling.
    carries: whether a window looks at the one before. cache: see `videopainter.diffusion.memory.enable_cache`.
    """

    hole: float = 0.25
    windows: int = 1
    id_pool: bool = False
    carries: bool = False
    cache: str = "none"


def bytes_needed(mode: str, work: Work) -> int:
    """Free memory that a mode takes."""
    pool = 0.0
    if mode == "fast" and work.carries and work.windows > 1:
        share = work.hole if work.id_pool else 1.0
        # The window before, and from the third on that of the present one beside it.
        pool = _POOL * share * (2 if work.windows > 2 else 1)
    resample = _RESAMPLE[mode] * work.hole if work.id_pool else 0.0
    most = max(_DECODE[mode], _DENOISE[mode] + pool + resample + _CACHED[work.cache])
    return round((most + _SPARE) * GIB)
