"""Run the networks on recorded inputs and compare with values that the public reference gave.

A case is a JSON file with options and tolerances and the tensors beside it; weights are a function of a seed
(`fill`). What each name means is written in the data's own README.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopainter.propainter.configuration import ProPainterConfig
from videopainter.propainter.flow_completion import complete_
from videopainter.propainter.generator import shrink, shrink_flow
from videopainter.propainter.modeling import ProPainterModel
from videopainter.propainter.names import RELEASED, released_key
from videopainter.propainter.optical_flow import Correlation
from videopainter.propainter.propagation import propagate_images

# ({name: shape}, seed, gains) -> {name: value}
Fill = Callable[[Mapping[str, tuple], int, list], Mapping[str, Tensor]]

# What the data calls the networks in `weights_check` -> their released file.
FILES = dict(zip(("raft", "completion", "generator"), RELEASED))
NETWORKS = {
    "RAFT (raft-things configuration)": "raft",
    "RecurrentFlowCompleteNet": "completion",
    "InpaintGenerator": "generator",
    "InpaintGenerator.img_propagation (no weights)": None,
}
DESCRIPTIVE = {"expected", "tensors", "trimmed", "source_clip", "filled_share", "note", "weights_check"}
OPTIONS = {"network", "seed", "gains", "iters", "num_local_frames", "input"}


def fill_network(model: ProPainterModel, part: str, seed: int, gains: list, fill: Fill) -> dict[str, Tensor]:
    """Give one network the weights of a seed, through the names of its released file; returns the file's state."""
    file = FILES[part]
    prefix, own, _ = RELEASED[file]
    state = model.state_dict()
    names = {released_key(name)[1]: name for name in state if name.startswith(own)}
    found = fill({key[len(prefix) :]: tuple(state[name].shape) for key, name in names.items()}, seed, gains)
    model.load_state_dict({names[prefix + key]: value for key, value in found.items()}, strict=False)
    return dict(found)


def network_case(options: Mapping[str, Any], tensors: Mapping[str, Tensor], fill: Fill) -> dict[str, Tensor]:
    """Everything that one case of a single network expects, computed.

    Raises ValueError for a network, an option or a value that is not understood, and where the weights are not
    those that were recorded.
    """
    part = NETWORKS.get(options.get("network"), "unknown")
    if unknown := set(options) - DESCRIPTIVE - OPTIONS:
        raise ValueError(f"the option {sorted(unknown)[0]!r} is not understood")
    if part == "unknown":
        raise ValueError(f"the network {options.get('network')!r} is not understood")
    model = ProPainterModel(ProPainterConfig())
    if part is not None:
        filled = fill_network(model, part, options["seed"], options["gains"], fill)
        for check in options.get("weights_check", ()):
            check_weights(check, {part: filled})
    make = {"raft": _optical_flow, "completion": _completion, "generator": _generator, None: _images}[part]
    with torch.inference_mode():
        make_one = make(model, options, tensors)
        return {name: make_one(*parts(name)) for name in options["expected"]}


