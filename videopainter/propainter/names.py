"""Names of the weights: those of the three released files, and those of the Hugging Face port."""

import re

# file -> (prefix in the file, prefix in the model, what is called differently)
RELEASED: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "raft-things.pth": (
        "module.",
        "optical_flow_model.",
        (
            (r"^fnet\.", "feature_network."),
            (r"^cnet\.", "context_network."),
            (r"\.convc(\d)\.", r".conv_corr\1."),
            (r"\.convf(\d)\.", r".conv_flow\1."),
        ),
    ),
    "recurrent_flow_completion.pth": (
        "",
        "flow_completion_net.",
        (
            (r"^mid_dilation\.", "intermediate_dilation."),
            (r"^feat_prop_module\.", "feature_propagation_module."),
            (r"^edgeDetector\.mid_layer_", "edgeDetector.intermediate_layer_"),
        ),
    ),
    "ProPainter.pth": (
        "",
        "inpaint_generator.",
        (
            (r"^ss\.", "soft_split."),
            (r"^sc\.", "soft_comp."),
            (r"^feat_prop_module\.", "feature_propagation_module."),
            (r"\.norm(\d)\.", r".layer_norm\1."),
        ),
    ),
}


def model_name(file: str, key: str) -> str:
    """What a tensor of a released file is called in the model. Raises KeyError for a key without its prefix."""
    prefix, part, rules = RELEASED[file]
    if not key.startswith(prefix):
        raise KeyError(key)
    name = key[len(prefix) :]
    # The port counts the encoders' blocks through: two for each of the released layers.
    name = re.sub(
        r"net\.layer(\d)\.(\d)\.", lambda m: f"net.resblocks.{2 * int(m[1]) - 2 + int(m[2])}.", name
    )
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return part + name
