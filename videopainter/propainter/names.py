"""Names of the weights: those of the three released files, and those of the Hugging Face port."""

import re

# file -> (prefix in the file, prefix in the model, beginnings of parts of a name: there and here)
RELEASED: dict[str, tuple[str, str, dict[str, str]]] = {
    "raft-things.pth": (
        "module.",
        "optical_flow_model.",
        {
            "fnet.": "feature_network.",
            "cnet.": "context_network.",
            "convc": "conv_corr",
            "convf": "conv_flow",
        },
    ),
    "recurrent_flow_completion.pth": (
        "",
        "flow_completion_net.",
        {
            "mid_dilation.": "intermediate_dilation.",
            "feat_prop_module.": "feature_propagation_module.",
            "mid_layer_": "intermediate_layer_",
        },
    ),
    "ProPainter.pth": (
        "",
        "inpaint_generator.",
        {
            "ss.": "soft_split.",
            "sc.": "soft_comp.",
            "feat_prop_module.": "feature_propagation_module.",
            "norm": "layer_norm",
        },
    ),
}


def model_name(file: str, key: str) -> str:
    """What a tensor of a released file is called in the model. Raises KeyError for a key without its prefix."""
    prefix, part, words = RELEASED[file]
    if not key.startswith(prefix):
        raise KeyError(key)
    name = key[len(prefix) :]
    # The port counts the encoders' blocks through: two for each of the released layers.
    name = re.sub(
        r"net\.layer(\d)\.(\d)\.", lambda m: f"net.resblocks.{2 * int(m[1]) - 2 + int(m[2])}.", name
    )
    return part + _replace(name, words)


def released_key(name: str) -> tuple[str, str]:
    """(file, key) of a tensor of the model. Raises KeyError for a name of no released file."""
    for file, (prefix, part, words) in RELEASED.items():
        if name.startswith(part):
            key = _replace(name[len(part) :], {here: there for there, here in words.items()})
            key = re.sub(
                r"net\.resblocks\.(\d)\.", lambda m: f"net.layer{int(m[1]) // 2 + 1}.{int(m[1]) % 2}.", key
            )
            return file, prefix + key
    raise KeyError(name)


def _replace(name: str, words: dict[str, str]) -> str:
    for before, after in words.items():
        name = re.sub(rf"(?<!\w){re.escape(before)}", after, name)
    return name