def check_weights(check: Mapping[str, Any], filled: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Raise ValueError if the weights of a seed are not those that were recorded."""
    state = filled[check["network"]]
    total = sum(value.double().abs().sum().item() for value in state.values())
    same = len(state) == check["filled_tensors"] and math.isclose(total, check["sum_abs"], rel_tol=1e-9)
    for name, first in check["first_values"].items():
        same = same and state[name].flatten()[: len(first)].tolist() == first
    if not same:
        raise ValueError(f"the weights of {check['network']} are not those that were recorded")


def parts(name: str) -> tuple[str, dict[str, int]]:
    """``"flow_f_it4_s2"`` -> (``"flow_f"``, ``{"it": 4, "s": 2}``)."""
    words, numbers = [], {}
    for word in name.split("_"):
        found = re.fullmatch(r"(it|ch|s|t|x|frame|pair|block)(\d+)", word)
        if found:
            numbers[found[1]] = int(found[2])
        else:
            words.append(word)
    return "_".join(words), numbers


def every(value: Tensor, numbers: Mapping[str, int]) -> Tensor:
    """Rows, columns and channels as `_sN` and `_chN` ask for; channels are third from the end."""
    step, channels = numbers.get("s", 1), numbers.get("ch", 1)
    return value[..., ::channels, ::step, ::step]


def bits(packed: Tensor, width: int) -> Tensor:
    """Masks packed along the width, as float32 ``(..., height, width)``."""
    return torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1)[..., :width]).float()


def frames_of(tensors: Mapping[str, Tensor]) -> Tensor:
    """float32 ``(t, 3, h, w)`` in -1..1."""
    return tensors["frames"].permute(0, 3, 1, 2) / 255 * 2 - 1


def flows_of(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    forward, backward = ((tensors[f"flow_{d}_q32"][0].float() + 0.5) / 32 for d in "fb")
    return forward, backward


def _unknown(base: str):
    raise ValueError(f"the value {base!r} is not understood")


def _optical_flow(model, options, tensors):
    network, frames = model.optical_flow_model, frames_of(tensors)
    runs = {n: network.refine(frames, n) for n in options["iters"]}

    def one(base, numbers):
        first = numbers.get("frame", numbers.get("pair", 0))
        if base in ("fnet", "cnet"):
            encoder = network.feature_network if base == "fnet" else network.context_network
            return every(encoder(frames[first : first + 1]), numbers)
        if base == "corr_zero_flow":
            features, _ = network.prepare(frames[first : first + 2])
            correlation = Correlation(*features, network.levels, network.radius)
            h, w = frames.shape[-2] // 8, frames.shape[-1] // 8
            still = torch.stack(torch.meshgrid(torch.arange(float(w)), torch.arange(float(h)), indexing="xy"))
            return every(correlation(still.expand(2, -1, -1, -1))[:1], numbers)
        if base in ("low_f", "low_b", "flow_f", "flow_b"):
            low, hidden = runs[numbers["it"]]
            value = low if base.startswith("low") else network.upsample(low, hidden)
            return every(value.chunk(2)["fb".index(base[-1])][None], numbers)
        return _unknown(base)

    return one


def _completion(model, options, tensors):
    network = model.flow_completion_net
    forward, backward = flows_of(tensors)
    masks = bits(tensors["masks_bits"], forward.shape[-1])[:, None]
    stages = {}
    x = torch.cat((forward * (1 - masks[:-1]), masks[:-1]), 1)
    stages["downsample_forward"] = x = network.downsample(x)
    stages["encoder2_forward"] = x = network.encoder2(network.encoder1(x))
    stages["mid_forward"] = x = network.intermediate_dilation(x)
    stages["propagated_forward"] = network.feature_propagation_module(stages["mid_forward"].clone())
    stages["pred_f"] = network(forward, masks[:-1])
    stages["pred_b"] = network(backward, masks[1:], reverse=True)
    complete_(network, forward, backward, masks)
    stages["combined_f"], stages["combined_b"] = forward, backward

    def one(base, numbers):
        value = stages.get(base)
        if value is None:
            return _unknown(base)
        return every(value[numbers["t"]][None] if "t" in numbers else value[None], numbers)

    return one


def _images(model, options, tensors):
    forward, backward = flows_of(tensors)
    masks = bits(tensors["masks_bits"], forward.shape[-1])[:, None]
    frames = frames_of(tensors) * (1 - masks)

    def one(base, numbers):
        kind, _, mode = base.removesuffix("_bits").partition("_")
        if kind not in ("frames", "masks") or mode not in ("nearest", "bilinear"):
            return _unknown(base)
        value = propagate_images(frames, masks, forward, backward, mode)[kind == "masks"]
        return every(value[None], numbers)

    return one


def _generator(model, options, tensors):
    if options["input"] != "frames * (1 - masks_updated)":
        raise ValueError(f"the input {options['input']!r} is not understood")
    network, local = model.inpaint_generator, options["num_local_frames"]
    frames = frames_of(tensors)
    masks, left = (
        bits(tensors[f"masks_{name}_bits"], frames.shape[-1])[:, None] for name in ("in", "updated")
    )
    frames = frames * (1 - left)
    flows = flows_of(tensors)
    encoded = network.encode(frames, masks, left)
    both = torch.cat((shrink(masks), shrink(left)), 1)[:local]
    propagated = network.feature_propagation_module(encoded[:local], *map(shrink_flow, flows), both)
    features = torch.cat((propagated, encoded[local:]))
    size = tuple(features.shape[-2:])
    tokens = [network.soft_split(features)]
    windows = network.transformers.windows(network.token_masks(both[:, :1]))
    for i, block in enumerate(network.transformers.transformer):
        tokens.append(block(tokens[-1], size, windows, torch.arange(i % 2, len(features), 2)))

    def one(base, numbers):
        frame = numbers.get("frame", 0)
        if base == "encoder":
            return every(encoded[frame : frame + 1], numbers)
        if base == "propagated_midframe":
            return every(propagated[local // 2][None], numbers)
        if base == "tokens" or (base == "" and "block" in numbers):
            return tokens[numbers.get("block", -1) + 1][frame : frame + 1, ..., :: numbers.get("ch", 1)]
        if base == "output":
            return every(network(frames, *flows, masks, left, local)[None], numbers)
        return _unknown(base)

    return one


def expected_value(name: str, tensors: Mapping[str, Tensor], width: int) -> Tensor:
    """A recorded value, unpacked: `_bits` to masks, `_x2` codes to -1..1."""
    value = tensors[name]
    if name.endswith("_bits"):
        return bits(value, width)
    return value.float() / 255 - 1 if "x2" in name.split("_") else value


def misfit(result: Tensor, expected: Tensor, tolerance: Mapping[str, float]) -> str | None:
    """What is wrong with a result, in a few words; None if it keeps every tolerance."""
    if result.shape != expected.shape:
        return f"the shape {tuple(result.shape)} instead of {tuple(expected.shape)}"
    result, expected = result.double(), expected.double()
    error = (result - expected).abs()
    found = {"atol": error.max().item(), "max_levels": error.max().item()}
    found["rel_l2"] = (error.norm() / expected.norm().clamp_min(1e-30)).item()
    for name, limit in tolerance.items():
        if name.startswith("share_over_"):
            found[name] = (error > float(name.removeprefix("share_over_"))).double().mean().item()
        if name not in found:
            raise ValueError(f"the tolerance {name!r} is not understood")
        if not found[name] <= limit:
            return f"{name} {found[name]:.3g}, at most {limit:g}"
    return None


def misfits(options: Mapping[str, Any], tensors: Mapping[str, Tensor], fill: Fill) -> list[str]:
    """Every value of a case of a single network that is not within its tolerance, one sentence each."""
    width = tensors["frames" if "frames" in tensors else "flow_f_q32"].shape[2 if "frames" in tensors else -1]
    found = []
    for name, result in network_case(options, tensors, fill).items():
        wrong = misfit(result, expected_value(name, tensors, width), options["expected"][name]["tolerance"])
        if wrong:
            found.append(f"{name}: {wrong}")
    return found
