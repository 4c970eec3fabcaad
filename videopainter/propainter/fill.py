"""Weights as a function of a seed, for comparing networks with recorded values without storing any weights.

The rule is that of the recorded values in `recorded/`: the value of a tensor follows from the seed, its name and its
shape alone, so that two implementations with the same names and shapes get the same weights.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# Constants that the networks construct themselves.
_KEPT = re.compile(r"(num_batches_tracked|valid_ind_rolled|update_spynet\.(mean|std))$")


def normal_values(key: str, count: int) -> np.ndarray:
    """``count`` standard normal float64 values that depend on ``key`` only: PCG64's raw bits by Box and Muller."""
    state = int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")
    pairs = (count + 1) // 2
    raw = (
        np.random.PCG64(np.random.SeedSequence(state)).random_raw(2 * pairs)
        if pairs
        else np.zeros(0, np.uint64)
    )
    unit = ((np.asarray(raw, np.uint64) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(unit[:pairs])), 2 * math.pi * unit[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def fill_tensor(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """The float32 tensor called ``name``: weights of unit gain, norms about 1, biases about 0, positive variances."""
    z = normal_values(f"{seed}:{name}", math.prod(shape)).reshape(tuple(shape))
    last = name.rsplit(".", 1)[-1]
    if last == "weight":
        z = z / math.sqrt(max(1, math.prod(shape[1:]))) if len(shape) >= 2 else 1 + 0.1 * z
    else:
        z = (0.05 if last == "bias" else 0.2) * z
    value = torch.from_numpy(np.ascontiguousarray(z.astype(np.float32)))
    return 1 + 0.5 * value.abs() if name.endswith("running_var") else value


def fill_network_state(
    shapes: Mapping[str, Sequence[int]], seed: int, gains: Iterable[tuple[str, float]] = ()
) -> dict[str, Tensor]:
    """``{name: shape}`` to ``{name: value}``, without the constants that a network constructs itself.

    Args:
        gains: (regular expression, factor): tensors whose name it finds are multiplied by it.
    """
    state = {name: fill_tensor(name, shape, seed) for name, shape in shapes.items() if not _KEPT.search(name)}
    for name in [name for name in state if name.startswith("cnet.")]:
        # RAFT's context network registers one batch norm under two names.
        twin = name.replace(".norm3.", ".downsample.1.")
        state[name] = state.get(twin, state[name])
    for pattern, factor in gains:
        for name in state:
            if re.search(pattern, name):
                state[name] = state[name] * float(factor)
    return state
